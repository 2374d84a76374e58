/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "perf/inproc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct inproc;

struct slot {
    struct inproc *target;
    uint32_t index;
};

struct inproc {
    struct sx_target base;
    struct sx_server *server;
    struct sx_model *model;
    const struct sx_dataset *data;
    uint64_t timeout_ns;
    struct sx_mailbox mailbox;
    struct slot *slot;
    pthread_mutex_t lock; /* in_flight, dropping, examples */
    pthread_cond_t idle;
    uint32_t in_flight;
    bool dropping; /* completions are not reported any more */
    char example[SX_OUTCOME_COUNT][384];
};

static enum sx_outcome outcome_of(enum sx_rc rc)
{
    switch (rc) {
    case SX_OK:
        return SX_OUTCOME_OK;
    case SX_UNAVAILABLE:
    case SX_NO_MEMORY:
        return SX_OUTCOME_REJECTED;
    case SX_DEADLINE:
    case SX_CANCELLED:
        return SX_OUTCOME_EXPIRED;
    case SX_INVALID:
    case SX_NOT_FOUND:
    case SX_TOO_LARGE:
        return SX_OUTCOME_BAD_REQUEST;
    default:
        return SX_OUTCOME_SERVER_ERROR;
    }
}

/* Report the end of a slot's request; the request is released already. */
static void complete(struct slot *slot, enum sx_rc rc, const char *message)
{
    struct inproc *t = slot->target;
    struct sx_completion c = {
        .slot = slot->index, .outcome = outcome_of(rc), .status = sx_rc_http(rc), .done = sx_now()};
    pthread_mutex_lock(&t->lock);
    if (rc && !t->example[c.outcome][0])
        snprintf(t->example[c.outcome], sizeof t->example[0], "%s", message);
    if (!t->dropping)
        sx_mailbox_post(&t->mailbox, &c);
    if (--t->in_flight == 0)
        pthread_cond_signal(&t->idle);
    pthread_mutex_unlock(&t->lock);
}

static void on_done(struct sx_request *r)
{
    struct slot *slot = r->user;
    enum sx_rc rc = r->rc;
    struct sx_err err = {0};
    if (rc)
        err = r->err;
    sx_request_release(r);
    complete(slot, rc, err.message);
}

static void inproc_submit(struct sx_target *target, uint32_t index, uint64_t sample)
{
    struct inproc *t = SX_CONTAINER_OF(target, struct inproc, base);
    struct slot *slot = &t->slot[index];
    pthread_mutex_lock(&t->lock);
    t->in_flight++;
    pthread_mutex_unlock(&t->lock);
    struct sx_request *r;
    struct sx_err err = {0};
    enum sx_rc rc = sx_request_create(t->model, &r);
    if (rc) {
        complete(slot, rc, "no memory for a request");
        return;
    }
    const struct sx_tensor *from =
        &t->data->tensor[sample % t->data->n_samples * (uint64_t)t->data->n_inputs];
    for (int i = 0; i < t->data->n_inputs; i++)
        sx_tensor_ref(&r->inputs[i], &from[i]);
    r->timeout_ns = t->timeout_ns;
    r->done = on_done;
    r->user = slot;
    rc = sx_server_infer(t->server, r, &err);
    if (rc) {
        sx_request_release(r);
        complete(slot, rc, err.message);
    }
}

static size_t inproc_poll(struct sx_target *target, uint64_t until, struct sx_completion *out,
                          size_t max)
{
    struct inproc *t = SX_CONTAINER_OF(target, struct inproc, base);
    return sx_mailbox_wait(&t->mailbox, until, out, max);
}

/* Nothing can be taken back from a server that computes, so wait for it: what has a deadline ends
 * soon.  What is in the mailbox by then is dropped. */
static void inproc_cancel(struct sx_target *target)
{
    struct inproc *t = SX_CONTAINER_OF(target, struct inproc, base);
    pthread_mutex_lock(&t->lock);
    t->dropping = true;
    while (t->in_flight)
        pthread_cond_wait(&t->idle, &t->lock);
    t->dropping = false;
    pthread_mutex_unlock(&t->lock);
    struct sx_completion dropped[64];
    while (sx_mailbox_wait(&t->mailbox, 0, dropped, 64))
        ;
}

