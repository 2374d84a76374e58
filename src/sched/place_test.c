/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "sched/place.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "sched/place_sim.h"

#define NOW    (1000 * SX_MS)
#define MODELS 3

/* --- single decisions ------------------------------------------------------------------------- */

/* Two devices, the second one 4 times slower; 20 ms on the first. */
static const struct sx_place_variant pair[] = {
    {.n_stages = 1, .device = {0}, .ns = {20e6}},
    {.n_stages = 1, .device = {1}, .ns = {80e6}},
    {.n_stages = 2, .device = {1, 0}, .ns = {16e6, 16e6}},
};
static const struct sx_place_variant *const pair_variants[] = {pair};
static const unsigned all_three[] = {3}, whole_only[] = {2};

static struct sx_place pair_state(const unsigned *n_variants, const struct sx_place_job *jobs,
                                  unsigned n_jobs, const struct sx_place_request *waiting,
                                  unsigned n_waiting)
{
    return (struct sx_place){.n_devices = 2,
                             .variants = pair_variants,
                             .n_variants = n_variants,
                             .n_models = 1,
                             .jobs = jobs,
                             .n_jobs = n_jobs,
                             .waiting = waiting,
                             .n_waiting = n_waiting};
}

static struct sx_place_job running(unsigned variant, unsigned stage, uint64_t since)
{
    return (struct sx_place_job){
        .variant = variant, .stage = stage, .stage_ready = NOW - since, .stage_began = NOW - since};
}

static void lone_request_goes_whole_to_the_fast_device(void **unused)
{
    (void)unused;
    struct sx_place_request r = {NOW, SX_NEVER, 0};
    struct sx_place s = pair_state(all_three, NULL, 0, &r, 1);
    struct sx_place_action a;
    sx_place_decide(&s, NOW, &a);
    assert_true(a.start);
    assert_int_equal(a.variant, 0);
    assert_int_equal(a.predicted_end, NOW + 20 * SX_MS);
    assert_int_equal(sx_place_predict(&s, 0, NOW), NOW + 20 * SX_MS + 16 * SX_MS);
    s.n_waiting = 0;
    assert_int_equal(sx_place_predict(&s, 0, NOW), NOW + 20 * SX_MS);
    sx_place_decide(&s, NOW, &a);
    assert_false(a.start);
    assert_int_equal(a.wake_at, SX_NEVER);
}

static void slow_device_only_helps_whom_it_serves_sooner(void **unused)
{
    (void)unused;
    struct sx_place_job job = running(0, 0, 0);
    struct sx_place_request r[5];
    for (unsigned i = 0; i < 5; i++)
        r[i] = (struct sx_place_request){NOW, SX_NEVER, 0};
    struct sx_place_action a;
    /* Two wait: they end at 40 and 60 on the fast device, before the 80 of the slow one. */
    struct sx_place s = pair_state(whole_only, &job, 1, r, 2);
    sx_place_decide(&s, NOW, &a);
    assert_false(a.start);
    /* With five, the fourth would end at 100: it does not wait for its turn. */
    s.n_waiting = 5;
    sx_place_decide(&s, NOW, &a);
    assert_true(a.start);
    assert_int_equal(a.request, 3);
    assert_int_equal(a.variant, 1);
    assert_int_equal(a.predicted_end, NOW + 80 * SX_MS);
    /* Not when that is after its deadline, though the fast device would be later still. */
    r[3].deadline = NOW + 70 * SX_MS;
    r[4].deadline = NOW + 70 * SX_MS;
    sx_place_decide(&s, NOW, &a);
    assert_true(!a.start || a.request < 3);
    /* Cut, the first one ends sooner: at 36, not at 40. */
    s.n_variants = all_three;
    sx_place_decide(&s, NOW, &a);
    assert_true(a.start);
    assert_int_equal(a.request, 0);
    assert_int_equal(a.variant, 2);
    assert_int_equal(a.predicted_end, NOW + 36 * SX_MS);
    s.greedy = true;
    sx_place_decide(&s, NOW, &a);
    assert_true(a.start);
    assert_int_equal(a.request, 0);
    assert_int_equal(a.variant, 1);
}

static void who_waits_for_a_device_that_is_late_goes_elsewhere(void **unused)
{
    (void)unused;
    struct sx_place_request r = {NOW, SX_NEVER, 0};
    struct sx_place_action a = {0};
    uint64_t late = 0;
    /* The fast device should have been free long ago: asked again in time, we give it up. */
    for (unsigned i = 0; i < 40 && !a.start; i++) {
        struct sx_place_job job = running(0, 0, 10 * SX_MS + late);
        struct sx_place s = pair_state(whole_only, &job, 1, &r, 1);
        sx_place_decide(&s, NOW, &a);
        if (!a.start) {
            assert_true(a.wake_at > NOW && a.wake_at != SX_NEVER);
            late += a.wake_at - NOW;
        }
    }
    assert_true(a.start);
    assert_int_equal(a.variant, 1);
    assert_true(late >= 60 * SX_MS && late < 200 * SX_MS);
}

