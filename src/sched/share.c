/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * share.c - who is there and what runs.
 *
 * Always true between calls
 *   S1  a unit is in `free_units` or in exactly one run that is used, and n_free counts the former.
 *   S2  `active` holds the numbers of the used runs, each once.
 *   S3  a model's `running` is the number of used runs that name it.
 *   S4  `last` never decreases, and the window of an endless, admitted model ends after it.
 */
#include "sched/share.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "sched/share_int.h"

static const char *const policy_names[SX_SHARE_POLICIES] = {
    [SX_SHARE_FAIR] = "fair",
    [SX_SHARE_EDF] = "edf",
    [SX_SHARE_BLIND] = "blind",
    [SX_SHARE_TEMPORAL] = "temporal",
    [SX_SHARE_FIXED] = "fixed",
    [SX_SHARE_GREEDY] = "greedy",
    [SX_SHARE_MAX_THROUGHPUT] = "max-throughput",
    [SX_SHARE_MAX_MIN] = "max-min",
};

const char *sx_share_policy_name(enum sx_share_policy policy)
{
    return (unsigned)policy < SX_SHARE_POLICIES ? policy_names[policy] : "unknown";
}

bool sx_share_policy_find(const char *name, enum sx_share_policy *ret_policy)
{
    for (unsigned i = 0; i < SX_SHARE_POLICIES; i++) {
        if (strcmp(name, policy_names[i]) == 0) {
            *ret_policy = (enum sx_share_policy)i;
            return true;
        }
    }
    return false;
}

/* --- models ----------------------------------------------------------------------------------- */

void sx_share_init(struct sx_share *share, enum sx_share_policy policy, enum sx_share_fit fit,
                   unsigned n_units)
{
    assert(n_units >= 1 && n_units <= SX_SCHED_UNITS);
    memset(share, 0, sizeof *share);
    share->policy = policy;
    share->fit = fit;
    share->n_units = share->n_free = n_units;
    share->half_rule = true;
    sx_units_put(share->free_units, 0, n_units, true);
}

bool sx_share_add(struct sx_share *share, struct sx_share_model *model, uint64_t now)
{
    if (share->n_models == SX_SHARE_MODELS)
        return false;
    now = sx_share_advance(share, now);
    double least = INFINITY;
    for (unsigned i = 0; i < share->n_models; i++) {
        double key = sx_share_key(share->models[i]);
        least = key < least ? key : least;
    }
    memset(&model->plan, 0, sizeof model->plan);
    model->running = 0;
    /* In run time; sx_share_plan, which knows its units, makes that unit-time. */
    model->score = isfinite(least) ? least * model->weight : 0;
    model->had = 0;
    model->since = now;
    model->window_end = 0;
    model->met = model->kept = false;
    model->windows = model->missed = model->served = 0;
    model->last_start = now;
    model->credit = 0;
    model->part_first = model->part_units = 0;
    share->models[share->n_models++] = model;
    if (model->objective_ns > share->session_ns)
        share->session_ns = model->objective_ns;
    return true;
}

void sx_share_remove(struct sx_share *share, struct sx_share_model *model)
{
    for (unsigned i = 0; i < share->n_models; i++) {
        if (share->models[i] != model)
            continue;
        share->n_models--;
        memmove(&share->models[i], &share->models[i + 1],
                (share->n_models - i) * sizeof *share->models);
        if (share->turn > i)
            share->turn--;
        if (share->turn >= share->n_models)
            share->turn = 0;
        break;
    }
    for (unsigned i = 0; i < share->n_running; i++) {
        struct sx_share_run *r = &share->runs[share->active[i]];
        if (r->model == model)
            r->model = NULL;
    }
}

double sx_share_key(const struct sx_share_model *m)
{
    return m->score / (m->weight * (m->plan.units ? m->plan.units : 1));
}

/* --- time ---------------------------------------------------------------------------------------
 */

