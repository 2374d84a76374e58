/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "sched/share.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "sched/share_int.h"
#include "sched/share_sim.h"

#define NOW (1000 * SX_MS)

static struct sx_share *share_of(void **state)
{
    return *state;
}

static int setup(void **state)
{
    *state = malloc(sizeof(struct sx_share));
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static struct sx_share_model model_of(const struct sx_latency *latency, double objective_ms)
{
    return (struct sx_share_model){.name = "m",
                                   .latency = latency,
                                   .objective_ns = objective_ms * 1e6,
                                   .weight = 1,
                                   .rate = INFINITY,
                                   .max_batch = 16,
                                   .queue = {.endless = true}};
}

static void request_waits(struct sx_share_model *m, unsigned samples, uint64_t arrival)
{
    m->queue = (struct sx_share_queue){.samples = samples,
                                       .head_samples = 1,
                                       .head_arrival = arrival,
                                       .head_deadline = arrival + (uint64_t)m->objective_ns};
}

/* --- names, units -------------------------------------------------------------------------------
 */

static void policies_have_names(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SX_SHARE_POLICIES; i++) {
        enum sx_share_policy found;
        assert_true(sx_share_policy_find(sx_share_policy_name((enum sx_share_policy)i), &found));
        assert_int_equal(found, i);
    }
    enum sx_share_policy found;
    assert_false(sx_share_policy_find("none", &found));
}

static bool group_free(const uint64_t *units, unsigned first, unsigned n, unsigned n_units)
{
    if (first + n > n_units)
        return false;
    for (unsigned u = first; u < first + n; u++) {
        if (!(units[u / 64] >> u % 64 & 1))
            return false;
    }
    return true;
}

static void groups_are_found_as_by_hand(void **state)
{
    (void)state;
    struct sx_rng rng;
    sx_rng_init(&rng, 1);
    unsigned found = 0;
    for (unsigned i = 0; i < 20000; i++) {
        unsigned n_units = 1 + (unsigned)sx_rng_below(&rng, i % 4 ? 64 : SX_SCHED_UNITS);
        unsigned n = 1 + (unsigned)sx_rng_below(&rng, i % 3 ? 8 : n_units);
        uint64_t units[SHARE_WORDS] = {0};
        sx_units_put(units, 0, n_units, true);
        for (unsigned k = (unsigned)sx_rng_below(&rng, 8); k; k--) {
            unsigned first = (unsigned)sx_rng_below(&rng, n_units);
            unsigned len = 1 + (unsigned)sx_rng_below(&rng, n_units - first);
            sx_units_put(units, first, len < 4 ? len : 4, false);
        }
        unsigned single = n_units, any = n_units;
        for (unsigned f = 0; f + n <= n_units; f += n) {
            if (!group_free(units, f, n, n_units))
                continue;
            any = any == n_units ? f : any;
            unsigned twin = f / n % 2 ? f - n : f + n;
            if (single == n_units && !group_free(units, twin, n, n_units))
                single = f;
        }
        assert_int_equal(sx_units_find(units, n_units, n), single < n_units ? single : any);
        found += any < n_units;
    }
    assert_true(found > 5000);
}

static void lowest_units_are_taken(void **state)
{
    (void)state;
    uint64_t units[SHARE_WORDS] = {0}, got[SHARE_WORDS];
    sx_units_put(units, 60, 10, true);
    sx_units_put(units, 130, 4, true);
    sx_units_lowest(units, 12, got);
    assert_true(got[0] == units[0] && got[1] == units[1]);
    assert_int_equal(got[2], UINT64_C(3) << 2);
}

/* --- planning -----------------------------------------------------------------------------------
 */

static void plan_takes_the_knee(void **state)
{
    struct sx_share *s = share_of(state);
    struct sx_latency l;
    sim_table(&l, 100, 40, 16, 20e6, 1);
    struct sx_share_model m = model_of(&l, 50);
    sx_share_init(s, SX_SHARE_FAIR, SX_SHARE_ANY, 100);
    assert_true(sx_share_add(s, &m, NOW));
    struct sx_share_verdict v;
    sx_share_plan(s, NOW, &v);
    assert_true(v.feasible && m.plan.admitted && !m.plan.shrunk);
    assert_int_equal(m.plan.units, 40);
    assert_int_equal(m.plan.batch, 16);
    assert_int_equal(m.plan.knee_efficacy, 40);
    assert_true(fabs(m.plan.demand - 0.16) < 1e-9);
    assert_true(fabs(v.demand - 0.16) < 1e-9);
    assert_true(strlen(m.plan.why) > 10);
}

