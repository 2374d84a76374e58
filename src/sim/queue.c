/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * queue.c - what the server does around the scheduler, done the same way: whom it admits, whom it
 * drops, how a batch is made to suit its head, how wide a lone request may run.
 *
 * Follows serve/share_run.c, without what only concerns costs that are still being learnt.
 */
#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "sim/sim_int.h"

bool sx_sim_queue_push(struct sim_queue *q, uint64_t at)
{
    if (q->count == q->cap) {
        unsigned cap = q->cap ? 2 * q->cap : 16;
        uint64_t *grown = malloc(cap * sizeof *grown);
        if (!grown)
            return false;
        for (unsigned i = 0; i < q->count; i++)
            grown[i] = q->at[(q->head + i) & (q->cap - 1)];
        free(q->at);
        *q = (struct sim_queue){grown, 0, q->count, cap};
    }
    q->at[(q->head + q->count++) & (q->cap - 1)] = at;
    return true;
}

/* Arrival of the i-th in it. */
static uint64_t queue_at(const struct sim_queue *q, unsigned i)
{
    return q->at[(q->head + i) & (q->cap - 1)];
}

uint64_t sx_sim_queue_head(const struct sim_queue *q)
{
    return q->at[q->head];
}

uint64_t sx_sim_queue_pop(struct sim_queue *q)
{
    uint64_t at = q->at[q->head];
    q->head = (q->head + 1) & (q->cap - 1);
    q->count--;
    return at;
}

/* --- what the scheduler sees ------------------------------------------------------------------ */

void sx_sim_tenant_refresh(struct sim_tenant *t)
{
    struct sx_share_queue *v = &t->share.queue;
    if (t->type->endless)
        return;
    v->samples = t->queue.count * t->type->samples;
    if (!t->queue.count)
        return;
    v->head_arrival = sx_sim_queue_head(&t->queue);
    v->head_deadline = v->head_arrival + t->type->end_by;
}

/* --- dropping --------------------------------------------------------------------------------- */

static void drop_head(struct sim_world *w, struct sim_machine *m, struct sim_tenant *t)
{
    if (sx_sim_queue_pop(&t->queue) >= w->warm)
        t->type->f.dropped++;
    m->inside--;
}

bool sx_sim_tenant_drop_late(struct sim_world *w, struct sim_machine *m, struct sim_tenant *t,
                             uint64_t run_ns)
{
    bool dropped = false;
    if (w->config->keep_late)
        return false;
    while (t->queue.count &&
           sx_time_add(w->now, run_ns) > sx_sim_queue_head(&t->queue) + t->type->end_by) {
        drop_head(w, m, t);
        dropped = true;
    }
    return dropped;
}

/* What a run is expected to take, and a deviation more: what promises are measured by. */
static double careful_ns(const struct sim_type *type, unsigned units, unsigned batch)
{
    return sx_latency_ns(&type->latency, units, batch) * (1 + type->spread);
}

/* A queue that is longer than the machine is fast waits at the edge of its deadlines; batches that
 * were made smaller for the sake of the head would then stay small for good.  So where two full
 * batches wait, heads that a full one cannot serve in time give way. */
static unsigned drop_early(struct sim_world *w, struct sim_machine *m, struct sim_tenant *t,
                           unsigned units, unsigned batch)
{
    struct sim_type *type = t->type;
    unsigned plan = t->share.plan.batch, full = plan < type->max_batch ? plan : type->max_batch;
    unsigned waiting = t->queue.count * type->samples, gone = 0;
    if (batch >= full || waiting < 2 * full)
        return batch;
    uint64_t end = sx_time_add(w->now, (uint64_t)ceil(careful_ns(type, units, full)));
    while (gone < t->queue.count && queue_at(&t->queue, gone) + type->end_by < end)
        gone++;
    if (gone * type->samples + full > waiting)
        return batch;
    while (gone--)
        drop_head(w, m, t);
    sx_sim_tenant_refresh(t);
    return full;
}

unsigned sx_sim_tenant_batch(struct sim_world *w, struct sim_machine *m, struct sim_tenant *t,
                             unsigned units, unsigned batch)
{
    const struct sim_type *type = t->type;
    if (w->config->keep_late)
        return batch;
    batch = drop_early(w, m, t, units, batch);
    batch = batch > type->samples ? batch : type->samples;
    uint64_t end_by = sx_sim_queue_head(&t->queue) + type->end_by;
    double left = end_by > w->now ? (double)(end_by - w->now) : 0;
    while (batch > type->samples && careful_ns(type, units, batch) > left)
        batch -= 1 + (batch - type->samples) / 8;
    return batch;
}

/* --- admission -------------------------------------------------------------------------------- */

/* How many samples of another model are due before `deadline`, taken as evenly spread. */
static unsigned due_before(const struct sim_tenant *t, uint64_t deadline)
{
    unsigned n = t->queue.count, per = t->type->samples;
    if (!n || sx_sim_queue_head(&t->queue) + t->type->end_by > deadline)
        return 0;
    uint64_t head = sx_sim_queue_head(&t->queue) + t->type->end_by;
    uint64_t tail = queue_at(&t->queue, n - 1) + t->type->end_by;
    if (tail <= deadline)
        return n * per;
    unsigned part = (unsigned)((double)(deadline - head) / (double)(tail - head) * n * per);
    return part > per ? part : per;
}

uint64_t sx_sim_machine_predict(struct sim_world *w, struct sim_machine *m, unsigned index)
{
    struct sim_tenant *t = &m->tenants[index];
    uint64_t end_by = w->now + t->type->end_by;
    bool idle = m->share->n_free == w->config->n_units;
    for (unsigned i = 0; i < w->n_types; i++) {
        struct sim_tenant *other = &m->tenants[i];
        if (!other->type || other->type->endless)
            continue;
        sx_sim_tenant_refresh(other);
        idle = idle && !other->queue.count;
        if (i != index) /* the next pump sees all again */
            other->share.queue.samples = due_before(other, end_by);
    }
    uint64_t end = sx_share_predict_finish(m->share, &t->share, t->type->samples, w->now);
    end = sx_time_add(end, (uint64_t)(t->type->spread * (double)t->type->least));
    if (end > end_by && idle) /* alone it may be given more units than the plan says */
        end = sx_time_add(w->now, t->type->least);
    return end;
}

/* --- lone requests ---------------------------------------------------------------------------- */

void sx_sim_tenant_arrived(struct sim_world *w, struct sim_machine *m, unsigned index)
{
    struct sim_tenant *t = &m->tenants[index];
    if (w->config->lone_width)
        sx_arrivals_add(&t->sched.arrivals, &t->type->cost, w->now, t->type->samples,
                        !t->queue.count && !t->share.running);
}

void sx_sim_tenant_lone(struct sim_world *w, struct sim_machine *m, unsigned index)
{
    struct sim_tenant *t = &m->tenants[index];
    if (!w->config->lone_width || t->queue.count != 1)
        return;
    struct sx_sched state = {
        .n_units = w->config->n_units, .models = m->sched_models, .n_models = m->n_sched_models};
    unsigned at = 0;
    while (m->sched_models[at] != &t->sched)
        at++;
    t->share.lone_units = t->type->cost.widths[sx_sched_lone_width(&state, at, w->now)];
}
