/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "sched/share_sim.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"

struct queue {
    uint64_t arrival[SIM_QUEUE], deadline[SIM_QUEUE]; /* a ring */
    unsigned head, n;
};

struct flight {
    bool used;
    unsigned model, number, n, units;
    uint64_t begin, end;
    uint64_t *deadline; /* of its requests */
    bool endless;
};

struct sim {
    const struct sim_config *c;
    struct sim_result *r;
    struct sx_share *share;
    struct sx_share_model model[SIM_MODELS];
    struct sx_latency real[SIM_MODELS], believed[SIM_MODELS];
    struct queue *queue[SIM_MODELS];
    struct sx_rng gaps[SIM_MODELS], noise;
    uint64_t next_arrival[SIM_MODELS], now, wake, replan, from, end;
    uint64_t windows_before[SIM_MODELS], missed_before[SIM_MODELS];
    bool present[SIM_MODELS], gone[SIM_MODELS], slow[SIM_MODELS];
    uint64_t asked[SIM_MODELS]; /* of all, for the learnt rate */
    struct flight flight[SX_SHARE_RUNS];
    bool counting;
};

void sim_table(struct sx_latency *ret, unsigned n_units, unsigned knee, unsigned batch, double ns,
               double fixed)
{
    memset(ret, 0, sizeof *ret);
    unsigned step = n_units > 16 ? n_units / 10 : 1;
    for (unsigned u = step; u <= n_units && ret->n_units < SX_LATENCY_UNITS - 1; u += step) {
        if (knee < u && (!ret->n_units || knee > ret->units[ret->n_units - 1]))
            ret->units[ret->n_units++] = knee;
        ret->units[ret->n_units++] = u;
    }
    for (unsigned b = 1; b < batch; b *= 2)
        ret->batches[ret->n_batches++] = b;
    ret->batches[ret->n_batches++] = batch;
    for (unsigned u = 0; u < ret->n_units; u++) {
        for (unsigned b = 0; b < ret->n_batches; b++) {
            double below = ret->units[u] < knee ? (double)knee / ret->units[u] : 1;
            ret->ns[u][b] = ns * below * (fixed + (1 - fixed) * ret->batches[b] / batch);
        }
    }
}

double sim_jain(const double *x, unsigned n)
{
    double sum = 0, squares = 0;
    for (unsigned i = 0; i < n; i++) {
        sum += x[i];
        squares += x[i] * x[i];
    }
    return squares > 0 ? sum * sum / (n * squares) : 1;
}

/* --- what must always hold ---------------------------------------------------------------------
 */

static void check(const struct sim *s)
{
    const struct sx_share *sh = s->share;
    uint64_t seen[SX_SCHED_UNITS / 64];
    memcpy(seen, sh->free_units, sizeof seen);
    unsigned n = sh->n_free, used = 0, running[SIM_MODELS] = {0};
    for (unsigned i = 0; i < SX_SHARE_RUNS && used < sh->n_running; i++) {
        const struct sx_share_run *r = &sh->runs[i];
        if (!r->used)
            continue;
        used++;
        n += r->n_units;
        unsigned bits = 0, first = SX_SCHED_UNITS, last = 0;
        for (unsigned w = 0; w < SX_SCHED_UNITS / 64; w++) {
            assert_int_equal(seen[w] & r->units[w], 0);
            seen[w] |= r->units[w];
            bits += (unsigned)__builtin_popcountll(r->units[w]);
            if (!r->units[w])
                continue;
            if (first == SX_SCHED_UNITS)
                first = 64 * w + (unsigned)__builtin_ctzll(r->units[w]);
            last = 64 * w + 63 - (unsigned)__builtin_clzll(r->units[w]);
        }
        assert_int_equal(bits, r->n_units);
        if (sh->fit == SX_SHARE_ALIGNED) {
            assert_int_equal(first % r->n_units, 0);
            assert_int_equal(last - first + 1, r->n_units);
        }
        if (r->model)
            running[r->model - s->model]++;
    }
    assert_int_equal(used, sh->n_running);
    assert_int_equal(n, sh->n_units); /* so the sum never exceeds the machine */
    for (unsigned m = 0; m < s->c->n_models; m++) {
        if (s->present[m])
            assert_int_equal(running[m], s->model[m].running);
    }
    unsigned all = 0;
    for (unsigned w = 0; w < SX_SCHED_UNITS / 64; w++)
        all += (unsigned)__builtin_popcountll(seen[w]);
    assert_int_equal(all, sh->n_units);
}

/* --- requests ----------------------------------------------------------------------------------
 */