static void what_cannot_be_held_is_refused_with_what_could(void **state)
{
    struct sx_share *s = share_of(state);
    struct sx_latency l;
    sim_table(&l, 4, 4, 4, 40e6, 0.5);
    struct sx_share_model m = model_of(&l, 10), other = model_of(&l, 200);
    sx_share_init(s, SX_SHARE_FAIR, SX_SHARE_ALIGNED, 4);
    sx_share_add(s, &m, NOW);
    sx_share_add(s, &other, NOW);
    struct sx_share_verdict v;
    sx_share_plan(s, NOW, &v);
    assert_false(v.feasible);
    assert_int_equal(v.refused, 1);
    assert_false(m.plan.admitted);
    assert_true(other.plan.admitted);
    /* One sample takes 25 ms on all units. */
    assert_non_null(strstr(m.plan.why, "25 ms"));
    print_message("%s\n", m.plan.why);
    /* It has leftovers only, and they don't hurt. */
    struct sx_share_action a;
    sx_share_decide(s, NOW, &a);
    assert_int_equal(a.kind, SX_SCHED_START);
    assert_ptr_equal(a.model, &other);
}

static void the_least_important_goes_first(void **state)
{
    struct sx_share *s = share_of(state);
    struct sx_latency l;
    sim_table(&l, 100, 50, 16, 40e6, 1);
    l.n_batches = 1; /* nothing to shrink */
    l.batches[0] = 16;
    struct sx_share_model m[6];
    sx_share_init(s, SX_SHARE_FAIR, SX_SHARE_ANY, 100);
    for (unsigned i = 0; i < 6; i++) {
        m[i] = model_of(&l, 100);
        m[i].priority = i == 2 ? 1 : i == 4 ? 2 : 0;
        sx_share_add(s, &m[i], NOW);
    }
    struct sx_share_verdict v;
    sx_share_plan(s, NOW, &v); /* 120 % */
    assert_false(v.feasible);
    assert_int_equal(v.refused, 2);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(m[i].plan.admitted, i != 4 && i != 2);
    assert_true(v.demand <= 1);
    print_message("%s\n", v.why);
}

static void rates_that_ask_for_too_much_refuse_nobody(void **state)
{
    struct sx_share *s = share_of(state);
    struct sx_latency l;
    sim_table(&l, 2, 2, 8, 80e6, 0.2);
    struct sx_share_model m[2];
    sx_share_init(s, SX_SHARE_FAIR, SX_SHARE_ALIGNED, 2);
    for (unsigned i = 0; i < 2; i++) {
        m[i] = model_of(&l, 300);
        m[i].queue.endless = false;
        m[i].rate = 200;
        sx_share_add(s, &m[i], NOW);
    }
    struct sx_share_verdict v;
    sx_share_plan(s, NOW, &v);
    assert_int_equal(v.refused, 0);
    assert_true(v.demand > 1 && !v.feasible);
    assert_true(m[0].plan.admitted && m[1].plan.admitted);
    print_message("%s\n", v.why);
    /* But one that is more important goes first. */
    m[0].priority = 3;
    sx_share_plan(s, NOW, &v);
    assert_true(!m[0].plan.admitted && m[1].plan.admitted);
}

/* --- single decisions ---------------------------------------------------------------------------
 */

static void nothing_waits_nothing_starts(void **state)
{
    struct sx_share *s = share_of(state);
    struct sx_latency l;
    sim_table(&l, 2, 2, 8, 40e6, 0.2);
    for (unsigned p = 0; p < SX_SHARE_POLICIES; p++) {
        struct sx_share_model m = model_of(&l, 100);
        m.queue.endless = false;
        m.rate = 5;
        sx_share_init(s, (enum sx_share_policy)p, SX_SHARE_ALIGNED, 2);
        struct sx_share_action a;
        sx_share_decide(s, NOW, &a); /* nobody is there */
        assert_int_equal(a.kind, SX_SCHED_WAIT);
        assert_true(a.wake_at == SX_NEVER);
        sx_share_add(s, &m, NOW);
        sx_share_decide(s, NOW, &a); /* without a plan */
        assert_int_equal(a.kind, SX_SCHED_WAIT);
        sx_share_plan(s, NOW, NULL);
        sx_share_decide(s, NOW, &a);
        assert_int_equal(a.kind, SX_SCHED_WAIT);
        request_waits(&m, 1, NOW);
        sx_share_decide(s, NOW, &a);
        assert_int_equal(a.kind, SX_SCHED_START);
        assert_ptr_equal(a.model, &m);
        assert_int_equal(a.batch, 1);
    }
}

