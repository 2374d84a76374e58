/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "sched/place_sim.h"

#include <assert.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"

#define WAITING 4096

struct flight {
    struct sx_place_job job;
    uint64_t arrival, deadline, ends; /* `ends`: of the running stage */
    uint64_t predicted;               /* at arrival */
    unsigned number;
};

struct waiting {
    uint64_t arrival, deadline, predicted;
    unsigned model, number;
};

struct sim {
    const struct sim_config *c;
    struct sim_result *r;
    struct sx_rng gaps[SIM_MODELS], noise;
    struct sx_place_variant variants[SIM_MODELS][SX_PLACE_VARIANTS];
    uint64_t now, next_arrival[SIM_MODELS], wake, counted_from;
    struct flight flight[SX_PLACE_JOBS];
    unsigned n_flight;
    struct waiting waiting[WAITING];
    unsigned n_waiting, asked, decisions;
    double busy[SX_PLACE_DEVICES];
    double *latency[SIM_MODELS], *error;
    unsigned n_latency[SIM_MODELS], n_error;
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *v, unsigned n, double q)
{
    if (!n)
        return 0;
    qsort(v, n, sizeof *v, by_value);
    unsigned i = (unsigned)ceil(q * n);
    return v[i ? i - 1 : 0];
}

static struct sx_place snapshot(const struct sim *s, struct sx_place_job *jobs,
                                struct sx_place_request *waiting,
                                const struct sx_place_variant **variants, unsigned *n_variants)
{
    for (unsigned m = 0; m < s->c->n_models; m++) {
        variants[m] = s->variants[m];
        n_variants[m] = s->c->model[m].n_variants;
    }
    for (unsigned j = 0; j < s->n_flight; j++)
        jobs[j] = s->flight[j].job;
    unsigned n = s->n_waiting < SX_PLACE_LOOK ? s->n_waiting : SX_PLACE_LOOK;
    for (unsigned i = 0; i < n; i++)
        waiting[i] = (struct sx_place_request){s->waiting[i].arrival, s->waiting[i].deadline,
                                               s->waiting[i].model};
    return (struct sx_place){.n_devices = s->c->n_devices,
                             .variants = variants,
                             .n_variants = n_variants,
                             .n_models = s->c->n_models,
                             .jobs = jobs,
                             .n_jobs = s->n_flight,
                             .waiting = waiting,
                             .n_waiting = n,
                             .n_more = s->n_waiting - n,
                             .greedy = s->c->greedy};
}

static bool counts(const struct sim *s, unsigned number)
{
    return number >= s->c->warm;
}

static void arrive(struct sim *s, unsigned model)
{
    struct sx_place_job jobs[SX_PLACE_JOBS];
    struct sx_place_request waiting[SX_PLACE_LOOK];
    const struct sx_place_variant *variants[SIM_MODELS];
    unsigned n_variants[SIM_MODELS];
    struct sx_place state = snapshot(s, jobs, waiting, variants, n_variants);
    const struct sim_model *m = &s->c->model[model];
    struct waiting w = {.arrival = s->now,
                        .deadline = m->objective > 0 ? s->now + (uint64_t)m->objective : SX_NEVER,
                        .predicted = sx_place_predict(&state, model, s->now),
                        .model = model,
                        .number = s->asked++};
    if (w.number == s->c->warm) {
        s->counted_from = s->now;
        memset(s->busy, 0, sizeof s->busy);
    }
    struct sim_model_result *r = &s->r->model[model];
    r->asked += counts(s, w.number);
    if (w.predicted > w.deadline || s->n_waiting == WAITING) {
        r->refused += counts(s, w.number);
        return;
    }
    s->waiting[s->n_waiting++] = w;
}

static void drop_waiting(struct sim *s, unsigned i)
{
    s->n_waiting--;
    memmove(&s->waiting[i], &s->waiting[i + 1], (s->n_waiting - i) * sizeof s->waiting[0]);
}

static void give_up_late(struct sim *s)
{
    double least[SIM_MODELS];
    for (unsigned m = 0; m < s->c->n_models; m++) {
        least[m] = INFINITY;
        for (unsigned v = 0; v < s->c->model[m].n_variants; v++) {
            double ns = 0;
            for (unsigned k = 0; k < s->variants[m][v].n_stages; k++)
                ns += s->variants[m][v].ns[k];
            least[m] = fmin(least[m], ns);
        }
    }
    for (unsigned i = 0; i < s->n_waiting;) {
        const struct waiting *w = &s->waiting[i];
        if (w->deadline != SX_NEVER && s->now + (uint64_t)least[w->model] > w->deadline) {
            s->r->model[w->model].given_up += counts(s, w->number);
            drop_waiting(s, i);
        } else {
            i++;
        }
    }
}

