/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * sched.c - earliest deadline first over models; width and batch by predicted drain time.
 *
 * Always true of an answer START
 *   S1  all units of the group are idle, and the group starts at a multiple of its width.
 *   S2  head_samples <= batch <= queued, and batch <= max_batch unless the head alone is larger.
 *   S3  no model with an earlier head deadline could have started on those units.
 *
 * Cost: models * widths * batches * (a few rollout steps); no allocation.
 */
#include "sched/sched.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"

/* A rollout looks at most this many runs ahead; the rest of a long queue is extrapolated. */
#define ROLLOUT_RUNS 64
/* The percentile whose predicted latency chooses the lone width, and how much of it may be
 * given away for a better median. */
#define TAIL_SHARE   0.05
#define TAIL_SLACK   1.08
/* Twice the units and no more than this part of the time: then wide is right ... */
#define FEW_PAYS     0.65
#define MANY_PAYS    0.6
/* ... below these shares of the machine.  Above, few are alone, and while one core is slowed down
 * from outside, a wide run is as slow as that core: then narrow ones have the better tail. */
#define FEW_LOAD     0.45
#define MANY_LOAD    0.67
/* Above this share some wait, and narrow runs may be of use. */
#define SOME_WAIT    0.2
/* Waiting weighs (1 - load) to this power, work the rest: over 1, work counts more as load grows.
 */
#define WORK_COUNTS  1.5
/* What is already best is kept unless something else is better by so much. */
#define CLEARLY      0.99

/* --- arrivals ------------------------------------------------------------------------------- */

/* The last hundred gaps decide, and one gap's worth of belief that arrivals are random. */
#define GAPS_KEEP  0.99
#define GAPS_PRIOR 1.0
/* Run times vary by so much: a gap this near to a run says nothing by itself. */
#define GAP_DOUBT  0.2

/* So many arrivals in a row that brought so many times the samples that were to be expected are no
 * chance (5 in a million at random): from then on only they count. */
#define CROWD_COUNT 16
#define CROWD_TIMES 4

/* How long the memory of arrivals is, in seconds: some hundred arrivals, which tell the rate to a
 * tenth, and eight seconds at most. */
static double memory_of(const struct sx_arrivals *a)
{
    double seconds = a->rate > 0 ? SX_RATE_COUNT / a->rate : SX_RATE_SECONDS;
    return seconds < 0.5 ? 0.5 : seconds < SX_RATE_SECONDS ? seconds : SX_RATE_SECONDS;
}

double sx_arrivals_rate(const struct sx_arrivals *a, uint64_t now)
{
    if (!a->last || now <= a->last)
        return a->rate;
    double memory = memory_of(a), fade = exp(-(double)(now - a->last) * 1e-9 / memory);
    return a->count * fade / (a->span * fade + memory * (1 - fade));
}

void sx_arrivals_add(struct sx_arrivals *a, const struct sx_cost *cost, uint64_t now,
                     unsigned samples, bool alone)
{
    double rate = sx_arrivals_rate(a, now) * 1e-9;
    for (unsigned wi = 0; a->last && wi < cost->n_widths; wi++) {
        double run = sx_cost_ns(cost, 1, wi) * (alone ? 1 - GAP_DOUBT : 1 + GAP_DOUBT);
        a->close[wi] = a->close[wi] * GAPS_KEEP + ((double)(now - a->last) < run);
        a->random[wi] = a->random[wi] * GAPS_KEEP - expm1(-rate * run);
    }
    double memory = memory_of(a);
    double fade = a->last ? exp(-(double)(now - a->last) * 1e-9 / memory) : 0;
    /* Before the first an eighth of the memory is believed to have been quiet. */
    a->span = a->last ? a->span * fade + memory * (1 - fade) : memory / 8;
    a->count *= fade;
    a->rate = a->count / a->span; /* with this one it would be too high, whenever one arrives */
    a->count += samples;
    a->last = now;
    if (a->crowd++)
        a->crowd_samples += samples;
    else
        a->crowd_since = now;
    if (a->crowd <= CROWD_COUNT)
        return;
    double took = (double)(now - a->crowd_since) * 1e-9;
    if (a->crowd_samples > CROWD_TIMES * a->rate * took) {
        a->count = a->crowd_samples;
        a->span = took + sx_cost_ns(cost, 1, 0) * 1e-9; /* they may all have come at once */
        a->span = a->span > 1e-6 ? a->span : 1e-6;
        a->rate = a->count / a->span;
    }
    a->crowd = a->crowd_samples = 0;
}

