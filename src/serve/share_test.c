/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * Several models on one device, in virtual time: plans, shares, and that no request is lost.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "serve/mix_fixture.h"
#include "serve/server_int.h"

/* Milliseconds for one sample on one unit: 5, 20, 60.  Two units are 1.6 times as fast as one. */
#define LIGHT  "base_us=4000 per_sample_us=1000 serial=0.25"
#define MIDDLE "base_us=16000 per_sample_us=4000 serial=0.25"
#define HEAVY  "base_us=40000 per_sample_us=20000 serial=0.25"

static const char *const policies[] = {
    "fair", "edf", "blind", "temporal", "fixed", "greedy", "max-throughput", "max-min", "width"};
#define N_POLICIES (sizeof policies / sizeof *policies)

static void get_plan(struct mix *mix, struct sx_server_plan *ret_plan)
{
    assert_int_equal(sx_server_get_plan(mix->server, ret_plan), SX_OK);
}

static double plan_number(struct mix *mix, double (*of)(const struct sx_server_plan *plan))
{
    struct sx_server_plan p;
    get_plan(mix, &p);
    double v = of(&p);
    sx_server_plan_fini(&p);
    return v;
}

static double replans(const struct sx_server_plan *p)
{
    return (double)p->replans;
}

/* --- plans ------------------------------------------------------------------------------------
 */

static void one_model_has_nothing_to_share_and_two_have(void **unused)
{
    (void)unused;
    struct mix mix;
    struct sx_server_plan p;
    mix_open(&mix, 4, NULL);
    mix_load(&mix, 0, LIGHT, 100, NULL);
    mix_settle(&mix);
    get_plan(&mix, &p);
    assert_false(p.sharing);
    assert_string_equal(p.policy, "fair");
    assert_non_null(strstr(p.verdict, "nothing to share"));
    sx_server_plan_fini(&p);

    mix_load(&mix, 1, HEAVY, 400,
             "parameters { key: \"weight\" value { string_value: \"2\" } }\n"
             "parameters { key: \"priority\" value { string_value: \"1\" } }");
    mix_settle(&mix);
    get_plan(&mix, &p);
    assert_true(p.sharing && p.feasible);
    assert_int_equal(p.n_models, 2);
    assert_true(p.session_ns == 400e6);
    assert_true(p.models[1].weight == 2 && p.models[1].priority == 1);
    assert_true(p.models[0].weight == 1 && p.models[0].priority == 0);
    for (int i = 0; i < 2; i++) {
        const struct sx_share_plan *plan = &p.models[i].plan;
        assert_true(plan->admitted && plan->units >= 1 && plan->units <= 4 && plan->batch >= 1);
        assert_true(plan->ns > 0 && plan->ns <= p.models[i].objective_ns);
        assert_true(*plan->why);
        assert_true(p.models[i].attainment == -1); /* nobody has asked */
    }
    sx_server_plan_fini(&p);

    mix_unload(&mix, 1);
    get_plan(&mix, &p);
    assert_false(p.sharing);
    assert_int_equal(p.n_models, 1);
    sx_server_plan_fini(&p);
    mix_close(&mix);
}

/* The share has room for so many; beyond, all are served by width again. */
static void there_may_be_too_many_models_to_share(void **unused)
{
    (void)unused;
    struct mix mix;
    struct sx_server_plan p;
    struct sx_config config;
    struct mix_slot s;
    char name[16];
    mix_open(&mix, 2, NULL);
    mix_load(&mix, 0, LIGHT, 0, NULL);
    sx_config_init(&config);
    for (int i = 1; i <= SX_SHARE_MODELS; i++) {
        get_plan(&mix, &p);
        assert_int_equal(p.sharing, i >= 2);
        sx_server_plan_fini(&p);
        snprintf(name, sizeof name, "x%d", i);
        assert_int_equal(sx_server_load(mix.server, name, 1, mix.path[0], &config, NULL), SX_OK);
    }
    get_plan(&mix, &p);
    assert_false(p.sharing);
    assert_non_null(strstr(p.verdict, "More than 256"));
    sx_server_plan_fini(&p);
    assert_int_equal(mix_submit(&mix, 0, &s, 1, 1, 0), SX_OK);
    mix_advance(&mix, 1 * SX_S);
    assert_int_equal(s.rc, SX_OK);
    assert_int_equal(sx_server_unload(mix.server, "x7", 1, NULL), SX_OK);
    get_plan(&mix, &p);
    assert_true(p.sharing);
    sx_server_plan_fini(&p);
    assert_int_equal(mix_submit(&mix, 0, &s, 1, 1, 0), SX_OK);
    mix_advance(&mix, 1 * SX_S);
    assert_int_equal(s.rc, SX_OK);
    mix_close(&mix);
}

