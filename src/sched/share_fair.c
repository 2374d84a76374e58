/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * share_fair.c - mandatory runs, then the guarded fair fill.
 *
 * Mandatory, windows.  The rule (share_look.c) is simulated.  As long as nothing breaks and there
 * are no requests, its first run is the answer.  Otherwise its rivals are simulated, too: other
 * runs first, the other rule, and waiting; what costs least is done.
 *
 * Mandatory, requests alone.  Whoever makes most of unit-time is first: among those that can all be
 * in time, order hardly matters, and among those that cannot, this loses least.  A model of which
 * few requests were served lately counts more, so that nobody starves.  Then comes the guard:
 * starting and waiting are simulated, and waiting wins if more newcomers are expected to be lost
 * otherwise.
 *
 * Fill.  By least run time per weight; each candidate is simulated with the same rule, and starts
 * only if that costs no more than going on without it.
 */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "sched/share_int.h"

/* How many of the most urgent are tried first when a window would break. */
#define URGENT     4
/* Simulations in one decision, beyond the first: of requests by the number of streams, of fillers.
 */
#define RIVALS     24
#define RIVALS_MIN 4
#define RIVALS_SUM 96
#define FILLERS    6
/* Who had run time within this part of the mean of the least is as good as the least. */
#define BAND       0.2
/* Who had less run time than the mean may have a filler on fewer of its units than this part. */
#define NARROWEST  0.75
/* Expected loss, in requests, that is no loss: what waiting must gain, what a filler may cost. */
#define SLIGHT     0.01

struct choice {
    struct sx_option option;
    enum sx_look_rule rule;
    struct sx_outlook outlook;
    double cost;
};

struct decision {
    struct sx_share *share;
    uint64_t now;
    struct sx_look look;
    struct sx_outlook base; /* by the first rule, without an option */
    struct choice best;
    unsigned left; /* simulations that may still be made */
};

static struct sx_share_model *model_of(const struct decision *d, int stream)
{
    return d->share->models[d->look.streams[stream].model];
}

/* Simulate; keep it if it is better than the best so far by `margin`. */
static void try_option(struct decision *d, const struct sx_option *option, enum sx_look_rule rule,
                       double margin)
{
    if (!d->left)
        return;
    d->left--;
    struct choice c = {.option = *option, .rule = rule};
    sx_look_ahead(&d->look, option, rule, d->best.cost, NULL, &c.outlook);
    c.cost = sx_look_cost(&c.outlook);
    if (c.cost < d->best.cost - margin)
        d->best = c;
}

static struct sx_option window_run(const struct decision *d, unsigned stream)
{
    const struct sx_stream *st = &d->look.streams[stream];
    return (struct sx_option){.stream = (int)stream,
                              .units = st->units,
                              .batch = model_of(d, (int)stream)->plan.batch,
                              .ns = st->head_ns};
}

/* --- windows alone -----------------------------------------------------------------------------
 */

/* The rule breaks a window: is there a way that breaks fewer? */
static void search_windows(struct decision *d)
{
    d->left = 2 * URGENT + 4;
    const struct sx_option none = {.stream = -1}, hold = {.stream = -1, .hold = true};
    try_option(d, &none, SX_LOOK_SLACK, 1e-9);
    unsigned tried = 0;
    for (unsigned i = 0; i < d->look.n_streams && tried < URGENT && d->best.outlook.broken > 0;
         i++) {
        unsigned k = d->look.order[i];
        const struct sx_stream *st = &d->look.streams[k];
        if (st->release > 0 || st->head_ns > st->deadline ||
            !sx_share_fits(d->share, st->units, NULL))
            continue;
        struct sx_option first = window_run(d, k);
        try_option(d, &first, SX_LOOK_DEADLINE, 1e-9);
        try_option(d, &first, SX_LOOK_SLACK, 1e-9);
        tried++;
    }
    if (d->best.outlook.broken > 0)
        try_option(d, &hold, SX_LOOK_DEADLINE, 1e-9);
    if (d->best.outlook.broken > 0)
        try_option(d, &hold, SX_LOOK_SLACK, 1e-9);
}

/* --- requests ----------------------------------------------------------------------------------
 */

