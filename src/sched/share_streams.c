/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * share_streams.c - what models will ask for, as far as it can be foreseen: where simulations
 * start.
 */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "sched/share_int.h"

/* How far requests are foreseen: until what runs now has ended, and this part of the longest run.
 * Farther, the expected arrivals are not those that will come. */
#define AFTER 0.2

/* How much more a request counts of a model of whose requests few are served: under overload the
 * cheap ones would have everything, and this is what the others have against that. */
static double need(const struct sx_share *share, const struct sx_share_model *m, uint64_t now)
{
    if (!(m->rate > 0) || !isfinite(m->rate) || !(share->session_ns > 0))
        return 1;
    double memory = SHARE_MEMORY * share->session_ns;
    double offered = m->rate * 1e-9 * memory * -expm1(-(double)(now - m->since) / memory);
    double part = (m->had + 2) / (offered + 2);
    if (part >= 1)
        return 1;
    double factor = 1 / (part * part);
    return factor < 30 ? factor : 30;
}

static void stream_of(struct sx_stream *st, const struct sx_share *share,
                      const struct sx_share_model *m, uint64_t now)
{
    st->units = m->plan.units;
    st->value = m->weight * ldexp(1, m->priority < -8 ? 8 : m->priority > 8 ? -8 : -m->priority);
    st->length = m->objective_ns;
    st->next = st->between = INFINITY;
    if (m->queue.endless) {
        double left = (double)(m->window_end - now);
        st->windows = true;
        st->length = m->objective_ns >= 1 ? floor(m->objective_ns) : 1;
        st->base = st->head_ns = ceil(sx_latency_ns(m->latency, st->units, m->plan.batch));
        st->release = m->met ? left : 0;
        st->deadline = m->met ? left + st->length : left;
        return;
    }
    st->value *= need(share, m, now);
    if (m->plan.least_units)
        st->units = m->plan.least_units;
    st->most = m->max_batch ? m->max_batch : 1;
    double one = sx_latency_ns(m->latency, st->units, 1);
    st->step = 0;
    if (st->most > 1)
        st->step = (sx_latency_ns(m->latency, st->units, m->max_batch) - one) / (st->most - 1);
    st->base = one - st->step;
    st->head_ns = one;
    if (isfinite(m->rate) && m->rate > 0) {
        st->rate = m->rate * 1e-9;
        st->slack = st->length - one;
        if (st->slack < 0)
            st->slack = 0;
        st->next = st->between = 1 / st->rate;
    }
    if (m->queue.samples && m->queue.head_deadline != SX_NEVER) {
        const struct sx_share_queue *q = &m->queue;
        st->known = q->samples;
        if (q->head_samples > 1)
            st->head_ns = sx_latency_ns(m->latency, st->units, q->head_samples);
        st->release = 0;
        st->deadline = q->head_deadline > now ? (double)(q->head_deadline - now)
                                              : -(double)(now - q->head_deadline);
        /* They came one by one since the head did. */
        double since = now > q->head_arrival ? (double)(now - q->head_arrival) : 0;
        st->gap = since / q->samples;
        return;
    }
    /* The head is the first that is expected. */
    st->release = st->next;
    st->deadline = st->next + st->length;
}

static void collect_runs(struct sx_look *look, const struct sx_share *share, uint64_t now)
{
    look->n_runs = 0;
    for (unsigned i = 0; i < share->n_running; i++) {
        const struct sx_share_run *r = &share->runs[share->active[i]];
        unsigned first = 0;
        if (share->fit == SX_SHARE_ALIGNED) {
            while (!r->units[first / 64])
                first += 64;
            first += (unsigned)__builtin_ctzll(r->units[first / 64]);
        }
        double end = sx_share_left(r, now);
        unsigned j = look->n_runs++;
        for (; j && look->runs[j - 1].end < end; j--)
            look->runs[j] = look->runs[j - 1];
        look->runs[j] = (struct sx_look_run){.end = end, .first = first, .n = r->n_units};
    }
}

void sx_look_prepare(struct sx_look *look, const struct sx_share *share, uint64_t now)
{
    look->share = share;
    look->n_free = share->n_free;
    memcpy(look->free_units, share->free_units, sizeof look->free_units);
    collect_runs(look, share, now);
    look->n_streams = look->n_trace = 0;
    look->windows = look->requests = false;
    double session = 0, longest = 0;
    for (unsigned i = 0; i < share->n_models; i++) {
        const struct sx_share_model *m = share->models[i];
        if (!m->plan.admitted || !m->plan.units || !(m->queue.endless || m->objective_ns > 0))
            continue;
        struct sx_stream *st = &look->streams[look->n_streams];
        memset(st, 0, sizeof *st);
        st->model = i;
        stream_of(st, share, m, now);
        if (!isfinite(st->deadline) && !(st->rate > 0))
            continue; /* nothing waits and nothing is expected */
        look->n_streams++;
        session = st->length > session ? st->length : session;
        if (st->windows) {
            look->windows = true;
            continue;
        }
        look->requests = true;
        double full = st->base + st->step * st->most;
        longest = full > longest ? full : longest;
    }
    sx_look_sort(look);
    look->horizon = 2 * session;
    if (!look->windows) {
        double busy = look->n_runs ? look->runs[0].end : 0;
        if (busy + AFTER * longest < look->horizon)
            look->horizon = busy + AFTER * longest;
    }
}
