/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "perf/stats.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *key, *text;
} outcomes[] = {
#define OUTCOME_ROW(code, key, text) {key, text},
    SX_OUTCOME_TABLE(OUTCOME_ROW)
#undef OUTCOME_ROW
};

const char *sx_outcome_key(enum sx_outcome o)
{
    return outcomes[o].key;
}

const char *sx_outcome_text(enum sx_outcome o)
{
    return outcomes[o].text;
}

bool sx_outcome_is_lost(enum sx_outcome o)
{
    return o != SX_OUTCOME_OK && o != SX_OUTCOME_REJECTED && o != SX_OUTCOME_EXPIRED;
}

void sx_stats_init(struct sx_stats *s)
{
    memset(s, 0, sizeof(*s));
    sx_hist_init(&s->latency);
    sx_hist_init(&s->lag);
}

void sx_stats_add(struct sx_stats *s, enum sx_outcome outcome, uint64_t due, uint64_t sent,
                  uint64_t done, uint64_t objective_ns)
{
    s->outcome[outcome]++;
    if (outcome == SX_OUTCOME_UNSENT)
        return;
    uint64_t lag = sent > due ? sent - due : 0;
    sx_hist_add(&s->lag, lag);
    s->late += lag > SX_LATE_NS;
    if (outcome != SX_OUTCOME_OK)
        return;
    uint64_t latency = done > due ? done - due : 0;
    sx_hist_add(&s->latency, latency);
    s->within += objective_ns == 0 || latency <= objective_ns;
}

void sx_stats_merge(struct sx_stats *into, const struct sx_stats *from)
{
    sx_hist_merge(&into->latency, &from->latency);
    sx_hist_merge(&into->lag, &from->lag);
    for (int i = 0; i < SX_OUTCOME_COUNT; i++)
        into->outcome[i] += from->outcome[i];
    into->within += from->within;
    into->late += from->late;
    into->ns += from->ns;
}

uint64_t sx_stats_total(const struct sx_stats *s)
{
    uint64_t n = 0;
    for (int i = 0; i < SX_OUTCOME_COUNT; i++)
        n += s->outcome[i];
    return n;
}

uint64_t sx_stats_failed(const struct sx_stats *s)
{
    return sx_stats_total(s) - s->outcome[SX_OUTCOME_OK];
}

uint64_t sx_stats_lost(const struct sx_stats *s)
{
    uint64_t n = 0;
    for (int i = 0; i < SX_OUTCOME_COUNT; i++)
        n += sx_outcome_is_lost((enum sx_outcome)i) ? s->outcome[i] : 0;
    return n;
}

double sx_stats_rate(const struct sx_stats *s)
{
    return s->ns ? (double)s->outcome[SX_OUTCOME_OK] * 1e9 / (double)s->ns : 0;
}

bool sx_stable(const double *values, int n, double percent)
{
    double mean = 0;
    for (int i = 0; i < n; i++)
        mean += values[i] / n;
    for (int i = 0; i < n; i++) {
        if (fabs(values[i] - mean) > mean * percent / 100)
            return false;
    }
    return mean > 0;
}
