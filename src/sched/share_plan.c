/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * share_plan.c - units and batch of each model, for all together.
 *
 *   1. Each for itself: the best efficacy under its objective (efficacy.h).  With the half rule
 * where that is possible; a model for which it is not keeps the objective without it.
 *   2. The sum: what the promises need of the machine.  A window needs a run in each; a rate needs
 *      unit-time for its samples.
 *   3. While that is too much: what costs least unit-time instead.  Windows get smaller batches,
 *      rates get the units and batch with the least unit-time per sample.
 *   4. While windows still ask for more than there is, or collide when they are simulated: refuse
 * the least important model; of equals, the one that needs most. Rates that ask for too much refuse
 * nobody of equal importance: requests are refused one by one (admission and deadlines), and all
 * models share that loss.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cost/efficacy.h"
#include "cost/knee.h"
#include "sched/share_int.h"

/* A run that leaves less than this part of the objective is short of slack. */
#define SHORT_SLACK 0.8
/* Demand above which the machine is under pressure: the efficacy knee, not the tolerance knee. */
#define PRESSURE    0.6
/* How many sessions the trial of the windows lasts. */
#define TRIAL       4

struct cell {
    unsigned units, batch;
    double ns, demand;
};

static bool endless(const struct sx_share_model *m)
{
    return !isfinite(m->rate);
}

/* What its promises need, over the machine. */
static double demand_of(const struct sx_share *share, const struct sx_share_model *m,
                        unsigned units, unsigned batch, double ns)
{
    if (endless(m)) {
        double session = share->session_ns;
        return ceil(session / m->objective_ns - 1e-9) * ns * units / (session * share->n_units);
    }
    return m->rate > 0 ? m->rate * 1e-9 * ns * units / batch / share->n_units : 0;
}

static void set_plan(const struct sx_share *share, struct sx_share_model *m, unsigned units,
                     unsigned batch)
{
    struct sx_share_plan *p = &m->plan;
    p->units = units;
    p->batch = batch;
    p->ns = sx_latency_ns(m->latency, units, batch);
    p->demand = demand_of(share, m, units, batch, p->ns);
    p->least_units = units;
    for (unsigned u = 0; u < m->latency->n_units && m->latency->units[u] < units; u++) {
        if (sx_latency_ns(m->latency, m->latency->units[u], 1) <= m->objective_ns / 2) {
            p->least_units = m->latency->units[u];
            break;
        }
    }
    struct sx_knee knee;
    sx_knee_find(m->latency, batch, 0, &knee);
    p->knee_efficacy = knee.efficacy < share->n_units ? knee.efficacy : share->n_units;
    p->knee_tolerance = knee.tolerance < share->n_units ? knee.tolerance : share->n_units;
}

/* --- each for itself ---------------------------------------------------------------------------
 */

static bool choose(const struct sx_share *share, const struct sx_share_model *m, bool half,
                   struct sx_efficacy *ret)
{
    struct sx_efficacy_limits limits = {.objective_ns = m->objective_ns,
                                        .margin_ns = m->margin_ns,
                                        .max_batch = m->max_batch ? m->max_batch : 1,
                                        .max_units = share->n_units,
                                        .half_rule = half};
    if (!endless(m)) /* 0 would say that the queue is never empty */
        limits.rate = m->rate > 1e-3 ? m->rate : 1e-3;
    sx_efficacy_choose(m->latency, &limits, ret);
    return ret->feasible && sx_share_units_below(share, m, ret->units, false) == ret->units;
}