static void later_stage_has_its_turn_and_no_device_idles_for_it(void **unused)
{
    (void)unused;
    struct sx_place_request r = {NOW, SX_NEVER, 0};
    struct sx_place_action a;
    /* The second stage comes in 1 ms and takes 16: it is better to let it pass. */
    struct sx_place_job job = running(2, 0, 15 * SX_MS);
    struct sx_place s = pair_state((const unsigned[]){1}, &job, 1, &r, 1);
    sx_place_decide(&s, NOW, &a);
    assert_false(a.start);
    /* It comes in 15: most of the time until then would be lost. */
    job = running(2, 0, 1 * SX_MS);
    sx_place_decide(&s, NOW, &a);
    assert_true(a.start);
    assert_int_equal(a.predicted_end, NOW + 20 * SX_MS);
}

/* --- random states ---------------------------------------------------------------------------- */

struct random_state {
    struct sx_place place;
    struct sx_place_variant v[MODELS][SX_PLACE_VARIANTS];
    const struct sx_place_variant *by_model[MODELS];
    unsigned n_variants[MODELS];
    struct sx_place_job jobs[SX_PLACE_JOBS];
    struct sx_place_request waiting[SX_PLACE_LOOK];
};

static void random_variants(struct sx_rng *rng, unsigned n_devices, unsigned most,
                            struct sx_place_variant *v, unsigned *ret_n, bool unknown)
{
    *ret_n = 1 + (unsigned)sx_rng_below(rng, most);
    for (unsigned i = 0; i < *ret_n; i++) {
        v[i] = (struct sx_place_variant){.n_stages = 1 + (unsigned)sx_rng_below(rng, 3)};
        for (unsigned k = 0; k < v[i].n_stages; k++) {
            v[i].device[k] = (unsigned)sx_rng_below(rng, n_devices);
            v[i].ns[k] = 1e6 + (double)sx_rng_below(rng, 40000000) / v[i].n_stages;
            if (unknown && !sx_rng_below(rng, 20))
                v[i].ns[k] = 0;
        }
    }
}

static void make_random(struct sx_rng *rng, struct random_state *s)
{
    memset(s, 0, sizeof *s);
    struct sx_place *p = &s->place;
    *p = (struct sx_place){.n_devices = 1 + (unsigned)sx_rng_below(rng, 4),
                           .variants = s->by_model,
                           .n_variants = s->n_variants,
                           .n_models = 1 + (unsigned)sx_rng_below(rng, MODELS),
                           .jobs = s->jobs,
                           .waiting = s->waiting,
                           .n_waiting = (unsigned)sx_rng_below(rng, 12),
                           .n_more = (unsigned)sx_rng_below(rng, 3),
                           .greedy = !sx_rng_below(rng, 8)};
    if (!sx_rng_below(rng, 10))
        p->n_waiting = SX_PLACE_LOOK;
    bool unknown = !sx_rng_below(rng, 3);
    for (unsigned m = 0; m < p->n_models; m++) {
        s->by_model[m] = s->v[m];
        random_variants(rng, p->n_devices, 6, s->v[m], &s->n_variants[m], unknown);
    }
    p->n_jobs = sx_rng_below(rng, 3) ? (unsigned)sx_rng_below(rng, 8) : 0;
    if (!sx_rng_below(rng, 20))
        p->n_jobs = SX_PLACE_JOBS;
    bool busy[SX_PLACE_DEVICES] = {false};
    for (unsigned j = 0; j < p->n_jobs; j++) {
        struct sx_place_job *job = &s->jobs[j];
        job->model = (unsigned)sx_rng_below(rng, p->n_models);
        job->variant = (unsigned)sx_rng_below(rng, s->n_variants[job->model]);
        const struct sx_place_variant *v = &s->v[job->model][job->variant];
        job->stage = (unsigned)sx_rng_below(rng, v->n_stages);
        job->stage_ready = NOW - sx_rng_below(rng, 50 * SX_MS);
        unsigned d = v->device[job->stage];
        if (!busy[d])
            job->stage_began = NOW - sx_rng_below(rng, NOW - job->stage_ready + 1);
        busy[d] = true;
    }
    for (unsigned i = 0; i < p->n_waiting; i++)
        s->waiting[i] = (struct sx_place_request){
            .arrival = NOW - sx_rng_below(rng, 100 * SX_MS),
            .deadline =
                sx_rng_below(rng, 3) ? NOW - 20 * SX_MS + sx_rng_below(rng, 300 * SX_MS) : SX_NEVER,
            .model = (unsigned)sx_rng_below(rng, p->n_models)};
}