static void policies_are_known_by_name(void **unused)
{
    (void)unused;
    struct mix mix;
    struct sx_err err;
    struct sx_server_plan p;
    mix_open(&mix, 2, "width");
    mix_load(&mix, 0, LIGHT, 100, NULL);
    mix_load(&mix, 1, MIDDLE, 100, NULL);
    mix_settle(&mix);
    get_plan(&mix, &p);
    assert_false(p.sharing);
    assert_string_equal(p.policy, "width");
    sx_server_plan_fini(&p);
    for (size_t i = 0; i < N_POLICIES; i++) {
        assert_int_equal(sx_server_set_policy(mix.server, policies[i], &err), SX_OK);
        get_plan(&mix, &p);
        assert_string_equal(p.policy, policies[i]);
        assert_int_equal(p.sharing, strcmp(policies[i], "width") != 0);
        sx_server_plan_fini(&p);
    }
    assert_int_equal(sx_server_set_policy(mix.server, "fairest", &err), SX_INVALID);
    assert_non_null(strstr(err.message, "'fairest'"));
    assert_non_null(strstr(err.hint, "max-min"));
    mix_close(&mix);
}

/* --- a load ------------------------------------------------------------------------------------
 */

struct load {
    double rate[MIX_MODELS]; /* requests per second; 0: none */
    double seconds;
    float value;
    uint64_t seed;
};

struct tally {
    unsigned asked, refused, expired, good, late, lost, other;
};

/* Poisson arrivals for all models; the tallies are by model. */
static void put_load(struct mix *mix, const struct load *load, struct tally *ret)
{
    enum { MOST = 40000 };
    struct mix_slot *slots = calloc(MOST, sizeof *slots);
    unsigned char *of = calloc(MOST, 1);
    double next[MIX_MODELS];
    struct sx_rng rng;
    size_t n = 0;
    sx_rng_init(&rng, load->seed);
    memset(ret, 0, MIX_MODELS * sizeof *ret);
    uint64_t begin = mix_now(mix);
    for (unsigned i = 0; i < MIX_MODELS; i++)
        next[i] = load->rate[i] > 0 ? sx_rng_exponential(&rng, 1e9 / load->rate[i]) : INFINITY;
    for (;;) {
        unsigned i = 0;
        for (unsigned k = 1; k < MIX_MODELS; k++)
            i = next[k] < next[i] ? k : i;
        if (next[i] > load->seconds * 1e9)
            break;
        uint64_t at = begin + (uint64_t)next[i];
        next[i] += sx_rng_exponential(&rng, 1e9 / load->rate[i]);
        if (at > mix_now(mix))
            mix_advance(mix, at - mix_now(mix));
        assert_true(n < MOST);
        of[n] = (unsigned char)i;
        mix_submit(mix, i, &slots[n], load->value + (float)(n % 50), 1, 0);
        n++;
    }
    mix_finish(mix);
    for (size_t k = 0; k < n; k++) {
        struct tally *t = &ret[of[k]];
        const struct mix_slot *s = &slots[k];
        uint64_t allowed = sx_model_config(mix->model[of[k]])->default_timeout_ns;
        t->asked++;
        t->lost += s->request != NULL || s->answers != (s->rc != SX_UNAVAILABLE);
        t->refused += s->rc == SX_UNAVAILABLE;
        t->expired += s->rc == SX_DEADLINE;
        t->good += s->rc == SX_OK && s->end - s->arrival <= allowed;
        t->late += s->rc == SX_OK && s->end - s->arrival > allowed;
        t->other += s->rc && s->rc != SX_UNAVAILABLE && s->rc != SX_DEADLINE;
    }
    free(slots);
    free(of);
}

