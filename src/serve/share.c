/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * share.c - how several models share one device: the share's life, and its plans.
 *
 * A plan follows what is learnt.  While requests come and go, the alarm's thread compares four
 * times a second what the plan was made from with what is known by now, and makes a new one when a
 * rate or a cost has moved.  That takes up to milliseconds, so it works on copies (drafts):
 *
 *     [lock] copy costs and rates -> unlock, plan the drafts -> [lock] take the plans over, pump
 *
 * A run that has begun keeps its units; the next batch of its model goes by the new plan.  What
 * decides in between, the old plan or (before the first) the width rule, is never wrong, only
 * older.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "serve/server_int.h"

/* How often plans are looked at, and how far a figure may move before they are made anew. */
#define LOOK_NS        (250 * SX_MS)
#define RATE_MOVED     0.20
#define COST_MOVED     0.15
/* After this long, smaller changes count, too: predictions come from the plan's tables. */
#define OLD_NS         (2 * SX_S)
#define COST_MOVED_OLD 0.05
/* Below so many samples per second a model is planned as if it had these: none means no promise. */
#define LEAST_RATE     0.01
/* What a sample is taken to need while nothing was measured. */
#define GUESSED_NS     1e6
#define WIDTH          "width"
/* What the first runs of a cell say is how it was; measured lately is what at most so much
 * time ago was; and from this factor on, a model has drifted. */
#define FIRST_RUNS     3
#define LATELY_NS      2e9
#define DRIFT          1.5

bool sx_sharing_active(const struct sx_server *s)
{
    return s->sharing && s->sharing->active;
}

/* --- policies ----------------------------------------------------------------------------------
 */

static enum sx_rc find_policy(const char *name, enum sx_share_policy *ret_policy, bool *ret_wanted,
                              struct sx_err *err)
{
    *ret_policy = SX_SHARE_FAIR;
    *ret_wanted = !name || strcmp(name, WIDTH) != 0;
    if (!name || !*ret_wanted || sx_share_policy_find(name, ret_policy))
        return SX_OK;
    char all[256] = WIDTH;
    for (unsigned i = 0; i < SX_SHARE_POLICIES; i++) {
        size_t have = strlen(all);
        snprintf(all + have, sizeof all - have, ", %s",
                 sx_share_policy_name((enum sx_share_policy)i));
    }
    sx_fail(err, SX_INVALID, "there is no policy '%.64s'", name);
    sx_hint(err, "it is one of %s", all);
    return SX_INVALID;
}

enum sx_rc sx_sharing_create(struct sx_server *s, const char *policy, struct sx_err *err)
{
    enum sx_share_policy found;
    bool wanted;
    enum sx_rc rc = find_policy(policy, &found, &wanted, err);
    if (rc)
        return rc;
    if (s->fleet) {
        if (policy)
            return sx_fail(err, SX_UNSUPPORTED,
                           "policy '%s': with several devices requests are placed, not shared out",
                           policy);
        return SX_OK;
    }
    struct sx_sharing *sh = calloc(1, sizeof *sh);
    if (sh) {
        pthread_mutex_init(&sh->plan_lock, NULL);
        sh->live = calloc(1, sizeof *sh->live);
        sh->draft = calloc(1, sizeof *sh->draft);
        s->sharing = sh;
    }
    if (!sh || !sh->live || !sh->draft)
        return sx_fail(err, SX_NO_MEMORY, "no memory for the server");
    sh->policy = found;
    sh->wanted = wanted;
    sh->aside_latency = (struct sx_latency){
        .n_units = 1, .n_batches = 1, .units = {1}, .batches = {1}, .ns = {{GUESSED_NS}}};
    return SX_OK;
}

void sx_sharing_destroy(struct sx_server *s)
{
    struct sx_sharing *sh = s->sharing;
    if (!sh)
        return;
    free(sh->live);
    free(sh->draft);
    free(sh->drafts);
    pthread_mutex_destroy(&sh->plan_lock);
    free(sh);
}

void sx_sharing_settle(struct sx_server *s)
{
    if (!s->sharing)
        return;
    pthread_mutex_lock(&s->sharing->plan_lock);
    pthread_mutex_unlock(&s->sharing->plan_lock);
}

