/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * share_run.c - decisions by the share: what starts, what ends, what is admitted.
 *
 * Units are handed out when a batch starts and come back when it ends, never in between.  All with
 * the server's lock held.
 */
#include <string.h>

#include "serve/server_int.h"

/* What the share sees of a model. */
static void see(struct sx_model *m, uint64_t now)
{
    sx_model_refresh(m);
    const struct sx_request *head = sx_queue_head(m);
    struct sx_share_queue *q = &m->share.queue;
    *q = (struct sx_share_queue){.head_deadline = SX_NEVER};
    if (!head)
        return;
    q->samples = m->sched.queued;
    q->head_samples = head->samples;
    q->head_arrival = head->arrival_ns;
    q->head_deadline = head->end_by_ns;
    if (!sx_model_may_probe(m, now))
        return;
    /* If it is late on all units, it was let in to try: that needs time. */
    double least = sx_latency_ns(&m->latency, m->server->n_units, head->samples);
    double run = sx_latency_ns(&m->latency, m->share.plan.units, head->samples);
    if (sx_time_add(now, (uint64_t)least) > head->end_by_ns)
        q->head_deadline = sx_time_add(now, (uint64_t)(2 * run));
}

/* A queue that is longer than the machine is fast waits at the edge of its deadlines.  Batches that
 * were made smaller for the sake of the head would then stay small, and the machine slow, for
 * good.  So where two full batches wait, heads that a full one cannot serve in time give way (as
 * Nexus drops early).  Returns the batch. */
static unsigned drop_early(struct sx_server *s, struct sx_model *m, unsigned batch, unsigned wi,
                           uint64_t now, struct outcome *o)
{
    unsigned full =
        m->share.plan.batch < m->sched.max_batch ? m->share.plan.batch : m->sched.max_batch;
    if (batch >= full || m->varies || m->sched.queued < 2 * full || sx_model_may_probe(m, now))
        return batch;
    double ns = sx_cost_ns(&m->cost, full, wi) + sx_cost_spread_ns(&m->cost, full, wi);
    uint64_t end = sx_time_add(now, (uint64_t)ns);
    unsigned gone = 0;
    SX_LIST_FOREACH (it, &m->queue) {
        const struct sx_request *r = SX_CONTAINER_OF(it, struct sx_request, link);
        if (r->end_by_ns >= end)
            break;
        gone += r->samples;
    }
    if (gone + full > m->sched.queued)
        return batch;
    for (struct sx_request *r; (r = sx_queue_head(m)) != NULL && r->end_by_ns < end;)
        sx_queue_expire(s, r, now, o);
    see(m, now);
    return full;
}

/* Act on a START.  False: there is no memory for a job. */
static bool start(struct sx_server *s, struct sx_share_action *a, uint64_t now, struct outcome *o)
{
    struct sx_model *m = SX_CONTAINER_OF(a->model, struct sx_model, share);
    unsigned wi = sx_cost_width_index(&m->cost, a->n_units);
    struct sx_start st = {.batch = a->batch, .first_unit = a->first_unit, .n_units = a->n_units};
    st.batch = drop_early(s, m, st.batch, wi, now, o);
    if (st.batch < m->share.queue.head_samples)
        st.batch = m->share.queue.head_samples; /* it is not divided */
    /* What was learnt since the plan's table was made may say that the batch is too large for its
     * head: rather a smaller one than none. */
    uint64_t end_by = m->share.queue.head_deadline;
    double left = end_by > now ? (double)(end_by - now) : 0;
    while (st.batch > m->share.queue.head_samples &&
           sx_cost_ns(&m->cost, st.batch, wi) + sx_cost_spread_ns(&m->cost, st.batch, wi) > left)
        st.batch -= 1 + (st.batch - m->share.queue.head_samples) / 8;
    double ns = sx_cost_ns(&m->cost, st.batch, wi);
    st.predicted_ns = ns > 0 ? (uint64_t)ns : a->predicted_ns;
    struct sx_job *job;
    if (!sx_server_start_batch(s, m, &st, now, &job, o))
        return false;
    if (job) {
        a->predicted_ns = job->predicted_ns ? job->predicted_ns : 1;
        job->share_run = sx_share_start(s->sharing->live, a, job->samples, now);
    }
    return true;
}

