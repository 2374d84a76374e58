/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "perf/moments.h"

#include <stdlib.h>
#include <string.h>

#include "perf/run.h"

#define SLICES      60 /* of a run whose length is known */
#define SLICE_MIN   (50 * SX_MS)
#define SLICE_MAX   (5 * SX_S)
#define MOMENTS_MAX 4096

bool sx_moments_init(struct sx_moments *m)
{
    m->hist = malloc(sizeof(*m->hist));
    if (m->hist)
        sx_hist_init(m->hist);
    return m->hist != NULL;
}

void sx_moments_begin(struct sx_moments *m, uint64_t now, const struct sx_run_opts *o)
{
    uint64_t slice = o->duration_ns ? o->duration_ns / SLICES : o->window_ns / 10;
    if (slice < SLICE_MIN)
        slice = o->duration_ns || o->window_ns ? SLICE_MIN : 2 * SLICE_MIN;
    m->slice_ns = slice > SLICE_MAX ? SLICE_MAX : slice;
    m->from = m->slice_from = now;
    m->failed = 0;
    sx_hist_init(m->hist);
}

static void close_slice(struct sx_moments *m, uint64_t end)
{
    double seconds = (double)(end - m->slice_from) * 1e-9;
    if (m->n_moments == m->cap_moments && m->cap_moments < MOMENTS_MAX) {
        size_t cap = m->cap_moments ? 2 * m->cap_moments : 64;
        struct sx_moment *grown = realloc(m->moment, cap * sizeof(*grown));
        if (grown) {
            m->moment = grown;
            m->cap_moments = cap;
        }
    }
    if (m->n_moments < m->cap_moments)
        m->moment[m->n_moments++] = (struct sx_moment){
            .at = (float)((double)(end - m->from) * 1e-9),
            .rate = (float)((double)m->hist->count / seconds),
            .failed = (float)((double)m->failed / seconds),
            .p50_us = (float)((double)sx_hist_quantile(m->hist, 0.5) * 1e-3),
            .p99_us = (float)((double)sx_hist_quantile(m->hist, 0.99) * 1e-3),
        };
    m->slice_from = end;
    m->failed = 0;
    sx_hist_init(m->hist);
}

void sx_moments_advance(struct sx_moments *m, uint64_t now)
{
    while (now >= m->slice_from + m->slice_ns)
        close_slice(m, m->slice_from + m->slice_ns);
}

void sx_moments_add(struct sx_moments *m, bool ok, uint64_t latency_ns)
{
    if (ok)
        sx_hist_add(m->hist, latency_ns);
    else
        m->failed++;
}

void sx_moments_keep(struct sx_moments *m, uint64_t latency_ns)
{
    if (m->n_latencies == m->cap_latencies) {
        size_t cap = m->cap_latencies ? 2 * m->cap_latencies : 4096;
        uint64_t *grown = realloc(m->latency, cap * sizeof(*grown));
        if (!grown)
            return;
        m->latency = grown;
        m->cap_latencies = cap;
    }
    m->latency[m->n_latencies++] = latency_ns;
}

static int by_value(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return a < b ? -1 : a > b;
}

void sx_moments_end(struct sx_moments *m, uint64_t now, struct sx_run_result *r)
{
    // the drain's answers are in the last slice's histogram: don't let a stub of it mislead
    if (now > m->slice_from + m->slice_ns / 2 && now <= m->slice_from + m->slice_ns)
        close_slice(m, now);
    if (m->n_latencies > 0)
        qsort(m->latency, m->n_latencies, sizeof(*m->latency), by_value);
    r->moments = m->moment;
    r->n_moments = m->n_moments;
    r->latencies = m->latency;
    r->n_latencies = m->n_latencies;
    m->moment = NULL;
    m->latency = NULL;
}

void sx_moments_fini(struct sx_moments *m)
{
    free(m->hist);
    free(m->moment);
    free(m->latency);
    memset(m, 0, sizeof(*m));
}
