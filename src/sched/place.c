/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * place.c - look ahead by list scheduling; start what the look-ahead has on an idle device now.
 *
 * Words.  line   what is placed on one device, as the time it is free from; plus one gap before
 *                that, where a shorter task fits.
 *         offer  how a request would run as one variant, given the lines.
 *
 * Always true of an answer `start`
 *   P1  the variant's first device holds no task: that leaves most freedom.
 *   P2  no other variant of that request would end sooner, as far as is known now, unless it is cut
 *       and the devices have better to do.
 *   P3  the request ends by its deadline, or nothing else is in flight and no variant would.
 *   P4  an idle system starts something, if any request has a variant.
 *   Unknown variants and the greedy policy keep P1 and P4 only.
 *
 * Times inside are doubles in ns from now.  Cost: waiting * variants * stages, twice.
 */
#include "sched/place.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/clock.h"

/* A task that runs over its time is believed to run on for as long as it is late already, and for
 * at least this share of its time. */
#define LATE_SHARE    0.02
/* Nobody is woken because a task is late by less: that may be the system's doing. */
#define LATE_LEAST_NS 1e5
/* What is assumed of a task that was never measured, at first. */
#define UNKNOWN_NS    1e6
/* What a missed deadline costs: more than all waiting together. */
#define LATE_NS       1e15
/* Jobs in flight that may still need a device, for a variant that needs it after its first stage:
 * beyond, its first stage would only run ahead. */
#define PILE          8
/* A request that has waited for so many times of its run is no longer overtaken by later stages. */
#define PATIENCE      4

struct line {
    double free;             /* the end of all that is placed */
    double gap_from, gap_to; /* the first time between; empty when gap_to <= gap_from */
    double late;             /* when to look again at its running task; INFINITY: none runs */
    bool busy;               /* the device holds a task now */
    unsigned ahead;          /* jobs in flight that still need it */
};

struct offer {
    double end, cost;
    double start, push; /* of the first stage; by how much it delays a later stage in flight */
    unsigned variant, n_stages;
};

struct plan {
    struct line lines[SX_PLACE_DEVICES];
    struct sx_place_action first; /* what it starts now */
    double ends;                  /* summed over the requests */
    double half, last;            /* when the first half of them has ended, and all */
    unsigned late;
    bool cut; /* a cut variant has a place in it */
};

/* --- the lines of the jobs in flight --------------------------------------------------------- */

static const struct sx_place_variant *variant_of(const struct sx_place *state, unsigned model,
                                                 unsigned variant)
{
    return &state->variants[model][variant];
}

static double since(uint64_t then, uint64_t now)
{
    return now > then ? (double)(now - then) : 0;
}

static void append(struct line *l, double start, double ns)
{
    if (start > l->free && l->gap_to <= l->gap_from) {
        l->gap_from = l->free;
        l->gap_to = start;
    }
    l->free = start + ns;
}

/* How long a task that has run for `elapsed` runs on. */
static double remaining(double ns, double elapsed)
{
    if (ns <= 0)
        return fmax(elapsed, UNKNOWN_NS);
    return fmax(ns - elapsed, fmax(LATE_SHARE * ns, elapsed - ns));
}

/* Run the jobs in flight to their end, each task in its device's order. */
static void lines_in_flight(const struct sx_place *state, uint64_t now, struct line *lines)
{
    struct {
        double ready;
        unsigned stage;
    } at[SX_PLACE_JOBS];
    unsigned n = state->n_jobs < SX_PLACE_JOBS ? state->n_jobs : SX_PLACE_JOBS;

    for (unsigned d = 0; d < state->n_devices; d++)
        lines[d] = (struct line){.late = INFINITY};
    for (unsigned j = 0; j < n; j++) {
        const struct sx_place_job *job = &state->jobs[j];
        const struct sx_place_variant *v = variant_of(state, job->model, job->variant);
        at[j].stage = job->stage;
        at[j].ready = -since(job->stage_ready, now);
        unsigned seen = 0; /* devices, as bits: one that it needs twice counts once */
        for (unsigned i = job->stage; i < v->n_stages; i++) {
            lines[v->device[i]].ahead += !(seen >> v->device[i] & 1);
            seen |= 1U << v->device[i];
        }
        if (job->stage >= v->n_stages)
            continue;
        struct line *l = &lines[v->device[job->stage]];
        l->busy = true;
        if (!job->stage_began)
            continue;
        double ns = v->ns[job->stage], elapsed = since(job->stage_began, now);
        l->free = fmax(l->free, remaining(ns, elapsed));
        l->late = fmin(l->late, l->free + fmax(LATE_SHARE * ns, LATE_LEAST_NS));
        at[j].ready = l->free;
        at[j].stage++;
    }
    for (;;) {
        unsigned next = n;
        for (unsigned j = 0; j < n; j++) {
            unsigned n_stages =
                variant_of(state, state->jobs[j].model, state->jobs[j].variant)->n_stages;
            if (at[j].stage < n_stages && (next == n || at[j].ready < at[next].ready))
                next = j;
        }
        if (next == n)
            break;
        const struct sx_place_job *job = &state->jobs[next];
        const struct sx_place_variant *v = variant_of(state, job->model, job->variant);
        unsigned stage = at[next].stage++;
        struct line *l = &lines[v->device[stage]];
        double ns = v->ns[stage] > 0 ? v->ns[stage] : UNKNOWN_NS;
        append(l, fmax(l->free, at[next].ready), ns);
        at[next].ready = l->free;
    }
}