/* Windows that are over, however many: a clock may jump. */
static void roll_windows(struct sx_share_model *m, uint64_t now)
{
    if (!m->queue.endless || !m->plan.admitted) {
        m->window_end = 0;
        return;
    }
    uint64_t length = m->objective_ns >= 1 ? sx_share_whole(floor(m->objective_ns)) : 1;
    if (!m->window_end) {
        m->window_end = sx_time_add(now, length);
        m->met = m->kept = false;
        return;
    }
    if (m->window_end > now)
        return;
    uint64_t over = (now - m->window_end) / length + 1;
    m->windows += over;
    m->missed += over - m->kept;
    m->window_end = sx_time_add(m->window_end, over * length);
    m->met = m->kept = false;
}

uint64_t sx_share_advance(struct sx_share *share, uint64_t now)
{
    if (now < share->last)
        now = share->last;
    double fade = 1;
    if (now > share->last && share->session_ns > 0)
        fade = exp(-(double)(now - share->last) / (SHARE_MEMORY * share->session_ns));
    share->last = now;
    bool missed = false;
    for (unsigned i = 0; i < share->n_models; i++) {
        struct sx_share_model *m = share->models[i];
        uint64_t before = m->missed;
        m->score *= fade;
        m->had *= fade;
        roll_windows(m, now);
        missed |= m->missed > before;
    }
    share->overloads += missed; /* also one that nobody could foresee, as all units were in use */
    return now;
}

/* --- what waits, what fits ----------------------------------------------------------------------
 */

unsigned sx_share_waiting(const struct sx_share_model *m)
{
    unsigned most = m->max_batch ? m->max_batch : 1;
    if (m->queue.endless)
        return most;
    unsigned n = m->queue.samples < most ? m->queue.samples : most;
    return n && n < m->queue.head_samples ? m->queue.head_samples : n;
}

unsigned sx_share_in_time(const struct sx_share_model *m, unsigned units, unsigned most,
                          uint64_t now)
{
    unsigned least = m->queue.endless || !m->queue.head_samples ? 1 : m->queue.head_samples;
    unsigned high = sx_share_waiting(m);
    if (high > most)
        high = most > least ? most : least;
    double left = m->objective_ns;
    if (!m->queue.endless) {
        if (m->queue.head_deadline == SX_NEVER)
            return high;
        left = m->queue.head_deadline > now ? (double)(m->queue.head_deadline - now) : 0;
    }
    if (!high || sx_latency_ns(m->latency, units, least) > left)
        return 0;
    if (sx_latency_ns(m->latency, units, high) <= left)
        return high;
    unsigned low = least; /* in time; high is not */
    while (high - low > 1) {
        unsigned middle = low + (high - low) / 2;
        if (sx_latency_ns(m->latency, units, middle) <= left)
            low = middle;
        else
            high = middle;
    }
    return low;
}

unsigned sx_share_late_batch(const struct sx_share_model *m, unsigned units)
{
    unsigned least = m->queue.endless || !m->queue.head_samples ? 1 : m->queue.head_samples;
    unsigned batch = sx_share_waiting(m);
    while (batch > least && sx_latency_ns(m->latency, units, batch) > m->objective_ns / 2)
        batch--;
    return batch;
}

bool sx_share_fits(const struct sx_share *share, unsigned units, unsigned *ret_first)
{
    if (!units || units > share->n_free)
        return false;
    if (share->fit == SX_SHARE_ANY)
        return true;
    unsigned first = sx_units_find(share->free_units, share->n_units, units);
    if (first >= share->n_units)
        return false;
    if (ret_first)
        *ret_first = first;
    return true;
}

unsigned sx_share_units_below(const struct sx_share *share, const struct sx_share_model *m,
                              unsigned most, bool now_free)
{
    unsigned limit = now_free ? share->n_free : share->n_units;
    most = most < limit ? most : limit;
    if (share->fit == SX_SHARE_ANY)
        return most;
    for (unsigned i = m->latency->n_units; i-- > 0;) {
        unsigned units = m->latency->units[i];
        if (units <= most && (!now_free || sx_share_fits(share, units, NULL)))
            return units;
    }
    return 0;
}

