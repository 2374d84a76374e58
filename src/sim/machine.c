/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.c - one machine of the simulation: queues around a scheduler, as serve/ has them.
 *
 * Always true between events
 *   M1  what the scheduler sees of a queue when it decides is what is in it; in between, a
 * prediction may have changed it. M2  if something waits and could start, it has been started; if
 * only time can change that, a wake-up is among the events for then, or for earlier, where it is
 * put off again. M3  `inside` is the sum over the queues and the runs of this machine.
 *
 * What becomes of a request is known when its run begins, because the run's real time is drawn
 * then: it is counted there, as waiting when the run ends after the simulation does.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/list.h"
#include "cost/knee.h"
#include "sim/sim_int.h"

/* A rate of nothing would mean an endless queue to some; seen is at least one in so long. */
#define RATE_MIN 0.01

/* --- statistics ------------------------------------------------------------------------------- */

static double overlap(const struct sim_world *w, uint64_t begin, uint64_t end)
{
    begin = begin > w->warm ? begin : w->warm;
    end = end < w->end ? end : w->end;
    return end > begin ? (double)(end - begin) : 0;
}

static unsigned knee_of(struct sim_type *type, unsigned batch)
{
    if (!type->knee[batch]) {
        struct sx_knee knee;
        sx_knee_find(&type->latency, batch, 0, &knee);
        type->knee[batch] = knee.efficacy ? knee.efficacy : 1;
    }
    return type->knee[batch];
}

static void count_run(struct sim_world *w, struct sim_machine *m, struct sim_type *type,
                      const struct sx_sim_decision *d)
{
    double ns = overlap(w, d->at, d->ends);
    unsigned knee = knee_of(type, d->samples);
    double useful = ns * (d->n_units < knee ? d->n_units : knee);
    type->f.run_ns += ns;
    type->f.unit_ns += ns * d->n_units;
    type->f.useful_ns += useful;
    m->unit_ns += ns * d->n_units;
    m->useful_ns += useful;
    if (d->ends > w->end || d->ends <= w->warm)
        return;
    type->f.runs++;
    type->f.fillers += d->filler;
    type->f.samples += d->samples;
    type->error_sum += fabs((double)(d->ends - d->at) - (double)d->predicted_ns) /
                       (double)(d->predicted_ns ? d->predicted_ns : 1);
}

/* One that arrived at `at` and whose run ends at `ends`. */
static void count_request(struct sim_world *w, struct sim_machine *m, struct sim_type *type,
                          uint64_t at, uint64_t ends)
{
    if (at < w->warm)
        return;
    if (ends > w->end) {
        type->f.waiting++;
        return;
    }
    uint64_t ns = ends - at + (uint64_t)type->model->way_ns;
    sx_hist_add(&type->hist, ns);
    if (ns <= type->objective) {
        type->f.in_time++;
        m->f.in_time++;
    } else {
        type->f.late++;
    }
}

static void add_span(struct sim_world *w, const struct sx_sim_decision *d)
{
    struct sx_sim_result *r = w->result;
    if (d->machine != 0 || r->n_spans >= w->config->max_spans ||
        (double)d->at < w->config->span_begin * 1e9 || (double)d->at >= w->config->span_end * 1e9)
        return;
    struct sx_sim_span *s = &r->spans[r->n_spans++];
    *s = (struct sx_sim_span){.begin = d->at,
                              .end = d->ends,
                              .deadline = d->deadline,
                              .model = d->model,
                              .first_unit = d->first_unit,
                              .n_units = d->n_units,
                              .batch = d->samples,
                              .filler = d->filler};
    memcpy(s->units, d->units, sizeof s->units);
}

static void hash_number(uint64_t *hash, uint64_t x)
{
    for (int i = 0; i < 8; i++, x >>= 8) /* FNV-1a */
        *hash = (*hash ^ (x & 255)) * UINT64_C(0x100000001b3);
}

/* Into the log: everything that a decision consists of. */
static void log_decision(struct sim_world *w, const struct sx_sim_decision *d)
{
    uint64_t *h = &w->result->hash;
    hash_number(h, d->at);
    hash_number(h, d->ends);
    hash_number(h, (uint64_t)d->machine << 32 | d->model);
    hash_number(h, (uint64_t)d->first_unit << 32 | d->n_units);
    hash_number(h, (uint64_t)d->samples << 32 | d->filler);
    if (w->config->decided)
        w->config->decided(w->config->user, d);
}