static double attainment(const struct tally *t)
{
    return t->asked ? (double)t->good / t->asked : 1;
}

/* --- shares -----------------------------------------------------------------------------------
 */

/* Requests of one batch share its units: each counts for its samples' part. */
static void shares_change_hands_at_batch_boundaries(void **unused)
{
    (void)unused;
    for (size_t k = 0; k < N_POLICIES; k++) {
        struct mix mix;
        enum { N = 300 };
        struct mix_slot *s = calloc(N, sizeof *s);
        mix_open(&mix, 4, policies[k]);
        mix_load(&mix, 0, LIGHT, 0, NULL);
        mix_load(&mix, 1, HEAVY, 0, NULL);
        mix_load(&mix, 2, MIDDLE, 0, NULL);
        mix_settle(&mix);
        for (int i = 0; i < N; i++)
            assert_int_equal(mix_submit(&mix, (unsigned)i % 3, &s[i], (float)i, 1 + i % 2, 0),
                             SX_OK);
        mix_finish(&mix);
        double most = 0, unit_ns = 0;
        uint64_t first = UINT64_MAX, last = 0;
        for (int i = 0; i < N; i++) {
            assert_int_equal(s[i].rc, SX_OK);
            assert_int_equal(s[i].answers, 1);
            double used = 0;
            for (int j = 0; j < N; j++) {
                if (s[j].start <= s[i].start && s[i].start < s[j].end)
                    used += (double)s[j].width * s[j].samples / s[j].batch;
            }
            most = used > most ? used : most;
            unit_ns += (double)(s[i].end - s[i].start) * s[i].width * s[i].samples / s[i].batch;
            first = s[i].start < first ? s[i].start : first;
            last = s[i].end > last ? s[i].end : last;
        }
        double busy = unit_ns / (4.0 * (double)(last - first));
        print_message("# %-14s at most %.2f of 4 units in use, %.0f %% over the whole run\n",
                      policies[k], most, 100 * busy);
        assert_true(most <= 4 + 1e-6);
        assert_true(busy > 0.2);
        mix_close(&mix);
        free(s);
    }
}

static double jain(const double *x, unsigned n)
{
    double sum = 0, squares = 0;
    for (unsigned i = 0; i < n; i++) {
        sum += x[i];
        squares += x[i] * x[i];
    }
    return squares > 0 ? sum * sum / (n * squares) : 1;
}

/* Three models of different weight, equal work for each: what `./run bench mix` does, in virtual
 * time.  Answers within the objective per second, and how evenly the models fare. */
static void a_mix_is_served_as_well_as_by_the_best_baseline(void **unused)
{
    (void)unused;
    static const char *const with[] = {"fair",   "temporal",       "fixed",
                                       "greedy", "max-throughput", "max-min"};
    static const char *const time[] = {"base_us=1500 per_sample_us=8500 serial=0.15",
                                       "base_us=2500 per_sample_us=22500 serial=0.12",
                                       "base_us=5000 per_sample_us=72000 serial=0.08"};
    static const double lone_ms[] = {10, 25, 77}, least_ms[] = {8.7, 22.8, 72.6};
    static const double loads[] = {0.3, 0.6, 0.9};
    for (unsigned l = 0; l < 3; l++) {
        double good[6] = {0}, even = 0, best = 0;
        for (unsigned p = 0; p < 6; p++) {
            struct mix mix;
            struct tally t[MIX_MODELS];
            struct load load = {.seconds = 60, .seed = 17};
            double kept[3];
            mix_open(&mix, 2, with[p]);
            for (unsigned i = 0; i < 3; i++) {
                mix_load(&mix, i, time[i], 5 * lone_ms[i], NULL);
                load.rate[i] = loads[l] * 2 / 3 * 1000 / least_ms[i];
            }
            mix_settle(&mix);
            put_load(&mix, &load, t);
            for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(t[i].lost + t[i].other, 0);
                assert_true(t[i].late <= t[i].asked / 200);
                good[p] += t[i].good / load.seconds;
                kept[i] = attainment(&t[i]);
            }
            if (p == 0)
                even = jain(kept, 3);
            else if (good[p] > best)
                best = good[p];
            mix_close(&mix);
        }
        print_message("# load %.1f: fair %.1f/s, temporal %.1f, fixed %.1f, greedy %.1f, "
                      "max-throughput %.1f, max-min %.1f; fair's Jain index %.3f\n",
                      loads[l], good[0], good[1], good[2], good[3], good[4], good[5], even);
        assert_true(good[0] >= 0.97 * best);
        assert_true(even >= 0.95);
    }
}