static void plan_alone(struct sx_share *share, struct sx_share_model *m)
{
    struct sx_share_plan *p = &m->plan;
    unsigned had_units = p->units;
    struct sx_efficacy e;
    bool half = share->half_rule && !endless(m);
    bool found = choose(share, m, half, &e);
    if (!found && half) {
        half = false;
        found = choose(share, m, false, &e);
    }
    p->admitted = found;
    p->shrunk = false;
    if (found) {
        set_plan(share, m, e.units, e.batch);
        snprintf(p->why, sizeof p->why, "best efficacy under %.4g ms%s: %.4g ms for %u on %u units",
                 m->objective_ns / 1e6, half ? " and half of it for a run" : "", p->ns / 1e6,
                 p->batch, p->units);
    } else {
        /* Leftovers, on what is fastest. */
        unsigned units = sx_share_units_below(share, m, share->n_units, false);
        set_plan(share, m, units, 1);
        p->demand = 0;
        snprintf(p->why, sizeof p->why, "refused: %.100s; an objective of %.4g ms could be held",
                 *e.why ? e.why : "no share of this machine holds the objective",
                 e.least_objective_ns / 1e6);
    }
    if (!had_units) /* sx_share_add left run time there */
        m->score *= p->units ? p->units : 1;
}

/* The least demand that holds the objective below `under` (> 0: the greatest such), in the grid. */
static bool cheaper(const struct sx_share *share, const struct sx_share_model *m, double under,
                    bool greatest, struct cell *ret)
{
    const struct sx_latency *l = m->latency;
    bool found = false;
    for (unsigned u = 0; u < l->n_units; u++) {
        unsigned units = l->units[u];
        if (units > share->n_units)
            break;
        for (unsigned b = 0; b < l->n_batches; b++) {
            unsigned batch = l->batches[b];
            if (batch > m->max_batch && batch > 1)
                break;
            double ns = sx_latency_ns(l, units, batch);
            double assembly =
                endless(m) ? 0 : (batch - 1) * 1e9 / (m->rate > 1e-3 ? m->rate : 1e-3);
            if (ns + assembly + m->margin_ns > m->objective_ns)
                break;
            struct cell c = {units, batch, ns, demand_of(share, m, units, batch, ns)};
            if (c.demand >= under * (1 - 1e-9))
                continue;
            if (!found ||
                (greatest ? c.demand > ret->demand * (1 + 1e-9)
                          : c.demand < ret->demand * (1 - 1e-9)) ||
                (fabs(c.demand - ret->demand) <= ret->demand * 1e-9 && c.batch > ret->batch)) {
                *ret = c;
                found = true;
            }
        }
    }
    return found;
}

/* --- all together ------------------------------------------------------------------------------
 */

static double total(const struct sx_share *share)
{
    double sum = 0;
    for (unsigned i = 0; i < share->n_models; i++)
        sum += share->models[i]->plan.admitted ? share->models[i]->plan.demand : 0;
    return sum;
}

/* More units where the run is long for its objective and the machine has room. */
static void widen_where_slack_is_small(struct sx_share *share)
{
    for (unsigned i = 0; i < share->n_models; i++) {
        struct sx_share_model *m = share->models[i];
        struct sx_share_plan *p = &m->plan;
        if (!p->admitted || p->knee_tolerance <= p->units ||
            p->ns <= SHORT_SLACK * (m->objective_ns - m->margin_ns))
            continue;
        unsigned units = sx_share_units_below(share, m, p->knee_tolerance, false);
        double ns = sx_latency_ns(m->latency, units, p->batch);
        double more = demand_of(share, m, units, p->batch, ns) - p->demand;
        if (units <= p->units || total(share) + more > PRESSURE)
            continue;
        set_plan(share, m, units, p->batch);
        snprintf(
            p->why, sizeof p->why,
            "little slack under %.4g ms, so as fast as units make it: %.4g ms for %u on %u units",
            m->objective_ns / 1e6, p->ns / 1e6, p->batch, p->units);
    }
}

static void shrink(struct sx_share *share, struct sx_share_model *m, const struct cell *c)
{
    struct sx_share_plan *p = &m->plan;
    unsigned units = p->units, batch = p->batch;
    set_plan(share, m, c->units, c->batch);
    p->shrunk = true;
    snprintf(p->why, sizeof p->why,
             "the machine is short: %u on %u units instead of %u on %u, %.4g ms under %.4g ms",
             c->batch, c->units, batch, units, p->ns / 1e6, m->objective_ns / 1e6);
}