/* The guard: a long run must not take the last unit from those who are expected and cannot wait. */
static void the_last_unit_is_kept_for_whom_it_is_needed(void **state)
{
    struct sx_share *s = share_of(state);
    struct sx_latency quick, slow;
    sim_table(&quick, 2, 1, 8, 40e6, 0.2); /* 12 ms for one sample */
    sim_table(&slow, 2, 1, 8, 400e6, 0.2); /* 120 ms */
    struct sx_share_model a = model_of(&quick, 40), b = model_of(&slow, 1000);
    a.queue.endless = b.queue.endless = false;
    a.rate = 40;
    b.rate = 2;
    sx_share_init(s, SX_SHARE_FAIR, SX_SHARE_ALIGNED, 2);
    sx_share_add(s, &a, NOW);
    sx_share_add(s, &b, NOW);
    sx_share_plan(s, NOW, NULL);
    struct sx_share_action act;
    request_waits(&b, 3, NOW);
    sx_share_decide(s, NOW, &act);
    assert_int_equal(act.kind, SX_SCHED_START);
    unsigned first = sx_share_start(s, &act, 1, NOW);
    request_waits(&b, 2, NOW);
    sx_share_decide(s, NOW, &act);
    assert_int_equal(act.kind, SX_SCHED_WAIT);
    assert_true(act.wake_at > NOW);
    /* The quick one may. */
    request_waits(&a, 1, NOW);
    sx_share_decide(s, NOW, &act);
    assert_int_equal(act.kind, SX_SCHED_START);
    assert_ptr_equal(act.model, &a);
    a.queue.samples = 0;
    /* When nobody quick is expected, the slow one takes the last unit, too. */
    a.rate = 0;
    sx_share_decide(s, NOW, &act);
    assert_int_equal(act.kind, SX_SCHED_START);
    assert_ptr_equal(act.model, &b);
    sx_share_end(s, first, NOW + 50 * SX_MS);
}

static void model_is_removed_while_it_runs(void **state)
{
    struct sx_share *s = share_of(state);
    struct sx_latency l;
    sim_table(&l, 4, 2, 8, 20e6, 0.2);
    for (unsigned p = 0; p < SX_SHARE_POLICIES; p++) {
        struct sx_share_model m[2] = {model_of(&l, 100), model_of(&l, 100)};
        sx_share_init(s, (enum sx_share_policy)p, SX_SHARE_ALIGNED, 4);
        sx_share_add(s, &m[0], NOW);
        sx_share_add(s, &m[1], NOW);
        sx_share_plan(s, NOW, NULL);
        struct sx_share_action a;
        sx_share_decide(s, NOW, &a);
        assert_int_equal(a.kind, SX_SCHED_START);
        unsigned run = sx_share_start(s, &a, a.batch, NOW);
        unsigned n_free = s->n_free;
        struct sx_share_model *gone = a.model, *left = gone == &m[0] ? &m[1] : &m[0];
        sx_share_remove(s, gone);
        memset(gone, 0xff, sizeof *gone); /* nothing reads it */
        assert_int_equal(s->n_free, n_free);
        for (unsigned i = 0; i < 8; i++) {
            sx_share_decide(s, NOW + 1, &a);
            if (a.kind != SX_SCHED_START)
                break;
            assert_ptr_equal(a.model, left);
            sx_share_start(s, &a, a.batch, NOW + 1);
        }
        sx_share_end(s, run, NOW + 2);
        assert_false(s->runs[run].used);
        sx_share_plan(s, NOW + 2, NULL);
        sx_share_remove(s, left);
        sx_share_decide(s, NOW + 3, &a);
        assert_int_equal(a.kind, SX_SCHED_WAIT);
    }
}

static void clock_may_jump(void **state)
{
    struct sx_share *s = share_of(state);
    struct sx_latency l;
    sim_table(&l, 4, 2, 8, 20e6, 0.2);
    for (unsigned p = 0; p < SX_SHARE_POLICIES; p++) {
        struct sx_share_model m = model_of(&l, 100), q = model_of(&l, 100);
        q.queue.endless = false;
        q.rate = 10;
        sx_share_init(s, (enum sx_share_policy)p, SX_SHARE_ALIGNED, 4);
        sx_share_add(s, &m, NOW);
        sx_share_add(s, &q, NOW);
        sx_share_plan(s, NOW, NULL);
        struct sx_share_action a;
        sx_share_decide(s, NOW, &a);
        assert_int_equal(a.kind, SX_SCHED_START);
        unsigned run = sx_share_start(s, &a, a.batch, NOW);
        sx_share_end(s, run, NOW - 500 * SX_MS); /* back */
        assert_true(s->last >= NOW);
        sx_share_decide(s, 0, &a);
        assert_true(isfinite(m.score) && m.score >= 0);
        uint64_t windows = m.windows;
        sx_share_decide(s, NOW + 1000000 * SX_S, &a); /* twelve days ahead, at once */
        assert_true(m.windows >= windows + 9999990);
        assert_true(isfinite(m.score) && m.window_end > NOW + 1000000 * SX_S);
        sx_share_decide(s, SX_NEVER - 1, &a);
        sx_share_decide(s, SX_NEVER, &a);
        sx_share_plan(s, SX_NEVER, NULL);
        assert_true(s->last == SX_NEVER);
    }
}