/* A model with short runs beside one that always has work for long ones: not interrupted, those
 * make it miss some, but it is not starved. */
static void a_light_model_lives_beside_a_heavy_one(void **unused)
{
    (void)unused;
    struct mix mix;
    struct tally t[MIX_MODELS];
    mix_open(&mix, 2, NULL);
    mix_load(&mix, 0, LIGHT, 300, NULL);
    mix_load(&mix, 1, HEAVY, 1000, NULL);
    mix_settle(&mix);
    /* the heavy one alone asks for twice the machine: 8 samples take 200 ms of a unit */
    struct load load = {.rate = {40, 160}, .seconds = 60, .seed = 7};
    put_load(&mix, &load, t);
    for (int i = 0; i < 2; i++)
        print_message("# %s: %.1f %% of %u in time; %u refused, %u expired\n",
                      i ? "heavy, at twice the machine" : "light", 100 * attainment(&t[i]),
                      t[i].asked, t[i].refused, t[i].expired);
    assert_int_equal(t[0].lost + t[1].lost + t[0].other + t[1].other, 0);
    assert_true(attainment(&t[0]) >= 0.6);
    assert_true(t[1].good > 60 * 60); /* it alone could do 80 a second */
    mix_close(&mix);
}

/* --- plans follow --------------------------------------------------------------------------------
 */

static double rate_0(const struct sx_server_plan *p)
{
    return p->models[0].rate;
}

static double demand_0(const struct sx_server_plan *p)
{
    return p->models[0].plan.demand;
}

static void plans_follow_rates_without_a_failed_request(void **unused)
{
    (void)unused;
    struct mix mix;
    struct tally t[MIX_MODELS];
    mix_open(&mix, 2, NULL);
    mix_load(&mix, 0, LIGHT, 200, NULL);
    mix_load(&mix, 1, MIDDLE, 400, NULL);
    mix_load(&mix, 2, HEAVY, 800, NULL);
    mix_settle(&mix);
    /* 60 % of two units, unbatched, mostly for one model, then for another */
    const struct load phase[] = {
        {.rate = {20, 10, 12}, .seconds = 30, .seed = 1},
        {.rate = {180, 6, 3}, .seconds = 30, .seed = 2},
        {.rate = {20, 10, 12}, .seconds = 30, .seed = 3},
    };
    double before[3], demand[3], failed = 0;
    for (int k = 0; k < 3; k++) {
        before[k] = plan_number(&mix, replans);
        put_load(&mix, &phase[k], t);
        for (int i = 0; i < 3; i++)
            failed += t[i].asked - t[i].good;
        double rate = plan_number(&mix, rate_0);
        demand[k] = plan_number(&mix, demand_0);
        print_message("# phase %d: model 0 at %.0f/s, learnt %.0f/s, demand %.1f %%; %.0f plans\n",
                      k + 1, phase[k].rate[0], rate, 100 * demand[k],
                      plan_number(&mix, replans) - before[k]);
        assert_true(rate > 0.6 * phase[k].rate[0] && rate < 1.5 * phase[k].rate[0]);
        assert_true(plan_number(&mix, replans) > before[k]);
    }
    assert_int_equal((int)failed, 0);
    assert_true(demand[1] > 1.5 * demand[0]);
    assert_true(demand[2] < demand[1] / 1.5);
    mix_close(&mix);
}