static void update_queue(struct sim *s, unsigned m)
{
    struct sx_share_queue *q = &s->model[m].queue;
    if (s->c->model[m].rate <= 0)
        return;
    const struct queue *w = s->queue[m];
    *q = (struct sx_share_queue){.samples = w->n, .head_samples = w->n ? 1 : 0};
    if (w->n) {
        q->head_arrival = w->arrival[w->head];
        q->head_deadline = w->deadline[w->head];
    }
}

static bool counted(const struct sim *s, uint64_t deadline, unsigned m)
{
    return deadline - (uint64_t)s->c->model[m].objective_ns >= s->from;
}

static void expire(struct sim *s, unsigned m)
{
    struct queue *w = s->queue[m];
    const struct sx_latency *l = &s->believed[m];
    uint64_t least = (uint64_t)sx_latency_ns(l, s->c->n_units, 1);
    while (w->n && !s->c->keep_late && s->now + least > w->deadline[w->head]) {
        s->r->model[m].dropped += counted(s, w->deadline[w->head], m);
        w->head = (w->head + 1) % SIM_QUEUE;
        w->n--;
    }
}

static void arrive(struct sim *s, unsigned m)
{
    struct queue *w = s->queue[m];
    assert_true(w->n < SIM_QUEUE);
    unsigned at = (w->head + w->n++) % SIM_QUEUE;
    w->arrival[at] = s->now;
    w->deadline[at] = s->now + (uint64_t)s->c->model[m].objective_ns;
    s->asked[m]++;
    s->r->model[m].offered += s->now >= s->from;
    s->next_arrival[m] =
        s->now + 1 + (uint64_t)sx_rng_exponential(&s->gaps[m], 1e9 / s->c->model[m].rate);
}

/* --- runs --------------------------------------------------------------------------------------
 */

static void finish(struct sim *s, struct flight *f)
{
    struct sim_model_result *r = &s->r->model[f->model];
    uint64_t begin = f->begin > s->from ? f->begin : s->from;
    if (f->end > begin) {
        const struct sx_share_plan *p = &s->model[f->model].plan;
        unsigned useful = f->units < p->knee_efficacy ? f->units : p->knee_efficacy;
        r->run_ns += (double)(f->end - begin);
        r->unit_ns += (double)(f->end - begin) * f->units;
        r->useful_ns += (double)(f->end - begin) * useful;
        r->runs++;
        r->samples += f->n;
    }
    for (unsigned i = 0; !f->endless && i < f->n; i++) {
        if (!counted(s, f->deadline[i], f->model))
            continue;
        if (f->end <= f->deadline[i])
            r->in_time++;
        else
            r->late++;
    }
    free(f->deadline);
    f->deadline = NULL;
    f->used = false;
}

static void act(struct sim *s, const struct sx_share_action *a)
{
    unsigned m = (unsigned)(a->model - s->model);
    const struct sim_model *c = &s->c->model[m];
    struct queue *w = s->queue[m];
    assert_true(m < s->c->n_models && s->present[m]);
    assert_true(a->n_units >= 1 && a->batch >= 1);
    unsigned n = a->batch;
    if (c->rate > 0) {
        assert_true(w->n > 0);
        n = n < w->n ? n : w->n;
    }
    assert_true(n <= (c->max_batch ? c->max_batch : 1));
    unsigned number = sx_share_start(s->share, a, n, s->now);
    double ns = sx_latency_ns(&s->real[m], a->n_units, n);
    ns *= 1 + s->c->noise * (2 * sx_rng_double(&s->noise) - 1);
    struct flight *f = &s->flight[number];
    assert_false(f->used);
    *f = (struct flight){.used = true,
                         .model = m,
                         .number = number,
                         .n = n,
                         .units = a->n_units,
                         .begin = s->now,
                         .end = s->now + (uint64_t)ceil(ns),
                         .endless = c->rate <= 0};
    if (!f->endless) {
        f->deadline = malloc(n * sizeof *f->deadline);
        assert_non_null(f->deadline);
        for (unsigned i = 0; i < n; i++) {
            f->deadline[i] = w->deadline[w->head];
            w->head = (w->head + 1) % SIM_QUEUE;
            w->n--;
        }
    }
    struct sim_model_result *r = &s->r->model[m];
    r->fillers += a->filler && s->now >= s->from;
    if (r->first_start == SX_NEVER)
        r->first_start = s->now;
}