/* --- offers ----------------------------------------------------------------------------------- */

static bool known(const struct sx_place_variant *v)
{
    for (unsigned i = 0; i < v->n_stages; i++) {
        if (!(v->ns[i] > 0 && isfinite(v->ns[i])))
            return false;
    }
    return v->n_stages > 0;
}

static double start_on(const struct line *l, double ready, double ns)
{
    double start = ready > l->gap_from ? ready : l->gap_from;
    if (start + ns <= l->gap_to)
        return start;
    return ready > l->free ? ready : l->free;
}

/* Where the stages of `v` would run; returns the end, INFINITY when not all times are known. */
static double walk(const struct sx_place_variant *v, const struct line *lines, double first)
{
    double t = first + v->ns[0];
    bool known = v->ns[0] > 0;
    for (unsigned i = 1; i < v->n_stages; i++) {
        known = known && v->ns[i] > 0;
        t = start_on(&lines[v->device[i]], t, v->ns[i]) + v->ns[i];
    }
    return known ? t : INFINITY;
}

static void put(struct line *l, double start, double ns)
{
    if (start >= l->free) {
        append(l, start, ns);
    } else if (start + ns <= l->gap_to) {
        if (start > l->gap_from) /* what is before it is the larger part, most often */
            l->gap_to = start;
        else
            l->gap_from = start + ns;
    } else { /* it pushes what begins at the end of the gap */
        l->free += start + ns - l->gap_to;
        l->gap_to = l->gap_from;
    }
}

static void take(const struct sx_place_variant *v, struct line *lines, double first)
{
    double t = first;
    for (unsigned i = 0; i < v->n_stages; i++) {
        struct line *l = &lines[v->device[i]];
        if (i)
            t = start_on(l, t, v->ns[i]);
        put(l, t, v->ns[i]);
        t += v->ns[i];
    }
}

static bool piled_up(const struct sx_place_variant *v, const struct line *in_flight)
{
    for (unsigned i = 1; i < v->n_stages; i++) {
        if (in_flight[v->device[i]].ahead >= PILE)
            return true;
    }
    return false;
}

/* Would a later stage reach its device before one that has waited long enough begins there?
 * `owed`: when that is, for each device; 0: nobody. */
static bool overtakes(const struct sx_place_variant *v, const struct line *lines, double start,
                      const double *owed)
{
    double t = start + v->ns[0];
    for (unsigned i = 1; i < v->n_stages; i++) {
        if (t < owed[v->device[i]])
            return true;
        t = start_on(&lines[v->device[i]], t, v->ns[i]) + v->ns[i];
    }
    return false;
}

/* May it be handed over now, so that it starts at `start`? */
static bool can_start(const struct sx_place_variant *v, const struct line *in_flight,
                      const struct line *lines, double start, const double *owed)
{
    return !in_flight[v->device[0]].busy && start <= 0 && !overtakes(v, lines, start, owed);
}

/* The variant that ends first, or wins most; of equals, the one with fewer stages.  `whole`: only
 * uncut ones, where there are any.  Without `in_flight`, also those that may not start now. */