/* What is planned for a run of model 0, over what LIGHT says. */
static double over_light(const struct sx_server_plan *p)
{
    const struct sx_share_plan *plan = &p->models[0].plan;
    double ms = (4 + plan->batch) * (0.25 + 0.75 / plan->units);
    return plan->ns / (ms * 1e6);
}

/* A model becomes ten times slower in service: what was predicted is believed no longer, and the
 * other model keeps its objective. */
static void a_cost_that_drifts_tenfold_is_followed(void **unused)
{
    (void)unused;
    struct mix mix;
    struct tally t[MIX_MODELS];
    mix_open(&mix, 2, NULL);
    mix_load(&mix, 0, LIGHT " slow=10 slow_over=1000", 300, NULL);
    mix_load(&mix, 1, MIDDLE, 300, NULL);
    mix_settle(&mix);
    struct load load = {.rate = {20, 20}, .seconds = 20, .seed = 5};
    put_load(&mix, &load, t);
    double was = plan_number(&mix, over_light);
    assert_true(attainment(&t[0]) > 0.99 && attainment(&t[1]) > 0.99);
    load.value = 2000; /* from now on each run of model 0 takes ten times as long */
    put_load(&mix, &load, t);
    print_message("# while it drifts: %.1f %% in time, the other model %.1f %%\n",
                  100 * attainment(&t[0]), 100 * attainment(&t[1]));
    assert_int_equal(t[0].lost + t[1].lost, 0);
    put_load(&mix, &load, t);
    double is = plan_number(&mix, over_light);
    print_message(
        "# afterwards: runs are planned with %.2f times the old time, %.2f before; %.1f %% in "
        "time, the other %.1f %%\n",
        is, was, 100 * attainment(&t[0]), 100 * attainment(&t[1]));
    assert_true(was > 0.9 && was < 1.1);
    assert_true(is > 5 && is < 11);
    assert_int_equal(t[0].lost + t[1].lost + t[0].other + t[1].other, 0);
    assert_int_equal(t[0].late + t[1].late, 0);
    assert_true(attainment(&t[1]) > 0.9);
    mix_close(&mix);
}

static void an_objective_that_cannot_be_met_is_said_and_others_serve(void **unused)
{
    (void)unused;
    struct mix mix;
    struct tally t[MIX_MODELS];
    struct sx_server_plan p;
    mix_open(&mix, 2, NULL);
    mix_load(&mix, 0, LIGHT, 100, NULL);
    mix_load(&mix, 1, HEAVY, 10, NULL); /* 37.5 ms at best */
    mix_settle(&mix);
    struct load load = {.rate = {50, 5}, .seconds = 20, .seed = 3};
    put_load(&mix, &load, t);
    get_plan(&mix, &p);
    print_message("# %s\n# m1: %s\n", p.verdict, p.models[1].plan.why);
    assert_false(p.feasible);
    assert_false(p.models[1].plan.admitted);
    assert_true(*p.models[1].plan.why && *p.verdict);
    assert_true(p.models[0].plan.admitted);
    sx_server_plan_fini(&p);
    assert_true(attainment(&t[0]) > 0.95);
    assert_int_equal(t[0].lost + t[1].lost, 0);
    assert_int_equal(t[1].good, 0);
    /* It still gets leftovers: who has more time than its objective is answered. */
    struct mix_slot s;
    assert_int_equal(mix_submit(&mix, 1, &s, 1, 1, 500 * SX_MS), SX_OK);
    mix_finish(&mix);
    assert_int_equal(s.rc, SX_OK);
    mix_close(&mix);
}

