/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.c - events in order, and what came of them.
 *
 * Everything that happens at one time is taken in before any machine decides: two runs that end
 * together free their units together, as far as the scheduler can tell.
 */
#include "sim/sim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "sim/sim_int.h"

#define MAX_SECONDS 1e9 /* thirty years */
#define MAX_NS      1e15

double sx_sim_jain(const double *x, unsigned n)
{
    double sum = 0, squares = 0;
    for (unsigned i = 0; i < n; i++) {
        sum += x[i];
        squares += x[i] * x[i];
    }
    return squares > 0 ? sum * sum / (n * squares) : 1;
}

/* --- configuration ---------------------------------------------------------------------------- */

static bool within(double x, double lo, double hi)
{
    return x >= lo && x <= hi; /* false for NaN */
}

static enum sx_rc check_model(const struct sx_sim_model *m, unsigned n_machines, struct sx_err *err)
{
    const char *name = m->name;
    if (!within(m->objective_ns, 1, 1e12))
        return sx_fail(err, SX_INVALID, "model '%s': the objective must be 1 ns to 1000 s", name);
    if (!within(m->weight, 1e-6, 1e6))
        return sx_fail(err, SX_INVALID, "model '%s': the weight must be 1e-6 to 1e6", name);
    if (!within(m->noise, 0, 3))
        return sx_fail(err, SX_INVALID, "model '%s': the noise must be 0 to 3", name);
    if (m->slowness != 0 && !within(m->slowness, 1e-3, 1e3))
        return sx_fail(err, SX_INVALID, "model '%s': the slowness must be 0.001 to 1000", name);
    if (!within(m->run_ns, 0, MAX_NS) || !within(m->request_ns, 0, MAX_NS) ||
        !within(m->way_ns, 0, MAX_NS))
        return sx_fail(err, SX_INVALID, "model '%s': fixed costs must be times", name);
    if (m->replicas > n_machines)
        return sx_fail(err, SX_INVALID, "model '%s': %u replicas on %u machines", name, m->replicas,
                       n_machines);
    if (m->max_batch > 1u << 20 || m->samples > 1u << 20 || m->max_queue > 1u << 26)
        return sx_fail(err, SX_INVALID, "model '%s': a batch or queue is too large", name);
    if (!m->load && m->samples > 1)
        return sx_fail(err, SX_INVALID, "model '%s': an endless queue has no requests", name);
    struct sx_err why = {0};
    if (sx_latency_check(m->latency, &why))
        return sx_fail(err, SX_INVALID, "model '%s': %s", name, why.message);
    return SX_OK;
}

static enum sx_rc check(const struct sx_sim_config *c, struct sx_err *err)
{
    unsigned n_machines = c->n_machines ? c->n_machines : 1;
    if (c->n_models < 1 || c->n_models > SX_SHARE_MODELS)
        return sx_fail(err, SX_INVALID, "1 to %d models can be simulated, not %u", SX_SHARE_MODELS,
                       c->n_models);
    if (c->n_units < 1 || c->n_units > SX_SCHED_UNITS)
        return sx_fail(err, SX_INVALID, "a machine has 1 to %d units, not %u", SX_SCHED_UNITS,
                       c->n_units);
    if (n_machines > SX_SIM_MACHINES)
        return sx_fail(err, SX_INVALID, "1 to %d machines can be simulated, not %u",
                       SX_SIM_MACHINES, n_machines);
    if (!within(c->seconds, 1e-9, MAX_SECONDS) || !within(c->warm_seconds, 0, MAX_SECONDS) ||
        c->warm_seconds >= c->seconds)
        return sx_fail(err, SX_INVALID,
                       "%g seconds, of which %g are not counted: the first must be more than the "
                       "second, and at most %g",
                       c->seconds, c->warm_seconds, MAX_SECONDS);
    if (c->replan_seconds != 0 && !within(c->replan_seconds, 1e-3, MAX_SECONDS))
        return sx_fail(err, SX_INVALID, "plans can be made again every 0.001 s or more");
    if (!within(c->margin_ns, 0, MAX_NS))
        return sx_fail(err, SX_INVALID, "the margin must be a time");
    for (unsigned i = 0; i < c->n_models; i++) {
        enum sx_rc rc = check_model(&c->models[i], n_machines, err);
        if (rc)
            return rc;
    }
    return SX_OK;
}

/* --- life ------------------------------------------------------------------------------------- */