static void odd_tables_do_no_harm(void **state)
{
    struct sx_share *s = share_of(state);
    struct sx_latency flat, holes, absurd;
    sim_table(&flat, 4, 1, 8, 20e6, 1);
    memset(&holes, 0, sizeof holes);
    holes.n_units = 3;
    holes.n_batches = 3;
    for (unsigned i = 0; i < 3; i++)
        holes.units[i] = holes.batches[i] = 1u << i;
    holes.ns[1][1] = 5e6; /* all that was measured */
    sx_latency_prepare(&holes);
    sim_table(&absurd, 4, 4, 8, 1e18, 0.5); /* thirty years */
    for (unsigned p = 0; p < SX_SHARE_POLICIES; p++) {
        struct sx_share_model m[3] = {model_of(&flat, 100), model_of(&holes, 50),
                                      model_of(&absurd, 50)};
        sx_share_init(s, (enum sx_share_policy)p, SX_SHARE_ALIGNED, 4);
        for (unsigned i = 0; i < 3; i++)
            assert_true(sx_share_add(s, &m[i], NOW));
        struct sx_share_verdict v;
        sx_share_plan(s, NOW, &v);
        assert_int_equal(m[0].plan.units, 1); /* more units gain nothing */
        assert_true(m[1].plan.admitted);
        assert_false(m[2].plan.admitted);
        for (uint64_t now = NOW; now < NOW + 100 * SX_MS; now += SX_MS) {
            struct sx_share_action a;
            for (unsigned i = s->n_running; i-- > 0;) {
                unsigned run = s->active[i];
                if (s->runs[run].predicted_end <= now)
                    sx_share_end(s, run, now);
            }
            for (unsigned i = 0; i < 10; i++) {
                sx_share_decide(s, now, &a);
                if (a.kind == SX_SCHED_WAIT)
                    break;
                sx_share_start(s, &a, a.batch, now);
            }
        }
        if (p < SX_SHARE_TEMPORAL)
            assert_int_equal(m[0].missed + m[1].missed, 0);
    }
}

static void what_is_full_says_so(void **state)
{
    struct sx_share *s = share_of(state);
    struct sx_latency l;
    sim_table(&l, 64, 1, 8, 1e5, 0.5);
    struct sx_share_model *m = calloc(SX_SHARE_MODELS + 1, sizeof *m);
    assert_non_null(m);
    sx_share_init(s, SX_SHARE_FAIR, SX_SHARE_ALIGNED, 64);
    for (unsigned i = 0; i < SX_SHARE_MODELS; i++) {
        m[i] = model_of(&l, 100);
        assert_true(sx_share_add(s, &m[i], NOW));
    }
    assert_false(sx_share_add(s, &m[SX_SHARE_MODELS], NOW));
    sx_share_plan(s, NOW, NULL);
    unsigned started = 0;
    struct sx_share_action a;
    for (sx_share_decide(s, NOW, &a); a.kind == SX_SCHED_START; sx_share_decide(s, NOW, &a)) {
        sx_share_start(s, &a, a.batch, NOW);
        started++;
    }
    assert_int_equal(started, 64);
    for (unsigned i = 0; i < SX_SHARE_MODELS; i += 2)
        sx_share_remove(s, &m[i]);
    assert_int_equal(s->n_models, SX_SHARE_MODELS / 2);
    free(m);
}

static void predictions_grow_with_what_is_ahead(void **state)
{
    struct sx_share *s = share_of(state);
    struct sx_latency l;
    sim_table(&l, 2, 1, 8, 40e6, 0.2); /* 12 ms for one, 40 for eight */
    struct sx_share_model m = model_of(&l, 100);
    m.queue.endless = false;
    m.rate = 10;
    m.max_batch = 8;
    sx_share_init(s, SX_SHARE_FAIR, SX_SHARE_ALIGNED, 2);
    sx_share_add(s, &m, NOW);
    sx_share_plan(s, NOW, NULL);
    uint64_t last = 0;
    for (unsigned waiting = 0; waiting < 100; waiting += 3) {
        request_waits(&m, waiting, NOW);
        uint64_t end = sx_share_predict_finish(s, &m, 1, NOW);
        assert_true(end >= last);
        last = end;
    }
    /* A hundred in batches of 8 on two units: 13 runs of 40 ms. */
    assert_true(last > NOW + 200 * SX_MS && last < NOW + 400 * SX_MS);
}

