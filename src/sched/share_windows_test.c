/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * share_windows_test.c - queues that are never empty: promises are windows.  All figures are
 * simulated, from assumed tables: times in proportion to 1/units below the knee and flat above, no
 * run disturbs another.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "sched/share_int.h"
#include "sched/share_sim.h"

struct entry {
    const char *name;
    unsigned knee;
    double objective, ms;
};

/* Recalled from the D-STACK paper: units are hundredths of a V100, times for batch 16. */
static const struct entry alexnet = {"alexnet", 30, 25, 8}, mobilenet = {"mobilenet", 20, 25, 10},
                          resnet50 = {"resnet-50", 40, 50, 28}, vgg19 = {"vgg-19", 50, 100, 55},
                          resnet18 = {"resnet-18", 30, 25, 12},
                          inception = {"inception", 40, 50, 25},
                          resnext50 = {"resnext-50", 50, 100, 40};

static void add(struct sim_config *c, const struct entry *e)
{
    struct sim_model *m = &c->model[c->n_models++];
    *m = (struct sim_model){.objective_ns = e->objective * 1e6, .weight = 1, .max_batch = 16};
    sim_table(&m->latency, 100, e->knee, 16, e->ms * 1e6, 1);
    /* Batch 16 alone was measured. */
    m->latency.n_batches = 1;
    m->latency.batches[0] = 16;
}

static struct sim_config mix(enum sx_share_policy policy, const struct entry *const *entries)
{
    struct sim_config c = {
        .policy = policy, .fit = SX_SHARE_ANY, .n_units = 100, .seconds = 20, .seed = 1};
    for (; *entries; entries++)
        add(&c, *entries);
    return c;
}

static const struct entry *const c2[] = {&resnet50, &vgg19, NULL};
static const struct entry *const c3[] = {&mobilenet, &resnet50, &vgg19, NULL};
static const struct entry *const c4[] = {&alexnet, &mobilenet, &resnet50, &vgg19, NULL};
static const struct entry *const c7[] = {&alexnet,   &mobilenet, &resnet18, &resnet50,
                                         &inception, &resnext50, &vgg19,    NULL};

static void show(const char *name, enum sx_share_policy policy, const struct sim_result *r,
                 double against)
{
    print_message("%s %-14s useful %5.2f %%, %4.0f images/s (%.2fx), missed %4.1f %%, "
                  "Jain of run time %.3f, of unit-time %.3f (simulated)\n",
                  name, sx_share_policy_name(policy), 100 * r->useful, r->samples_per_s,
                  r->samples_per_s / against, 100 * r->missed, r->jain_run, r->jain_units);
}

static void mixes_are_served_fairly_and_use_the_machine(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        const struct entry *const *entries;
    } mixes[] = {{"C-2", c2}, {"C-3", c3}, {"C-4", c4}};
    for (unsigned i = 0; i < 3; i++) {
        struct sim_result r[SX_SHARE_POLICIES];
        for (unsigned p = 0; p < SX_SHARE_POLICIES; p++) {
            struct sim_config c = mix((enum sx_share_policy)p, mixes[i].entries);
            sim_run(&c, &r[p]);
        }
        double temporal = r[SX_SHARE_TEMPORAL].samples_per_s;
        for (unsigned p = 0; p < SX_SHARE_POLICIES; p++)
            show(mixes[i].name, (enum sx_share_policy)p, &r[p], temporal);
        const struct sim_result *fair = &r[SX_SHARE_FAIR], *edf = &r[SX_SHARE_EDF];
        assert_true(fair->verdict.feasible);
        assert_true(fair->missed == 0 && edf->missed == 0);
        assert_true(temporal < edf->samples_per_s && edf->samples_per_s < fair->samples_per_s);
        assert_true(r[SX_SHARE_TEMPORAL].useful < edf->useful && edf->useful < fair->useful);
        assert_true(r[SX_SHARE_BLIND].missed > 0 || i < 2);
        if (mixes[i].entries != c4)
            continue;
        assert_true(fair->useful >= 0.94);
        assert_true(fair->samples_per_s >= 2.9 * temporal);
        assert_true(fair->jain_run >= 0.98);
        bool starved = false;
        for (unsigned m = 0; m < 4; m++)
            starved |= r[SX_SHARE_MAX_THROUGHPUT].model[m].samples == 0;
        assert_true(starved);
    }
}

