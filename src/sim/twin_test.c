/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * twin_test.c - random scenes: nothing is lost, the same twice, and as a slow obvious twin has it.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "sim/sim_test.h"

/* --- scenes ----------------------------------------------------------------------------------- */

/* A table on 1, 2 and 4 units, batches 1, 4 and 8, in whole 10 us: `ms` at batch 1 on one unit. */
static struct sx_latency random_table(struct sx_rng *rng)
{
    struct sx_latency l = {.n_units = 3, .n_batches = 3, .units = {1, 2, 4}, .batches = {1, 4, 8}};
    double ms = 1 + 9 * sx_rng_double(rng), parallel = 0.3 + 0.6 * sx_rng_double(rng);
    for (unsigned u = 0; u < 3; u++)
        for (unsigned b = 0; b < 3; b++)
            l.ns[u][b] = 1e4 * round(100 * ms * (0.3 + 0.7 * l.batches[b]) *
                                     (1 - parallel + parallel / l.units[u]));
    sx_latency_prepare(&l);
    return l;
}

enum { MODELS = 3 };

struct scene {
    struct sx_latency tables[MODELS];
    struct sx_arrival loads[MODELS];
    struct sx_sim_model models[MODELS];
    struct sx_sim_config config;
};

static void random_scene(struct scene *s, uint64_t seed, double load)
{
    struct sx_rng rng;
    static const char *const names[MODELS] = {"a", "b", "c"};
    sx_rng_init(&rng, seed);
    memset(s, 0, sizeof *s);
    for (unsigned i = 0; i < MODELS; i++) {
        s->tables[i] = random_table(&rng);
        double lone = sx_latency_ns(&s->tables[i], 4, 1);
        double rate = 1e9 / lone * (0.1 + 0.5 * sx_rng_double(&rng)) * load;
        switch (sx_rng_below(&rng, 4)) {
        case 0:
            sx_arrival_poisson(&s->loads[i], rate, seed + i);
            break;
        case 1:
            sx_arrival_gamma(&s->loads[i], rate, 0.25, seed + i);
            break;
        case 2:
            sx_arrival_bursts(&s->loads[i], 2 * rate, 0, 0.2, 0.2, seed + i);
            break;
        default:
            sx_arrival_constant(&s->loads[i], rate);
            break;
        }
        s->models[i] = (struct sx_sim_model){
            .name = names[i],
            .latency = &s->tables[i],
            .objective_ns = 1e4 * round(lone * (3 + 20 * sx_rng_double(&rng)) / 1e4),
            .weight = 1,
            .max_queue = 1 + (unsigned)sx_rng_below(&rng, 40),
            .load = &s->loads[i],
        };
    }
    s->config = (struct sx_sim_config){.models = s->models,
                                       .n_models = MODELS,
                                       .n_units = 4,
                                       .fit = (enum sx_share_fit)sx_rng_below(&rng, 2),
                                       .seconds = 2,
                                       .seed = seed};
}

static void nothing_is_lost_under_any_policy(void **state)
{
    (void)state;
    uint64_t requests = 0, in_time = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct scene s;
        random_scene(&s, seed, seed % 3 ? 1 : 3);
        for (unsigned i = 0; i < MODELS; i++)
            s.models[i].noise = seed % 3 ? 0.2 : 0;
        s.config.replan_seconds = seed % 2 ? 0.25 : 0;
        s.config.admit_all = seed % 4 == 0;
        s.config.keep_late = seed % 5 == 0;
        for (int policy = 0; policy < SX_SHARE_POLICIES; policy++) {
            s.config.policy = (enum sx_share_policy)policy;
            struct sx_sim_result r = simulate(&s.config);
            for (unsigned i = 0; i < MODELS; i++)
                assert_conserved(&r.models[i]);
            assert_conserved(&r.all);
            assert_true(r.useful <= r.busy + 1e-12);
            assert_true(r.busy <= 1 + 1e-12);
            assert_true(r.jain_run > 0.3 && r.jain_run <= 1 + 1e-12);
            assert_true(r.all.throughput >= r.all.goodput - 8 / s.config.seconds);
            assert_int_equal(r.machines[0].offered, r.all.offered);
            assert_int_equal(r.machines[0].in_time, r.all.in_time);
            requests += r.all.offered;
            in_time += r.all.in_time;
            sx_sim_result_fini(&r);
        }
    }
    print_message("%llu requests, %llu in time, all accounted for\n", (unsigned long long)requests,
                  (unsigned long long)in_time);
    assert_true(in_time > requests / 10);
}