/* May a lone request of this model use more than its planned units? */
static unsigned widest(const struct decision *d, unsigned stream)
{
    const struct sx_share_model *m = model_of(d, (int)stream);
    unsigned most = m->plan.units;
    if (m->lone_units <= most || m->queue.samples > m->queue.head_samples)
        return most;
    for (unsigned i = 0; i < d->look.n_streams; i++) {
        if (i != stream && d->look.streams[i].known >= 1)
            return most;
    }
    return m->lone_units;
}

/* Should the head wait for company, as the owner asked for? */
static uint64_t held_until(const struct sx_share_model *m, uint64_t now)
{
    if (!m->max_delay_ns || m->queue.samples >= m->plan.batch || m->plan.batch <= 1)
        return 0;
    uint64_t until = sx_time_add(m->queue.head_arrival, m->max_delay_ns);
    uint64_t run = sx_share_whole(sx_latency_ns(m->latency, m->plan.units, m->plan.batch));
    uint64_t latest = m->queue.head_deadline > run ? m->queue.head_deadline - run : 0;
    until = until < latest ? until : latest;
    return until > now ? until : 0;
}

/* What a stream's run would be now. */
struct yield {
    struct sx_option run;
    double value; /* per unit-time */
};
/* False when it has none. */
static bool yield_of(const struct decision *d, unsigned k, struct yield *ret)
{
    const struct sx_stream *st = &d->look.streams[k];
    const struct sx_share_model *m = model_of(d, (int)k);
    unsigned units = sx_share_units_below(d->share, m, st->units, true), batch = 0;
    double late = 0;
    if (units)
        batch = sx_share_in_time(m, units, sx_share_waiting(m), d->now);
    unsigned first = units;
    for (unsigned u = 0; !batch && u < m->latency->n_units;
         u++) { /* more units may save the head */
        units = m->latency->units[u];
        if (units > first && sx_share_fits(d->share, units, NULL))
            batch = sx_share_in_time(m, units, sx_share_waiting(m), d->now);
    }
    if (!batch && first) { /* or it goes late, and the others in time */
        units = first;
        batch = sx_share_late_batch(m, units);
        double over = sx_latency_ns(m->latency, units, batch) - st->deadline;
        late = st->gap > 0 ? fmax(ceil(over / st->gap), m->queue.head_samples) : batch;
    }
    if (batch <= late)
        return false;
    double ns = sx_latency_ns(m->latency, units, batch);
    ret->run = (struct sx_option){.stream = (int)k, .units = units, .batch = batch, .ns = ceil(ns)};
    ret->value = st->value * (batch - late) / (ns * units);
    return true;
}

/* A lone request on more units than it needs, if that costs nobody anything. */
static void try_wide(struct decision *d)
{
    struct sx_option narrow = d->best.option;
    unsigned k = (unsigned)narrow.stream;
    const struct sx_share_model *m = model_of(d, (int)k);
    for (unsigned i = 0; i < d->look.n_streams; i++) {
        if (i != k && d->look.streams[i].known >= 1)
            return;
    }
    unsigned units = sx_share_units_below(d->share, m, widest(d, k), true);
    if (units <= narrow.units || m->queue.samples > narrow.batch)
        return;
    d->left = 2;
    d->best.cost = INFINITY;
    try_option(d, &narrow, SX_LOOK_DEADLINE, 0);
    struct sx_option wide = narrow;
    wide.units = units;
    wide.ns = ceil(sx_latency_ns(m->latency, units, wide.batch));
    try_option(d, &wide, SX_LOOK_DEADLINE, -SLIGHT);
}

/* No windows: the run that makes most of its units, unless it leaves newcomers without units for
 * longer than they can wait, and costs more by that than it gains. */