/* Rates: the least unit-time per sample.  Wide runs are for when there is room. */
static void economise_rates(struct sx_share *share)
{
    for (unsigned i = 0; i < share->n_models; i++) {
        struct sx_share_model *m = share->models[i];
        struct cell c = {0};
        if (m->plan.admitted && !endless(m) && m->rate > 0 &&
            cheaper(share, m, m->plan.demand * 0.99, false, &c))
            shrink(share, m, &c);
    }
}

/* Who gives way first: the least important, of equals who needs most. */
static struct sx_share_model *least_important(const struct sx_share *share, bool windows)
{
    struct sx_share_model *worst = NULL;
    for (unsigned i = 0; i < share->n_models; i++) {
        struct sx_share_model *m = share->models[i];
        if (!m->plan.admitted || (windows && !endless(m)))
            continue;
        if (!worst || m->priority > worst->priority ||
            (m->priority == worst->priority &&
             m->plan.demand / m->weight > worst->plan.demand / worst->weight))
            worst = m;
    }
    return worst;
}

/* The window whose batch is made smaller: of the least important who can, the one that gains most.
 */
static bool shrink_a_window(struct sx_share *share)
{
    struct sx_share_model *who = NULL;
    struct cell how = {0};
    for (unsigned i = 0; i < share->n_models; i++) {
        struct sx_share_model *m = share->models[i];
        struct cell c = {0};
        if (!m->plan.admitted || !endless(m) || !cheaper(share, m, m->plan.demand, true, &c))
            continue;
        if (!who || m->priority > who->priority ||
            (m->priority == who->priority &&
             m->plan.demand / m->weight > who->plan.demand / who->weight)) {
            who = m;
            how = c;
        }
    }
    if (who)
        shrink(share, who, &how);
    return who;
}

static void refuse(struct sx_share *share, struct sx_share_model *m, double demand, bool collides)
{
    struct cell least;
    bool smaller = cheaper(share, m, INFINITY, false, &least);
    double room = 1 - (demand - m->plan.demand);
    m->plan.admitted = false;
    if (collides)
        snprintf(
            m->plan.why, sizeof m->plan.why,
            "refused: %.0f %% of the machine would do in sum, but runs get in each other's way; "
            "longer objectives or smaller batches would help",
            100 * demand);
    else
        snprintf(
            m->plan.why, sizeof m->plan.why,
            "refused: all together need %.0f %% of the machine, this one %.0f %% and %.0f %% are "
            "left; an objective of %.4g ms or more units would help",
            100 * demand, 100 * m->plan.demand, room > 0 ? 100 * room : 0,
            room > 0 && smaller ? m->objective_ns * least.demand / room / 1e6
                                : 2 * m->objective_ns / 1e6);
}

/* Would all windows be kept if they began together?  By the forward simulation, from an idle
 * machine.
 */
static bool windows_hold(const struct sx_share *share)
{
    struct sx_look look;
    look.share = share;
    look.n_streams = look.n_runs = 0;
    look.n_free = share->n_units;
    look.windows = true;
    look.requests = false;
    look.n_trace = 0;
    look.horizon = TRIAL * share->session_ns;
    memset(look.free_units, 0, sizeof look.free_units);
    sx_units_put(look.free_units, 0, share->n_units, true);
    for (unsigned i = 0; i < share->n_models; i++) {
        const struct sx_share_model *m = share->models[i];
        if (!m->plan.admitted || !endless(m))
            continue;
        unsigned k = look.n_streams++;
        look.streams[k] = (struct sx_stream){.model = i,
                                             .units = m->plan.units,
                                             .windows = true,
                                             .value = 1,
                                             .base = ceil(m->plan.ns),
                                             .head_ns = ceil(m->plan.ns),
                                             .length = m->objective_ns,
                                             .deadline = m->objective_ns,
                                             .next = INFINITY,
                                             .between = INFINITY};
    }
    sx_look_sort(&look);
    for (unsigned rule = 0; rule <= SX_LOOK_SLACK; rule++) {
        struct sx_outlook o;
        sx_look_base(&look, NULL, (enum sx_look_rule)rule, &o);
        if (o.broken == 0)
            return true;
    }
    return false;
}