/* J2 of the notes. */
static void the_same_seed_gives_the_same_log(void **state)
{
    (void)state;
    for (int policy = 0; policy < SX_SHARE_POLICIES; policy++) {
        uint64_t hash[3];
        for (int i = 0; i < 3; i++) {
            struct scene s;
            random_scene(&s, 5, 1);
            for (unsigned k = 0; k < MODELS; k++)
                s.models[k].noise = 0.1;
            s.config.policy = (enum sx_share_policy)policy;
            s.config.seed = i < 2 ? 5 : 6; /* the third: other run times */
            struct sx_sim_result r = simulate(&s.config);
            hash[i] = r.hash;
            sx_sim_result_fini(&r);
        }
        assert_int_equal(hash[0], hash[1]);
        assert_int_not_equal(hash[0], hash[2]);
    }
}

/* --- a slow obvious twin ---------------------------------------------------------------------- */

/* Every request ever in one array, whatever is next found by looking at everything, no heap, no
 * ring, no statistics on the way: ends, then arrivals, then decisions. */
enum { WAITS, RUNS, IN_TIME, LATE, REFUSED_LATE, REFUSED_FULL, DROPPED, N_STATES };

struct twin_request {
    unsigned model;
    uint64_t at, ends;
    int state, run;
};

struct twin {
    const struct sx_sim_config *c;
    struct sx_share *share;
    struct sx_share_model models[MODELS];
    struct twin_request *requests;
    size_t n;
    struct {
        bool used;
        uint64_t ends;
        unsigned number;
    } runs[64];
    uint64_t now;
};

static uint64_t deadline(const struct twin *t, const struct twin_request *r)
{
    return r->at + (uint64_t)t->c->models[r->model].objective_ns;
}

static void twin_refresh(struct twin *t)
{
    for (unsigned m = 0; m < MODELS; m++) {
        struct sx_share_queue *q = &t->models[m].queue;
        q->samples = 0;
        for (size_t i = 0; i < t->n; i++) {
            struct twin_request *r = &t->requests[i];
            if (r->model != m || r->state != WAITS)
                continue;
            uint64_t least = (uint64_t)sx_latency_ns(t->models[m].latency, t->c->n_units, 1);
            if (t->now + least > deadline(t, r)) {
                r->state = DROPPED;
                continue;
            }
            if (!q->samples++) {
                q->head_arrival = r->at;
                q->head_deadline = deadline(t, r);
            }
        }
    }
}

/* The heads that a full batch would miss give way where two of those wait; else the batch shrinks
 * until it serves its head. */
static bool twin_batch(struct twin *t, unsigned m, struct sx_share_action *a)
{
    struct sx_share_model *model = &t->models[m];
    unsigned full = model->plan.batch < 8 ? model->plan.batch : 8, waiting = 0, gone = 0;
    uint64_t end = t->now + (uint64_t)ceil(sx_latency_ns(model->latency, a->n_units, full)),
             head = 0;
    bool dropped = false;
    for (size_t i = 0; i < t->n; i++) {
        const struct twin_request *r = &t->requests[i];
        if (r->model != m || r->state != WAITS)
            continue;
        head = waiting++ ? head : deadline(t, r);
        gone += deadline(t, r) < end;
    }
    if (a->batch < full && waiting >= 2 * full && gone + full <= waiting) {
        for (size_t i = 0; i < t->n; i++) {
            struct twin_request *r = &t->requests[i];
            if (r->model == m && r->state == WAITS && deadline(t, r) < end) {
                r->state = DROPPED;
                dropped = true;
            }
        }
        a->batch = full;
        a->predicted_ns = (uint64_t)ceil(sx_latency_ns(model->latency, a->n_units, full));
        return dropped;
    }
    unsigned batch = a->batch;
    while (batch > 1 && sx_latency_ns(model->latency, a->n_units, batch) > (double)(head - t->now))
        batch -= 1 + (batch - 1) / 8;
    if (batch != a->batch)
        a->predicted_ns = (uint64_t)ceil(sx_latency_ns(model->latency, a->n_units, batch));
    a->batch = batch;
    return false;
}

