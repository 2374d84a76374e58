/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * run.c - the runner (see run.h).
 *
 * Words.   query: what latency is measured of; one request, or a group of them that start together.
 *          slot: a place for a request in flight; query q of a closed loop has slots
 *          q*group .. q*group+group-1 for the whole run.
 *
 * Always true between steps
 *   I1  in_flight is the number of slots submitted and not yet polled.
 *   I2  open loop: the free stack holds exactly the other slots.
 *   I3  next_due is due and not sent, or lies in the future.
 *
 * Thread   one, the caller's.
 * Phases   WARMUP -> MEASURE -> DRAIN -> end; nothing is sent in DRAIN.
 */
#include "perf/run.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "perf/moments.h"

#define BATCH         256 /* completions per poll */
#define PROGRESS_NS   (200 * SX_MS)
#define GIVE_UP_AFTER 64         /* failed connections in a row, if none was ever answered, */
#define GIVE_UP_NS    (5 * SX_S) /* or if there was nothing else for so long */

enum phase { WARMUP, MEASURE, DRAIN };

struct query {
    uint64_t due, sent;
    uint32_t left;
    enum sx_outcome worst;
};

struct runner {
    struct sx_target *t;
    const struct sx_load *load;
    const struct sx_run_opts *o;
    struct sx_clock *clock;
    struct sx_run_result *r;
    uint32_t group;
    enum phase phase;
    bool windowed;

    struct query *query; /* one per query in flight; in an open loop one per slot */
    uint32_t *free, n_free;
    uint32_t in_flight;
    uint64_t origin, next_due, sample;

    uint64_t from, to;          /* the measured interval; `to` SX_NEVER until it is known */
    uint64_t issued, completed; /* queries since `from` */
    uint64_t goal;              /* after so many queries no more are sent; 0: none */
    uint64_t answered, last_done;
    uint32_t refused; /* connections in a row, the first of them at: */
    uint64_t refused_since;
    double cpu_from;

    struct sx_stats *ring; /* SX_WINDOWS + 1 of them; the current one is ring[windows % n] */
    uint64_t window_from;
    struct sx_moments moments;
    uint64_t progress_at, progress_answered, progress_last;
};

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_THREAD, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static struct sx_stats *window(struct runner *rn)
{
    return &rn->ring[rn->r->windows % (SX_WINDOWS + 1)];
}

/* --- sending ------------------------------------------------------------------------------------
 */

static void send_query(struct runner *rn, uint32_t q, uint64_t due, uint64_t now)
{
    rn->query[q] = (struct query){.due = due, .sent = now, .left = rn->group};
    rn->in_flight += rn->group;
    rn->issued += rn->phase == MEASURE;
    for (uint32_t i = 0; i < rn->group; i++)
        rn->t->ops->submit(rn->t, q * rn->group + i, rn->sample++);
}

static bool may_send(const struct runner *rn)
{
    return rn->phase != DRAIN && !(rn->goal && rn->issued >= rn->goal);
}

static void take_next_due(struct runner *rn)
{
    rn->next_due = sx_time_add(rn->origin, sx_arrival_next(rn->load->arrivals));
}

static void send_due(struct runner *rn, uint64_t now)
{
    while (rn->n_free > 0 && rn->next_due <= now && rn->next_due < rn->to && may_send(rn)) {
        send_query(rn, rn->free[--rn->n_free], rn->next_due, now);
        take_next_due(rn);
        now = sx_clock_now(rn->clock);
    }
}

/* --- phases -------------------------------------------------------------------------------------
 */

static void begin_measuring(struct runner *rn, uint64_t now)
{
    rn->phase = MEASURE;
    rn->from = rn->window_from = now;
    rn->to = rn->o->duration_ns ? now + rn->o->duration_ns : SX_NEVER;
    rn->cpu_from = cpu_seconds();
    sx_stats_init(window(rn));
    sx_stats_init(&rn->r->stats);
    sx_moments_begin(&rn->moments, now, rn->o);
}

static void begin_draining(struct runner *rn, uint64_t now)
{
    if (rn->phase == WARMUP)
        begin_measuring(rn, now); // interrupted: an empty interval
    rn->phase = DRAIN;
    if (rn->to > now)
        rn->to = now;
    rn->r->cpu = cpu_seconds() - rn->cpu_from;
}

