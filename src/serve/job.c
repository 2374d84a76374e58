/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * job.c - one run: gather the requests' rows, compute, give each request its rows.
 *
 * A batch of one request is not copied: its tensors go to the engine as they are.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "serve/server_int.h"

enum sx_rc sx_job_create(struct sx_model *model, struct sx_job **ret_job)
{
    struct sx_job *job =
        calloc(1, sizeof *job + (model->n_in + model->n_out) * sizeof *job->inputs);
    if (!job)
        return SX_NO_MEMORY;
    job->model = model;
    job->inputs = (struct sx_tensor *)(void *)(job + 1);
    job->outputs = job->inputs + model->n_in;
    sx_list_init(&job->requests);
    sx_list_init(&job->link);
    enum sx_rc rc = sx_exec_task_create(model->server->exec, &job->task);
    if (rc) {
        free(job);
        return rc;
    }
    job->task->user = job;
    job->task->name = model->config.name;
    *ret_job = job;
    return SX_OK;
}

void sx_job_destroy(struct sx_job *job)
{
    if (!job)
        return;
    sx_job_reset(job);
    sx_exec_task_destroy(job->model->server->exec, job->task);
    free(job);
}

void sx_job_reset(struct sx_job *job)
{
    for (size_t i = 0; i < job->model->n_in; i++)
        sx_tensor_unref(&job->inputs[i]);
    for (size_t i = 0; i < job->model->n_out; i++)
        sx_tensor_unref(&job->outputs[i]);
    job->rc = SX_OK;
}

static struct sx_request *first_request(const struct sx_job *job)
{
    return SX_CONTAINER_OF(job->requests.next, struct sx_request, link);
}

/* Put the rows of all requests one after the other. */
static enum sx_rc gather_input(struct sx_job *job, size_t i)
{
    struct sx_request *head = first_request(job);
    struct sx_tensor *to = &job->inputs[i];
    if (head->link.next == &job->requests || head->inputs[i].dtype == SX_DTYPE_NONE) {
        sx_tensor_ref(to, &head->inputs[i]);
        return SX_OK;
    }
    size_t nbytes = 0;
    SX_LIST_FOREACH (it, &job->requests)
        nbytes += SX_CONTAINER_OF(it, struct sx_request, link)->inputs[i].nbytes;
    struct sx_tensor t = head->inputs[i];
    t.dims[0] = job->samples;
    t.buffer = sx_pool_get(job->model->server->pool, nbytes);
    if (!t.buffer)
        return SX_NO_MEMORY;
    t.data = t.buffer->data;
    t.nbytes = nbytes;
    unsigned char *at = t.data;
    SX_LIST_FOREACH (it, &job->requests) {
        const struct sx_tensor *from = &SX_CONTAINER_OF(it, struct sx_request, link)->inputs[i];
        if (from->nbytes) {
            memcpy(at, from->data, from->nbytes);
            at += from->nbytes;
        }
    }
    *to = t;
    return SX_OK;
}

void sx_job_run(struct sx_task *task)
{
    struct sx_job *job = task->user;
    struct sx_model *m = job->model;
    enum sx_rc rc = SX_OK;
    if (sx_list_empty(&job->requests))
        rc = sx_profile_inputs(job);
    else
        for (size_t i = 0; !rc && i < m->n_in; i++)
            rc = gather_input(job, i);
    job->input_ns = sx_clock_now(m->server->clock);
    uint64_t took = 0;
    if (rc)
        sx_fail(&job->err, rc, "no memory for a batch of %u", job->samples);
    else
        rc = sx_run_ports(job->session, job->inputs, m->out, job->outputs, m->n_out,
                          m->batchable ? (int64_t)job->samples : -1, m->server->pool,
                          &m->self_alloc, &took, &job->err);
    job->rc = rc;
    task->virtual_ns = took;
    job->infer_ns = sx_clock_now(m->server->clock) + took;
}

static bool has_a_row_for_each(const struct sx_job *job, size_t i)
{
    const struct sx_tensor *out = &job->outputs[i];
    return out->rank > 0 && out->dims[0] == (int64_t)job->samples;
}

/* Did the model only look as if it could be batched?  Where somebody said that it can, it is not
 * asked. */
static bool is_no_batch(const struct sx_job *job)
{
    struct sx_model *m = job->model;
    if (job->rc || !m->config.batching_assumed)
        return false;
    if (atomic_load(&m->apart)) /* it ran meanwhile: that it has as many rows proves nothing */
        return true;
    for (size_t i = 0; i < m->n_out; i++) {
        if (has_a_row_for_each(job, i))
            continue;
        if (!atomic_exchange(&m->apart, true))
            sx_warning("model '%s': output '%s' has not a row for each sample: its requests do not "
                       "share runs any more; say max_batch_size: 0 in config.pbtxt",
                       m->config.name, m->out[i].name);
        return true;
    }
    return false;
}

bool sx_job_scatter(struct sx_job *job)
{
    const struct sx_model *m = job->model;
    int64_t row = 0;
    bool alone = job->requests.next->next == &job->requests;
    bool no_batch = is_no_batch(job);
    if (!alone && (job->rc || no_batch))
        return false; /* one request's values may have done it: the others are not to suffer */
    SX_LIST_FOREACH (it, &job->requests) {
        struct sx_request *r = SX_CONTAINER_OF(it, struct sx_request, link);
        r->rc = job->rc;
        if (job->rc)
            r->err = job->err;
        for (size_t i = 0; !r->rc && i < m->n_out; i++) {
            if (alone) {
                sx_tensor_move(&r->outputs[i], &job->outputs[i]);
                continue;
            }
            if (!has_a_row_for_each(job, i)) {
                r->rc = sx_fail(&r->err, SX_ENGINE,
                                "output '%s' of model '%s' does not keep the batch dimension",
                                m->out[i].name, m->config.name);
                sx_hint(&r->err, "set max_batch_size: 0 in the model's config.pbtxt");
            } else {
                r->rc = sx_tensor_slice(&r->outputs[i], &job->outputs[i], row, r->samples);
                if (r->rc)
                    sx_fail(&r->err, r->rc, "output '%s' cannot be divided", m->out[i].name);
            }
        }
        row += r->samples;
    }
    return true;
}