/* The rate of random arrivals that would come as close as these do. */
static double effective_rate(const struct sx_arrivals *a, uint64_t now, unsigned wi)
{
    double ratio = (a->close[wi] + GAPS_PRIOR) / (a->random[wi] + GAPS_PRIOR);
    return sx_arrivals_rate(a, now) * (ratio < 1 ? ratio : 1);
}

/* --- how wide a lone request may run ------------------------------------------------------------
 */

/* Predicted TAIL_SHARE-quantile of latency, in seconds, when all run alone at one width: M/D/k
 * with k = units / width servers.  Chance to wait, C, by Erlang.  Who waits does so mostly for less
 * than the time D between two ends of runs, and there M/D/1 has a closed form,
 * P(W <= t) = (1 - rho) exp(rho t / D), which is scaled to C.  Beyond D exponential with twice the
 * rate of M/M/k, as deterministic service halves the mean wait (Kingman).  Infinite when the rate
 * is over the capacity. */
static double tail_latency(double service, double rate, unsigned servers)
{
    double load = rate * service, rho = load / servers;
    if (rho >= 0.999)
        return INFINITY;
    double term = 1, sum = 1; /* terms load^i / i! */
    for (unsigned i = 1; i < servers; i++) {
        term *= load / i;
        sum += term;
    }
    double last = term * load / servers / (1 - rho);
    double waits = last / (sum + last);
    if (waits <= TAIL_SHARE)
        return service;
    double between = service / servers, scale = waits / rho;
    double wait = between / rho * log((1 - TAIL_SHARE / scale) / (1 - rho));
    if (wait <= between)
        return service + wait;
    double beyond = scale * (1 - (1 - rho) * exp(rho));
    return service + between + fmax(log(beyond / TAIL_SHARE), 0) * between / (2 * (1 - rho));
}

/* Share of all units that the other models keep busy at their most efficient. */
static double others_load(const struct sx_sched *state, unsigned model, uint64_t now)
{
    double busy = 0;
    for (unsigned i = 0; i < state->n_models; i++) {
        if (i != model)
            busy += sx_arrivals_rate(&state->models[i]->arrivals, now) *
                    state->models[i]->cost->unit_ns * 1e-9;
    }
    busy /= state->n_units;
    return busy < 0.95 ? busy : 0.95;
}

/* Share of the machine that is asked for, at the most efficient, by the others and this model; of a
 * client that waits for each answer, next to nothing, however fast it gets them. */
static double offered_load(const struct sx_sched *state, unsigned model, double others,
                           uint64_t now)
{
    const struct sx_sched_model *m = state->models[model];
    double rate = effective_rate(&m->arrivals, now, m->cost->n_widths - 1);
    double load = others + rate * m->cost->unit_ns * 1e-9 / state->n_units;
    return load < 1 ? load : 1;
}

/* The widest width that is reached by steps which all pay.  Who comes during such a run waits for
 * it, and is alone in turn when it ends: both together take twice its time at most, little more
 * than a narrow run would have.  When many come they are spread all the same, so the tail of
 * running everybody at that width, which is what the formula above gives, is never met.  Where few
 * wait at all, at some 15 % load of 2 units, the 95th percentile is up to 1.11 of narrow runs'
 * where the step takes 0.6 of the time (1.14 at 0.62, 1.2 at 0.65), for a median of 0.6; from 25 to
 * 45 % it is the lower one even at 0.65 (sched_test.c).  Run times that vary take most of that
 * advantage from narrow ones. */
static unsigned steps_that_pay(const struct sx_cost *c, double pays)
{
    unsigned wi = 0;
    while (wi + 1 < c->n_widths) {
        double doublings = log2((double)c->widths[wi + 1] / c->widths[wi]);
        if (sx_cost_ns(c, 1, wi + 1) > pow(pays, doublings) * sx_cost_ns(c, 1, wi))
            break;
        wi++;
    }
    return wi;
}