static void twin_start(struct twin *t, struct sx_share_action *a)
{
    unsigned m = (unsigned)(a->model - t->models), taken = 0, slot = 0;
    while (t->runs[slot].used)
        assert_true(++slot < 64);
    bool dropped = twin_batch(t, m, a);
    for (size_t i = 0; i < t->n && taken < a->batch; i++) {
        struct twin_request *r = &t->requests[i];
        if (r->model != m || r->state != WAITS)
            continue;
        if (t->now + a->predicted_ns > deadline(t, r)) {
            r->state = DROPPED;
            dropped = true;
            continue;
        }
        r->state = RUNS;
        r->run = (int)slot;
        taken++;
    }
    if (!taken) {
        assert_true(dropped);
        return;
    }
    uint64_t took = (uint64_t)llround(sx_latency_ns(a->model->latency, a->n_units, taken));
    if (taken != a->batch)
        a->predicted_ns = (uint64_t)ceil(sx_latency_ns(a->model->latency, a->n_units, taken));
    t->runs[slot].used = true;
    t->runs[slot].ends = t->now + took;
    t->runs[slot].number = sx_share_start(t->share, a, taken, t->now);
}

/* With others' queues as far as they are due before. */
static uint64_t twin_predict(struct twin *t, unsigned m, uint64_t due)
{
    bool idle = t->share->n_free == t->c->n_units;
    for (unsigned o = 0; o < MODELS; o++) {
        struct sx_share_queue *q = &t->models[o].queue;
        uint64_t first = 0, last = 0;
        idle = idle && !q->samples;
        for (size_t i = 0; i < t->n && o != m; i++) {
            const struct twin_request *r = &t->requests[i];
            if (r->model != o || r->state != WAITS)
                continue;
            first = first ? first : deadline(t, r);
            last = deadline(t, r);
        }
        if (o == m || !q->samples)
            continue;
        if (first > due) {
            q->samples = 0;
        } else if (last > due) {
            double n = (double)(due - first) / (double)(last - first) * q->samples;
            q->samples = n > 1 ? (unsigned)n : 1;
        }
    }
    uint64_t end = sx_share_predict_finish(t->share, &t->models[m], 1, t->now);
    uint64_t least = (uint64_t)sx_latency_ns(t->models[m].latency, t->c->n_units, 1);
    return end > due && idle ? t->now + least : end;
}

/* The first of everything that is to happen. */
static uint64_t next_moment(const struct twin *t, const uint64_t next[MODELS], uint64_t wake)
{
    uint64_t first = wake > t->now ? wake : SX_NEVER;
    for (unsigned i = 0; i < 64; i++)
        if (t->runs[i].used && t->runs[i].ends < first)
            first = t->runs[i].ends;
    for (unsigned m = 0; m < MODELS; m++)
        first = next[m] < first ? next[m] : first;
    return first;
}