/* After a while without a run, one that is predicted to be late is let in: it must run, then. */
static void what_may_try_runs(void **unused)
{
    (void)unused;
    struct mix mix;
    struct mix_slot s;
    struct sx_server_plan p;
    mix_open(&mix, 2, NULL);
    mix_load(&mix, 0, LIGHT, 20, NULL);
    mix_load(&mix, 1, HEAVY, 150, NULL);
    mix_settle(&mix);
    mix_advance(&mix, 2 * SX_S);
    /* 3.1 ms at best */
    assert_int_equal(mix_submit(&mix, 0, &s, 1, 1, 3 * SX_MS), SX_OK);
    mix_finish(&mix);
    assert_int_equal(s.rc, SX_OK);
    assert_int_equal(mix_submit(&mix, 0, &s, 1, 1, 3 * SX_MS), SX_UNAVAILABLE);
    get_plan(&mix, &p);
    assert_true(p.models[0].plan.admitted);
    sx_server_plan_fini(&p);
    mix_close(&mix);
}

/* What is kept from runs for the way back is a model's own, a tenth of its objective: it is not
 * planned for what no request of it would be let in for. */
static void a_plan_keeps_the_reserve_that_admission_keeps(void **unused)
{
    (void)unused;
    struct mix mix;
    struct mix_slot s;
    struct sx_server_plan p;
    mix_open(&mix, 1, NULL);
    mix_load(&mix, 0, LIGHT, 20, NULL);
    mix_load(&mix, 1, "base_us=47000", 50, NULL);
    mix_settle(&mix);
    assert_int_equal(mix_submit(&mix, 1, &s, 1, 1, 0), SX_UNAVAILABLE);
    get_plan(&mix, &p);
    assert_false(p.models[1].plan.admitted);
    assert_true(p.models[0].plan.admitted);
    sx_server_plan_fini(&p);
    mix_close(&mix);
}

/* Not even for the alarm: nobody waits for company unless the model's configuration says so. */
static void a_lone_request_starts_at_once(void **unused)
{
    (void)unused;
    struct mix mix;
    struct mix_slot s[300];
    struct sx_server_plan p;
    mix_open(&mix, 2, NULL);
    mix_load(&mix, 0, LIGHT, 100, NULL);
    mix_load(&mix, 1, MIDDLE, 200, NULL);
    mix_settle(&mix);
    for (int i = 0; i < 300; i++) {
        mix_submit(&mix, 0, &s[i], 1, 1, 0);
        mix_advance(&mix, 3 * SX_MS);
    }
    mix_advance(&mix, 50 * SX_MS);
    get_plan(&mix, &p);
    assert_true(p.models[0].plan.batch > 1 && p.models[0].queued == 0);
    sx_server_plan_fini(&p);
    assert_int_equal(mix_submit(&mix, 0, &s[0], 1, 1, 0), SX_OK);
    mix_finish(&mix);
    assert_int_equal(s[0].start, s[0].arrival);
    mix_close(&mix);
}

/* As with one model: run times vary, but there is no other to give its place to. */
static void what_was_admitted_runs_if_nothing_else_waits(void **unused)
{
    (void)unused;
    struct mix mix;
    struct mix_slot s;
    mix_open(&mix, 1, NULL);
    mix_load(&mix, 0, "base_us=20000 slow=1.2 slow_over=1000", 0, NULL);
    mix_load(&mix, 1, LIGHT, 0, NULL);
    mix_settle(&mix);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(mix_submit(&mix, 0, &s, i % 2 ? 2000.0f : 0, 1, 0), SX_OK);
        mix_advance(&mix, 100 * SX_MS);
    }
    sx_sharing_replan(mix.server);
    const struct sx_cost *cost = &mix.model[0]->cost;
    double mean = sx_cost_ns(cost, 1, 0), spread = sx_cost_spread_ns(cost, 1, 0);
    assert_true(spread > 1e6);
    uint64_t timeout = (uint64_t)((mean + spread / 2) / 0.9); /* less the reserve */
    assert_int_equal(mix_submit(&mix, 0, &s, 0, 1, timeout), SX_OK);
    mix_finish(&mix);
    assert_int_equal(s.rc, SX_OK);
    mix_close(&mix);
}

/* --- nothing is lost ----------------------------------------------------------------------------
 */

struct storm {
    struct mix mix;
    struct mix_slot *slots;
    unsigned char *of;
    int n;
};