static const char *inproc_example(struct sx_target *target, enum sx_outcome outcome)
{
    struct inproc *t = SX_CONTAINER_OF(target, struct inproc, base);
    return t->example[outcome]; /* written once, before the completion that made it known */
}

static bool inproc_server_times(struct sx_target *target, struct sx_server_times *ret)
{
    struct inproc *t = SX_CONTAINER_OF(target, struct inproc, base);
    struct sx_model_stats *s = malloc(sizeof *s);
    if (!s)
        return false;
    sx_model_get_stats(t->model, s);
    *ret = (struct sx_server_times){.requests = s->success,
                                    .samples = s->samples,
                                    .runs = s->executions,
                                    .queue_ns = s->queue_ns,
                                    .input_ns = s->input_ns,
                                    .infer_ns = s->infer_ns,
                                    .output_ns = s->output_ns};
    free(s);
    return true;
}

static void inproc_destroy(struct sx_target *target)
{
    struct inproc *t = SX_CONTAINER_OF(target, struct inproc, base);
    inproc_cancel(target);
    sx_mailbox_fini(&t->mailbox);
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->idle);
    free(t->slot);
    free(t);
}

static const struct sx_target_ops inproc_ops = {
    inproc_submit, inproc_poll, inproc_cancel, inproc_example, inproc_destroy, inproc_server_times};

enum sx_rc sx_inproc_info(const struct sx_model *model, struct sx_model_info *ret_info,
                          struct sx_err *err)
{
    const struct sx_port *ports;
    size_t n = sx_model_inputs(model, &ports);
    memset(ret_info, 0, sizeof *ret_info);
    if (n > SX_INPUTS_MAX)
        return sx_fail(err, SX_UNSUPPORTED, "%zu inputs, at most %d are supported", n,
                       SX_INPUTS_MAX);
    snprintf(ret_info->name, sizeof ret_info->name, "%s", sx_model_name(model));
    snprintf(ret_info->version, sizeof ret_info->version, "%lld",
             (long long)sx_model_version(model));
    ret_info->batches = sx_model_config(model)->max_batch_size > 0;
    for (size_t i = 0; i < n; i++) {
        struct sx_input_info *in = &ret_info->input[i];
        if (ports[i].rank < 0)
            return sx_fail(err, SX_UNSUPPORTED, "the model does not say the shape of input '%s'",
                           ports[i].name);
        snprintf(in->name, sizeof in->name, "%s", ports[i].name);
        in->dtype = ports[i].dtype;
        in->rank = ports[i].rank;
        memcpy(in->dims, ports[i].dims, sizeof in->dims);
    }
    ret_info->n_inputs = (int)n;
    return SX_OK;
}

enum sx_rc sx_inproc_create(struct sx_server *server, struct sx_model *model,
                            const struct sx_dataset *data, uint32_t slots, uint64_t timeout_ns,
                            struct sx_target **ret_target, struct sx_err *err)
{
    struct inproc *t = calloc(1, sizeof *t);
    if (!t || !(t->slot = calloc(slots ? slots : 1, sizeof *t->slot)) ||
        sx_mailbox_init(&t->mailbox, slots)) {
        if (t)
            free(t->slot);
        free(t);
        return sx_fail(err, SX_NO_MEMORY, "no memory for %u requests in flight", slots);
    }
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->idle, NULL);
    t->base.ops = &inproc_ops;
    t->base.slots = slots;
    t->base.batch = 1;
    if (sx_model_config(model)->max_batch_size > 0 && data->tensor[0].rank > 0)
        t->base.batch = (uint32_t)data->tensor[0].dims[0];
    snprintf(t->base.name, sizeof t->base.name, "in process");
    snprintf(t->base.model, sizeof t->base.model, "%s", sx_model_name(model));
    t->server = server;
    t->model = model;
    t->data = data;
    t->timeout_ns = timeout_ns;
    for (uint32_t i = 0; i < slots; i++)
        t->slot[i] = (struct slot){.target = t, .index = i};
    *ret_target = &t->base;
    return SX_OK;
}