/* An endless queue's samples count when the window in which their runs ended was kept.  Called when
 * the scheduler may have closed windows, before more is added to the present one. */
static void see_windows(struct sim_world *w, struct sim_tenant *t)
{
    uint64_t over = t->share.windows - t->windows, missed = t->share.missed - t->missed;
    if (!over)
        return;
    if (missed < over && w->now > w->warm)
        t->type->kept_samples += t->window_samples;
    t->window_samples = 0;
    t->windows = t->share.windows;
    t->missed = t->share.missed;
}

/* --- runs ------------------------------------------------------------------------------------- */

static bool take_run(struct sim_world *w, uint32_t *ret_run)
{
    if (w->free_run != UINT32_MAX) {
        *ret_run = w->free_run;
        w->free_run = w->runs[w->free_run].next_free;
        return true;
    }
    if (w->n_runs == w->cap_runs) {
        uint32_t cap = w->cap_runs ? 2 * w->cap_runs : 64;
        struct sim_run *grown = realloc(w->runs, cap * sizeof *grown);
        if (!grown)
            return false;
        w->runs = grown;
        w->cap_runs = cap;
    }
    *ret_run = w->n_runs++;
    return true;
}

/* Real time of a run: the table's, times a log-normal factor of mean 1. */
static uint64_t draw_ns(struct sim_type *type, unsigned units, unsigned samples)
{
    double ns = sx_latency_ns(&type->latency, units, samples) * type->slowness;
    if (type->model->noise > 0)
        ns *= exp(type->model->noise * sx_rng_normal(&type->rng) + type->noise_mean);
    return ns < 1 ? 1 : ns < 1e17 ? (uint64_t)llround(ns) : (uint64_t)1e17;
}

/* Act on a START; what cannot be goes into w->rc. */
static void start(struct sim_world *w, struct sim_machine *m, struct sx_share_action *a)
{
    struct sim_tenant *t = SX_CONTAINER_OF(a->model, struct sim_tenant, share);
    struct sim_type *type = t->type;
    unsigned requests = 0, batch = a->batch < type->max_batch ? a->batch : type->max_batch;
    unsigned samples = batch;
    if (!type->endless && !t->queue.count) {
        w->rc = SX_INTERNAL; /* a START of nothing would never end */
        return;
    }
    if (!type->endless) {
        batch = sx_sim_tenant_batch(w, m, t, a->n_units, a->batch);
        if (batch != a->batch)
            a->predicted_ns = (uint64_t)ceil(sx_latency_ns(&type->latency, a->n_units, batch));
        uint64_t careful = a->predicted_ns + (uint64_t)(type->spread * (double)a->predicted_ns);
        if (sx_sim_tenant_drop_late(w, m, t, careful) && !t->queue.count)
            return;
        requests = batch / type->samples;
        requests = requests ? requests : 1;
        requests = requests < t->queue.count ? requests : t->queue.count;
        samples = requests * type->samples;
        if (samples != batch)
            a->predicted_ns = (uint64_t)ceil(sx_latency_ns(&type->latency, a->n_units, samples));
    }
    uint32_t run;
    if (!samples || !take_run(w, &run)) {
        w->rc = samples ? SX_NO_MEMORY : SX_INTERNAL;
        return;
    }
    uint64_t took = draw_ns(type, a->n_units, samples);
    struct sx_sim_decision d = {
        .at = w->now,
        .ends = w->now + took,
        .predicted_ns = a->predicted_ns,
        .deadline = requests ? sx_sim_queue_head(&t->queue) + type->objective : 0,
        .machine = m->index,
        .model = (unsigned)(type - w->types),
        .first_unit = a->first_unit,
        .n_units = a->n_units,
        .batch = a->batch,
        .samples = samples,
        .filler = a->filler,
        .units = a->units,
    };
    for (unsigned i = 0; i < requests; i++)
        count_request(w, m, type, sx_sim_queue_pop(&t->queue), d.ends);
    w->runs[run] = (struct sim_run){sx_share_start(m->share, a, samples, w->now), d.model, samples,
                                    requests, UINT32_MAX};
    if (type->endless)
        t->share.queue.head_arrival = w->now;
    count_run(w, m, type, &d);
    add_span(w, &d);
    log_decision(w, &d);
    w->result->decisions++;
    m->f.decisions++;
    if (!sx_sim_events_push(&w->events, SIM_END, d.ends, m->index, run))
        w->rc = SX_NO_MEMORY;
}