void sx_share_make(const struct sx_share *share, struct sx_share_model *m, unsigned units,
                   unsigned batch, bool filler, struct sx_share_action *ret_action)
{
    memset(ret_action, 0, sizeof *ret_action);
    ret_action->kind = SX_SCHED_START;
    ret_action->model = m;
    ret_action->batch = batch;
    ret_action->n_units = units;
    ret_action->filler = filler;
    ret_action->predicted_ns = sx_share_whole(sx_latency_ns(m->latency, units, batch));
    ret_action->wake_at = SX_NEVER;
    if (share->fit == SX_SHARE_ALIGNED) {
        bool fits = sx_share_fits(share, units, &ret_action->first_unit);
        assert(fits);
        (void)fits;
        sx_units_put(ret_action->units, ret_action->first_unit, units, true);
        return;
    }
    sx_units_lowest(share->free_units, units, ret_action->units);
    for (unsigned w = 0; w < SHARE_WORDS; w++) {
        if (ret_action->units[w]) {
            ret_action->first_unit = 64 * w + (unsigned)__builtin_ctzll(ret_action->units[w]);
            break;
        }
    }
}

double sx_share_left(const struct sx_share_run *run, uint64_t now)
{
    if (run->predicted_end > now)
        return (double)(run->predicted_end - now);
    double late = (double)(now - run->predicted_end);
    return late > 1e5 ? late : 1e5;
}

/* --- decisions --------------------------------------------------------------------------------
 */

void sx_share_decide(struct sx_share *share, uint64_t now, struct sx_share_action *ret_action)
{
    memset(ret_action, 0, sizeof *ret_action);
    ret_action->kind = SX_SCHED_WAIT;
    ret_action->wake_at = SX_NEVER;
    now = sx_share_advance(share, now);
    switch (share->policy) {
    case SX_SHARE_FAIR:
    case SX_SHARE_EDF:
    case SX_SHARE_BLIND:
        sx_share_decide_fair(share, now, ret_action);
        break;
    case SX_SHARE_TEMPORAL:
    case SX_SHARE_FIXED:
    case SX_SHARE_GREEDY:
    case SX_SHARE_MAX_THROUGHPUT:
    case SX_SHARE_MAX_MIN:
        sx_share_decide_base(share, now, ret_action);
        break;
    }
    if (ret_action->kind == SX_SCHED_START)
        return;
    /* Whatever else is waited for: when a window ends, the next promise begins. */
    for (unsigned i = 0; i < share->n_models; i++) {
        uint64_t end = share->models[i]->window_end;
        if (end && end < ret_action->wake_at)
            ret_action->wake_at = end;
    }
}

unsigned sx_share_start(struct sx_share *share, const struct sx_share_action *action,
                        unsigned samples, uint64_t now)
{
    now = sx_share_advance(share, now);
    unsigned number = 0;
    while (share->runs[number].used)
        number++; /* a run has a unit at least, so one of the slots is free */
    struct sx_share_model *m = action->model;
    struct sx_share_run *r = &share->runs[number];
    double ns = sx_latency_ns(m->latency, action->n_units, samples);
    *r = (struct sx_share_run){.model = m,
                               .used = true,
                               .filler = action->filler,
                               .n_units = action->n_units,
                               .batch = samples,
                               .start = now,
                               .predicted_end = sx_time_add(now, sx_share_whole(ns))};
    for (unsigned w = 0; w < SHARE_WORDS; w++) {
        assert((action->units[w] & ~share->free_units[w]) == 0);
        r->units[w] = action->units[w];
        share->free_units[w] &= ~action->units[w];
    }
    share->n_free -= action->n_units;
    share->active[share->n_running++] = (unsigned short)number;
    m->running++;
    m->score += ns * action->n_units;
    m->credit -= ns;
    m->had += samples;
    m->served += samples;
    m->last_start = now;
    if (m->window_end && !m->met && samples >= m->plan.batch && r->predicted_end <= m->window_end) {
        m->met = true;
        r->window_end = m->window_end;
    }
    return number;
}