/* Close the current window; true when the run is over. */
static bool close_window(struct runner *rn, uint64_t now)
{
    double rate[SX_WINDOWS], latency[SX_WINDOWS];
    struct sx_stats *w = window(rn);
    w->ns = now - rn->window_from;
    rn->window_from = now;
    int n = ++rn->r->windows;
    sx_stats_init(window(rn));
    if (n < SX_WINDOWS)
        return n >= rn->o->max_windows;
    for (int i = 0; i < SX_WINDOWS; i++) {
        const struct sx_stats *s = &rn->ring[(n - 1 - i) % (SX_WINDOWS + 1)];
        rate[i] = sx_stats_rate(s);
        latency[i] = rn->o->percentile > 0
                         ? (double)sx_hist_quantile(&s->latency, rn->o->percentile / 100)
                         : sx_hist_mean(&s->latency);
    }
    rn->r->stable = sx_stable(rate, SX_WINDOWS, rn->o->stability) &&
                    sx_stable(latency, SX_WINDOWS, rn->o->stability);
    return rn->r->stable || n >= rn->o->max_windows;
}

/* What the clock alone changes. */
static void advance(struct runner *rn, uint64_t now)
{
    if (rn->o->stop && *rn->o->stop && rn->phase != DRAIN) {
        rn->r->interrupted = true;
        begin_draining(rn, now);
    }
    if (rn->phase == WARMUP && now >= rn->origin + rn->o->warmup_ns)
        begin_measuring(rn, rn->origin + rn->o->warmup_ns);
    if (rn->phase == MEASURE && now >= rn->to) {
        if (rn->issued < rn->o->min_requests) {
            rn->goal = rn->o->min_requests; // from here on it is a run of so many queries
            rn->to = SX_NEVER;
        } else {
            begin_draining(rn, rn->to);
        }
    }
    if (rn->phase == MEASURE && rn->windowed && rn->o->window_ns &&
        now >= rn->window_from + rn->o->window_ns && close_window(rn, now))
        begin_draining(rn, now);
    if (rn->phase == MEASURE && rn->goal && rn->issued >= rn->goal) {
        rn->phase = DRAIN; // the interval ends with the last answer
        rn->to = SX_NEVER;
        rn->r->cpu = cpu_seconds() - rn->cpu_from;
    }
    if (rn->phase == MEASURE)
        sx_moments_advance(&rn->moments, now);
}

/* --- completions --------------------------------------------------------------------------------
 */

static void account(struct runner *rn, const struct query *q, uint64_t done)
{
    bool fixed = !rn->windowed;
    bool ok = q->worst == SX_OUTCOME_OK;
    uint64_t latency = done > q->due ? done - q->due : 0;
    rn->answered += ok;
    if (rn->phase != WARMUP) {
        rn->completed += ok && done >= rn->from && done < rn->to; // whenever they were due
        sx_moments_add(&rn->moments, ok, latency);
    }
    if (fixed ? rn->phase == WARMUP || q->due < rn->from || q->due >= rn->to : rn->phase != MEASURE)
        return;
    sx_stats_add(fixed ? &rn->r->stats : window(rn), q->worst, q->due, q->sent, done,
                 rn->o->objective_ns);
    if (ok && rn->o->keep_latencies)
        sx_moments_keep(&rn->moments, latency);
    rn->last_done = done > rn->last_done ? done : rn->last_done;
}

static void complete(struct runner *rn, const struct sx_completion *c, uint64_t now)
{
    uint32_t qi = c->slot / rn->group;
    struct query *q = &rn->query[qi];
    assert(q->left > 0);
    rn->in_flight--;
    if (c->outcome > q->worst)
        q->worst = c->outcome;
    if (--q->left > 0)
        return;
    if (q->worst != SX_OUTCOME_CONNECT)
        rn->refused = 0;
    else if (rn->refused++ == 0)
        rn->refused_since = now;
    account(rn, q, c->done);
    if (rn->windowed && rn->o->window_requests && rn->phase == MEASURE &&
        sx_stats_total(window(rn)) >= rn->o->window_requests && close_window(rn, now))
        begin_draining(rn, now);
    if (rn->load->concurrency == 0)
        rn->free[rn->n_free++] = qi;
    else if (may_send(rn))
        send_query(rn, qi, now, now);
}