static void fill_cost(struct sim_type *t, unsigned n_units)
{
    struct sx_cost *c = &t->cost;
    sx_cost_init(c, n_units, t->max_batch, NULL, 0);
    for (unsigned w = 0; w < c->n_widths; w++)
        for (unsigned b = 0; b < c->n_batches; b++)
            sx_cost_record(c, c->batches[b], c->widths[w],
                           (uint64_t)sx_latency_ns(&t->latency, c->widths[w], c->batches[b]));
}

static enum sx_rc init_type(struct sim_world *w, unsigned index, struct sx_err *err)
{
    const struct sx_sim_model *m = &w->config->models[index];
    struct sim_type *t = &w->types[index];
    t->model = m;
    t->latency = *m->latency;
    t->samples = m->samples ? m->samples : 1;
    t->max_batch = m->max_batch ? m->max_batch : t->latency.batches[t->latency.n_batches - 1];
    t->max_batch = t->max_batch > t->samples ? t->max_batch : t->samples;
    t->max_queue = m->max_queue ? m->max_queue : SX_SIM_MAX_QUEUE;
    t->endless = !m->load;
    for (unsigned u = 0; u < t->latency.n_units; u++)
        for (unsigned b = 0; b < t->latency.n_batches; b++)
            t->latency.ns[u][b] +=
                m->run_ns + m->request_ns * ceil((double)t->latency.batches[b] / t->samples);
    t->objective = (uint64_t)m->objective_ns;
    t->end_by = t->objective - (uint64_t)fmin(w->config->margin_ns, m->objective_ns / 10);
    t->least = (uint64_t)sx_latency_ns(&t->latency, w->config->n_units, t->samples);
    t->slowness = m->slowness > 0 ? m->slowness : 1;
    t->noise_mean = -m->noise * m->noise / 2;
    t->spread = m->noise * sqrt(2 / M_PI); /* of a normal distribution, which it nearly is */
    if (w->config->lone_width)
        fill_cost(t, w->config->n_units);
    if (m->load)
        t->load = *m->load;
    sx_rng_init(&t->rng, w->config->seed + 0x9e37u * (index + 1));
    sx_hist_init(&t->hist);
    t->knee = calloc((size_t)t->max_batch + 1, sizeof *t->knee);
    return t->knee ? SX_OK : sx_fail(err, SX_NO_MEMORY, "no memory for a model");
}

static bool push_arrival(struct sim_world *w, unsigned type)
{
    uint64_t at = sx_arrival_next(&w->types[type].load);
    return at > w->end || sx_sim_events_push(&w->events, SIM_ARRIVAL, at, 0, type);
}

static enum sx_rc init_result(struct sim_world *w, struct sx_err *err)
{
    struct sx_sim_result *r = w->result;
    r->n_models = w->n_types;
    r->n_machines = w->n_machines;
    r->hash = UINT64_C(0xcbf29ce484222325);
    r->models = calloc(w->n_types, sizeof *r->models);
    r->plans = calloc(w->n_types, sizeof *r->plans);
    r->machines = calloc(w->n_machines, sizeof *r->machines);
    if (w->config->max_spans)
        r->spans = calloc(w->config->max_spans, sizeof *r->spans);
    if (!r->models || !r->plans || !r->machines || (w->config->max_spans && !r->spans))
        return sx_fail(err, SX_NO_MEMORY, "no memory for the result of a simulation");
    return SX_OK;
}

static enum sx_rc init(struct sim_world *w, struct sx_err *err)
{
    const struct sx_sim_config *c = w->config;
    w->n_machines = c->n_machines ? c->n_machines : 1;
    w->warm = (uint64_t)(c->warm_seconds * 1e9);
    w->end = (uint64_t)llround(c->seconds * 1e9);
    w->n_types = c->n_models;
    w->free_run = UINT32_MAX;
    sx_rng_init(&w->route, c->seed ^ UINT64_C(0x726f757465)); // its own sequence
    enum sx_rc rc = init_result(w, err);
    if (rc)
        return rc;
    w->types = calloc(c->n_models, sizeof *w->types);
    w->machines = calloc(w->n_machines, sizeof *w->machines);
    w->dirty = calloc(w->n_machines, sizeof *w->dirty);
    if (!w->types || !w->machines || !w->dirty)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a simulation");
    for (unsigned i = 0; i < w->n_types && !rc; i++)
        rc = init_type(w, i, err);
    if (rc)
        return rc;
    sx_sim_cluster_place(w);
    for (unsigned i = 0; i < w->n_machines && !rc; i++)
        rc = sx_sim_machine_init(w, i, err);
    if (rc)
        return rc;
    bool ok = true;
    for (unsigned i = 0; i < w->n_types; i++)
        ok = ok && (w->types[i].endless || push_arrival(w, i));
    if (c->replan_seconds > 0)
        ok = ok &&
             sx_sim_events_push(&w->events, SIM_REPLAN, (uint64_t)(c->replan_seconds * 1e9), 0, 0);
    for (unsigned i = 0; i < w->n_machines; i++)
        sx_sim_machine_touch(w, &w->machines[i]); /* endless queues begin at once */
    return ok ? SX_OK : sx_fail(err, SX_NO_MEMORY, "no memory for a simulation");
}