static bool is_known(const struct sx_place_variant *v)
{
    for (unsigned k = 0; k < v->n_stages; k++) {
        if (v->ns[k] <= 0)
            return false;
    }
    return true;
}

static double least_ns(const struct sx_place_variant *v)
{
    double ns = 0;
    for (unsigned k = 0; k < v->n_stages; k++)
        ns += v->ns[k];
    return ns;
}

/* Tasks that device d holds now, and stages that will still need it. */
static unsigned held(const struct sx_place *p, unsigned d, unsigned *ret_later)
{
    unsigned n = 0;
    *ret_later = 0;
    for (unsigned j = 0; j < p->n_jobs; j++) {
        const struct sx_place_variant *v = &p->variants[p->jobs[j].model][p->jobs[j].variant];
        n += v->device[p->jobs[j].stage] == d;
        for (unsigned k = p->jobs[j].stage + 1; k < v->n_stages; k++)
            *ret_later += v->device[k] == d;
    }
    return n;
}

static void answers_keep_their_promises(void **unused)
{
    (void)unused;
    static struct random_state s, copy;
    struct sx_rng rng;
    sx_rng_init(&rng, 17);
    unsigned started = 0, waited = 0, late = 0, tried = 0;
    for (int round = 0; round < 60000; round++) {
        make_random(&rng, &s);
        const struct sx_place *p = &s.place;
        copy = s;
        struct sx_place_action a, again;
        sx_place_decide(p, NOW, &a);
        sx_place_decide(p, NOW, &again);
        assert_memory_equal(&s, &copy, sizeof s);
        assert_int_equal(a.start, again.start);
        assert_int_equal(a.request, again.request);
        assert_int_equal(a.variant, again.variant);
        assert_int_equal(a.wake_at, again.wake_at);
        for (unsigned m = 0; m < p->n_models; m++) {
            double least = INFINITY;
            for (unsigned i = 0; i < s.n_variants[m]; i++)
                least = is_known(&s.v[m][i]) ? fmin(least, least_ns(&s.v[m][i])) : least;
            uint64_t end = sx_place_predict(p, m, NOW);
            assert_true(isfinite(least) ? (double)(end - NOW) >= least - 2 : end == NOW);
        }
        if (!a.start) {
            waited++;
            assert_true(a.wake_at > NOW);
            /* An idle system keeps nobody waiting. */
            assert_true(p->n_jobs || !p->n_waiting);
            continue;
        }
        started++;
        assert_true(p->n_jobs < SX_PLACE_JOBS && a.request < p->n_waiting);
        const struct sx_place_request *r = &s.waiting[a.request];
        assert_true(a.variant < s.n_variants[r->model]);
        const struct sx_place_variant *v = &s.v[r->model][a.variant];
        unsigned later;
        assert_int_equal(held(p, v->device[0], &later), 0);
        if (p->greedy)
            continue;
        if (!is_known(v)) { /* one at a time, on an idle device */
            tried++;
            assert_int_equal(held(p, v->device[0], &later) + later, 0);
            for (unsigned j = 0; j < p->n_jobs; j++)
                assert_false(s.jobs[j].model == r->model && s.jobs[j].variant == a.variant);
            continue;
        }
        assert_true((double)(a.predicted_end - NOW) >= least_ns(v) - 2);
        if (a.predicted_end <= r->deadline)
            continue;
        /* It is late, so it would be on every idle device, too; and it keeps nobody waiting. */
        late++;
        assert_int_equal(p->n_jobs, 0);
        for (unsigned i = 0; i < s.n_variants[r->model]; i++) {
            const struct sx_place_variant *o = &s.v[r->model][i];
            if (o->n_stages == 1 && is_known(o) && !held(p, o->device[0], &later) && !later)
                assert_true(NOW + (uint64_t)o->ns[0] > r->deadline);
        }
    }
    assert_true(started > 10000 && waited > 10000 && late > 50 && tried > 1000);
}

/* --- small cases against all schedules -------------------------------------------------------- */

#define BURST 4

struct search {
    const struct sx_place_variant *v;
    unsigned n_variants, n;
    double any; /* the least time of a variant */
    double best;
};

struct partial {
    double free[SX_PLACE_DEVICES], ready[BURST];
    unsigned variant[BURST], stage[BURST]; /* variant n_variants: not chosen yet */
};

/* Every order in which devices can take the stages, and every choice of variants: equal requests
 * choose one after the other. */