/* Rates ask for more than there is: the least important go, but only for something more important.
 */
static void refuse_rates(struct sx_share *share)
{
    for (double sum; (sum = total(share)) > 1 + 1e-9;) {
        struct sx_share_model *worst = least_important(share, false);
        bool matters = false;
        for (unsigned i = 0; i < share->n_models; i++)
            matters |=
                share->models[i]->plan.admitted && share->models[i]->priority < worst->priority;
        if (endless(worst) || !matters)
            break;
        refuse(share, worst, sum, false);
    }
}

/* Would all be well without this one? */
static bool helps(struct sx_share *share, struct sx_share_model *m)
{
    m->plan.admitted = false;
    bool well = total(share) <= 1 + 1e-9 && windows_hold(share);
    m->plan.admitted = true;
    return well;
}

/* Windows that are too much, or that collide: the least important one without which all is well, of
 * equals the one that needs least; if none is enough, the one that needs most, and on. */
static void refuse_windows(struct sx_share *share)
{
    for (;;) {
        double sum = total(share);
        bool too_much = sum > 1 + 1e-9;
        if (!too_much && windows_hold(share))
            return;
        if (!too_much && shrink_a_window(share))
            continue;
        struct sx_share_model *worst = least_important(share, true), *enough = NULL;
        if (!worst)
            return;
        for (unsigned i = 0; i < share->n_models; i++) {
            struct sx_share_model *m = share->models[i];
            if (m->plan.admitted && endless(m) && m->priority == worst->priority &&
                (!enough || m->plan.demand < enough->plan.demand) && helps(share, m))
                enough = m;
        }
        refuse(share, enough ? enough : worst, sum, !too_much);
    }
}

void sx_share_plan(struct sx_share *share, uint64_t now, struct sx_share_verdict *ret_verdict)
{
    sx_share_advance(share, now);
    share->session_ns = 0;
    for (unsigned i = 0; i < share->n_models; i++) {
        if (share->models[i]->objective_ns > share->session_ns)
            share->session_ns = share->models[i]->objective_ns;
    }
    for (unsigned i = 0; i < share->n_models; i++)
        plan_alone(share, share->models[i]);
    double asked = total(share);
    if (asked > PRESSURE)
        economise_rates(share);
    else
        widen_where_slack_is_small(share);
    while (total(share) > 1 + 1e-9 && shrink_a_window(share)) {
    }
    refuse_rates(share);
    refuse_windows(share);
    sx_share_part(share);
    if (!ret_verdict)
        return;
    memset(ret_verdict, 0, sizeof *ret_verdict);
    const struct sx_share_model *out = NULL;
    for (unsigned i = 0; i < share->n_models; i++) {
        const struct sx_share_model *m = share->models[i];
        ret_verdict->refused += !m->plan.admitted;
        ret_verdict->shrunk += m->plan.admitted && m->plan.shrunk;
        out = !m->plan.admitted && !out ? m : out;
    }
    ret_verdict->demand = total(share);
    ret_verdict->feasible = !ret_verdict->refused && !ret_verdict->shrunk && asked <= 1 + 1e-9;
    if (out)
        snprintf(ret_verdict->why, sizeof ret_verdict->why, "%.60s %.180s",
                 out->name ? out->name : "a model", out->plan.why);
    else if (ret_verdict->demand > 1)
        snprintf(ret_verdict->why, sizeof ret_verdict->why,
                 "the rates ask for %.0f %% of the machine: some requests will be refused",
                 100 * ret_verdict->demand);
    else if (!ret_verdict->feasible)
        snprintf(ret_verdict->why, sizeof ret_verdict->why,
                 "at their best, all would need %.0f %% of the machine; %u of %u have less, which "
                 "makes %.0f %%",
                 100 * asked, ret_verdict->shrunk, share->n_models, 100 * ret_verdict->demand);
}
