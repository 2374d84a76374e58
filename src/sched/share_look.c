/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * share_look.c - looking ahead: what becomes of all promises if this is done now?
 *
 * A simulation of runs and streams (the runs that a model will ask for: one for each window, or
 * those for its waiting and expected requests).  At each end of a run and each release, streams
 * are visited by deadline.  What fits starts.  The first that does not fit reserves the earliest
 * time at which it will; those after it may start only if they are over by then or leave its units
 * alone.  What cannot be in time any more is counted and dropped, as the owner drops it.
 *
 * Newcomers are also counted as a flow: if a model could not start anything for longer than a
 * request can wait, those that arrived in the first part of that time are lost, at its rate.  So a
 * rare model counts with the chance that it comes.
 *
 * Cost: events * streams; a few microseconds for 16 models.  Simulations of one decision share what
 * sx_look_prepare collects.  One that comes to a state in which the base was at the same time goes
 * on like the base, and ends there: with a filler, mostly soon after the filler's end.
 */
#include <math.h>
#include <string.h>

#include "sched/share_int.h"

/* Times of windows are whole ns, as the runs' that start; those of queues need not be. */
#define EPS        0.5
#define MOST_STEPS 4096

struct sim {
    const struct sx_look *look;
    bool aligned;
    enum sx_look_rule rule;
    unsigned n_units, n_free, n_runs, n_streams, steps;
    unsigned short order[SX_SHARE_MODELS];
    uint64_t free_units[SHARE_WORDS];
    struct sx_stream streams[SX_SHARE_MODELS];
    struct sx_look_run runs[SX_SHARE_RUNS];
    struct sx_outlook out;
    struct sx_look_trace *record; /* NULL: this is not the base */
    unsigned n_trace;             /* of the base: recorded; of others: passed */
    uint64_t state;               /* sum of hashes of runs and of streams' next deadlines */
};