/* --- looking ahead ------------------------------------------------------------------------------
 */

/* A filler's simulation may end early, once it has become the base's: that changes no answer. */
static void shortcut_gives_the_same_answer(void **state)
{
    struct sx_share *s = share_of(state);
    struct sx_look *look = malloc(sizeof *look);
    assert_non_null(look);
    struct sx_rng rng;
    sx_rng_init(&rng, 3);
    unsigned harmless = 0, harmful = 0;
    for (unsigned i = 0; i < 3000; i++) {
        struct sx_latency l[6];
        struct sx_share_model m[6];
        unsigned n = 2 + (unsigned)sx_rng_below(&rng, 5), n_units = i % 2 ? 100 : 16;
        sx_share_init(s, SX_SHARE_FAIR, i % 2 ? SX_SHARE_ANY : SX_SHARE_ALIGNED, n_units);
        for (unsigned k = 0; k < n; k++) {
            unsigned knee =
                i % 2 ? 20 + (unsigned)sx_rng_below(&rng, 31) : 2u << sx_rng_below(&rng, 3);
            double objective = 20 + (double)sx_rng_below(&rng, 81);
            sim_table(&l[k], n_units, knee, 16, objective * 1e6 * (0.1 + 0.4 * sx_rng_double(&rng)),
                      1);
            m[k] = model_of(&l[k], objective);
            sx_share_add(s, &m[k], NOW);
            m[k].plan.admitted = true;
            m[k].plan.units = knee;
            m[k].plan.batch = 16;
        }
        uint64_t now = NOW;
        for (unsigned k = 0; k < 12; k++, now += sx_rng_below(&rng, 8000000)) {
            struct sx_share_action a;
            for (unsigned j = s->n_running; j-- > 0;) {
                if (s->runs[s->active[j]].predicted_end <= now)
                    sx_share_end(s, s->active[j], now);
            }
            for (sx_share_decide(s, now, &a); a.kind == SX_SCHED_START && sx_rng_below(&rng, 4);
                 sx_share_decide(s, now, &a))
                sx_share_start(s, &a, a.batch, now);
        }
        now = sx_share_advance(s, now);
        struct sx_outlook base, with, without;
        sx_look_prepare(look, s, now);
        sx_look_base(look, NULL, SX_LOOK_DEADLINE, &base);
        for (unsigned k = 0; k < n; k++) {
            unsigned units = m[k].plan.units;
            if (!sx_share_fits(s, units, NULL))
                continue;
            struct sx_option o = {
                .stream = -1, .units = units, .batch = 16, .ns = sx_latency_ns(&l[k], units, 16)};
            sx_look_ahead(look, &o, SX_LOOK_DEADLINE, INFINITY, &base, &with);
            sx_look_ahead(look, &o, SX_LOOK_DEADLINE, INFINITY, NULL, &without);
            assert_true(with.broken == without.broken);
            harmless += with.broken <= base.broken;
            harmful += with.broken > base.broken;
        }
    }
    print_message("%u fillers without harm, %u with\n", harmless, harmful);
    assert_true(harmless > 100 && harmful > 100);
    free(look);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(policies_have_names),
        cmocka_unit_test(groups_are_found_as_by_hand),
        cmocka_unit_test(lowest_units_are_taken),
        cmocka_unit_test(plan_takes_the_knee),
        cmocka_unit_test(what_cannot_be_held_is_refused_with_what_could),
        cmocka_unit_test(the_least_important_goes_first),
        cmocka_unit_test(rates_that_ask_for_too_much_refuse_nobody),
        cmocka_unit_test(nothing_waits_nothing_starts),
        cmocka_unit_test(the_last_unit_is_kept_for_whom_it_is_needed),
        cmocka_unit_test(model_is_removed_while_it_runs),
        cmocka_unit_test(clock_may_jump),
        cmocka_unit_test(odd_tables_do_no_harm),
        cmocka_unit_test(what_is_full_says_so),
        cmocka_unit_test(predictions_grow_with_what_is_ahead),
        cmocka_unit_test(shortcut_gives_the_same_answer),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