static void do_something(struct storm *w, struct sx_rng *rng)
{
    unsigned i = (unsigned)sx_rng_below(rng, MIX_MODELS);
    switch (sx_rng_below(rng, 40)) {
    case 0:
        if (w->mix.model[i])
            mix_unload(&w->mix, i);
        break;
    case 1:
        if (!w->mix.model[i])
            mix_load(&w->mix, i, sx_rng_below(rng, 2) ? LIGHT : MIDDLE,
                     (double)sx_rng_below(rng, 3) * 60, NULL);
        break;
    case 2:
        assert_int_equal(
            sx_server_set_policy(w->mix.server, policies[sx_rng_below(rng, N_POLICIES)], NULL),
            SX_OK);
        break;
    case 3: {
        struct mix_slot *victim = &w->slots[sx_rng_below(rng, (uint64_t)w->n + 1)];
        if (victim->request)
            sx_server_cancel(w->mix.server, victim->request);
        break;
    }
    default:
        break;
    }
    mix_advance(&w->mix, sx_rng_below(rng, 6 * SX_MS));
}

static void exactly_once_under_every_policy(void **unused)
{
    (void)unused;
    enum { N = 600 };
    unsigned answered = 0, refused = 0;
    for (uint64_t seed = 1; seed <= 4 * N_POLICIES; seed++) {
        struct storm w = {.slots = calloc(N + 1, sizeof *w.slots)};
        struct sx_rng rng;
        sx_rng_init(&rng, seed);
        mix_open(&w.mix, 1 + (unsigned)sx_rng_below(&rng, 6), policies[seed % N_POLICIES]);
        mix_load(&w.mix, 0, LIGHT, 80, NULL);
        mix_load(&w.mix, 1, MIDDLE, 0,
                 "parameters { key: \"priority\" value { string_value: \"-1\" } }");
        if (seed % 2)
            mix_load(&w.mix, 2, HEAVY, 500, NULL);
        for (w.n = 0; w.n < N;) {
            unsigned i = (unsigned)sx_rng_below(&rng, MIX_MODELS);
            uint64_t timeout = sx_rng_below(&rng, 3) ? 0 : (1 + sx_rng_below(&rng, 90)) * SX_MS;
            if (w.mix.model[i])
                mix_submit(&w.mix, i, &w.slots[w.n++], (float)sx_rng_below(&rng, 40),
                           1 + (int64_t)sx_rng_below(&rng, 8), timeout);
            do_something(&w, &rng);
        }
        assert_int_equal(sx_server_drain(w.mix.server, SX_NEVER), SX_OK);
        for (int i = 0; i < N; i++) {
            const struct mix_slot *s = &w.slots[i];
            assert_null(s->request);
            assert_true(s->answers == 1 || (s->answers == 0 && s->rc == SX_UNAVAILABLE));
            answered += s->answers == 1 && s->rc == SX_OK;
            refused += s->rc == SX_UNAVAILABLE;
        }
        mix_close(&w.mix);
        free(w.slots);
    }
    print_message("# %u workloads: %u answered, %u refused, none lost\n",
                  (unsigned)(4 * N_POLICIES), answered, refused);
    assert_true(answered > N * N_POLICIES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_model_has_nothing_to_share_and_two_have),
        cmocka_unit_test(there_may_be_too_many_models_to_share),
        cmocka_unit_test(policies_are_known_by_name),
        cmocka_unit_test(shares_change_hands_at_batch_boundaries),
        cmocka_unit_test(a_mix_is_served_as_well_as_by_the_best_baseline),
        cmocka_unit_test(a_light_model_lives_beside_a_heavy_one),
        cmocka_unit_test(plans_follow_rates_without_a_failed_request),
        cmocka_unit_test(a_cost_that_drifts_tenfold_is_followed),
        cmocka_unit_test(an_objective_that_cannot_be_met_is_said_and_others_serve),
        cmocka_unit_test(what_may_try_runs),
        cmocka_unit_test(a_lone_request_starts_at_once),
        cmocka_unit_test(a_plan_keeps_the_reserve_that_admission_keeps),
        cmocka_unit_test(what_was_admitted_runs_if_nothing_else_waits),
        cmocka_unit_test(exactly_once_under_every_policy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