void sx_sim_machine_end(struct sim_world *w, struct sim_machine *m, uint32_t index)
{
    struct sim_run *run = &w->runs[index];
    struct sim_tenant *t = &m->tenants[run->type];
    sx_share_end(m->share, run->number, w->now);
    if (t->type->endless) {
        see_windows(w, t);
        t->window_samples += run->samples;
    }
    m->inside -= run->requests;
    run->next_free = w->free_run;
    w->free_run = index;
    sx_sim_machine_touch(w, m);
}

void sx_sim_machine_touch(struct sim_world *w, struct sim_machine *m)
{
    if (!m->dirty)
        w->dirty[w->n_dirty++] = m->index;
    m->dirty = true;
}

void sx_sim_machine_pump(struct sim_world *w, struct sim_machine *m)
{
    struct sx_share_action a;
    m->dirty = false;
    for (;;) {
        bool waits = false;
        for (unsigned i = 0; i < w->n_types; i++) {
            struct sim_tenant *t = &m->tenants[i];
            if (!t->type)
                continue;
            if (!t->type->endless) {
                sx_sim_tenant_drop_late(w, m, t, t->type->least);
                sx_sim_tenant_refresh(t);
            }
            waits = waits || t->type->endless || t->queue.count;
        }
        if (!waits) { /* nothing could be started */
            m->wake_at = SX_NEVER;
            return;
        }
        sx_share_decide(m->share, w->now, &a);
        w->result->asked++;
        for (unsigned i = 0; i < w->n_types; i++)
            if (m->tenants[i].type && m->tenants[i].type->endless)
                see_windows(w, &m->tenants[i]);
        if (a.kind == SX_SCHED_WAIT)
            break;
        start(w, m, &a);
        if (w->rc)
            return;
    }
    m->wake_at = a.wake_at;
    if (m->wake_at < m->wake_pushed) {
        m->wake_pushed = m->wake_at;
        if (!sx_sim_events_push(&w->events, SIM_WAKE, m->wake_at, m->index, 0))
            w->rc = SX_NO_MEMORY;
    }
}

/* --- arrivals --------------------------------------------------------------------------------- */

void sx_sim_machine_offer(struct sim_world *w, struct sim_machine *m, unsigned index)
{
    struct sim_tenant *t = &m->tenants[index];
    struct sim_type *type = t->type;
    bool counted = w->now >= w->warm;
    type->f.offered += counted;
    m->f.offered += counted;
    t->arrived += type->samples;
    sx_sim_tenant_arrived(w, m, index);
    for (unsigned i = 0; i < w->n_types; i++) /* nobody waits behind the dead */
        if (m->tenants[i].type)
            sx_sim_tenant_drop_late(w, m, &m->tenants[i], m->tenants[i].type->least);
    sx_sim_tenant_refresh(t);
    if (t->queue.count >= type->max_queue) {
        type->f.refused_full += counted;
        return;
    }
    if (!w->config->admit_all &&
        sx_sim_machine_predict(w, m, index) > sx_time_add(w->now, type->end_by)) {
        type->f.refused_late += counted;
        return;
    }
    if (!sx_sim_queue_push(&t->queue, w->now)) {
        w->rc = SX_NO_MEMORY;
        return;
    }
    m->inside++;
    sx_sim_tenant_lone(w, m, index);
    if (m->share->n_free) /* with every unit busy nothing can start: an end will ask again */
        sx_sim_machine_touch(w, m);
}