static void too_much_is_refused_and_the_rest_keeps_its_promises(void **unused)
{
    (void)unused;
    struct sim_config c = mix(SX_SHARE_FAIR, c7);
    struct sim_result r;
    sim_run(&c, &r);
    print_message("C-7: %u refused, %u shrunk, demand %.1f %%, missed %.1f %% of what is promised, "
                  "useful %.1f %% (simulated): %s\n",
                  r.verdict.refused, r.verdict.shrunk, 100 * r.verdict.demand, 100 * r.missed,
                  100 * r.useful, r.verdict.why);
    assert_false(r.verdict.feasible);
    assert_true(r.verdict.refused >= 1 && r.verdict.refused <= 2);
    assert_true(strlen(r.verdict.why) > 20);
    assert_true(r.missed == 0);
    /* With smaller batches in the tables, batches shrink before anyone is refused. */
    for (unsigned m = 0; m < c.n_models; m++) {
        const struct entry *e = c7[m];
        sim_table(&c.model[m].latency, 100, e->knee, 16, e->ms * 1e6, 0.5);
    }
    sim_run(&c, &r);
    print_message("C-7, other batches: %u refused, %u shrunk, demand %.1f %%, missed %.1f %%: %s\n",
                  r.verdict.refused, r.verdict.shrunk, 100 * r.verdict.demand, 100 * r.missed,
                  r.verdict.why);
    assert_int_equal(r.verdict.refused, 0);
    assert_true(r.verdict.shrunk >= 1);
    assert_true(r.missed == 0);
}

/* --- random sets --------------------------------------------------------------------------------
 */

#define SETS 60

/* 2 to 6 models, knees of 20 to 50 %, runs of at most half the objective; demand within [low,
 * high).
 */
static void random_set(struct sx_rng *rng, double low, double high, struct sim_config *c)
{
    for (;;) {
        double session = 0, demand = 0;
        c->n_models = 2 + (unsigned)sx_rng_below(rng, 5);
        for (unsigned m = 0; m < c->n_models; m++) {
            struct sim_model *s = &c->model[m];
            unsigned knee = 20 + (unsigned)sx_rng_below(rng, 31);
            double objective = 1e6 * (20 + (double)sx_rng_below(rng, 81));
            double ns = objective * (0.1 + 0.4 * sx_rng_double(rng));
            *s = (struct sim_model){
                .objective_ns = objective, .max_batch = 16, .units = knee, .batch = 16};
            sim_table(&s->latency, 100, knee, 16, ns, 1);
            session = objective > session ? objective : session;
        }
        for (unsigned m = 0; m < c->n_models; m++) {
            const struct sim_model *s = &c->model[m];
            demand += ceil(session / s->objective_ns) * sx_latency_ns(&s->latency, 100, 16) *
                      s->units / (100 * session);
        }
        if (demand >= low && demand < high)
            return;
    }
}