enum sx_rc sx_sharing_reserve(struct sx_server *s, unsigned n, struct sx_err *err)
{
    struct sx_sharing *sh = s->sharing;
    enum sx_rc rc = SX_OK;
    if (!sh || n > SX_SHARE_MODELS)
        return SX_OK;
    pthread_mutex_lock(&sh->plan_lock);
    if (n > sh->cap_drafts) {
        unsigned cap = n < 4 ? 4 : n < SX_SHARE_MODELS / 2 ? 2 * n : SX_SHARE_MODELS;
        struct sx_draft *drafts = realloc(sh->drafts, cap * sizeof *drafts);
        if (drafts) {
            sh->drafts = drafts;
            sh->cap_drafts = cap;
        } else {
            rc = sx_fail(err, SX_NO_MEMORY, "no memory to plan for %u models", n);
        }
    }
    pthread_mutex_unlock(&sh->plan_lock);
    return rc;
}

/* --- what a plan is made from --------------------------------------------------------------------
 */

/* Is there something to share, and may it be shared? [lock] held. */
static bool shareable(const struct sx_server *s)
{
    return s->sharing && s->sharing->wanted && s->n_models >= 2 && s->n_models <= SX_SHARE_MODELS;
}

static double objective_of(const struct sx_model *m)
{
    uint64_t ns = m->config.objective_ns ? m->config.objective_ns : m->config.default_timeout_ns;
    return (double)ns;
}

static double rate_of(const struct sx_model *m, uint64_t now)
{
    double rate = sx_arrivals_rate(&m->sched.arrivals, now);
    return rate > LEAST_RATE ? rate : LEAST_RATE;
}

/* A model that has become slower has done so in all batches on all units, but only those that it
 * runs in are known to be slow: the others would look ever so good, and be planned.  So cells that
 * were not measured lately are taken to have moved as those that were. */
static void carry_drift(struct sx_model *m, struct sx_cost *c)
{
    double sum = 0;
    unsigned n = 0;
    for (unsigned wi = 0; wi < c->n_widths; wi++) {
        for (unsigned bi = 0; bi < c->n_batches; bi++) {
            const struct sx_cost_entry *e = &c->cell[wi][bi];
            double *base = &m->base_ns[wi][bi];
            if (!e->runs || e->ns <= 0)
                continue;
            if (e->runs <= FIRST_RUNS || *base <= 0)
                *base = e->ns;
            if (e->idle_ns < LATELY_NS) {
                sum += log(e->ns / *base);
                n++;
            }
        }
    }
    double drift = n ? exp(sum / n) : 1;
    if (drift < DRIFT && drift > 1 / DRIFT)
        return;
    for (unsigned wi = 0; wi < c->n_widths; wi++) {
        for (unsigned bi = 0; bi < c->n_batches; bi++) {
            struct sx_cost_entry *e = &c->cell[wi][bi];
            if (e->runs && e->idle_ns >= LATELY_NS)
                e->ns = m->base_ns[wi][bi] * drift;
        }
    }
}

/* Copy what is known of a model. [lock] held. */
static void draw(struct sx_draft *d, struct sx_model *m, uint64_t now)
{
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    d->model = m;
    d->cost = m->cost;
    carry_drift(m, &d->cost);
    d->share = (struct sx_share_model){
        .name = m->config.name,
        .latency = &d->latency,
        .objective_ns = objective_of(m),
        .margin_ns = (double)sx_reserve_ns((uint64_t)objective_of(m), m->server->way_ns),
        .weight = m->config.weight > 0 ? m->config.weight : 1,
        .priority = m->config.priority,
        .rate = rate_of(m, now),
        .max_batch = m->sched.max_batch,
        .max_delay_ns = m->sched.max_delay_ns,
    };
    for (unsigned wi = 0; wi < m->cost.n_widths; wi++)
        for (unsigned bi = 0; bi < m->cost.n_batches; bi++)
            m->planned_ns[wi][bi] = m->cost.cell[wi][bi].runs ? m->cost.cell[wi][bi].ns : 0;
}