/* Let idle devices take what was handed to them. */
static void begin(struct sim *s)
{
    for (unsigned d = 0; d < s->c->n_devices; d++) {
        struct flight *first = NULL;
        unsigned ahead = 0;
        bool busy = false;
        for (unsigned j = 0; j < s->n_flight; j++) {
            struct flight *f = &s->flight[j];
            if (s->variants[f->job.model][f->job.variant].device[f->job.stage] != d)
                continue;
            busy = busy || f->job.stage_began;
            ahead++;
            if (!first || f->job.stage_ready < first->job.stage_ready)
                first = f;
        }
        if (ahead > s->r->most_ahead)
            s->r->most_ahead = ahead;
        if (busy || !first)
            continue;
        /* The real time comes from the configuration; the prediction may have learned. */
        double ns = s->c->model[first->job.model].variants[first->job.variant].ns[first->job.stage];
        ns *= s->c->slowness[d] > 0 ? s->c->slowness[d] : 1;
        if (s->c->noise > 0)
            ns *= fmax(0.5, 1 + s->c->noise * sx_rng_normal(&s->noise));
        first->job.stage_began = s->now;
        first->ends = s->now + (uint64_t)fmax(ns, 1);
    }
}

static void start(struct sim *s, const struct sx_place_action *a)
{
    assert_true(a->request < s->n_waiting && s->n_flight < SX_PLACE_JOBS);
    const struct waiting *w = &s->waiting[a->request];
    assert_true(a->variant < s->c->model[w->model].n_variants);
    unsigned held = 0, d = s->variants[w->model][a->variant].device[0];
    for (unsigned j = 0; j < s->n_flight; j++) {
        const struct sx_place_job *job = &s->flight[j].job;
        held += s->variants[job->model][job->variant].device[job->stage] == d;
    }
    assert_int_equal(held, 0);
    s->flight[s->n_flight++] =
        (struct flight){.job = {.variant = a->variant, .model = w->model, .stage_ready = s->now},
                        .arrival = w->arrival,
                        .deadline = w->deadline,
                        .predicted = w->predicted,
                        .number = w->number};
    if (s->n_flight > s->r->most_jobs)
        s->r->most_jobs = s->n_flight;
    drop_waiting(s, a->request);
}

static void decide(struct sim *s)
{
    give_up_late(s);
    struct sx_place_job jobs[SX_PLACE_JOBS];
    struct sx_place_request waiting[SX_PLACE_LOOK];
    const struct sx_place_variant *variants[SIM_MODELS];
    unsigned n_variants[SIM_MODELS];
    struct sx_place_action a;
    do {
        begin(s);
        struct sx_place state = snapshot(s, jobs, waiting, variants, n_variants);
        sx_place_decide(&state, s->now, &a);
        s->decisions++;
        if (a.start)
            start(s, &a);
    } while (a.start);
    assert_true(a.wake_at > s->now);
    s->wake = a.wake_at;
}

static void finish(struct sim *s, unsigned j)
{
    struct flight f = s->flight[j];
    s->n_flight--;
    memmove(&s->flight[j], &s->flight[j + 1], (s->n_flight - j) * sizeof s->flight[0]);
    struct sim_model_result *r = &s->r->model[f.job.model];
    if (counts(s, f.number)) {
        double latency = (double)(s->now - f.arrival);
        s->latency[f.job.model][s->n_latency[f.job.model]++] = latency;
        s->error[s->n_error++] = latency - (double)(f.predicted - f.arrival);
        r->done++;
        r->late += s->now > f.deadline;
        r->by_variant[f.job.variant]++;
        r->worst = fmax(r->worst, latency);
    }
    if (s->c->model[f.job.model].clients && s->asked < s->c->n_requests)
        arrive(s, f.job.model);
}

static void end_stage(struct sim *s, unsigned j)
{
    struct flight *f = &s->flight[j];
    struct sx_place_variant *v = &s->variants[f->job.model][f->job.variant];
    unsigned d = v->device[f->job.stage];
    uint64_t from = f->job.stage_began > s->counted_from ? f->job.stage_began : s->counted_from;
    s->busy[d] += s->now > from ? (double)(s->now - from) : 0;
    if (s->c->learn) {
        double real = (double)(s->now - f->job.stage_began), *ns = &v->ns[f->job.stage];
        *ns = *ns > 0 ? *ns + 0.3 * (real - *ns) : real;
    }
    f->job.stage_began = 0;
    f->job.stage_ready = s->now;
    if (++f->job.stage == v->n_stages)
        finish(s, j);
}

static bool more_come(const struct sim *s)
{
    return s->asked < s->c->n_requests;
}

