/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * flow.c - one request through the stages of a variant.
 *
 * All stages are submitted at once.  What makes stage k+1 wait for stage k is the data that they
 * share: each cut tensor has its sx_data, written by the stage that makes it and read by those that
 * use it, so the executor orders, prefetches and overlaps as the devices allow.  The
 * tensors themselves lie in the flow's slots, and nobody touches a slot but the stage that writes
 * it and, after it, those that read it.
 *
 * A failed stage leaves its reason in the flow; the later ones then do nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "serve/server_int.h"

static const struct sx_variant *variant_of(const struct sx_flow *f)
{
    return &f->model->variants[f->variant];
}

enum sx_rc sx_flow_create(struct sx_model *m, unsigned variant, struct sx_flow **ret_flow)
{
    const struct sx_variant *v = &m->variants[variant];
    struct sx_exec *exec = m->server->exec;
    struct sx_flow *f = calloc(1, sizeof *f);
    enum sx_rc rc = SX_NO_MEMORY;
    if (!f)
        return rc;
    f->model = m;
    f->variant = variant;
    sx_list_init(&f->link);
    f->slots = calloc(v->n_slots + 1, sizeof *f->slots);
    f->data = calloc(v->n_data + 1, sizeof(struct sx_data *));
    f->steps = calloc(v->n_stages, sizeof *f->steps);
    if (!f->slots || !f->data || !f->steps)
        goto fail;
    for (uint32_t i = 0; i < v->n_data; i++) {
        rc = sx_exec_data_create(exec, &f->data[i]);
        if (rc)
            goto fail;
    }
    for (unsigned k = 0; k < v->n_stages; k++) {
        struct sx_flow_step *step = &f->steps[k];
        const struct sx_stage *stage = &v->stages[k];
        const struct sx_device *device = &m->server->config.machine->devices[stage->device];
        step->flow = f;
        step->data = calloc(stage->n_data + 1, sizeof(struct sx_data *));
        step->inputs = calloc(stage->n_in + stage->n_out + 1, sizeof *step->inputs);
        rc = step->data && step->inputs ? sx_exec_task_create(exec, &step->task) : SX_NO_MEMORY;
        if (rc)
            goto fail;
        for (unsigned i = 0; i < stage->n_data; i++)
            step->data[i] = f->data[stage->data[i]];
        step->task->user = step;
        step->task->name = v->name;
        step->task->first_unit = device->first_unit;
        step->task->n_units = device->n_units;
        step->task->slowdown = device->slowdown > 1 ? device->slowdown : 0;
        step->task->data = step->data;
        step->task->modes = stage->modes;
        step->task->n_data = stage->n_data;
    }
    *ret_flow = f;
    return SX_OK;
fail:
    sx_flow_destroy(f);
    return rc;
}

static void clear_slots(struct sx_flow *f)
{
    for (uint32_t i = 0; f->slots && i < variant_of(f)->n_slots; i++)
        sx_tensor_unref(&f->slots[i]);
}

void sx_flow_destroy(struct sx_flow *f)
{
    if (!f)
        return;
    const struct sx_variant *v = variant_of(f);
    struct sx_exec *exec = f->model->server->exec;
    clear_slots(f);
    for (unsigned k = 0; f->steps && k < v->n_stages; k++) {
        if (f->steps[k].task)
            sx_exec_task_destroy(exec, f->steps[k].task);
        free(f->steps[k].data);
        free(f->steps[k].inputs);
    }
    for (uint32_t i = 0; f->data && i < v->n_data; i++)
        sx_exec_data_destroy(exec, f->data[i]);
    free(f->steps);
    free(f->data);
    free(f->slots);
    free(f);
}

static void fail(struct sx_flow *f, enum sx_rc rc, const struct sx_err *err)
{
    int none = SX_OK;
    if (atomic_compare_exchange_strong(&f->rc, &none, (int)rc))
        f->err = *err;
}

/* The exec's `run`: on the device's first unit. */
static void run_stage(struct sx_task *task)
{
    struct sx_flow_step *step = task->user;
    struct sx_flow *f = step->flow;
    struct sx_model *m = f->model;
    struct sx_server *s = m->server;
    struct sx_stage *stage = &m->variants[f->variant].stages[step - f->steps];
    struct sx_tensor *inputs = step->inputs, *outputs = inputs + stage->n_in;
    struct sx_err err = {0};
    uint64_t took = 0;

    atomic_store_explicit(&step->began, sx_clock_now(s->clock), memory_order_relaxed);
    task->virtual_ns = 0;
    if (atomic_load(&f->rc))
        return;
    pthread_mutex_lock(&s->lock);
    bool gone = f->request->cancelled;
    pthread_mutex_unlock(&s->lock);
    if (gone) {
        sx_fail(&err, SX_CANCELLED, "the client went away");
        fail(f, SX_CANCELLED, &err);
        return;
    }
    for (size_t i = 0; i < stage->n_in; i++)
        inputs[i] = f->slots[stage->in_slot[i]]; /* the slot keeps the reference */
    memset(outputs, 0, stage->n_out * sizeof *outputs);
    sx_session_claim(stage->session); /* here, as the units may still be busy at submission */
    enum sx_rc rc = sx_run_ports(stage->session, inputs, stage->out, outputs, stage->n_out,
                                 m->batchable ? (int64_t)f->request->samples : -1, s->pool,
                                 &stage->self_alloc, &took, &err);
    task->virtual_ns = took;
    if (rc) {
        fail(f, rc, &err);
        return;
    }
    for (size_t i = 0; i < stage->n_out; i++)
        f->slots[stage->out_slot[i]] = outputs[i];
}

void sx_flow_begin(struct sx_flow *f, struct sx_request *r, uint64_t now,
                   void (*done)(struct sx_task *task))
{
    const struct sx_variant *v = variant_of(f);
    f->request = r;
    f->left = v->n_stages;
    f->start_ns = now;
    atomic_store(&f->rc, SX_OK);
    for (size_t i = 0; i < f->model->n_in; i++) {
        if (r->inputs[i].dtype != SX_DTYPE_NONE)
            sx_tensor_ref(&f->slots[i], &r->inputs[i]);
    }
    for (unsigned k = 0; k < v->n_stages; k++) {
        struct sx_flow_step *step = &f->steps[k];
        atomic_store_explicit(&step->began, 0, memory_order_relaxed);
        step->done = false;
        step->ready = k == 0 ? now : 0;
        step->predicted_ns = sx_cost_ns(&v->stages[k].cost, r->samples, 0);
        step->task->run = run_stage;
        step->task->done = done;
    }
}

void sx_flow_submit(struct sx_flow *f)
{
    /* The flow can't end, and be used again, before its last task is submitted. */
    struct sx_exec *exec = f->model->server->exec;
    const struct sx_device *first =
        &f->model->server->config.machine->devices[variant_of(f)->stages[0].device];
    for (unsigned u = 1; u < first->n_units; u++) /* its helpers are about to be woken there */
        sx_exec_expect(exec, first->first_unit + u);
    for (unsigned k = 0, n = variant_of(f)->n_stages; k < n; k++)
        sx_exec_submit(exec, f->steps[k].task);
}

void sx_flow_finish(struct sx_flow *f)
{
    const struct sx_variant *v = variant_of(f);
    struct sx_request *r = f->request;
    r->rc = (enum sx_rc)atomic_load(&f->rc);
    if (r->rc)
        r->err = f->err;
    for (size_t i = 0; !r->rc && i < f->model->n_out; i++)
        sx_tensor_ref(&r->outputs[i], &f->slots[v->result_slot[i]]);
    clear_slots(f);
}