static void fill_adds_no_miss_and_uses_the_machine(void **unused)
{
    (void)unused;
    unsigned total_worse = 0;
    static const double edges[] = {0.30, 0.45, 0.60, 0.75, 0.90, 1.0};
    struct sx_rng rng;
    sx_rng_init(&rng, 5);
    for (unsigned e = 0; e + 1 < sizeof edges / sizeof *edges; e++) {
        unsigned clean[3] = {0}, worse = 0, refused = 0;
        double useful[3] = {0}, missed[3] = {0};
        for (unsigned set = 0; set < SETS; set++) {
            struct sim_config c = {
                .fit = SX_SHARE_ANY, .n_units = 100, .seconds = 5, .by_hand = true, .seed = 1};
            random_set(&rng, edges[e], edges[e + 1], &c);
            struct sim_result r[3];
            static const enum sx_share_policy policies[] = {SX_SHARE_EDF, SX_SHARE_BLIND,
                                                            SX_SHARE_FAIR};
            for (unsigned p = 0; p < 3; p++) {
                c.policy = policies[p];
                sim_run(&c, &r[p]);
                clean[p] += r[p].missed == 0;
                useful[p] += r[p].useful / SETS;
                missed[p] += r[p].missed / SETS;
            }
            if (r[2].missed > r[0].missed) {
                worse++;
                print_message("set %u: %.4f missed with fill, %.4f without\n", set, r[2].missed,
                              r[0].missed);
            }
            c.by_hand = false;
            sim_run(&c, &r[2]);
            refused += r[2].verdict.refused > 0;
            if (r[2].missed > 0)
                print_message("set %u: admitted, and %.4f missed\n", set, r[2].missed);
        }
        print_message(
            "demand %2.0f-%3.0f %%, sets with a miss / useful / mean missed: EDF alone %2u / "
            "%.0f %% / %.1f %%, blind fill %2u / %.0f %% / %.1f %%, fair %2u / %.0f %% / %.1f "
            "%%; fair worse in %u; planning refuses in %u (simulated, %u sets)\n",
            100 * edges[e], 100 * edges[e + 1], SETS - clean[0], 100 * useful[0], 100 * missed[0],
            SETS - clean[1], 100 * useful[1], 100 * missed[1], SETS - clean[2], 100 * useful[2],
            100 * missed[2], worse, refused, SETS);
        total_worse += worse;
        assert_true(useful[2] >= 0.88);
        if (e <= 1)
            assert_true(clean[0] >= 0.95 * SETS);
    }
    assert_int_equal(total_worse, 0);
}

static void overload_is_raised(void **unused)
{
    (void)unused;
    struct sx_rng rng;
    sx_rng_init(&rng, 6);
    unsigned planned = 0, at_once = 0;
    double sessions = 0, most = 0;
    for (unsigned set = 0; set < SETS; set++) {
        struct sim_config c = {.fit = SX_SHARE_ANY, .n_units = 100, .seconds = 10, .seed = 1};
        /* Planning counts whole windows in a session.  They do not begin anew with each, so what
         * they need is less: for decisions to see it, that must be too much. */
        double need, session = 0;
        do {
            random_set(&rng, 1.0, 2.5, &c);
            need = 0;
            for (unsigned m = 0; m < c.n_models; m++)
                need += sx_latency_ns(&c.model[m].latency, 100, 16) * c.model[m].units /
                        (100 * c.model[m].objective_ns);
        } while (need <= 1.05);
        for (unsigned m = 0; m < c.n_models; m++)
            session = fmax(session, c.model[m].objective_ns);
        struct sim_result r;
        sim_run(&c, &r);
        planned += !r.verdict.feasible;
        assert_true(r.verdict.refused + r.verdict.shrunk > 0 && *r.verdict.why);
        /* What if it were not planned so: promises are made that cannot be kept. */
        c.by_hand = true;
        sim_run(&c, &r);
        assert_true(r.first_overload != SX_NEVER);
        assert_true(r.missed > 0);
        at_once += (double)r.first_overload <= session;
        sessions += (double)r.first_overload / session / SETS;
        most = fmax(most, (double)r.first_overload / session);
    }
    print_message(
        "demand over 100 %%: planning says so before the first run in %u of %u sets; without "
        "it, decisions do within a session in %u, after %.2f sessions on average, %.2f at "
        "most\n",
        planned, SETS, at_once, sessions, most);
    assert_int_equal(planned, SETS);
}