/* Go to the next event; false when there is none. */
static bool step(struct sim *s)
{
    uint64_t next = SX_NEVER;
    for (unsigned j = 0; j < s->n_flight; j++) {
        if (s->flight[j].job.stage_began && s->flight[j].ends < next)
            next = s->flight[j].ends;
    }
    for (unsigned m = 0; m < s->c->n_models && more_come(s); m++)
        next = s->next_arrival[m] < next ? s->next_arrival[m] : next;
    if (next == SX_NEVER && !s->n_waiting)
        return false;
    next = s->wake < next ? s->wake : next;
    for (unsigned i = 0; next == SX_NEVER && i < s->n_waiting; i++)
        next = s->waiting[i].deadline; /* nothing would ever run them: they are given up */
    assert_true(next != SX_NEVER);     /* a stall */
    s->now = next;
    for (unsigned j = s->n_flight; j-- > 0;) {
        if (s->flight[j].job.stage_began && s->flight[j].ends <= s->now)
            end_stage(s, j);
    }
    for (unsigned m = 0; m < s->c->n_models && more_come(s); m++) {
        if (s->next_arrival[m] > s->now)
            continue;
        arrive(s, m);
        s->next_arrival[m] =
            s->now + 1 + (uint64_t)sx_rng_exponential(&s->gaps[m], 1e9 / s->c->model[m].rate);
    }
    return true;
}

void sim_run(const struct sim_config *config, struct sim_result *ret)
{
    *ret = (struct sim_result){0};
    struct sim *s = test_calloc(1, sizeof *s);
    s->c = config;
    s->r = ret;
    s->now = SX_S;
    s->wake = SX_NEVER;
    sx_rng_init(&s->noise, config->seed + 1000);
    s->error = test_calloc(config->n_requests, sizeof *s->error);
    for (unsigned m = 0; m < config->n_models; m++) {
        const struct sim_model *model = &config->model[m];
        sx_rng_init(&s->gaps[m], config->seed + m);
        s->latency[m] = test_calloc(config->n_requests, sizeof(double));
        memcpy(s->variants[m], model->variants, model->n_variants * sizeof *model->variants);
        for (unsigned v = 0; v < model->n_variants && config->unknown; v++)
            memset(s->variants[m][v].ns, 0, sizeof s->variants[m][v].ns);
        s->next_arrival[m] = SX_NEVER;
        if (!model->clients)
            s->next_arrival[m] =
                s->now + (uint64_t)sx_rng_exponential(&s->gaps[m], 1e9 / model->rate);
        for (unsigned i = 0; i < model->clients; i++)
            arrive(s, m);
    }
    uint64_t last = s->now;
    do {
        decide(s);
        if (more_come(s))
            last = s->now; /* what comes after the last arrival would dilute the shares */
        else if (last) {
            ret->span = (double)(s->now - s->counted_from);
            for (unsigned d = 0; d < config->n_devices; d++) {
                ret->busy[d] = s->busy[d];
                for (unsigned j = 0; j < s->n_flight; j++) {
                    const struct sx_place_job *job = &s->flight[j].job;
                    if (job->stage_began &&
                        s->variants[job->model][job->variant].device[job->stage] == d)
                        ret->busy[d] += (double)(s->now - (job->stage_began > s->counted_from
                                                               ? job->stage_began
                                                               : s->counted_from));
                }
                ret->busy[d] /= ret->span;
            }
            last = 0;
        }
    } while (step(s));
    unsigned asked = 0, missed = 0;
    for (unsigned m = 0; m < config->n_models; m++) {
        struct sim_model_result *r = &ret->model[m];
        for (unsigned i = 0; i < s->n_latency[m]; i++)
            r->mean += s->latency[m][i] / s->n_latency[m];
        r->p50 = quantile(s->latency[m], s->n_latency[m], 0.5);
        r->p99 = quantile(s->latency[m], s->n_latency[m], 0.99);
        assert_int_equal(r->asked, r->done + r->refused + r->given_up);
        asked += r->asked;
        missed += r->refused + r->given_up + r->late;
        test_free(s->latency[m]);
    }
    ret->missed = asked ? (double)missed / asked : 0;
    ret->decide_mean = (double)s->decisions / s->asked;
    double mean = 0;
    for (unsigned i = 0; i < s->n_error; i++) {
        ret->bias += s->error[i] / s->n_error;
        s->error[i] = fabs(s->error[i]);
        ret->predict_mean += s->error[i] / s->n_error;
    }
    for (unsigned m = 0; m < config->n_models; m++)
        mean += ret->model[m].mean * ret->model[m].done / (s->n_error ? s->n_error : 1);
    ret->predict_p95 = quantile(s->error, s->n_error, 0.95);
    if (mean > 0) {
        ret->bias /= mean;
        ret->predict_mean /= mean;
        ret->predict_p95 /= mean;
    }
    test_free(s->error);
    test_free(s);
}
