/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "perf/arrival.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"

#define TRACE_MAX_BYTES    ((size_t)256 << 20)
#define TRACE_MAX_REQUESTS ((size_t)50000000)
#define TRACE_FIRST_NS     (24 * 3600e9) /* later first requests are dates, or another unit */

static void init(struct sx_arrival *a, enum sx_arrival_kind kind, double rate, uint64_t seed)
{
    memset(a, 0, sizeof(*a));
    a->kind = kind;
    a->rate = rate;
    a->shape = 1;
    sx_rng_init(&a->rng, seed);
}

void sx_arrival_constant(struct sx_arrival *a, double rate)
{
    assert(rate > 0);
    init(a, SX_ARRIVAL_CONSTANT, rate, 0);
}

void sx_arrival_poisson(struct sx_arrival *a, double rate, uint64_t seed)
{
    assert(rate > 0);
    init(a, SX_ARRIVAL_POISSON, rate, seed);
}

void sx_arrival_gamma(struct sx_arrival *a, double rate, double shape, uint64_t seed)
{
    assert(rate > 0 && shape > 0);
    init(a, SX_ARRIVAL_GAMMA, rate, seed);
    a->shape = shape;
}

void sx_arrival_bursts(struct sx_arrival *a, double on, double off, double on_seconds,
                       double off_seconds, uint64_t seed)
{
    assert(on > 0 && off >= 0 && on_seconds > 0 && off_seconds > 0);
    init(a, SX_ARRIVAL_BURSTS, 0, seed);
    a->rate = (on * on_seconds + off * off_seconds) / (on_seconds + off_seconds);
    a->rates[0] = on;
    a->rates[1] = off;
    a->lengths[0] = on_seconds * 1e9;
    a->lengths[1] = off_seconds * 1e9;
    a->until = sx_rng_exponential(&a->rng, a->lengths[0]);
}

void sx_arrival_step(struct sx_arrival *a, double before, double after, double at_seconds,
                     uint64_t seed)
{
    assert(before >= 0 && after >= 0 && before + after > 0 && at_seconds >= 0);
    init(a, SX_ARRIVAL_STEP, before, seed);
    a->rates[0] = before;
    a->rates[1] = after;
    a->until = a->lengths[0] = at_seconds * 1e9;
}

void sx_arrival_wave(struct sx_arrival *a, double rate, double amplitude, double period_seconds,
                     uint64_t seed)
{
    assert(rate > 0 && amplitude >= 0 && amplitude <= 1 && period_seconds > 0);
    init(a, SX_ARRIVAL_WAVE, rate, seed);
    a->rates[0] = rate;
    a->rates[1] = amplitude;
    a->lengths[0] = period_seconds * 1e9;
}

void sx_arrival_counts(struct sx_arrival *a, uint32_t *counts, size_t n, uint64_t unit,
                       double shape, uint64_t seed)
{
    assert(unit > 0 && shape > 0);
    init(a, SX_ARRIVAL_COUNTS, 0, seed);
    a->counts = counts;
    a->n_counts = n;
    a->period = unit;
    a->shape = shape;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += counts[i];
    if (n)
        a->rate = sum / ((double)n * (double)unit) * 1e9;
    a->left = n ? counts[0] : 0;
    a->until = (double)unit;
}

/* --- traces -------------------------------------------------------------------------------------
 */

struct trace {
    struct sx_arrival *a;
    size_t cap;
    double end; /* ns covered so far */
};

static enum sx_rc push(struct trace *t, double at, struct sx_err *err)
{
    struct sx_arrival *a = t->a;
    if (a->n_times == TRACE_MAX_REQUESTS)
        return sx_fail(err, SX_TOO_LARGE, "more than %zu requests", TRACE_MAX_REQUESTS);
    if (a->n_times == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 1024;
        uint64_t *grown = realloc(a->times, cap * sizeof(*grown));
        if (!grown)
            return sx_fail(err, SX_NO_MEMORY, "out of memory");
        a->times = grown;
        t->cap = cap;
    }
    a->times[a->n_times++] = (uint64_t)llround(at);
    return SX_OK;
}

static int by_time(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return a < b ? -1 : a > b;
}

/* `n` requests at uniform times in the next period: a Poisson process, given its count. */
static enum sx_rc push_count(struct trace *t, double n, double unit, struct sx_err *err)
{
    if (n != floor(n))
        return sx_fail(err, SX_INVALID, "%g is not a number of requests", n);
    size_t first = t->a->n_times;
    for (double i = 0; i < n; i++) {
        enum sx_rc rc = push(t, t->end + floor(sx_rng_double(&t->a->rng) * unit), err);
        if (rc)
            return rc;
    }
    if (n > 0)
        qsort(t->a->times + first, t->a->n_times - first, sizeof(uint64_t), by_time);
    t->end += unit;
    return SX_OK;
}

static enum sx_rc push_line(struct trace *t, double value, enum sx_trace_format format,
                            uint64_t unit, struct sx_err *err)
{
    double ns = value * (double)unit;
    if (!isfinite(value) || value < 0 || ns > 9e18)
        return sx_fail(err, SX_INVALID, "%g is out of range", value);
    switch (format) {
    case SX_TRACE_TIMES:
        if (ns < t->end)
            return sx_fail(err, SX_INVALID, "time %.17g is before the one above it", value);
        if (t->a->n_times == 0 && ns > TRACE_FIRST_NS)
            return sx_fail(err, SX_INVALID,
                           "the first request would be due after %.0f hours: times count from the "
                           "start of the run",
                           ns / 3600e9);
        t->end = ns;
        return push(t, ns, err);
    case SX_TRACE_GAPS:
        t->end += ns;
        return push(t, t->end, err);
    case SX_TRACE_COUNTS:
        return push_count(t, value, (double)unit, err);
    }
    return sx_fail(err, SX_INTERNAL, "unknown trace format %d", (int)format);
}