/* --- fairness -----------------------------------------------------------------------------------
 */

static struct sim_config identical(unsigned n, const double *weights)
{
    struct sim_config c = {
        .policy = SX_SHARE_FAIR, .fit = SX_SHARE_ANY, .n_units = 100, .seconds = 1, .seed = 1};
    static const struct entry same = {"same", 30, 100, 9};
    for (unsigned i = 0; i < n; i++) {
        add(&c, &same);
        c.model[i].weight = weights[i];
    }
    return c;
}

static void identical_models_get_the_same_and_weights_count(void **unused)
{
    (void)unused;
    static const double equal[] = {1, 1, 1, 1, 1}, two[] = {2, 1, 1, 2};
    struct sim_config c = identical(5, equal);
    c.warm_seconds = 1; /* ten sessions, after ten */
    struct sim_result r;
    sim_run(&c, &r);
    double mean = 0, worst = 0;
    for (unsigned m = 0; m < 5; m++)
        mean += r.model[m].unit_ns / 5;
    for (unsigned m = 0; m < 5; m++)
        worst = fmax(worst, fabs(r.model[m].unit_ns / mean - 1));
    print_message("equal weights: unit-time within %.1f %% over 10 sessions\n", 100 * worst);
    assert_true(worst <= 0.05);
    c = identical(4, two);
    c.warm_seconds = 1;
    sim_run(&c, &r);
    for (unsigned m = 1; m < 3; m++) {
        double ratio = r.model[0].unit_ns / r.model[m].unit_ns;
        print_message("weights 2:1 give %.3f\n", ratio);
        assert_true(ratio >= 1.8 && ratio <= 2.2);
    }
}

static void a_new_model_is_served_within_a_session(void **unused)
{
    (void)unused;
    static const double equal[] = {1, 1, 1, 1, 1};
    struct sim_config c = identical(5, equal);
    c.seconds = 3;
    c.model[4].join_s = 1.5037;
    struct sim_result r;
    sim_run(&c, &r);
    double ms = (double)r.model[4].first_start / 1e6 - 1503.7;
    print_message("a new model is first served after %.1f ms, a session is 100 ms\n", ms);
    assert_true(ms >= 0 && ms <= 100);
    assert_true(r.missed == 0);
    /* It takes no more than its part. */
    assert_true(r.model[4].unit_ns < 1.15 * r.model[0].unit_ns / 2);
}

/* Nothing idles that could run: without the guard, whoever fits on its planned units is started. */
static void nothing_fits(void *user, const struct sx_share *share)
{
    const struct sim_config *c = user;
    for (unsigned m = 0; m < c->n_models; m++) {
        unsigned units = c->model[m].units;
        assert_true(units > share->n_free);
    }
}

static void fill_is_work_conserving(void **unused)
{
    (void)unused;
    struct sx_rng rng;
    sx_rng_init(&rng, 7);
    for (unsigned set = 0; set < 50; set++) {
        struct sim_config c = {.policy = SX_SHARE_BLIND,
                               .fit = SX_SHARE_ANY,
                               .n_units = 100,
                               .seconds = 1,
                               .by_hand = true,
                               .seed = 1,
                               .idle = nothing_fits};
        random_set(&rng, 0.3, 1, &c);
        c.user = &c;
        struct sim_result r;
        sim_run(&c, &r);
        assert_true(r.decisions > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mixes_are_served_fairly_and_use_the_machine),
        cmocka_unit_test(too_much_is_refused_and_the_rest_keeps_its_promises),
        cmocka_unit_test(fill_adds_no_miss_and_uses_the_machine),
        cmocka_unit_test(overload_is_raised),
        cmocka_unit_test(identical_models_get_the_same_and_weights_count),
        cmocka_unit_test(a_new_model_is_served_within_a_session),
        cmocka_unit_test(fill_is_work_conserving),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