static void twin_run(const struct sx_sim_config *c, uint64_t counts[MODELS][N_STATES])
{
    struct twin t = {.c = c, .share = malloc(sizeof *t.share)};
    uint64_t end = (uint64_t)(c->seconds * 1e9), next[MODELS], wake = 0;
    struct sx_arrival loads[MODELS];
    struct sx_share_verdict verdict;
    size_t cap = 1 << 16;
    t.requests = calloc(cap, sizeof *t.requests);
    assert_true(t.share && t.requests);
    sx_share_init(t.share, c->policy, c->fit, c->n_units);
    t.share->half_rule = c->half_rule;
    for (unsigned m = 0; m < MODELS; m++) {
        const struct sx_sim_model *model = &c->models[m];
        loads[m] = *model->load;
        next[m] = sx_arrival_next(&loads[m]);
        t.models[m] = (struct sx_share_model){.name = model->name,
                                              .latency = model->latency,
                                              .objective_ns = model->objective_ns,
                                              .weight = 1,
                                              .rate = model->load->rate,
                                              .max_batch = 8,
                                              .queue = {.head_samples = 1}};
        assert_true(sx_share_add(t.share, &t.models[m], 0));
    }
    sx_share_plan(t.share, 0, &verdict);
    for (t.now = 0; t.now <= end; t.now = next_moment(&t, next, wake)) {
        bool news = wake <= t.now;
        for (unsigned i = 0; i < 64; i++) {
            if (!t.runs[i].used || t.runs[i].ends > t.now)
                continue;
            sx_share_end(t.share, t.runs[i].number, t.now);
            t.runs[i].used = false;
            news = true;
            for (size_t k = 0; k < t.n; k++) {
                struct twin_request *r = &t.requests[k];
                if (r->state == RUNS && r->run == (int)i) {
                    r->ends = t.now;
                    r->state = r->ends <= deadline(&t, r) ? IN_TIME : LATE;
                }
            }
        }
        for (unsigned m = 0; m < MODELS; m++) {
            for (; next[m] <= t.now; next[m] = sx_arrival_next(&loads[m])) {
                assert_true(t.n < cap);
                struct twin_request r = {.model = m, .at = t.now};
                twin_refresh(&t);
                uint64_t finish = twin_predict(&t, m, deadline(&t, &r));
                if (t.models[m].queue.samples >= c->models[m].max_queue)
                    r.state = REFUSED_FULL;
                else if (finish > deadline(&t, &r))
                    r.state = REFUSED_LATE;
                t.requests[t.n++] = r;
                news = news || r.state == WAITS; /* as in the server: a refusal is no news */
            }
        }
        if (!news)
            continue;
        for (;;) {
            struct sx_share_action a;
            twin_refresh(&t);
            sx_share_decide(t.share, t.now, &a);
            wake = a.wake_at;
            if (a.kind == SX_SCHED_WAIT)
                break;
            twin_start(&t, &a);
        }
    }
    for (size_t i = 0; i < t.n; i++) /* who waits at the end was not answered, nor too late */
        counts[t.requests[i].model][t.requests[i].state]++;
    free(t.requests);
    free(t.share);
}

static void a_slow_twin_agrees(void **state)
{
    (void)state;
    static const enum sx_share_policy policies[] = {SX_SHARE_FAIR, SX_SHARE_EDF, SX_SHARE_GREEDY,
                                                    SX_SHARE_FIXED};
    uint64_t requests = 0, differ = 0, lost = 0;
    for (uint64_t seed = 100; seed < 116; seed++) {
        struct scene s;
        random_scene(&s, seed, seed % 2 ? 1 : 4);
        s.config.seconds = 0.5;
        s.config.policy = policies[seed % 4];
        uint64_t counts[MODELS][N_STATES] = {0};
        struct sx_sim_result r = simulate(&s.config);
        twin_run(&s.config, counts);
        for (unsigned i = 0; i < MODELS; i++) {
            const struct sx_sim_figures *f = &r.models[i];
            const uint64_t ours[N_STATES] = {
                0, f->waiting, f->in_time, f->late, f->refused_late, f->refused_full, f->dropped};
            const uint64_t theirs[N_STATES] = {0,
                                               counts[i][WAITS] + counts[i][RUNS],
                                               counts[i][IN_TIME],
                                               counts[i][LATE],
                                               counts[i][REFUSED_LATE],
                                               counts[i][REFUSED_FULL],
                                               counts[i][DROPPED]};
            for (int k = 0; k < N_STATES; k++)
                differ += ours[k] > theirs[k] ? ours[k] - theirs[k] : theirs[k] - ours[k];
            requests += f->offered;
            lost += f->refused_late + f->refused_full + f->dropped;
        }
        sx_sim_result_fini(&r);
    }
    print_message("twin: %llu requests, %llu of them refused or dropped, %llu with another fate\n",
                  (unsigned long long)requests, (unsigned long long)lost,
                  (unsigned long long)differ / 2);
    assert_true(requests > 1000);
    assert_int_equal(differ, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost_under_any_policy),
        cmocka_unit_test(the_same_seed_gives_the_same_log),
        cmocka_unit_test(a_slow_twin_agrees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