static void fini(struct sim_world *w)
{
    for (unsigned i = 0; w->types && i < w->n_types; i++)
        free(w->types[i].knee);
    for (unsigned i = 0; w->machines && i < w->n_machines; i++)
        sx_sim_machine_fini(w, &w->machines[i]);
    free(w->types);
    free(w->machines);
    free(w->dirty);
    free(w->runs);
    free(w->events.heap);
}

/* --- events ----------------------------------------------------------------------------------- */

static void handle(struct sim_world *w, const struct sim_event *e)
{
    struct sim_machine *m = &w->machines[e->machine];
    switch ((enum sim_event_kind)(e->order >> 60)) {
    case SIM_END:
        sx_sim_machine_end(w, m, e->what);
        break;
    case SIM_ARRIVAL:
        sx_sim_machine_offer(w, sx_sim_cluster_route(w, e->what), e->what);
        if (!push_arrival(w, e->what))
            w->rc = SX_NO_MEMORY;
        break;
    case SIM_REPLAN:
        for (unsigned i = 0; i < w->n_machines; i++)
            sx_sim_machine_replan(w, &w->machines[i], w->config->replan_seconds);
        if (!sx_sim_events_push(&w->events, SIM_REPLAN,
                                w->now + (uint64_t)(w->config->replan_seconds * 1e9), 0, 0))
            w->rc = SX_NO_MEMORY;
        break;
    case SIM_WAKE:
        if (e->at != m->wake_pushed)
            break; /* an earlier one took its place */
        m->wake_pushed = SX_NEVER;
        if (m->wake_at <= w->now) {
            sx_sim_machine_touch(w, m);
        } else if (m->wake_at != SX_NEVER) { /* it was put off since */
            m->wake_pushed = m->wake_at;
            if (!sx_sim_events_push(&w->events, SIM_WAKE, m->wake_at, m->index, 0))
                w->rc = SX_NO_MEMORY;
        }
        break;
    }
}

static enum sx_rc run(struct sim_world *w, struct sx_err *err)
{
    bool warm = false;
    for (;;) {
        for (unsigned i = 0; i < w->n_dirty; i++)
            sx_sim_machine_pump(w, &w->machines[w->dirty[i]]);
        w->n_dirty = 0;
        if (w->rc == SX_INTERNAL)
            return sx_fail(err, w->rc, "the scheduler wanted to run an empty queue");
        if (w->rc)
            return sx_fail(err, w->rc, "no memory for a simulation");
        if (!w->events.n || w->events.heap[0].at > w->end)
            return SX_OK;
        w->now = w->events.heap[0].at;
        if (!warm && w->now > w->warm) {
            warm = true;
            for (unsigned i = 0; i < w->n_machines; i++)
                sx_sim_machine_warm(w, &w->machines[i]);
        }
        while (w->events.n && w->events.heap[0].at == w->now) {
            struct sim_event e = sx_sim_events_pop(&w->events);
            handle(w, &e);
            w->result->events++;
        }
    }
}

/* --- results ---------------------------------------------------------------------------------- */

static void latencies(struct sx_sim_figures *f, const struct sx_hist *h)
{
    f->mean_ns = sx_hist_mean(h);
    f->p50_ns = (double)sx_hist_quantile(h, 0.5);
    f->p95_ns = (double)sx_hist_quantile(h, 0.95);
    f->p99_ns = (double)sx_hist_quantile(h, 0.99);
    f->max_ns = h->count ? (double)h->max_ns : 0;
}

/* Windows are promised to admitted models only: one that was refused attains nothing. */
static double attained(const struct sx_sim_figures *f, bool endless)
{
    uint64_t over = f->offered - f->waiting;
    if (endless)
        return f->windows ? (double)(f->windows - f->missed) / (double)f->windows : 0;
    return over ? (double)f->in_time / (double)over : 1;
}