static void report(struct runner *rn, uint64_t now)
{
    if (!rn->o->progress || now < rn->progress_at)
        return;
    const struct sx_stats *s = rn->windowed ? window(rn) : &rn->r->stats;
    double gap = (double)(now - rn->progress_last) * 1e-9;
    uint64_t begin = rn->phase == WARMUP ? rn->origin : rn->from;
    struct sx_progress p = {
        .warmup = rn->phase == WARMUP,
        .elapsed = (double)(now - begin) * 1e-9,
        .total = (double)(rn->phase == WARMUP ? rn->o->warmup_ns : rn->o->duration_ns) * 1e-9,
        .rate = gap > 0 ? (double)(rn->answered - rn->progress_answered) / gap : 0,
        .p50_ns = sx_hist_quantile(&s->latency, 0.5),
        .p99_ns = sx_hist_quantile(&s->latency, 0.99),
        .failed = sx_stats_failed(s),
        .answered = rn->answered,
        .windows = rn->r->windows,
        .in_flight = rn->in_flight,
    };
    rn->progress_answered = rn->answered;
    rn->progress_last = now;
    rn->progress_at = now + PROGRESS_NS;
    rn->o->progress(rn->o->progress_arg, &p);
}

/* When the runner must wake even if nothing completes. */
static uint64_t wake_at(const struct runner *rn, uint64_t drain_end)
{
    uint64_t at = rn->o->progress || rn->o->stop ? rn->progress_at : SX_NEVER;
    uint64_t other[] = {
        rn->load->concurrency == 0 && rn->n_free > 0 && may_send(rn) ? rn->next_due : SX_NEVER,
        rn->phase == WARMUP ? rn->origin + rn->o->warmup_ns : SX_NEVER,
        rn->phase == MEASURE ? rn->to : SX_NEVER,
        rn->phase == MEASURE && rn->windowed && rn->o->window_ns
            ? rn->window_from + rn->o->window_ns
            : SX_NEVER,
        rn->phase == DRAIN ? drain_end : SX_NEVER,
    };
    for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++)
        at = other[i] < at ? other[i] : at;
    return at;
}

static void loop(struct runner *rn)
{
    struct sx_completion done[BATCH];
    uint64_t drain_end = SX_NEVER, now = sx_clock_now(rn->clock);
    rn->origin = rn->progress_last = now;
    rn->progress_at = now + PROGRESS_NS;
    advance(rn, now);
    if (rn->load->concurrency == 0)
        take_next_due(rn);
    for (uint32_t q = 0; q < rn->load->concurrency && may_send(rn); q++)
        send_query(rn, q, now, now);
    for (;;) {
        now = sx_clock_now(rn->clock);
        if (rn->load->concurrency == 0)
            send_due(rn, now); // first: what was due before the end is still sent
        advance(rn, now);
        if (rn->next_due == SX_NEVER && rn->phase == MEASURE && !rn->in_flight)
            begin_draining(rn, now); // the trace is over
        if (rn->refused >= GIVE_UP_AFTER &&
            (rn->answered == 0 || now >= rn->refused_since + GIVE_UP_NS)) {
            rn->r->unreachable = true;
            begin_draining(rn, now);
            break;
        }
        report(rn, now);
        if (rn->phase == DRAIN) {
            if (drain_end == SX_NEVER)
                drain_end = sx_time_add(now, rn->windowed ? SX_S : rn->o->drain_ns);
            if (rn->in_flight == 0 || now >= drain_end)
                break;
        }
        size_t n = rn->t->ops->poll(rn->t, wake_at(rn, drain_end), done, BATCH);
        for (size_t i = 0; i < n; i++)
            complete(rn, &done[i], sx_clock_now(rn->clock));
        if (rn->o->stop && n == 0 && rn->progress_at <= now)
            rn->progress_at = now + PROGRESS_NS;
    }
}

/* --- the end ------------------------------------------------------------------------------------
 */

/* What is still open though the drain is over, of what was due in [from, to). */
static void count_lost(struct runner *rn, uint64_t from, uint64_t to)
{
    for (uint32_t i = 0; i < rn->t->slots / rn->group; i++) {
        const struct query *q = &rn->query[i];
        if (q->left > 0 && q->due >= from && q->due < to)
            sx_stats_add(&rn->r->stats, SX_OUTCOME_TIMEOUT, q->due, q->sent, 0, 0);
    }
}