static void by_yield(struct decision *d, struct sx_share_action *ret_action)
{
    double most = 0, patience = INFINITY;
    double soon = d->look.n_runs ? d->look.runs[d->look.n_runs - 1].end : INFINITY;
    const struct sx_option hold = {.stream = -1, .hold = true};
    d->best = (struct choice){.option = hold, .rule = SX_LOOK_DEADLINE};
    d->best.outlook.first = -1;
    for (unsigned k = 0; k < d->look.n_streams; k++) {
        const struct sx_stream *st = &d->look.streams[k];
        if (st->rate > 0 && st->slack < patience)
            patience = st->slack;
        uint64_t until = st->known >= 1 ? held_until(model_of(d, (int)k), d->now) : 0;
        if (until && until < ret_action->wake_at)
            ret_action->wake_at = until;
        struct yield y;
        if (st->known < 1 || until || !yield_of(d, k, &y) || y.value <= most)
            continue;
        most = y.value;
        d->best.option = y.run;
    }
    if (d->best.option.hold)
        return;
    try_wide(d);
    struct sx_option best = d->best.option;
    if (!d->look.n_runs || soon <= patience || d->share->n_free > 2 * best.units)
        return;
    d->left = 2;
    d->best.cost = INFINITY;
    try_option(d, &best, SX_LOOK_DEADLINE, 0);
    try_option(d, &hold, SX_LOOK_DEADLINE, SLIGHT);
}

/* Windows beside requests: each stream's next run, and waiting, are simulated. */
static void search_requests(struct decision *d, struct sx_share_action *ret_action)
{
    unsigned n = d->look.n_streams ? d->look.n_streams : 1;
    const struct sx_option hold = {.stream = -1, .hold = true};
    d->left = RIVALS_SUM / n;
    d->left = d->left < RIVALS_MIN ? RIVALS_MIN : d->left > RIVALS ? RIVALS : d->left;
    d->best.cost = INFINITY;
    for (unsigned i = 0; i < d->look.n_streams && d->left > 1; i++) {
        unsigned k = d->look.order[i];
        const struct sx_stream *st = &d->look.streams[k];
        if (st->release > 0)
            continue;
        if (st->windows) {
            struct sx_option run = window_run(d, k);
            if (st->head_ns <= st->deadline && sx_share_fits(d->share, st->units, NULL))
                try_option(d, &run, SX_LOOK_DEADLINE, 1e-9);
            continue;
        }
        uint64_t until = held_until(model_of(d, (int)k), d->now);
        struct yield y;
        if (until)
            ret_action->wake_at = until < ret_action->wake_at ? until : ret_action->wake_at;
        else if (yield_of(d, k, &y))
            try_option(d, &y.run, SX_LOOK_DEADLINE, 1e-9);
    }
    if (!isfinite(d->best.cost)) { /* nothing can start */
        d->best = (struct choice){.option = hold, .outlook = d->base};
        d->best.cost = sx_look_cost(&d->base);
    } else if (d->look.n_runs) {
        d->left = 1;
        try_option(d, &hold, SX_LOOK_DEADLINE, SLIGHT);
    }
}

/* --- the fill ----------------------------------------------------------------------------------
 */

struct filler {
    struct sx_share_model *model;
    int stream; /* whose present window it would keep; -1: none */
    unsigned units, batch;
    double ns;         /* INFINITY: not now */
    double key, yield; /* samples per unit-time */
};

/* Its run as a filler, were it to start now; false when it has none. */
static bool filler_of(const struct decision *d, struct sx_share_model *m, double mean,
                      struct filler *ret)
{
    if (d->share->policy == SX_SHARE_EDF && m->queue.endless)
        return false;
    unsigned waiting = sx_share_waiting(m);
    unsigned planned = m->plan.units ? m->plan.units : d->share->n_units;
    unsigned units = waiting ? sx_share_units_below(d->share, m, planned, true) : 0;
    if (!units)
        return false;
    unsigned batch = m->plan.batch && m->queue.endless ? m->plan.batch : waiting;
    if (!m->queue.endless && batch < m->queue.head_samples)
        batch = m->queue.head_samples;
    bool due = !m->queue.endless && m->plan.admitted && m->queue.head_deadline != SX_NEVER;
    if (due && sx_share_in_time(m, m->plan.units, waiting, d->now))
        return false; /* the search for requests has its reasons */
    *ret = (struct filler){.model = m, .stream = -1, .units = units, .batch = batch};
    ret->ns = ceil(sx_latency_ns(m->latency, units, batch));
    /* On fewer units than planned: only if that is fast enough still, and not again and again by
     * those who had enough.  It cannot start now, then, but room can be kept for it. */
    bool narrow = units < planned * NARROWEST && sx_share_key(m) > mean;
    if (units < planned && m->queue.endless && m->plan.admitted &&
        (narrow || ret->ns > m->objective_ns))
        ret->ns = INFINITY;
    ret->key = sx_share_key(m);
    ret->yield = batch / (ret->ns * units);
    return true;
}