unsigned sx_sched_lone_width(const struct sx_sched *state, unsigned model, uint64_t now)
{
    const struct sx_sched_model *m = state->models[model];
    const struct sx_cost *c = m->cost;
    double others = others_load(state, model, now), left = 1 - others;
    double tail[SX_COST_WIDTHS], best = INFINITY;
    for (unsigned wi = 0; wi < c->n_widths; wi++) {
        double service = sx_cost_ns(c, 1, wi) * 1e-9;
        unsigned servers = state->n_units / c->widths[wi];
        tail[wi] = tail_latency(service / left, effective_rate(&m->arrivals, now, wi),
                                servers ? servers : 1);
        if (tail[wi] < best)
            best = tail[wi];
    }
    double load = others > 0 ? 1 : offered_load(state, model, others, now);
    unsigned widest = 0; /* beside others no step pays */
    if (load < MANY_LOAD)
        widest = steps_that_pay(c, load < FEW_LOAD ? FEW_PAYS : MANY_PAYS);
    for (unsigned wi = widest + 1; wi < c->n_widths; wi++) {
        /* Wider must also be faster alone, or it only wastes units. */
        if (tail[wi] <= best * TAIL_SLACK && isfinite(tail[wi]) &&
            sx_cost_ns(c, 1, wi) < 0.97 * sx_cost_ns(c, 1, widest))
            widest = wi;
    }
    return widest;
}

/* --- one model: which width and batch drains its queue earliest ---------------------------------
 */

struct option {
    double score; /* seconds of predicted waiting; lower is better */
    unsigned wi, batch;
    unsigned group;    /* first unit */
    double start, run; /* ns from now; ns */
    double end;        /* of the last one, ns from now, with whoever joins it meanwhile */
};

/* Groups of `width` units, each free from start[g] on (ns from now); returns how many. */
static unsigned group_starts(const struct sx_sched *state, uint64_t now, unsigned width,
                             double *start)
{
    unsigned n = 0;
    for (unsigned first = 0; first + width <= state->n_units; first += width) {
        double at = 0;
        for (unsigned u = first; u < first + width; u++) {
            if (!state->busy[u])
                continue;
            /* A run that is late ends any moment now: call that a tenth of a millisecond. */
            double left = state->free_at[u] > now ? (double)(state->free_at[u] - now) : 1e5;
            at = left > at ? left : at;
        }
        start[n++] = at;
    }
    return n;
}

/* Run the queue in batches of at most `batch` on groups of one width and see when it ends.
 * `waiting` is the weight of waiting in the score, the rest that of work. */
static struct option rollout(const struct sx_sched_model *m, uint64_t now, double load,
                             double waiting, unsigned wi, unsigned batch, const double *starts,
                             unsigned n_groups)
{
    double at[SX_SCHED_UNITS];
    memcpy(at, starts, n_groups * sizeof *at);
    struct option o = {.wi = wi, .batch = batch, .run = sx_cost_ns(m->cost, batch, wi)};
    double full = o.run, end = 0, sum = 0, last = 0;
    unsigned left = m->queued, runs = 0, done = 0;
    while (left && runs < ROLLOUT_RUNS) {
        unsigned g = 0;
        for (unsigned i = 1; i < n_groups; i++) {
            if (at[i] < at[g])
                g = i;
        }
        unsigned take = left < batch ? left : batch;
        double run = take == batch ? full : sx_cost_ns(m->cost, take, wi);
        if (!runs) {
            o.group = g * m->cost->widths[wi];
            o.start = at[g];
            o.run = run;
            o.batch = take;
        }
        /* A batch that is not full yet will be the fuller, the more are coming. */
        double joined = take + load * (batch - take);
        last = at[g] + (take == batch ? full : sx_cost_ns(m->cost, (unsigned)(joined + 0.5), wi));
        at[g] += run;
        end = at[g] > end ? at[g] : end;
        sum += at[g] * take;
        done += take;
        left -= take;
        runs++;
    }
    if (left) /* the rest at the same pace */
        end += (double)left / batch * full / n_groups;
    o.end = last > end ? last : end;
    double mean = sum / done + (left ? 0.5 * (double)left / batch * full / n_groups : 0);
    /* With nobody else coming, what counts is when the last one ends and when the mean one does.
     * On a busy machine newcomers fill the gaps, so only the work that is put on it counts. */
    double work = 0;
    for (unsigned i = 0; i < n_groups; i++)
        work += at[i] / n_groups;
    work += (double)left / batch * full / n_groups;
    o.score = waiting * (end + mean) + (1 - waiting) * work;
    /* The head's deadline comes before everything that only makes the queue shorter. */
    if (m->head_deadline != SX_NEVER) {
        double slack = m->head_deadline > now ? (double)(m->head_deadline - now) : 0;
        if (o.start + o.run > slack)
            o.score += 4 * (o.start + o.run - slack) + end;
    }
    return o;
}