static void decide(struct sim *s)
{
    for (unsigned tries = 0;; tries++) {
        assert_true(tries <= s->c->n_units); /* each start takes a unit */
        for (unsigned m = 0; m < s->c->n_models; m++) {
            expire(s, m);
            update_queue(s, m);
        }
        struct sx_share_action a;
        uint64_t before = s->share->overloads;
        sx_share_decide(s->share, s->now, &a);
        s->r->decisions++;
        if (s->share->overloads > before && s->r->first_overload == SX_NEVER)
            s->r->first_overload = s->now;
        if (a.kind == SX_SCHED_WAIT) {
            assert_true(a.wake_at > s->now);
            s->wake = a.wake_at;
            if (s->c->idle)
                s->c->idle(s->c->user, s->share);
            return;
        }
        act(s, &a);
        check(s);
    }
}

static void plan(struct sim *s)
{
    if (s->c->by_hand) {
        for (unsigned m = 0; m < s->c->n_models; m++) {
            struct sx_share_plan *p = &s->model[m].plan;
            p->admitted = true;
            p->units = p->knee_efficacy = p->knee_tolerance = s->c->model[m].units;
            p->batch = s->c->model[m].batch;
            p->ns = sx_latency_ns(s->model[m].latency, p->units, p->batch);
        }
        return;
    }
    for (unsigned m = 0; m < s->c->n_models; m++) {
        double seconds = (double)s->now / 1e9 - s->c->model[m].join_s;
        if (s->c->model[m].rate > 0 && seconds > 1)
            s->model[m].rate = (double)s->asked[m] / seconds;
    }
    sx_share_plan(s->share, s->now, &s->r->verdict);
}

static uint64_t at_second(double seconds)
{
    return (uint64_t)(seconds * 1e9);
}

static void join_and_leave(struct sim *s)
{
    bool changed = false;
    for (unsigned m = 0; m < s->c->n_models; m++) {
        const struct sim_model *c = &s->c->model[m];
        if (!s->present[m] && !s->gone[m] && s->now >= at_second(c->join_s)) {
            s->model[m] = (struct sx_share_model){.name = "m",
                                                  .latency = &s->believed[m],
                                                  .objective_ns = c->objective_ns,
                                                  .weight = c->weight > 0 ? c->weight : 1,
                                                  .priority = c->priority,
                                                  .rate = c->rate > 0 ? c->rate : INFINITY,
                                                  .max_batch = c->max_batch,
                                                  .max_delay_ns = c->max_delay_ns,
                                                  .lone_units = c->lone_units};
            s->model[m].queue.endless = c->rate <= 0;
            assert_true(sx_share_add(s->share, &s->model[m], s->now));
            s->present[m] = changed = true;
            if (c->rate > 0)
                s->next_arrival[m] =
                    s->now + 1 + (uint64_t)sx_rng_exponential(&s->gaps[m], 1e9 / c->rate);
        }
        if (s->present[m] && c->leave_s > 0 && s->now >= at_second(c->leave_s)) {
            sx_share_remove(s->share, &s->model[m]);
            s->r->model[m].waiting += s->queue[m]->n;
            s->queue[m]->n = 0;
            s->present[m] = false;
            s->gone[m] = changed = true;
            s->next_arrival[m] = SX_NEVER;
        }
        if (!s->slow[m] && c->slow_at_s > 0 && s->now >= at_second(c->slow_at_s)) {
            s->slow[m] = changed = true;
            for (unsigned u = 0; u < c->latency.n_units; u++) {
                for (unsigned b = 0; b < c->latency.n_batches; b++)
                    s->real[m].ns[u][b] *= c->slowness;
            }
            if (s->c->learn)
                s->believed[m] = s->real[m];
        }
    }
    if (changed)
        plan(s);
}

static uint64_t next_event(const struct sim *s)
{
    uint64_t next = s->wake < s->replan ? s->wake : s->replan;
    for (unsigned m = 0; m < s->c->n_models; m++) {
        const struct sim_model *c = &s->c->model[m];
        uint64_t at[4] = {s->next_arrival[m], SX_NEVER, SX_NEVER, SX_NEVER};
        if (!s->present[m] && !s->gone[m])
            at[1] = at_second(c->join_s);
        if (s->present[m] && c->leave_s > 0)
            at[2] = at_second(c->leave_s);
        if (!s->slow[m] && c->slow_at_s > 0)
            at[3] = at_second(c->slow_at_s);
        for (unsigned i = 0; i < 4; i++)
            next = at[i] < next ? at[i] : next;
    }
    for (unsigned i = 0; i < s->c->n_units; i++) {
        if (s->flight[i].used && s->flight[i].end < next)
            next = s->flight[i].end;
    }
    return next;
}