/* When its planned units will be free, as far as runs that have begun tell, and how many will be
 * free beside them. */
static double free_at(const struct decision *d, unsigned units, unsigned *ret_spare)
{
    unsigned n_free = d->share->n_free;
    *ret_spare = 0;
    for (unsigned i = d->look.n_runs; i-- > 0;) {
        n_free += d->look.runs[i].n;
        if (n_free < units)
            continue;
        *ret_spare = n_free - units;
        return d->look.runs[i].end;
    }
    return 0;
}

static void keep_window(const struct decision *d, struct filler *f)
{
    for (unsigned k = 0; k < d->look.n_streams; k++) {
        const struct sx_stream *st = &d->look.streams[k];
        if (d->share->models[st->model] == f->model && st->windows && st->release <= 0 &&
            f->ns <= st->deadline)
            f->stream = (int)k;
    }
}

/* The next to be tried: the least served; of those that are about equal, the one that makes most of
 * its units. */
static unsigned next_filler(const struct filler *f, unsigned n, double band)
{
    double least = INFINITY;
    for (unsigned i = 0; i < n; i++)
        least = f[i].key < least ? f[i].key : least;
    unsigned best = n;
    for (unsigned i = 0; i < n; i++) {
        if (f[i].key > least + band)
            continue;
        if (best == n || f[i].yield > f[best].yield * (1 + 1e-9) ||
            (f[i].yield > f[best].yield * (1 - 1e-9) && f[i].key < f[best].key))
            best = i;
    }
    return best;
}

/* When the rule would look again: the end of a run, the beginning of a window. */
static double next_change(const struct decision *d)
{
    double next = d->look.n_runs ? d->look.runs[d->look.n_runs - 1].end : INFINITY;
    for (unsigned k = 0; k < d->look.n_streams; k++) {
        const struct sx_stream *st = &d->look.streams[k];
        double release = st->release > 0 ? st->release : st->deadline;
        next = release < next ? release : next;
    }
    return next;
}

static bool harmless(struct decision *d, const struct filler *f)
{
    if (d->share->policy == SX_SHARE_BLIND || !d->look.n_streams)
        return true;
    struct sx_option o = {.stream = f->stream,
                          .hold = d->best.option.hold,
                          .units = f->units,
                          .batch = f->batch,
                          .ns = f->ns};
    struct sx_outlook outlook;
    if (d->look.requests) {
        sx_look_ahead(&d->look, &o, d->best.rule, d->best.cost + SLIGHT, NULL, &outlook);
        return outlook.broken + outlook.lost <= d->best.cost + SLIGHT;
    }
    sx_look_ahead(&d->look, &o, d->best.rule, d->best.outlook.broken, &d->best.outlook, &outlook);
    /* What breaks already may yet be mended by a later search: that shall find what it would have
     * found without the filler. */
    if (d->base.broken > 0 && f->ns > next_change(d))
        return false;
    return outlook.broken <= d->best.outlook.broken && outlook.rejoins;
}