static bool keeps_deadline(const struct sx_sched_model *m, const struct option *o, uint64_t now)
{
    return m->head_deadline >= sx_time_add(now, (uint64_t)(o->start + o->run));
}

/* How to run the queue that `m` describes, of models[model], when each group has `before` ns of
 * other work to do first.  Wider than a lone request may run only if its head would be late
 * otherwise. */
static struct option choose(const struct sx_sched *state, const struct sx_sched_model *m,
                            unsigned model, uint64_t now, double before)
{
    const struct sx_cost *c = m->cost;
    unsigned cap = m->queued < m->max_batch ? m->queued : m->max_batch;
    if (cap < m->head_samples)
        cap = m->head_samples; /* one request may hold more than we would put together */
    unsigned widest = sx_sched_lone_width(state, model, now);
    double starts[SX_SCHED_UNITS], others = others_load(state, model, now);
    double load = offered_load(state, model, others, now), waiting = pow(1 - load, WORK_COUNTS);
    struct option best = {.score = INFINITY};
    for (unsigned wi = 0; wi < c->n_widths; wi++) {
        bool rescue = wi > widest;
        if (rescue && keeps_deadline(m, &best, now))
            continue;
        unsigned n_groups = group_starts(state, now, c->widths[wi], starts);
        for (unsigned g = 0; g < n_groups; g++)
            starts[g] += before;
        for (unsigned bi = 0; bi <= c->n_batches; bi++) {
            /* Grid sizes under the cap, and the cap itself. */
            unsigned batch = bi < c->n_batches ? c->batches[bi] : cap;
            if (batch < m->head_samples || batch > cap || (bi < c->n_batches && batch == cap))
                continue;
            struct option o = rollout(m, now, load, waiting, wi, batch, starts, n_groups);
            /* Where as many again wait, a late head gives way instead. */
            if (rescue && (m->queued >= 2 * batch || !keeps_deadline(m, &o, now)))
                continue;
            /* Prefer what is already best unless this is clearly better: a tie goes to the
             * narrower width and the smaller batch, which leave more freedom. */
            if (o.score < best.score * (isfinite(best.score) ? CLEARLY : 1))
                best = o;
        }
    }
    return best;
}

/* --- the decision -------------------------------------------------------------------- */

/* A width that looked slow while something disturbed the machine would not be chosen again, so its
 * time would not be corrected: now and then a request that is alone on an idle machine tries it
 * instead of `chosen`.  Wider ones, which hardly hurt it, and the next narrower one, which takes
 * twice its time at most, where enough wait for it to be of use.  Returns an index; `chosen`: none.
 */
static unsigned width_to_try(const struct sx_sched *state, unsigned model, unsigned chosen,
                             uint64_t now)
{
    const struct sx_sched_model *m = state->models[model];
    const struct sx_cost *c = m->cost;
    if (state->n_models > 1 || m->queued != 1)
        return chosen;
    for (unsigned u = 0; u < state->n_units; u++) {
        if (state->busy[u])
            return chosen;
    }
    bool narrower = chosen && sx_cost_worth_a_try(c, chosen - 1) &&
                    offered_load(state, model, 0, now) > SOME_WAIT;
    for (unsigned wi = narrower ? chosen - 1 : chosen + 1; wi < c->n_widths; wi++) {
        double twice = 2 * sx_cost_ns(c, 1, wi);
        if (wi != chosen && sx_cost_worth_a_try(c, wi) &&
            m->head_deadline > sx_time_add(now, (uint64_t)twice))
            return wi;
    }
    return chosen;
}