static void search(struct search *s, const struct partial *p)
{
    double bound = 0;
    bool left = false;
    for (unsigned i = 0; i < s->n; i++) {
        bound += p->ready[i];
        if (p->variant[i] == s->n_variants)
            bound += s->any;
        for (unsigned k = p->stage[i];
             p->variant[i] < s->n_variants && k < s->v[p->variant[i]].n_stages; k++) {
            bound += s->v[p->variant[i]].ns[k];
            left = true;
        }
        left = left || p->variant[i] == s->n_variants;
    }
    if (bound >= s->best)
        return;
    if (!left) {
        s->best = bound;
        return;
    }
    for (unsigned i = 0; i < s->n; i++) {
        bool chosen = p->variant[i] < s->n_variants;
        for (unsigned vi = chosen ? p->variant[i] : 0;
             vi < (chosen ? p->variant[i] + 1 : s->n_variants); vi++) {
            const struct sx_place_variant *v = &s->v[vi];
            unsigned k = p->stage[i];
            if (k == v->n_stages)
                continue;
            struct partial next = *p;
            next.variant[i] = vi;
            next.stage[i]++;
            next.ready[i] = fmax(p->ready[i], p->free[v->device[k]]) + v->ns[k];
            next.free[v->device[k]] = next.ready[i];
            search(s, &next);
        }
        if (!chosen)
            break;
    }
}

/* The least sum of ends of n equal requests. */
static double best_sum(const struct sx_place_variant *v, unsigned n_variants, unsigned n)
{
    struct search s = {v, n_variants, n, INFINITY, INFINITY};
    struct partial p = {0};
    for (unsigned i = 0; i < n_variants; i++)
        s.any = fmin(s.any, least_ns(&v[i]));
    for (unsigned i = 0; i < n; i++)
        p.variant[i] = n_variants;
    search(&s, &p);
    return s.best;
}

static void small_bursts_end_nearly_as_early_as_can_be(void **unused)
{
    (void)unused;
    struct sx_rng rng;
    sx_rng_init(&rng, 29);
    double gap_sum = 0, gap_most = 0;
    unsigned rounds = 3000;
    for (unsigned round = 0; round < rounds; round++) {
        struct sx_place_variant v[SX_PLACE_VARIANTS];
        unsigned n_devices = 2 + (unsigned)sx_rng_below(&rng, 2), n_variants;
        unsigned n = 1 + (unsigned)sx_rng_below(&rng, BURST);
        random_variants(&rng, n_devices, 3, v, &n_variants, false);
        struct sim_config c = {.n_devices = n_devices,
                               .n_models = 1,
                               .model = {{.variants = v, .n_variants = n_variants, .clients = n}},
                               .n_requests = n,
                               .seed = 1};
        struct sim_result r;
        sim_run(&c, &r);
        double gap = r.model[0].mean * n / best_sum(v, n_variants, n) - 1;
        assert_true(gap > -1e-6);
        gap_sum += gap;
        gap_most = fmax(gap_most, gap);
    }
    print_message("mean gap to the best schedule %.4f, largest %.3f\n", gap_sum / rounds, gap_most);
    assert_true(gap_sum / rounds <= 0.05);
}

/* --- cost ------------------------------------------------------------------------------------- */

static void decision_is_cheap(void **unused)
{
    (void)unused;
    static struct random_state s;
    struct sx_rng rng;
    sx_rng_init(&rng, 41);
    double sum = 0, most = 0;
    unsigned full = 0;
    for (unsigned round = 0; round < 200; round++) {
        do
            make_random(&rng, &s);
        while (s.place.n_devices < 4 || s.place.n_waiting < SX_PLACE_LOOK || s.place.greedy);
        for (unsigned m = 0; m < s.place.n_models; m++) {
            while (s.n_variants[m] < 6) {
                s.v[m][s.n_variants[m]] = s.v[m][0];
                s.n_variants[m]++;
            }
        }
        struct sx_place_action a;
        uint64_t least = SX_NEVER;
        for (unsigned i = 0; i < 5; i++) { /* the best of some, as others use the machine, too */
            uint64_t from = sx_now();
            sx_place_decide(&s.place, NOW, &a);
            uint64_t took = sx_now() - from;
            least = took < least ? took : least;
        }
        sum += (double)least;
        most = fmax(most, (double)least);
        full += !a.start;
    }
    print_message("decision with 64 waiting, 4 devices, 6 variants: mean %.1f us, most %.1f us\n",
                  sum / 200 / 1e3, most / 1e3);
    assert_true(full > 10);         /* those that look at all that wait */
    assert_true(sum / 200 < 400e3); /* also under a sanitizer */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lone_request_goes_whole_to_the_fast_device),
        cmocka_unit_test(slow_device_only_helps_whom_it_serves_sooner),
        cmocka_unit_test(who_waits_for_a_device_that_is_late_goes_elsewhere),
        cmocka_unit_test(later_stage_has_its_turn_and_no_device_idles_for_it),
        cmocka_unit_test(answers_keep_their_promises),
        cmocka_unit_test(small_bursts_end_nearly_as_early_as_can_be),
        cmocka_unit_test(decision_is_cheap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