static void fill(struct decision *d, struct sx_share_action *ret_action)
{
    struct filler f[SX_SHARE_MODELS];
    unsigned n = 0, n_keys = 0;
    if (!d->look.requests && (d->best.rule != SX_LOOK_DEADLINE || d->best.option.hold))
        sx_look_base(&d->look, &d->best.option, d->best.rule, &d->best.outlook);
    double sum = 0;
    for (unsigned i = 0; i < d->share->n_models; i++) {
        struct sx_share_model *m = d->share->models[i];
        if (m->queue.endless) {
            sum += sx_share_key(m);
            n_keys++;
        }
    }
    double mean = n_keys ? sum / n_keys : 0;
    for (unsigned i = 0; i < d->share->n_models; i++)
        n += filler_of(d, d->share->models[i], mean, &f[n]);
    double band = mean * BAND;
    double reserved = INFINITY;
    unsigned spare = 0, tries = 0;
    while (n && tries < FILLERS) {
        unsigned i = next_filler(f, n, band);
        bool fits = f[i].units == f[i].model->plan.units || !f[i].model->plan.units;
        bool beside = isfinite(f[i].ns) && (f[i].ns <= reserved || f[i].units <= spare);
        if (beside)
            keep_window(d, &f[i]);
        tries += beside;
        if (beside && harmless(d, &f[i])) {
            sx_share_make(d->share, f[i].model, f[i].units, f[i].batch, true, ret_action);
            return;
        }
        /* Small ones that come again and again must not keep a large one out. */
        if (!fits && d->share->fit == SX_SHARE_ANY && isinf(reserved) &&
            d->share->policy == SX_SHARE_FAIR)
            reserved = free_at(d, f[i].model->plan.units, &spare);
        f[i] = f[--n];
    }
}

/* --- the decision ------------------------------------------------------------------------------
 */

/* When the answer may change without news: a head must start now or never, a run is late. */
static uint64_t wake_at(const struct decision *d)
{
    double wake = INFINITY;
    for (unsigned i = 0; i < d->look.n_streams; i++) {
        const struct sx_stream *st = &d->look.streams[i];
        double latest = st->deadline - st->head_ns;
        if (st->release <= 0 && latest > 1 && latest < wake)
            wake = latest;
    }
    if (d->best.option.hold && d->look.n_runs) {
        double late = d->look.runs[d->look.n_runs - 1].end + 1e5;
        wake = late < wake ? late : wake;
    }
    return isfinite(wake) ? sx_time_add(d->now, sx_share_whole(wake)) : SX_NEVER;
}

static void start_stream(struct decision *d, struct sx_share_action *ret_action)
{
    const struct sx_option *o = &d->best.option;
    if (o->hold)
        return;
    unsigned units = o->units, batch = o->batch;
    int stream = o->stream;
    if (!units) { /* what the rule would start */
        stream = d->best.outlook.first;
        if (stream < 0)
            return;
        struct sx_share_model *m = model_of(d, stream);
        units = m->plan.units;
        batch = m->queue.endless ? m->plan.batch
                                 : sx_share_in_time(m, units, sx_share_waiting(m), d->now);
        if (!batch || !sx_share_fits(d->share, units, NULL))
            return;
    }
    sx_share_make(d->share, model_of(d, stream), units, batch, false, ret_action);
}

/* Windows: the rule, and its rivals where it does not do. */
static void decide_by_rule(struct decision *d, struct sx_share_action *ret_action)
{
    sx_look_base(&d->look, NULL, SX_LOOK_DEADLINE, &d->base);
    d->best = (struct choice){.option = {.stream = -1}, .outlook = d->base};
    d->best.cost = sx_look_cost(&d->base);
    if (!d->look.requests) {
        if (d->base.broken > 0)
            search_windows(d);
    } else if (d->share->policy == SX_SHARE_FAIR) {
        search_requests(d, ret_action);
    }
}

void sx_share_decide_fair(struct sx_share *share, uint64_t now, struct sx_share_action *ret_action)
{
    if (!share->n_free)
        return;
    struct decision d; /* large, so nothing is cleared that is not read */
    d.share = share;
    d.now = now;
    d.left = 0;
    sx_look_prepare(&d.look, share, now);
    if (d.look.requests && !d.look.windows && share->policy == SX_SHARE_FAIR) {
        by_yield(&d, ret_action);
        d.base = d.best.outlook;
    } else {
        decide_by_rule(&d, ret_action);
    }
    if (d.best.outlook.broken > 0)
        share->overloads++;
    start_stream(&d, ret_action);
    if (ret_action->kind == SX_SCHED_START)
        return;
    fill(&d, ret_action);
    if (ret_action->kind == SX_SCHED_START)
        return;
    uint64_t wake = wake_at(&d);
    ret_action->wake_at = wake < ret_action->wake_at ? wake : ret_action->wake_at;
}