enum sx_rc sx_arrival_parse(struct sx_arrival *a, const char *name, const char *text,
                            enum sx_trace_format format, uint64_t unit, bool loop, uint64_t seed,
                            struct sx_err *err)
{
    init(a, SX_ARRIVAL_TIMES, 0, seed);
    struct trace t = {.a = a};
    struct sx_err why = {0};
    enum sx_rc rc = SX_OK;
    int line = 0;
    while (*text && !rc) {
        size_t len = strcspn(text, "\n");
        line++;
        const char *p = text + strspn(text, " \t\r");
        if (p < text + len && *p != '#') {
            char *end;
            double value = strtod(p, &end);
            char next = end[strspn(end, " \t\r")];
            if (end == p || end > text + len || !strchr("\n#,", next)) // strchr finds the NUL, too
                rc = sx_fail(&why, SX_INVALID, "'%.*s' is not a number", (int)strcspn(p, "\r\n,#"),
                             p);
            else
                rc = push_line(&t, value, format, unit, &why);
        }
        text += len + (text[len] != 0);
    }
    if (rc) {
        sx_arrival_fini(a);
        return sx_fail(err, rc, "%s:%d: %s", name, line, why.message);
    }
    if (a->n_times == 0) {
        sx_arrival_fini(a);
        return sx_fail(err, SX_INVALID, "%s: no request in it", name);
    }
    if (loop)
        a->period = (uint64_t)t.end > 0 ? (uint64_t)t.end : 1;
    if (t.end > 0)
        a->rate = (double)a->n_times / t.end * 1e9;
    return SX_OK;
}

enum sx_rc sx_arrival_file(struct sx_arrival *a, const char *path, enum sx_trace_format format,
                           uint64_t unit, bool loop, uint64_t seed, struct sx_err *err)
{
    char *text;
    size_t size;
    enum sx_rc rc = sx_file_read(path, TRACE_MAX_BYTES, &text, &size, err);
    if (rc)
        return rc;
    rc = sx_arrival_parse(a, path, text, format, unit, loop, seed, err);
    free(text);
    return rc;
}

/* --- drawing ------------------------------------------------------------------------------------
 */

/* Exponential gaps have no memory: what is left of one at a change of the rate is drawn anew. */
static bool next_of_two_rates(struct sx_arrival *a)
{
    for (;;) {
        double rate = a->rates[a->phase];
        double at = rate > 0 ? a->at + sx_rng_exponential(&a->rng, 1e9 / rate) : INFINITY;
        bool last = a->kind == SX_ARRIVAL_STEP && a->phase == 1;
        if (at < a->until || last) {
            a->at = at;
            return at < (double)SX_NEVER;
        }
        a->at = a->until;
        a->phase = !a->phase;
        if (a->kind == SX_ARRIVAL_BURSTS)
            a->until += sx_rng_exponential(&a->rng, a->lengths[a->phase]);
    }
}

/* Thinning (Lewis and Shedler, 1979): candidates at the highest rate, kept with the present one's
 * share of it. */
static void next_of_wave(struct sx_arrival *a)
{
    double most = a->rates[0] * (1 + a->rates[1]), rate;
    do {
        a->at += sx_rng_exponential(&a->rng, 1e9 / most);
        rate = a->rates[0] * (1 + a->rates[1] * sin(2 * M_PI * a->at / a->lengths[0]));
    } while (sx_rng_double(&a->rng) * most >= rate);
}

/* The first of k + 1 equal gamma gaps takes a share of what is left of the period that has a beta
 * distribution: a quotient of gamma numbers. */
static bool next_of_counts(struct sx_arrival *a)
{
    while (a->left == 0) {
        a->at = a->until;
        if (++a->phase >= a->n_counts)
            return false;
        a->left = a->counts[a->phase];
        a->until += (double)a->period;
    }
    double gap = sx_rng_gamma(&a->rng, a->shape, a->shape);
    double rest = sx_rng_gamma(&a->rng, a->shape * a->left, a->shape * a->left);
    if (gap + rest > 0)
        a->at += (a->until - a->at) * gap / (gap + rest);
    a->left--;
    return true;
}

uint64_t sx_arrival_next(struct sx_arrival *a)
{
    uint64_t n = a->count++;
    switch (a->kind) {
    case SX_ARRIVAL_CONSTANT:
        a->at = (double)n * 1e9 / a->rate; // from the count: gaps don't add up their rounding
        break;
    case SX_ARRIVAL_POISSON:
        a->at += sx_rng_exponential(&a->rng, 1e9 / a->rate);
        break;
    case SX_ARRIVAL_GAMMA:
        a->at += sx_rng_gamma(&a->rng, a->shape, 1e9 / a->rate);
        break;
    case SX_ARRIVAL_TIMES: {
        uint64_t round = n / a->n_times;
        if (round > 0 && a->period == 0)
            return SX_NEVER;
        return round * a->period + a->times[n % a->n_times];
    }
    case SX_ARRIVAL_BURSTS:
    case SX_ARRIVAL_STEP:
        if (!next_of_two_rates(a))
            return SX_NEVER;
        break;
    case SX_ARRIVAL_WAVE:
        next_of_wave(a);
        break;
    case SX_ARRIVAL_COUNTS:
        if (!next_of_counts(a))
            return SX_NEVER;
        break;
    }
    return (uint64_t)a->at;
}

void sx_arrival_fini(struct sx_arrival *a)
{
    free(a->times);
    free(a->counts);
    memset(a, 0, sizeof(*a));
}