/* For company, but only as long as it keeps its deadline in the batch that it waits for. */
static uint64_t held_until(const struct sx_sched_model *m)
{
    if (!m->max_delay_ns || m->queued >= m->target_batch)
        return 0;
    uint64_t until = sx_time_add(m->head_arrival, m->max_delay_ns);
    uint64_t run = (uint64_t)sx_cost_ns(m->cost, m->target_batch, 0);
    uint64_t latest = m->head_deadline > run ? m->head_deadline - run : 0;
    return until < latest ? until : latest;
}

void sx_sched_decide(const struct sx_sched *state, uint64_t now, struct sx_sched_action *ret_action)
{
    *ret_action = (struct sx_sched_action){.kind = SX_SCHED_WAIT, .wake_at = SX_NEVER};
    bool any_free = false;
    for (unsigned u = 0; u < state->n_units && !any_free; u++)
        any_free = !state->busy[u];
    uint64_t after = 0; /* visit models in the order of their heads' deadlines */
    int last = -1;
    for (unsigned visited = 0; visited < state->n_models; visited++) {
        int next = -1;
        for (unsigned i = 0; i < state->n_models; i++) {
            const struct sx_sched_model *m = state->models[i];
            bool later = m->head_deadline > after || (m->head_deadline == after && (int)i > last);
            if (m->queued && later &&
                (next < 0 || m->head_deadline < state->models[next]->head_deadline))
                next = (int)i;
        }
        if (next < 0)
            return;
        const struct sx_sched_model *m = state->models[next];
        after = m->head_deadline;
        last = next;
        uint64_t hold = held_until(m);
        if (hold > now) {
            if (hold < ret_action->wake_at)
                ret_action->wake_at = hold;
            continue;
        }
        if (!any_free)
            continue; /* a completion will ask again; go on for the holds of later models */
        struct option o = choose(state, m, (unsigned)next, now, 0);
        unsigned try = o.start > 0 ? o.wi : width_to_try(state, (unsigned)next, o.wi, now);
        if (try != o.wi)
            o = (struct option){.wi = try, .batch = 1, .run = sx_cost_ns(m->cost, 1, try)};
        if (o.start > 0)
            continue; /* it is better to wait for a wider or another group */
        ret_action->kind = SX_SCHED_START;
        ret_action->model = (unsigned)next;
        ret_action->batch = o.batch;
        ret_action->first_unit = o.group;
        ret_action->n_units = m->cost->widths[o.wi];
        ret_action->predicted_ns = (uint64_t)o.run;
        ret_action->wake_at = SX_NEVER;
        return;
    }
}

static unsigned all_waiting(const struct sx_sched_model *m)
{
    return m->waiting > m->queued ? m->waiting : m->queued;
}

uint64_t sx_sched_predict_finish(const struct sx_sched *state, unsigned model, unsigned samples,
                                 uint64_t now, uint64_t *ret_wait_ns)
{
    const struct sx_sched_model *m = state->models[model];
    const struct sx_cost *c = m->cost;
    /* Unit-time that is ahead of it: what runs, and all that waits at its most efficient. */
    double ahead = 0, others = 0;
    bool any_free = false;
    for (unsigned u = 0; u < state->n_units; u++) {
        any_free = any_free || !state->busy[u];
        if (state->busy[u] && state->free_at[u] > now)
            ahead += (double)(state->free_at[u] - now);
    }
    for (unsigned i = 0; i < state->n_models; i++) {
        if (i != model)
            others += all_waiting(state->models[i]) * state->models[i]->cost->unit_ns;
    }
    ahead += others + all_waiting(m) * c->unit_ns;
    double wait = ahead / state->n_units;
    if (ret_wait_ns)
        *ret_wait_ns = (uint64_t)wait;
    /* With none before it, at the narrowest, which is the slowest that it can be. */
    if (c->unit_ns <= 0 || (any_free && !m->queued))
        return sx_time_add(now, (uint64_t)(wait + sx_cost_ns(c, samples, 0)));
    /* Else as the last of the queue, which is run as it would be without deadlines: the one that
     * arrives now has the latest, and a batch that is too large for it is not chosen. */
    struct sx_sched_model with = *m;
    with.queued = all_waiting(m) + samples;
    with.head_deadline = SX_NEVER;
    if (!m->queued)
        with.head_samples = samples;
    struct option o = choose(state, &with, model, now, others / state->n_units);
    return sx_time_add(now, (uint64_t)o.end);
}
