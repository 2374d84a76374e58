/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "serve/request.h"

#include <stdlib.h>
#include <string.h>

#include "serve/server_int.h"

enum sx_rc sx_request_create(struct sx_model *model, struct sx_request **ret_request)
{
    struct sx_request *r = NULL;
    pthread_mutex_lock(&model->pool_lock);
    if (!sx_list_empty(&model->free_requests)) {
        r = SX_CONTAINER_OF(model->free_requests.next, struct sx_request, link);
        sx_list_remove(&r->link);
    }
    pthread_mutex_unlock(&model->pool_lock);
    if (!r) {
        /* One block: the request, then its tensors. */
        r = calloc(1, sizeof *r + (model->n_in + model->n_out) * sizeof *r->inputs);
        if (!r)
            return SX_NO_MEMORY;
        r->inputs = (struct sx_tensor *)(void *)(r + 1);
        r->outputs = r->inputs + model->n_in;
        r->model = model;
        sx_list_init(&r->link);
    }
    atomic_fetch_add_explicit(&model->refs, 1, memory_order_relaxed);
    *ret_request = r;
    return SX_OK;
}

void sx_request_release(struct sx_request *r)
{
    if (!r)
        return;
    struct sx_model *model = r->model;
    for (size_t i = 0; i < model->n_in; i++)
        sx_tensor_unref(&r->inputs[i]);
    for (size_t i = 0; i < model->n_out; i++)
        sx_tensor_unref(&r->outputs[i]);
    struct sx_tensor *inputs = r->inputs, *outputs = r->outputs;
    memset(r, 0, sizeof *r);
    r->inputs = inputs;
    r->outputs = outputs;
    r->model = model;
    sx_list_init(&r->link);
    pthread_mutex_lock(&model->pool_lock);
    sx_list_insert(model->free_requests.next, &r->link); /* newest first: still in the caches */
    pthread_mutex_unlock(&model->pool_lock);
    sx_model_unref(&model);
}

void sx_request_destroy(struct sx_request *r)
{
    free(r);
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    return (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15) ^ (hash >> 29);
}

/* Shapes are compared, as who knows the hash can make two that collide. */
bool sx_request_same_shape(const struct sx_request *a, const struct sx_request *b)
{
    const struct sx_model *m = a->model;
    if (a->alone || b->alone || atomic_load_explicit(&m->apart, memory_order_relaxed) ||
        a->shape_class != b->shape_class)
        return false;
    for (size_t i = 0; m->varies && i < m->n_in; i++) {
        const struct sx_tensor *x = &a->inputs[i], *y = &b->inputs[i];
        if (x->dtype != y->dtype || x->rank != y->rank)
            return false;
        for (int d = m->batchable ? 1 : 0; d < x->rank; d++) {
            if (x->dims[d] != y->dims[d])
                return false;
        }
    }
    return true;
}

enum sx_rc sx_request_check(struct sx_request *r, struct sx_err *err)
{
    const struct sx_model *m = r->model;
    const char *name = m->config.name;
    uint64_t shape_class = 0;
    int64_t samples = -1;
    char want[160], got[160];
    for (size_t i = 0; i < m->n_in; i++) {
        const struct sx_port *p = &m->in[i];
        const struct sx_tensor *t = &r->inputs[i];
        if (t->dtype == SX_DTYPE_NONE) {
            if (!p->optional)
                return sx_fail(err, SX_INVALID, "missing input '%s' for model '%s'", p->name, name);
            shape_class = mix(shape_class, 1);
            continue;
        }
        if (t->dtype != p->dtype)
            return sx_fail(err, SX_INVALID,
                           "unexpected datatype for input '%s' of model '%s': got %s, expected %s",
                           p->name, name, sx_dtype_name(t->dtype), sx_dtype_name(p->dtype));
        size_t need;
        if (t->dtype != SX_BYTES &&
            (!sx_shape_bytes(t->dtype, t->dims, t->rank, &need) || need != t->nbytes))
            return sx_fail(err, SX_INVALID,
                           "input '%s' of model '%s' has %zu bytes, which do not "
                           "fit shape %s",
                           p->name, name, t->nbytes,
                           sx_shape_text(t->dims, t->rank, got, sizeof got));
        bool fits = p->rank < 0 || p->rank == t->rank;
        for (int d = 0; fits && p->rank >= 0 && d < t->rank; d++)
            fits = p->dims[d] < 0 || p->dims[d] == t->dims[d];
        if (fits && m->batchable)
            fits = t->rank > 0;
        if (fits && m->batchable && t->dims[0] < 1)
            return sx_fail(err, SX_INVALID,
                           "a batch of 0 samples for model '%s': send at least one", name);
        if (!fits)
            return sx_fail(err, SX_INVALID,
                           "unexpected shape for input '%s' of model '%s': got %s, expected %s",
                           p->name, name, sx_shape_text(t->dims, t->rank, got, sizeof got),
                           p->rank < 0 ? "any"
                                       : sx_shape_text(p->dims, p->rank, want, sizeof want));
        if (m->batchable) {
            if (samples >= 0 && t->dims[0] != samples)
                return sx_fail(err, SX_INVALID,
                               "input '%s' of model '%s' has batch size %lld, others have %lld",
                               p->name, name, (long long)t->dims[0], (long long)samples);
            samples = t->dims[0];
        }
        if (m->varies) {
            shape_class = mix(shape_class, 2 + (uint64_t)t->rank);
            for (int d = m->batchable ? 1 : 0; d < t->rank; d++)
                shape_class = mix(shape_class, (uint64_t)t->dims[d]);
        }
    }
    if (m->batchable && samples > (int64_t)m->max_batch) {
        sx_fail(err, SX_INVALID, "batch size %lld is over the maximum of %u for model '%s'",
                (long long)samples, m->max_batch, name);
        sx_hint(err, "send smaller batches or raise max_batch_size in the model's config.pbtxt");
        return SX_INVALID;
    }
    uint32_t levels = m->config.priority_levels;
    if (levels && (!r->priority || r->priority > levels))
        r->priority = m->config.default_priority_level;
    r->samples = samples > 0 ? (uint32_t)samples : 1;
    r->shape_class = shape_class;
    return SX_OK;
}