static void summarise(struct sim *s)
{
    struct sim_result *r = s->r;
    double run[SIM_MODELS], units[SIM_MODELS], share[SIM_MODELS];
    uint64_t windows = 0, missed = 0;
    unsigned n_requests = 0;
    r->span_ns = (double)(s->end - s->from);
    for (unsigned m = 0; m < s->c->n_models; m++) {
        struct sim_model_result *mr = &r->model[m];
        double weight = s->c->model[m].weight > 0 ? s->c->model[m].weight : 1;
        mr->windows = s->model[m].windows - s->windows_before[m];
        mr->missed = s->model[m].missed - s->missed_before[m];
        windows += mr->windows;
        missed += mr->missed;
        for (unsigned i = 0; i < s->queue[m]->n; i++) {
            unsigned at = (s->queue[m]->head + i) % SIM_QUEUE;
            mr->waiting += counted(s, s->queue[m]->deadline[at], m);
        }
        r->busy += mr->unit_ns / (r->span_ns * s->c->n_units);
        r->useful += mr->useful_ns / (r->span_ns * s->c->n_units);
        r->samples_per_s += (double)mr->samples / r->span_ns * 1e9;
        r->in_time_per_s += (double)mr->in_time / r->span_ns * 1e9;
        run[m] = mr->run_ns / weight;
        units[m] = mr->unit_ns / weight;
        if (s->c->model[m].rate > 0) {
            uint64_t over = mr->offered - mr->waiting;
            mr->share = over ? (double)mr->in_time / (double)over : 1;
            share[n_requests++] = mr->share;
        }
    }
    r->missed = windows ? (double)missed / (double)windows : 0;
    r->jain_run = sim_jain(run, s->c->n_models);
    r->jain_units = sim_jain(units, s->c->n_models);
    r->jain_share = sim_jain(share, n_requests);
    r->overloads = s->share->overloads;
}

void sim_run(const struct sim_config *c, struct sim_result *ret)
{
    struct sim *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->share = malloc(sizeof *s->share);
    assert_non_null(s->share);
    memset(ret, 0, sizeof *ret);
    ret->first_overload = SX_NEVER;
    s->c = c;
    s->r = ret;
    s->from = at_second(c->warm_seconds);
    s->end = at_second(c->warm_seconds + c->seconds);
    s->wake = SX_NEVER;
    s->replan = c->replan_seconds > 0 ? at_second(c->replan_seconds) : SX_NEVER;
    sx_rng_init(&s->noise, c->seed);
    sx_share_init(s->share, c->policy, c->fit, c->n_units);
    for (unsigned m = 0; m < c->n_models; m++) {
        s->real[m] = s->believed[m] = c->model[m].latency;
        s->queue[m] = calloc(1, sizeof *s->queue[m]);
        assert_non_null(s->queue[m]);
        s->next_arrival[m] = SX_NEVER;
        sx_rng_init(&s->gaps[m], c->seed * 1000 + m + 1);
        ret->model[m].first_start = SX_NEVER;
    }
    while (s->now < s->end) {
        for (unsigned i = 0; i < c->n_units; i++) {
            if (!s->flight[i].used || s->flight[i].end > s->now)
                continue;
            sx_share_end(s->share, i, s->now);
            finish(s, &s->flight[i]);
        }
        if (!s->counting && s->now >= s->from) {
            s->counting = true;
            for (unsigned m = 0; m < c->n_models; m++) {
                s->windows_before[m] = s->model[m].windows;
                s->missed_before[m] = s->model[m].missed;
            }
        }
        join_and_leave(s);
        for (unsigned m = 0; m < c->n_models; m++) {
            while (s->next_arrival[m] <= s->now)
                arrive(s, m);
        }
        if (s->replan <= s->now) {
            plan(s);
            s->replan = s->now + at_second(c->replan_seconds);
        }
        decide(s);
        check(s);
        uint64_t next = next_event(s);
        s->now = next < s->end ? next : s->end;
    }
    for (unsigned i = 0; i < c->n_units; i++) {
        if (!s->flight[i].used)
            continue;
        for (unsigned k = 0; !s->flight[i].endless && k < s->flight[i].n; k++)
            ret->model[s->flight[i].model].waiting +=
                counted(s, s->flight[i].deadline[k], s->flight[i].model);
        free(s->flight[i].deadline);
    }
    summarise(s);
    for (unsigned m = 0; m < c->n_models; m++)
        free(s->queue[m]);
    free(s->share);
    free(s);
}