/* A table when nothing was measured: some milliseconds, and half of the ideal gain of units. */
static void guess(const struct sx_cost *c, struct sx_latency *l)
{
    memset(l, 0, sizeof *l);
    l->n_units = c->n_widths;
    l->n_batches = c->n_batches;
    for (unsigned bi = 0; bi < c->n_batches; bi++)
        l->batches[bi] = c->batches[bi];
    for (unsigned wi = 0; wi < c->n_widths; wi++) {
        l->units[wi] = c->widths[wi];
        for (unsigned bi = 0; bi < c->n_batches; bi++)
            l->ns[wi][bi] = GUESSED_NS * c->batches[bi] / sqrt(c->widths[wi]);
    }
}

/* Choose units and batches, on the drafts alone. [plan] held. */
static void plan(struct sx_sharing *sh, enum sx_share_policy policy, unsigned n_units, uint64_t now,
                 struct sx_share_verdict *ret_verdict)
{
    for (unsigned i = 0; i < sh->n_drafts; i++) {
        struct sx_draft *d = &sh->drafts[i];
        if (!sx_latency_from_cost(&d->cost, &d->latency))
            guess(&d->cost, &d->latency);
        sx_latency_prepare(&d->latency);
    }
    sx_share_init(sh->draft, policy, SX_SHARE_ALIGNED, n_units);
    for (unsigned i = 0; i < sh->n_drafts; i++)
        sx_share_add(sh->draft, &sh->drafts[i].share, now);
    sx_share_plan(sh->draft, now, ret_verdict);
}

/* --- taking it over ------------------------------------------------------------------------------
 */

void sx_sharing_stop(struct sx_server *s)
{
    if (!sx_sharing_active(s))
        return;
    s->sharing->active = false;
    for (unsigned i = 0; i < s->n_models; i++)
        s->models[i]->shared = false;
    SX_LIST_FOREACH (it, &s->running)
        SX_CONTAINER_OF(it, struct sx_job, running)->share_run = SX_NO_RUN;
}

void sx_sharing_leave(struct sx_server *s, struct sx_model *m)
{
    if (m->shared)
        sx_share_remove(s->sharing->live, &m->share);
    m->shared = false;
    if (!shareable(s))
        sx_sharing_stop(s);
}

/* [plan] and [lock] held. */
static void take_over(struct sx_server *s, uint64_t now)
{
    struct sx_sharing *sh = s->sharing;
    bool begins = !sh->active;
    if (begins) {
        sx_share_init(sh->live, sh->policy, SX_SHARE_ALIGNED, s->n_units);
        sh->aside = (struct sx_share_model){.name = "profiling",
                                            .latency = &sh->aside_latency,
                                            .objective_ns = 1e9,
                                            .weight = 1,
                                            .max_batch = 1};
    }
    for (unsigned i = 0; i < sh->n_drafts; i++) {
        const struct sx_draft *d = &sh->drafts[i];
        struct sx_model *m = d->model;
        if (m->removed)
            continue;
        m->latency = d->latency;
        bool joins = !m->shared;
        if (joins) {
            m->share = (struct sx_share_model){.name = m->config.name, .latency = &m->latency};
            m->share.objective_ns = d->share.objective_ns;
            m->share.weight = d->share.weight;
            m->shared = sx_share_add(sh->live, &m->share, now);
        }
        m->share.objective_ns = d->share.objective_ns;
        m->share.weight = d->share.weight;
        m->share.priority = d->share.priority;
        m->share.rate = d->share.rate;
        m->share.max_batch = d->share.max_batch;
        m->share.max_delay_ns = d->share.max_delay_ns;
        m->share.plan = d->share.plan;
        m->share.part_first = d->share.part_first;
        m->share.part_units = d->share.part_units;
        if (joins) /* its score is a time until its units are known (sx_share_add) */
            m->share.score *= m->share.plan.units ? m->share.plan.units : 1;
    }
    sh->live->session_ns = sh->draft->session_ns;
    sh->active = true;
    if (!begins)
        return;
    SX_LIST_FOREACH (it, &s->running)
        sx_sharing_note(s, SX_CONTAINER_OF(it, struct sx_job, running), now);
}