uint64_t sx_sharing_pump(struct sx_server *s, uint64_t now, struct outcome *o)
{
    struct sx_share_action a;
    for (unsigned i = 0; i < s->n_models; i++) {
        s->models[i]->earliest = sx_queue_expire_late(s, s->models[i], now, o);
        if (s->models[i]->shared)
            see(s->models[i], now);
    }
    for (;;) {
        uint64_t begin = sx_now();
        sx_share_decide(s->sharing->live, now, &a);
        sx_hist_add(&s->quick->decide, sx_now() - begin);
        if (a.kind == SX_SCHED_WAIT)
            break;
        bool started = start(s, &a, now, o);
        struct sx_model *m = SX_CONTAINER_OF(a.model, struct sx_model, share);
        m->earliest = sx_queue_expire_late(s, m, now, o);
        see(m, now);
        if (!started)
            break;
    }
    uint64_t wake = a.kind == SX_SCHED_WAIT ? a.wake_at : sx_time_add(now, NO_MEMORY_RETRY_NS);
    uint64_t look = sx_sharing_look_at(s);
    return look < wake ? look : wake;
}

void sx_sharing_arrived(struct sx_server *s, struct sx_model *m, uint64_t now)
{
    if (!s->sharing)
        return;
    s->sharing->news = true;
    if (!m->shared || m->queued_requests != 1)
        return;
    /* How wide may it run if nobody else comes? */
    struct sx_sched state = sx_server_state(s);
    unsigned wi = sx_sched_lone_width(&state, sx_server_index_of(s, m), now);
    m->share.lone_units = m->cost.widths[wi];
}

void sx_sharing_note(struct sx_server *s, struct sx_job *job, uint64_t now)
{
    if (!sx_sharing_active(s))
        return;
    struct sx_sharing *sh = s->sharing;
    struct sx_model *m = job->model;
    bool profile = sx_list_empty(&job->requests);
    uint64_t end = s->unit_free_at[job->first_unit];
    if (end <= now)
        end = now + 1;
    sh->aside_latency.ns[0][0] = (double)(end - now) / job->samples;
    struct sx_share_action a = {.kind = SX_SCHED_START,
                                .model = m->shared && !profile ? &m->share : &sh->aside,
                                .batch = job->samples,
                                .n_units = job->width,
                                .first_unit = job->first_unit,
                                .filler = true,
                                .predicted_ns = end - now,
                                .wake_at = SX_NEVER};
    for (unsigned u = job->first_unit; u < job->first_unit + job->width; u++)
        a.units[u / 64] |= UINT64_C(1) << (u % 64);
    job->share_run = sx_share_start(sh->live, &a, job->samples, now);
}

void sx_sharing_ended(struct sx_server *s, struct sx_job *job, uint64_t now)
{
    if (!s->sharing)
        return;
    s->sharing->news = true;
    if (job->model->cost.unit_ns <= 0)
        s->sharing->looked =
            0; /* its first run: what was guessed until now is known, so plan at once */
    if (job->share_run != SX_NO_RUN)
        sx_share_end(s->sharing->live, job->share_run, now);
    job->share_run = SX_NO_RUN;
}

/* How many of a model's waiting samples are due before `deadline`, taken as evenly spread. */
static unsigned due_before(const struct sx_model *m, uint64_t deadline)
{
    const struct sx_request *head = sx_queue_head(m);
    if (!head || head->end_by_ns > deadline)
        return 0;
    const struct sx_request *tail = SX_CONTAINER_OF(m->queue.prev, struct sx_request, link);
    if (tail->end_by_ns <= deadline)
        return m->queued_samples;
    double part =
        (double)(deadline - head->end_by_ns) / (double)(tail->end_by_ns - head->end_by_ns);
    unsigned n = (unsigned)(part * m->queued_samples);
    return n > head->samples ? n : head->samples;
}

bool sx_sharing_admits(struct sx_server *s, struct sx_model *m, const struct sx_request *r,
                       uint64_t now, uint64_t *ret_end)
{
    struct sx_share *live = s->sharing->live;
    *ret_end = now;
    if (!m->shared)
        return true; /* just loaded: its first plan is being made */
    for (unsigned i = 0; i < s->n_models; i++) {
        struct sx_model *other = s->models[i];
        if (!other->shared)
            continue;
        see(other, now);
        /* Whatever its shape, all of its own model's goes before it; of others', by deadline, only
         * what is due before.  The next pump sees all again. */
        other->share.queue.samples =
            other == m ? m->queued_samples : due_before(other, r->end_by_ns);
    }
    *ret_end = sx_share_predict_finish(live, &m->share, r->samples, now);
    double spread = sx_cost_spread_ns(&m->cost, r->samples, 0);
    if (sx_time_add(*ret_end, (uint64_t)spread) <= r->end_by_ns)
        return true;
    if (!m->queued_requests && sx_model_may_probe(m, now))
        return true; /* only a run can tell whether that is still so */
    /* Alone it may be given more units than the plan says. */
    bool idle = live->n_free == live->n_units;
    for (unsigned i = 0; i < s->n_models && idle; i++)
        idle = !s->models[i]->queued_requests;
    double least = sx_model_least_ns(m, r->samples);
    return idle && sx_time_add(now, (uint64_t)least) <= r->end_by_ns;
}