static uint64_t hash(uint64_t a, double b, uint64_t c)
{
    uint64_t x;
    memcpy(&x, &b, sizeof x);
    x = (x ^ a * UINT64_C(0x9e3779b97f4a7c15)) + c;
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* --- streams ------------------------------------------------------------------------------------
 */

static double rule_key(enum sx_look_rule rule, const struct sx_stream *st)
{
    switch (rule) {
    case SX_LOOK_SLACK:
        return st->deadline - st->head_ns;
    case SX_LOOK_DEADLINE:
    case SX_LOOK_RULES:
        break;
    }
    return st->deadline;
}

static double key_of(const struct sim *s, const struct sx_stream *st)
{
    return rule_key(s->rule, st);
}

/* Equal keys go by number: what follows from a state must not depend on how it came about. */
static bool before(double key, unsigned k, double other, unsigned o)
{
    return key < other || (key == other && k < o);
}

static void sort_order(unsigned short *order, unsigned n, const struct sx_stream *streams,
                       enum sx_look_rule rule)
{
    for (unsigned i = 1; i < n; i++) {
        unsigned short k = order[i];
        double key = rule_key(rule, &streams[k]);
        unsigned j = i;
        for (; j; j--) {
            const struct sx_stream *o = &streams[order[j - 1]];
            if (!before(key, k, rule_key(rule, o), order[j - 1]))
                break;
            order[j] = order[j - 1];
        }
        order[j] = k;
    }
}

/* The stream at place i has a later deadline now. */
static void move_back(struct sim *s, unsigned i)
{
    unsigned short k = s->order[i];
    double key = key_of(s, &s->streams[k]);
    for (; i + 1 < s->n_streams; i++) {
        unsigned short next = s->order[i + 1];
        if (!before(key_of(s, &s->streams[next]), next, key, k))
            break;
        s->order[i] = next;
    }
    s->order[i] = k;
}

/* With nothing known left, the head is the first that is expected. */
static void expect_head(struct sx_stream *st)
{
    if (st->known >= 1)
        return;
    st->known = 0;
    st->release = st->next;
    st->deadline = st->next + st->length;
}

static void next_window(struct sim *s, struct sx_stream *st)
{
    uint64_t k = (uint64_t)(st - s->streams);
    s->state -= hash(k, st->deadline, 1);
    st->release = st->deadline;
    st->deadline += st->length;
    s->state += hash(k, st->deadline, 1);
}

/* Take n samples off the head; returns how many of them were known. */
static double take(struct sx_stream *st, double n)
{
    double known = n < st->known ? n : st->known;
    st->known -= known;
    st->deadline += known * st->gap;
    if (n > known)
        st->next += (n - known) * st->between;
    expect_head(st);
    return known;
}

static double available(const struct sx_stream *st, double at)
{
    double n = st->known;
    if (st->next <= at)
        n += floor((at - st->next) / st->between) + 1;
    return n;
}

/* Expected samples are lost.  As a flow, where the model finds no units for too long: so rare ones
 * count with their chance.  One by one, where they queue up: so does a full machine.  Whichever is
 * more. */
static void lose(struct sim *s, struct sx_stream *st, double flow, double dropped)
{
    double before = st->flow > st->dropped ? st->flow : st->dropped;
    st->flow += flow;
    st->dropped += dropped;
    double after = st->flow > st->dropped ? st->flow : st->dropped;
    s->out.lost += (after - before) * st->value;
}

/* The head cannot end before `end`, which is too late. */
static void break_promise(struct sim *s, struct sx_stream *st, double end)
{
    if (st->windows) {
        s->out.broken += st->value;
        next_window(s, st);
        return;
    }
    bool known = st->known >= 1;
    double each = known ? st->gap : st->between;
    double n = each > 0 ? ceil((end - st->deadline) / each) : st->known;
    n = n < 1 ? 1 : n;
    if (known && n > st->known)
        n = st->known;
    double gone = take(st, n);
    s->out.broken += gone * st->value;
    lose(s, st, 0, n - gone);
}

/* --- units --------------------------------------------------------------------------------------
 */

/* Where `n` units are free; n_units if nowhere. */
static unsigned find(const struct sim *s, unsigned n)
{
    if (n > s->n_free)
        return s->n_units;
    return s->aligned ? sx_units_find(s->free_units, s->n_units, n) : 0;
}

static void run_begins(struct sim *s, unsigned first, unsigned n, double end)
{
    s->n_free -= n;
    if (s->aligned)
        sx_units_put(s->free_units, first, n, false);
    unsigned i = s->n_runs++;
    for (; i && s->runs[i - 1].end < end; i--)
        s->runs[i] = s->runs[i - 1];
    s->runs[i] = (struct sx_look_run){.end = end, .first = first, .n = n};
    s->state += hash(n, end, first);
}

static void run_ends(struct sim *s)
{
    const struct sx_look_run *r = &s->runs[--s->n_runs];
    s->n_free += r->n;
    s->state -= hash(r->n, r->end, r->first);
    if (s->aligned)
        sx_units_put(s->free_units, r->first, r->n, true);
}

/* The first one that does not fit: when it will, and on what. */
struct reserve {
    bool made;
    double at;
    unsigned spare;             /* units beside it then, if any will do */
    uint64_t left[SHARE_WORDS]; /* free now and not reserved, if aligned */
};

static void reserve(const struct sim *s, unsigned n, struct reserve *ret)
{
    ret->made = true;
    ret->at = INFINITY;
    ret->spare = 0;
    unsigned words = (s->n_units + 63) / 64, n_free = s->n_free;
    uint64_t soon[SHARE_WORDS];
    if (s->aligned)
        memcpy(soon, s->free_units, words * sizeof *soon);
    for (unsigned i = s->n_runs; i-- > 0;) {
        const struct sx_look_run *r = &s->runs[i];
        n_free += r->n;
        if (s->aligned)
            sx_units_put(soon, r->first, r->n, true);
        if (n_free < n || (i && s->runs[i - 1].end == r->end))
            continue; /* all that end then, in whatever order */
        unsigned first = s->aligned ? sx_units_find(soon, s->n_units, n) : 0;
        if (first == s->n_units)
            continue;
        ret->at = r->end;
        ret->spare = n_free - n;
        if (s->aligned) {
            memcpy(ret->left, s->free_units, words * sizeof *soon);
            sx_units_put(ret->left, first, n, false);
        }
        return;
    }
}

/* Where a run that ends at `end` may start beside the reserved one. */
static unsigned find_beside(const struct sim *s, struct reserve *r, unsigned n, double end)
{
    if (end <= r->at + EPS)
        return find(s, n);
    if (s->aligned)
        return n > s->n_free ? s->n_units : sx_units_find(r->left, s->n_units, n);
    if (n > r->spare || n > s->n_free)
        return s->n_units;
    r->spare -= n;
    return 0;
}

/* --- the simulation -----------------------------------------------------------------------------
 */

static void newcomer_could_start(struct sim *s, struct sx_stream *st, double at)
{
    double blocked = at - st->open;
    if (blocked > st->slack)
        lose(s, st, (blocked - st->slack) * st->rate, 0);
    st->open = at;
}

/* The samples of a run of `n` from `at` on, of which some were foreseen to be late. */
static void run_samples(struct sim *s, struct sx_stream *st, double n, double end)
{
    if (st->windows) {
        if (end > st->deadline + EPS)
            s->out.broken += st->value;
        next_window(s, st);
        return;
    }
    double due = st->deadline, known = n < st->known ? n : st->known;
    if (known >= 1) {
        double late = due + EPS < end ? (st->gap > 0 ? ceil((end - due) / st->gap) : known) : 0;
        s->out.broken += (late < known ? late : known) * st->value;
        s->out.late += known * end / (due > 1 ? due : 1);
    }
    take(st, n);
}

static void start_all(struct sim *s, double at)
{
    struct reserve r = {.made = false};
    for (unsigned i = 0; i < s->n_streams && s->n_free && s->steps < MOST_STEPS;) {
        unsigned k = s->order[i];
        struct sx_stream *st = &s->streams[k];
        if (st->release > at + EPS) {
            i++;
            continue;
        }
        s->steps++;
        double end = at + st->head_ns;
        if (end > st->deadline + EPS) {
            break_promise(s, st, end);
            move_back(s, i);
            continue;
        }
        double n = 1;
        if (!st->windows) {
            n = available(st, at);
            n = n < st->most ? n : st->most;
            if (st->step > 0 && at + st->base + st->step * n > st->deadline)
                n = floor((st->deadline - at - st->base) / st->step);
            n = n < 1 ? 1 : n;
            double ns = st->base + st->step * n;
            end = at + (ns > st->head_ns ? ns : st->head_ns);
        }
        unsigned first = r.made ? find_beside(s, &r, st->units, end) : find(s, st->units);
        if (first < s->n_units) {
            run_begins(s, first, st->units, end);
            if (at <= 0 && s->out.first < 0)
                s->out.first = (int)k;
            if (st->rate > 0)
                newcomer_could_start(s, st, at);
            run_samples(s, st, n, end);
            move_back(s, i);
            continue;
        }
        if (!r.made && find(s, st->units) == s->n_units) {
            reserve(s, st->units, &r);
            end = r.at + st->head_ns;
            if (end >
                st->deadline + EPS) { /* too late whatever is done: it shall not hinder others */
                r.made = false;
                break_promise(s, st, isfinite(end) ? end : st->deadline + 2 * EPS);
                move_back(s, i);
                continue;
            }
        }
        i++;
    }
}

/* Units were free from the last event to this one. */
static void still_open(struct sim *s, double at)
{
    for (unsigned i = 0; i < s->n_streams; i++) {
        if (s->streams[i].is_open)
            s->streams[i].open = at;
    }
}

static void now_open(struct sim *s, double at)
{
    for (unsigned i = 0; i < s->n_streams; i++) {
        struct sx_stream *st = &s->streams[i];
        if (!(st->rate > 0))
            continue;
        st->is_open = find(s, st->units) < s->n_units;
        if (st->is_open)
            newcomer_could_start(s, st, at);
    }
}

static double next_event(const struct sim *s, double at)
{
    double next = s->n_runs ? s->runs[s->n_runs - 1].end : INFINITY;
    for (unsigned i = 0; i < s->n_streams; i++) {
        double release = s->streams[i].release;
        if (release > at + EPS && release < next)
            next = release;
    }
    return next;
}

static void begin(struct sim *s, const struct sx_look *look, enum sx_look_rule rule)
{
    s->look = look;
    s->aligned = look->share->fit == SX_SHARE_ALIGNED;
    s->rule = rule;
    s->n_units = look->share->n_units;
    s->n_free = look->n_free;
    s->n_runs = look->n_runs;
    s->n_streams = look->n_streams;
    s->steps = 0;
    s->out = (struct sx_outlook){.first = -1};
    s->record = NULL;
    s->n_trace = 0;
    s->state = 0;
    memcpy(s->order, look->order, look->n_streams * sizeof *s->order);
    memcpy(s->free_units, look->free_units, sizeof s->free_units);
    memcpy(s->streams, look->streams, look->n_streams * sizeof *s->streams);
    memcpy(s->runs, look->runs, look->n_runs * sizeof *s->runs);
    if (rule != SX_LOOK_DEADLINE)
        sort_order(s->order, s->n_streams, s->streams, rule);
}

static void option_starts(struct sim *s, const struct sx_option *o)
{
    if (!o->units)
        return;
    run_begins(s, find(s, o->units), o->units, o->ns);
    if (o->stream < 0)
        return;
    struct sx_stream *st = &s->streams[o->stream];
    if (st->rate > 0)
        newcomer_could_start(s, st, 0);
    run_samples(s, st, o->batch, o->ns);
    for (unsigned i = 0; i < s->n_streams; i++) {
        if (s->order[i] == o->stream) {
            move_back(s, i);
            break;
        }
    }
}

/* Is this a state of the base's? */
static bool rejoins(struct sim *s, double at)
{
    const struct sx_look *look = s->look;
    while (s->n_trace < look->n_trace && look->trace[s->n_trace].at < at)
        s->n_trace++;
    if (s->n_trace == look->n_trace)
        return false;
    const struct sx_look_trace *t = &look->trace[s->n_trace];
    return t->at == at && t->state == s->state;
}

static void record(struct sim *s, double at)
{
    if (s->n_trace < SX_LOOK_TRACE)
        s->record[s->n_trace++] =
            (struct sx_look_trace){.at = at, .broken = s->out.broken, .state = s->state};
}

/* From now to the horizon. */
static void go(struct sim *s, const struct sx_option *o, double bound,
               const struct sx_outlook *base)
{
    double at = 0, horizon = s->look->horizon;
    bool flow = s->look->requests, hold = o && o->hold;
    while (s->steps++ < MOST_STEPS) {
        if (!hold)
            start_all(s, at);
        hold = false;
        if (s->out.broken + s->out.lost > bound)
            return;
        if (flow)
            now_open(s, at);
        if (s->record) {
            record(s, at);
        } else if (base && !flow && rejoins(s, at)) {
            s->out.broken += base->broken - s->look->trace[s->n_trace].broken;
            s->out.rejoins = true;
            return;
        }
        double next = next_event(s, at);
        if (next > horizon)
            break;
        if (flow)
            still_open(s, next);
        at = next;
        while (s->n_runs && s->runs[s->n_runs - 1].end <= at + EPS)
            run_ends(s);
    }
    for (unsigned i = 0; flow && i < s->n_streams; i++) {
        struct sx_stream *st = &s->streams[i];
        if (st->rate > 0 && !st->is_open)
            newcomer_could_start(s, st, horizon);
    }
}

void sx_look_base(struct sx_look *look, const struct sx_option *option, enum sx_look_rule rule,
                  struct sx_outlook *ret)
{
    struct sim s;
    begin(&s, look, rule);
    s.record = look->trace;
    if (option)
        option_starts(&s, option);
    go(&s, option, INFINITY, NULL);
    look->n_trace = s.n_trace;
    *ret = s.out;
}

void sx_look_ahead(const struct sx_look *look, const struct sx_option *option,
                   enum sx_look_rule rule, double bound, const struct sx_outlook *base,
                   struct sx_outlook *ret)
{
    struct sim s;
    begin(&s, look, rule);
    option_starts(&s, option);
    go(&s, option, bound, base);
    *ret = s.out;
}

void sx_look_sort(struct sx_look *look)
{
    for (unsigned i = 0; i < look->n_streams; i++)
        look->order[i] = (unsigned short)i;
    sort_order(look->order, look->n_streams, look->streams, SX_LOOK_DEADLINE);
}

double sx_look_cost(const struct sx_outlook *o)
{
    return o->broken + o->lost + 1e-4 * o->late;
}