void sx_sharing_replan(struct sx_server *s)
{
    struct sx_sharing *sh = s->sharing;
    if (!sh)
        return;
    pthread_mutex_lock(&sh->plan_lock);
    pthread_mutex_lock(&s->lock);
    uint64_t now = sx_clock_now(s->clock), began = sx_now();
    enum sx_share_policy policy = sh->policy;
    sh->n_drafts = 0;
    if (shareable(s)) {
        for (unsigned i = 0; i < s->n_models && i < sh->cap_drafts; i++)
            draw(&sh->drafts[sh->n_drafts++], s->models[i], now);
    }
    pthread_mutex_unlock(&s->lock);

    struct sx_share_verdict verdict;
    if (sh->n_drafts)
        plan(sh, policy, s->n_units, now, &verdict);

    struct outcome o;
    sx_outcome_init(&o);
    pthread_mutex_lock(&s->lock);
    now = sx_clock_now(s->clock);
    if (sh->n_drafts && shareable(s) && sh->policy == policy) {
        take_over(s, now);
        sh->verdict = verdict;
        sh->planned = sh->looked = now;
        sh->plan_ns = (double)(sx_now() - began);
        sh->replans++;
    } else if (!shareable(s)) {
        sx_sharing_stop(s);
    }
    for (unsigned i = 0; i < sh->n_drafts; i++)
        sx_model_drop(sh->drafts[i].model);
    sx_server_pump(s, now, &o);
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_unlock(&sh->plan_lock);
    sx_server_flush(s, &o);
}

enum sx_rc sx_server_set_policy(struct sx_server *s, const char *policy, struct sx_err *err)
{
    enum sx_share_policy found;
    bool wanted;
    enum sx_rc rc = find_policy(policy, &found, &wanted, err);
    if (rc)
        return rc;
    if (!s->sharing)
        return sx_fail(err, SX_UNSUPPORTED,
                       "with several devices requests are placed, not shared out");
    pthread_mutex_lock(&s->lock);
    sx_sharing_stop(s);
    s->sharing->policy = found;
    s->sharing->wanted = wanted;
    pthread_mutex_unlock(&s->lock);
    sx_sharing_replan(s);
    return SX_OK;
}

/* --- when to plan anew ---------------------------------------------------------------------------
 */

uint64_t sx_sharing_look_at(const struct sx_server *s)
{
    const struct sx_sharing *sh = s->sharing;
    if (!sh->news || !shareable(s))
        return SX_NEVER;
    return sh->looked + LOOK_NS;
}

/* A rate is a count, so it moves by itself: only what is beyond twice its deviation counts. */
static bool rate_moved(const struct sx_model *m, uint64_t now)
{
    double rate = rate_of(m, now), was = m->share.rate;
    double noise = 2 / sqrt(m->sched.arrivals.count + 1);
    return fabs(rate - was) > (noise > RATE_MOVED ? noise : RATE_MOVED) * was;
}

static bool cost_moved(const struct sx_model *m, double limit)
{
    for (unsigned wi = 0; wi < m->cost.n_widths; wi++) {
        for (unsigned bi = 0; bi < m->cost.n_batches; bi++) {
            const struct sx_cost_entry *e = &m->cost.cell[wi][bi];
            double was = m->planned_ns[wi][bi];
            if (e->runs && fabs(e->ns - was) > limit * was)
                return true;
        }
    }
    return false;
}

bool sx_sharing_due(struct sx_server *s, uint64_t now)
{
    struct sx_sharing *sh = s->sharing;
    if (!sh || !shareable(s) || !sh->news || now < sh->looked + LOOK_NS)
        return false;
    sh->news = false;
    sh->looked = now;
    if (sh->active && s->config.keep_plan)
        return false;
    double limit = now - sh->planned > OLD_NS ? COST_MOVED_OLD : COST_MOVED;
    for (unsigned i = 0; i < s->n_models; i++) {
        const struct sx_model *m = s->models[i];
        if (!m->shared || rate_moved(m, now) || cost_moved(m, limit))
            return true;
    }
    return false;
}