static void finish_type(const struct sim_type *t, double seconds, struct sx_sim_figures *f)
{
    *f = t->f;
    latencies(f, &t->hist);
    f->throughput = (double)f->samples / seconds;
    f->goodput = (double)(t->endless ? t->kept_samples : f->in_time * t->samples) / seconds;
    f->attainment = attained(f, t->endless);
    f->predict_error = f->runs ? t->error_sum / (double)f->runs : 0;
}

static void add(struct sx_sim_figures *all, const struct sx_sim_figures *f)
{
    all->offered += f->offered;
    all->in_time += f->in_time;
    all->late += f->late;
    all->refused_late += f->refused_late;
    all->refused_full += f->refused_full;
    all->dropped += f->dropped;
    all->waiting += f->waiting;
    all->predict_error += f->predict_error * (double)f->runs;
    all->runs += f->runs;
    all->fillers += f->fillers;
    all->samples += f->samples;
    all->throughput += f->throughput;
    all->goodput += f->goodput;
    all->windows += f->windows;
    all->missed += f->missed;
    all->run_ns += f->run_ns;
    all->unit_ns += f->unit_ns;
    all->useful_ns += f->useful_ns;
}

static void finish_machines(struct sim_world *w, double unit_ns)
{
    struct sx_sim_result *r = w->result;
    for (unsigned i = 0; i < w->n_machines; i++) {
        struct sim_machine *m = &w->machines[i];
        m->f.busy = m->unit_ns / unit_ns;
        m->f.useful = m->useful_ns / unit_ns;
        m->f.goodput = (double)m->f.in_time / r->seconds;
        r->machines[i] = m->f;
        r->busy += m->f.busy / w->n_machines;
        r->useful += m->f.useful / w->n_machines;
    }
    r->verdict = w->machines[0].verdict;
    for (unsigned i = 0; i < w->n_types; i++)
        r->plans[i] = w->machines[w->types[i].first_machine].tenants[i].share.plan;
}

static void finish(struct sim_world *w)
{
    struct sx_sim_result *r = w->result;
    struct sx_hist hist;
    double run[SX_SHARE_MODELS], units[SX_SHARE_MODELS], attainment[SX_SHARE_MODELS];
    uint64_t offered = 0, served = 0;
    w->now = w->end;
    for (unsigned i = 0; i < w->n_machines; i++)
        sx_sim_machine_close(w, &w->machines[i]);
    sx_hist_init(&hist);
    r->seconds = (double)(w->end - w->warm) * 1e-9;
    for (unsigned i = 0; i < w->n_types; i++) {
        struct sim_type *t = &w->types[i];
        struct sx_sim_figures *f = &r->models[i];
        finish_type(t, r->seconds, f);
        sx_hist_merge(&hist, &t->hist);
        add(&r->all, f);
        run[i] = f->run_ns / t->model->weight;
        units[i] = f->unit_ns / t->model->weight;
        attainment[i] = f->attainment;
        offered += t->endless ? f->windows : f->offered - f->waiting;
        served += t->endless ? f->windows - f->missed : f->in_time;
    }
    latencies(&r->all, &hist);
    r->all.attainment = offered ? (double)served / (double)offered : 1;
    r->all.predict_error = r->all.runs ? r->all.predict_error / (double)r->all.runs : 0;
    r->jain_run = sx_sim_jain(run, w->n_types);
    r->jain_units = sx_sim_jain(units, w->n_types);
    r->jain_attainment = sx_sim_jain(attainment, w->n_types);
    finish_machines(w, r->seconds * 1e9 * w->config->n_units);
}

enum sx_rc sx_sim_run(const struct sx_sim_config *config, struct sx_sim_result *ret_result,
                      struct sx_err *err)
{
    struct sx_sim_result result = {0};
    struct sim_world w = {.config = config, .result = &result};
    enum sx_rc rc = check(config, err);
    if (!rc)
        rc = init(&w, err);
    if (!rc)
        rc = run(&w, err);
    if (!rc)
        finish(&w);
    fini(&w);
    if (rc)
        sx_sim_result_fini(&result);
    else
        *ret_result = result;
    return rc;
}

void sx_sim_result_fini(struct sx_sim_result *result)
{
    free(result->models);
    free(result->plans);
    free(result->machines);
    free(result->spans);
    memset(result, 0, sizeof *result);
}