static bool best_offer(const struct sx_place *state, unsigned model, double slack, bool whole,
                       const struct line *in_flight, const struct line *lines, struct offer *ret)
{
    *ret = (struct offer){.cost = INFINITY};
    for (unsigned vi = 0; vi < state->n_variants[model]; vi++) {
        const struct sx_place_variant *v = variant_of(state, model, vi);
        if (!v->n_stages || (v->n_stages > 1 && (whole || (in_flight && piled_up(v, in_flight)))))
            continue;
        const struct line *l = &lines[v->device[0]];
        struct offer o = {.variant = vi, .start = start_on(l, 0, v->ns[0])};
        o.end = walk(v, lines, o.start);
        if (!isfinite(o.end))
            continue;
        o.cost = o.end;
        /* A device that idles until a later stage arrives may start it before, in spite of that
         * stage, when this wins more time than that loses. */
        if (o.start > l->gap_from && l->gap_to > l->gap_from) {
            double end = walk(v, lines, l->gap_from), push = l->gap_from + v->ns[0] - l->gap_to;
            if (end + push < o.end) {
                o.start = l->gap_from;
                o.push = push;
                o.end = end;
                o.cost = end + push;
            }
        }
        if (o.end > slack)
            o.cost += LATE_NS; /* only if all are late */
        o.n_stages = v->n_stages;
        if (o.cost < ret->cost - 1 || (o.cost < ret->cost + 1 && o.n_stages < ret->n_stages))
            *ret = o;
    }
    if (whole && !isfinite(ret->cost))
        return best_offer(state, model, slack, false, in_flight, lines, ret);
    return isfinite(ret->cost);
}

/* --- plans ------------------------------------------------------------------------------------ */

static unsigned n_looked_at(const struct sx_place *state)
{
    return state->n_waiting < SX_PLACE_LOOK ? state->n_waiting : SX_PLACE_LOOK;
}

/* Has it waited for several times of its run, or would one more before it make it late? */
static bool is_urgent(const struct sx_place_request *r, uint64_t now, double slack,
                      const struct offer *o)
{
    double run = o->end - o->start;
    return since(r->arrival, now) > PATIENCE * run || o->end + run > slack;
}

/* Place the waiting requests in order, without those that would be late: they keep no device from
 * others, and only an idle system runs them.  Without `in_flight`, nothing can start now. */
static void make_plan(const struct sx_place *state, uint64_t now, const struct line *in_flight,
                      bool whole, struct plan *p)
{
    uint64_t late = 0; /* a bit for each waiting request */
    double owed[SX_PLACE_DEVICES] = {0};
    unsigned n = n_looked_at(state);
    bool idle = in_flight && !state->n_jobs;
    for (unsigned pass = 0; pass < (idle ? 2 : 1); pass++) {
        for (unsigned i = 0; i < n; i++) {
            const struct sx_place_request *r = &state->waiting[i];
            if (pass && !(late >> i & 1))
                continue;
            double slack = r->deadline == SX_NEVER ? INFINITY
                           : r->deadline > now     ? (double)(r->deadline - now)
                                                   : 0;
            struct offer o;
            if (!best_offer(state, r->model, slack, whole, in_flight, p->lines, &o))
                continue;
            if (!pass && o.end > slack) {
                late |= UINT64_C(1) << i;
                p->late++;
                continue;
            }
            const struct sx_place_variant *v = variant_of(state, r->model, o.variant);
            unsigned d = v->device[0];
            bool open = in_flight && !p->first.start; /* what it starts is not found yet */
            if (open && can_start(v, in_flight, p->lines, o.start, owed))
                p->first =
                    (struct sx_place_action){.start = true,
                                             .request = i,
                                             .variant = o.variant,
                                             .predicted_end = sx_time_add(now, (uint64_t)o.end),
                                             .wake_at = SX_NEVER};
            else if (open && is_urgent(r, now, slack, &o))
                owed[d] = fmax(owed[d], o.start);
            take(v, p->lines, o.start);
            p->cut = p->cut || v->n_stages > 1;
            p->ends += o.end + o.push;
            p->last = fmax(p->last, o.end);
            if (i < n / 2)
                p->half = p->last;
        }
    }
}

/* How long the devices are busy, weighted by how fast they are: what whoever comes next waits. */
static double backlog(const struct sx_place *state, unsigned model, const struct line *lines)
{
    double speed[SX_PLACE_DEVICES] = {0}, sum = 0, all = 0;
    for (unsigned vi = 0; vi < state->n_variants[model]; vi++) {
        const struct sx_place_variant *v = variant_of(state, model, vi);
        if (v->n_stages == 1 && known(v))
            speed[v->device[0]] = fmax(speed[v->device[0]], 1 / v->ns[0]);
    }
    for (unsigned d = 0; d < state->n_devices; d++) {
        sum += speed[d] * lines[d].free;
        all += speed[d];
    }
    return all > 0 ? sum / all : 0;
}

/* Less is better.  As many as wait now are expected to come while these are worked off. */
static double score(const struct sx_place *state, const struct plan *p)
{
    return LATE_NS * p->late + p->ends +
           n_looked_at(state) * backlog(state, state->waiting[0].model, p->lines);
}

/* A cut model may take more time than a whole one, but helps the one request.  With many behind
 * it, the time of the devices is worth more; the better of both plans says which it is. */