/* What was due in the open loop from `from` on, and there was no slot for it. */
static void count_unsent(struct runner *rn, uint64_t from)
{
    if (rn->load->concurrency || rn->r->interrupted || (rn->goal && rn->issued >= rn->goal))
        return;
    for (; rn->next_due < rn->to; take_next_due(rn)) {
        if (rn->next_due >= from)
            sx_stats_add(&rn->r->stats, SX_OUTCOME_UNSENT, rn->next_due, 0, 0, 0);
    }
}

static void finish(struct runner *rn)
{
    struct sx_run_result *r = rn->r;
    if (rn->phase == WARMUP)
        begin_draining(rn, sx_clock_now(rn->clock));
    if (rn->windowed) {
        if (r->windows == 0 || r->unreachable)
            close_window(rn, rn->to); // ended within one
        for (int i = 0; i < SX_WINDOWS && i < r->windows; i++)
            sx_stats_merge(&r->stats, &rn->ring[(r->windows - 1 - i) % (SX_WINDOWS + 1)]);
        r->throughput = sx_stats_rate(&r->stats);
        /* Who merely takes as long as others do is not lost. */
        uint64_t now = sx_clock_now(rn->clock), longest = r->stats.latency.max_ns;
        uint64_t last = rn->window_from - rn->ring[(r->windows - 1) % (SX_WINDOWS + 1)].ns;
        count_lost(rn, 0, now - last > longest ? last : now - longest);
        count_unsent(rn, rn->window_from - r->stats.ns);
    } else {
        count_lost(rn, rn->from, rn->to);
        count_unsent(rn, rn->from);
        uint64_t to = rn->to == SX_NEVER ? rn->last_done : rn->to;
        r->stats.ns = to > rn->from ? to - rn->from : 0;
        r->throughput = r->stats.ns ? (double)rn->completed * 1e9 / (double)r->stats.ns : 0;
        r->stable = true;
    }
    r->seconds = (double)r->stats.ns * 1e-9;
    uint64_t measured = (rn->to == SX_NEVER ? rn->last_done : rn->to) - rn->from;
    r->cpu = measured > 0 && r->cpu > 0 ? r->cpu / ((double)measured * 1e-9) : 0;
    sx_moments_end(&rn->moments, rn->from + measured, r);
}

enum sx_rc sx_run(struct sx_target *t, const struct sx_load *load, const struct sx_run_opts *opts,
                  struct sx_run_result *r, struct sx_err *err)
{
    memset(r, 0, sizeof(*r));
    struct runner rn = {.t = t, .load = load, .o = opts, .r = r, .to = SX_NEVER};
    rn.group = load->concurrency && load->group ? load->group : 1;
    rn.clock = opts->clock ? opts->clock : sx_clock_real();
    rn.windowed = opts->duration_ns == 0 && opts->requests == 0;
    rn.goal = opts->requests;
    r->per_query = rn.group * t->batch;
    if ((uint64_t)load->concurrency * rn.group > t->slots)
        return sx_fail(err, SX_INVALID, "%u requests in flight wanted, the target takes %u",
                       load->concurrency * rn.group, t->slots);

    rn.query = calloc(t->slots, sizeof(*rn.query));
    rn.free = calloc(t->slots, sizeof(*rn.free));
    rn.ring = calloc(SX_WINDOWS + 1, sizeof(*rn.ring));
    enum sx_rc rc = SX_OK;
    if (!rn.query || !rn.free || !rn.ring || !sx_moments_init(&rn.moments)) {
        rc = sx_fail(err, SX_NO_MEMORY, "out of memory for %u requests in flight", t->slots);
    } else {
        while (rn.n_free < t->slots) { // slot 0 on top: the same few connections serve low loads
            rn.free[rn.n_free] = t->slots - 1 - rn.n_free;
            rn.n_free++;
        }
        loop(&rn);
        finish(&rn);
        if (rn.in_flight > 0)
            t->ops->cancel(t);
    }
    sx_moments_fini(&rn.moments);
    free(rn.ring);
    free(rn.free);
    free(rn.query);
    return rc;
}

void sx_run_result_fini(struct sx_run_result *r)
{
    free(r->moments);
    free(r->latencies);
    memset(r, 0, sizeof(*r));
}