/* --- for people ----------------------------------------------------------------------------------
 */

static void say(struct sx_server_plan *p, const struct sx_server *s)
{
    const struct sx_sharing *sh = s->sharing;
    if (!sh)
        snprintf(p->verdict, sizeof p->verdict,
                 "Several devices: each request goes where it is predicted to end first.");
    else if (!sh->wanted)
        snprintf(p->verdict, sizeof p->verdict,
                 "Each model takes units as if it were the only one: policy " WIDTH ".");
    else if (s->n_models < 2)
        snprintf(p->verdict, sizeof p->verdict, "%s: nothing to share. Its width follows its load.",
                 s->n_models ? "One model" : "No model");
    else if (s->n_models > SX_SHARE_MODELS)
        snprintf(p->verdict, sizeof p->verdict,
                 "More than %d models: each takes units as if it were the only one.",
                 SX_SHARE_MODELS);
    else if (!sh->active)
        snprintf(p->verdict, sizeof p->verdict, "The first plan is being made.");
    else if (sh->verdict.feasible)
        snprintf(p->verdict, sizeof p->verdict,
                 "All %u models are admitted as they are: their promises need %.0f %% of the "
                 "machine.",
                 s->n_models, 100 * sh->verdict.demand);
    else
        snprintf(p->verdict, sizeof p->verdict, "%s", sh->verdict.why);
}

static void tell_model(struct sx_server_plan_model *to, const struct sx_model *m, uint64_t now)
{
    const struct sx_model_stats *st = m->stats;
    memcpy(to->name, m->config.name, sizeof to->name);
    to->version = m->version;
    to->objective_ns = objective_of(m);
    to->weight = m->config.weight > 0 ? m->config.weight : 1;
    to->priority = m->config.priority;
    to->rate = sx_arrivals_rate(&m->sched.arrivals, now);
    to->asked = st->success + st->rejected + st->expired + st->failed;
    to->in_time = st->in_time;
    to->attainment = to->asked ? (double)to->in_time / (double)to->asked : -1;
    to->queued = m->queued_requests;
    to->running = m->running_requests;
    if (m->shared) {
        to->plan = m->share.plan;
        to->score = m->share.score;
    }
}

enum sx_rc sx_server_get_plan(struct sx_server *s, struct sx_server_plan *ret_plan)
{
    struct sx_server_plan p = {.policy = WIDTH};
    const struct sx_sharing *sh = s->sharing;
    double sum = 0;
    pthread_mutex_lock(&s->lock);
    p.models = calloc(s->n_models + 1, sizeof *p.models);
    if (!p.models) {
        pthread_mutex_unlock(&s->lock);
        return SX_NO_MEMORY;
    }
    uint64_t now = sx_clock_now(s->clock);
    p.n_units = s->n_units;
    p.n_models = s->n_models;
    for (unsigned i = 0; i < s->n_models; i++) {
        tell_model(&p.models[i], s->models[i], now);
        sum += p.models[i].score;
    }
    for (unsigned i = 0; i < s->n_models && sum > 0; i++)
        p.models[i].unit_share = p.models[i].score / sum;
    if (sh && sh->wanted)
        p.policy = sx_share_policy_name(sh->policy);
    if (sx_sharing_active(s)) {
        p.sharing = true;
        p.session_ns = sh->live->session_ns;
        p.overloads = sh->live->overloads;
        p.demand = sh->verdict.demand;
        p.feasible = sh->verdict.feasible;
        p.refused = sh->verdict.refused;
        p.shrunk = sh->verdict.shrunk;
        p.age_s = (double)(now - sh->planned) * 1e-9;
        p.plan_s = sh->plan_ns * 1e-9;
    }
    p.replans = sh ? sh->replans : 0;
    say(&p, s);
    pthread_mutex_unlock(&s->lock);
    *ret_plan = p;
    return SX_OK;
}

void sx_server_plan_fini(struct sx_server_plan *plan)
{
    free(plan->models);
    memset(plan, 0, sizeof *plan);
}