static void best_plan(const struct sx_place *state, uint64_t now, const struct line *lines,
                      bool start, struct plan *ret)
{
    *ret = (struct plan){.first = {.wake_at = SX_NEVER}};
    memcpy(ret->lines, lines, state->n_devices * sizeof *lines);
    make_plan(state, now, start ? lines : NULL, false, ret);
    if (!ret->cut)
        return;
    struct plan whole = {.first = {.wake_at = SX_NEVER}};
    memcpy(whole.lines, lines, state->n_devices * sizeof *lines);
    make_plan(state, now, start ? lines : NULL, true, &whole);
    if (score(state, &whole) < score(state, ret))
        *ret = whole;
}

/* A variant that nobody has measured: one job at a time, and the youngest request, whose wait is
 * the shortest so far, pays for it. */
static bool try_unknown(const struct sx_place *state, const struct line *in_flight,
                        struct sx_place_action *ret)
{
    for (unsigned i = state->n_waiting; i-- > 0;) {
        unsigned model = state->waiting[i].model;
        for (unsigned vi = 0; vi < state->n_variants[model]; vi++) {
            const struct sx_place_variant *v = variant_of(state, model, vi);
            if (known(v) || !v->n_stages || in_flight[v->device[0]].ahead)
                continue;
            bool tried = false;
            for (unsigned j = 0; j < state->n_jobs && !tried; j++)
                tried = state->jobs[j].model == model && state->jobs[j].variant == vi;
            if (tried)
                continue;
            *ret = (struct sx_place_action){.start = true,
                                            .request = i,
                                            .variant = vi,
                                            .predicted_end = SX_NEVER,
                                            .wake_at = SX_NEVER};
            return true;
        }
    }
    return false;
}

/* The oldest request that an idle device can take whole; cut only if its model has no other. */
static bool greedy(const struct sx_place *state, uint64_t now, const struct line *in_flight,
                   struct sx_place_action *ret)
{
    for (unsigned i = 0; i < state->n_waiting; i++) {
        unsigned model = state->waiting[i].model, fewest = SX_PLACE_STAGES;
        for (unsigned vi = 0; vi < state->n_variants[model]; vi++) {
            unsigned n = variant_of(state, model, vi)->n_stages;
            fewest = n && n < fewest ? n : fewest;
        }
        double least = INFINITY;
        for (unsigned vi = 0; vi < state->n_variants[model]; vi++) {
            const struct sx_place_variant *v = variant_of(state, model, vi);
            if (v->n_stages != fewest || in_flight[v->device[0]].busy)
                continue;
            double ns = 0;
            for (unsigned k = 0; k < v->n_stages; k++)
                ns += v->ns[k];
            if (ns < least) {
                least = ns;
                *ret = (struct sx_place_action){.start = true,
                                                .request = i,
                                                .variant = vi,
                                                .predicted_end = sx_time_add(now, (uint64_t)ns),
                                                .wake_at = SX_NEVER};
            }
        }
        if (isfinite(least))
            return true;
    }
    return false;
}

void sx_place_decide(const struct sx_place *state, uint64_t now, struct sx_place_action *ret_action)
{
    struct line in_flight[SX_PLACE_DEVICES];
    *ret_action = (struct sx_place_action){.wake_at = SX_NEVER};
    if (!state->n_waiting)
        return;
    lines_in_flight(state, now, in_flight);
    double late = INFINITY;
    bool any = false;
    for (unsigned d = 0; d < state->n_devices; d++) {
        any = any || !in_flight[d].busy;
        late = fmin(late, in_flight[d].late);
    }
    if (!any || state->n_jobs >= SX_PLACE_JOBS)
        return;
    if (state->greedy) {
        greedy(state, now, in_flight, ret_action);
        return;
    }
    if (try_unknown(state, in_flight, ret_action))
        return;
    struct plan plan;
    best_plan(state, now, in_flight, true, &plan);
    *ret_action = plan.first;
    /* Whoever waits for a device that is not free when it should be may do better elsewhere. */
    if (!ret_action->start && isfinite(late))
        ret_action->wake_at = sx_time_add(now, (uint64_t)late + 1);
}

uint64_t sx_place_predict(const struct sx_place *state, unsigned model, uint64_t now)
{
    struct line lines[SX_PLACE_DEVICES];
    lines_in_flight(state, now, lines);
    struct plan p;
    best_plan(state, now, lines, false, &p);
    struct offer o;
    if (!best_offer(state, model, INFINITY, false, NULL, p.lines, &o))
        return now;
    unsigned n = n_looked_at(state);
    double pace = n ? (p.last - p.half) / (n - n / 2) : 0;
    return sx_time_add(now, (uint64_t)(o.end + pace * state->n_more));
}