void sx_share_end(struct sx_share *share, unsigned run, uint64_t now)
{
    struct sx_share_run *r = &share->runs[run];
    if (run >= SX_SHARE_RUNS || !r->used)
        return;
    if (now < share->last)
        now = share->last;
    for (unsigned w = 0; w < SHARE_WORDS; w++)
        share->free_units[w] |= r->units[w];
    share->n_free += r->n_units;
    for (unsigned i = 0; i < share->n_running; i++) {
        if (share->active[i] == run) {
            share->active[i] = share->active[--share->n_running];
            break;
        }
    }
    struct sx_share_model *m = r->model;
    r->used = false;
    r->model = NULL;
    if (!m)
        return;
    m->running--;
    /* It was charged what was predicted. */
    m->score += ((double)(now - r->start) - (double)(r->predicted_end - r->start)) * r->n_units;
    if (m->score < 0)
        m->score = 0;
    if (r->window_end && r->window_end == m->window_end && now <= r->window_end)
        m->kept = true;
}

/* When so many units will be free, whichever they are, ns from now. */
static double free_from(const struct sx_share *share, unsigned units, uint64_t now)
{
    double start = 0;
    for (unsigned n_free = share->n_free; n_free < units;) {
        double first = INFINITY;
        for (unsigned i = 0; i < share->n_running; i++) {
            double left = sx_share_left(&share->runs[share->active[i]], now);
            if (left > start && left < first)
                first = left;
        }
        if (!isfinite(first))
            break;
        for (unsigned i = 0; i < share->n_running; i++) {
            const struct sx_share_run *r = &share->runs[share->active[i]];
            if (sx_share_left(r, now) == first)
                n_free += r->n_units;
        }
        start = first;
    }
    return start;
}

/* When it ends if all of its model run on so many units. */
static uint64_t finish_on(const struct sx_share *share, const struct sx_share_model *m,
                          unsigned units, unsigned samples, uint64_t now)
{
    double start = free_from(share, units, now);
    /* What waits for the same model goes first, in full batches side by side; what waits for others
     * goes first as far as it is due before. */
    uint64_t deadline = sx_time_add(now, sx_share_whole(m->objective_ns));
    double others = 0;
    for (unsigned i = 0; i < share->n_models; i++) {
        const struct sx_share_model *o = share->models[i];
        if (o == m || o->queue.endless || !o->queue.samples || !o->plan.units ||
            o->queue.head_deadline > deadline)
            continue;
        unsigned batch = o->plan.batch ? o->plan.batch : 1;
        double full = sx_latency_ns(o->latency, o->plan.units, batch) / batch;
        others += o->queue.samples * full * o->plan.units;
    }
    unsigned most = m->max_batch ? m->max_batch : 1;
    unsigned ahead = m->queue.endless ? 0 : m->queue.samples, all = ahead + samples;
    unsigned runs = (all + most - 1) / most, side = share->n_units / units;
    double last = sx_latency_ns(m->latency, units, all < most ? all : most);
    double queue = runs > 1 ? (runs - 1) * last / (side ? side : 1) : 0;
    double total = start + others / share->n_units + queue + last;
    return sx_time_add(now, sx_share_whole(total));
}

uint64_t sx_share_predict_finish(const struct sx_share *share, const struct sx_share_model *m,
                                 unsigned samples, uint64_t now)
{
    if (now < share->last)
        now = share->last;
    unsigned units = m->plan.units ? m->plan.units : sx_share_units_below(share, m, 1, false);
    if (!units)
        units = share->n_units;
    uint64_t end = finish_on(share, m, units, samples, now);
    for (unsigned u = m->latency->n_units; u-- > 0;) {
        if (m->latency->units[u] >= units)
            continue;
        uint64_t other = finish_on(share, m, m->latency->units[u], samples, now);
        end = other < end ? other : end;
    }
    return end;
}