void sx_sim_machine_replan(struct sim_world *w, struct sim_machine *m, double seconds)
{
    double keep = exp(-seconds / SX_RATE_SECONDS);
    for (unsigned i = 0; i < w->n_types; i++) {
        struct sim_tenant *t = &m->tenants[i];
        if (!t->type || t->type->endless)
            continue;
        t->seen = t->seen * keep + (double)t->arrived;
        t->span = t->span * keep + seconds;
        t->arrived = 0;
        t->share.rate = fmax(t->seen / t->span, RATE_MIN);
    }
    sx_share_plan(m->share, w->now, &m->verdict);
    sx_sim_machine_touch(w, m);
}

/* --- life ------------------------------------------------------------------------------------- */

enum sx_rc sx_sim_machine_init(struct sim_world *w, unsigned index, struct sx_err *err)
{
    struct sim_machine *m = &w->machines[index];
    const struct sx_sim_config *c = w->config;
    m->index = index;
    m->wake_at = m->wake_pushed = SX_NEVER;
    m->share = malloc(sizeof *m->share);
    m->tenants = calloc(w->n_types, sizeof *m->tenants);
    m->sched_models = calloc(w->n_types, sizeof(*m->sched_models));
    if (!m->share || !m->tenants || !m->sched_models)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a machine");
    sx_share_init(m->share, c->policy, c->fit, c->n_units);
    m->share->half_rule = c->half_rule;
    for (unsigned i = 0; i < w->n_types; i++) {
        struct sim_type *type = &w->types[i];
        struct sim_tenant *t = &m->tenants[i];
        if (!sx_sim_cluster_holds(w, i, index))
            continue;
        double rate = type->model->rate > 0 ? type->model->rate : type->load.rate * type->samples;
        t->type = type;
        t->share = (struct sx_share_model){
            .name = type->model->name,
            .latency = &type->latency,
            .objective_ns = type->model->objective_ns,
            .margin_ns = fmin(c->margin_ns, type->model->objective_ns / 10),
            .weight = type->model->weight,
            .priority = type->model->priority,
            .rate = type->endless ? INFINITY : fmax(rate / type->replicas, RATE_MIN),
            .max_batch = type->max_batch,
            .max_delay_ns = type->model->max_delay_ns,
            .lone_units = type->model->lone_units,
            .queue = {.head_samples = type->samples, .endless = type->endless},
        };
        t->sched.cost = &type->cost;
        m->sched_models[m->n_sched_models++] = &t->sched;
        if (type->endless) {
            t->share.queue.samples = type->max_batch;
            t->share.queue.head_deadline = SX_NEVER;
        }
        if (!sx_share_add(m->share, &t->share, 0))
            return sx_fail(err, SX_INVALID, "more than %d models", SX_SHARE_MODELS);
    }
    sx_share_plan(m->share, 0, &m->verdict);
    return SX_OK;
}

void sx_sim_machine_fini(struct sim_world *w, struct sim_machine *m)
{
    for (unsigned i = 0; m->tenants && i < w->n_types; i++)
        free(m->tenants[i].queue.at);
    free(m->tenants);
    free(m->sched_models);
    free(m->share);
}

void sx_sim_machine_warm(struct sim_world *w, struct sim_machine *m)
{
    for (unsigned i = 0; i < w->n_types; i++) {
        m->tenants[i].old_windows = m->tenants[i].share.windows;
        m->tenants[i].old_missed = m->tenants[i].share.missed;
    }
}

void sx_sim_machine_close(struct sim_world *w, struct sim_machine *m)
{
    struct sx_share_action a;
    for (unsigned i = 0; i < w->n_types; i++) {
        struct sim_tenant *t = &m->tenants[i];
        if (!t->type)
            continue;
        sx_sim_tenant_drop_late(w, m, t, t->type->least);
        while (t->queue.count)
            t->type->f.waiting += sx_sim_queue_pop(&t->queue) >= w->warm;
        sx_sim_tenant_refresh(t);
    }
    sx_share_decide(m->share, w->end, &a); /* closes the windows that are over */
    for (unsigned i = 0; i < w->n_types; i++) {
        struct sim_tenant *t = &m->tenants[i];
        if (!t->type || !t->type->endless)
            continue;
        see_windows(w, t);
        t->type->f.windows += t->share.windows - t->old_windows;
        t->type->f.missed += t->share.missed - t->old_missed;
    }
    w->result->overloads += m->share->overloads;
}
