/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * arrival.h - when requests are due.
 *
 * An arrival process yields times in nanoseconds since its start, never decreasing.  It has no
 * clock and does no I/O after it is set up; the same seed gives the same times on every machine.
 * A closed loop has no arrival process: there, a request is due when an earlier one is answered.
 *
 *     set up (one of the init functions) -> sx_arrival_next, many times -> sx_arrival_fini
 */
#ifndef SX_PERF_ARRIVAL_H
#define SX_PERF_ARRIVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rc.h"
#include "base/rng.h"

enum sx_arrival_kind {
    SX_ARRIVAL_CONSTANT, /* equal gaps */
    SX_ARRIVAL_POISSON,  /* independent requests: exponential gaps */
    SX_ARRIVAL_GAMMA,    /* bursts: gamma gaps, coefficient of variation 1/sqrt(shape) */
    SX_ARRIVAL_TIMES,    /* times from a file */
    SX_ARRIVAL_BURSTS,   /* Poisson at two rates that alternate after exponential times (MMPP) */
    SX_ARRIVAL_STEP,     /* Poisson whose rate changes once */
    SX_ARRIVAL_WAVE,     /* Poisson whose rate is a sine: a day */
    SX_ARRIVAL_COUNTS,   /* so many in each period, spread inside it as they are drawn */
};

/* What the numbers in a file of times mean. */
enum sx_trace_format {
    SX_TRACE_TIMES,  /* a time for each request, in `unit` */
    SX_TRACE_GAPS,   /* the gap before each request, in `unit` (perf_analyzer: microseconds) */
    SX_TRACE_COUNTS, /* how many requests in each successive `unit` (Azure: minutes) */
};

struct sx_arrival {
    enum sx_arrival_kind kind;
    double rate;  /* requests per second, mean */
    double shape; /* of the gamma distribution: of gaps, or of those inside a period */
    double at;    /* ns; the last time given out */
    uint64_t count;
    struct sx_rng rng;
    uint64_t *times; /* of SX_ARRIVAL_TIMES, owned; ns since start */
    size_t n_times;
    uint64_t period;   /* when the times start again, 0: they don't; the length of one count */
    double rates[2];   /* BURSTS: on, off; STEP: before, after; WAVE: mean, amplitude */
    double lengths[2]; /* ns; BURSTS: mean length of on, off; STEP: when; WAVE: period */
    double until;      /* ns; end of the present state, or of the present count's period */
    unsigned phase;    /* which of the two rates holds */
    uint32_t *counts;  /* of SX_ARRIVAL_COUNTS, owned */
    size_t n_counts;
    uint32_t left; /* of the present count */
};

/* Rates are in requests per second, > 0. */
void sx_arrival_constant(struct sx_arrival *a, double rate);
void sx_arrival_poisson(struct sx_arrival *a, double rate, uint64_t seed);
void sx_arrival_gamma(struct sx_arrival *a, double rate, double shape, uint64_t seed);

/* Loads that are not the same all the time.  Random numbers alone decide within them, so the same
 * seed gives the same times.
 *   bursts  starts in the first state, which is Poisson of rate `on`, > 0; after a random time of
 *           mean `on_seconds` it is `off`, >= 0, for a mean of `off_seconds`, and so on
 *   step    `before` until `at_seconds`, then `after`; one of them > 0
 *   wave    rate * (1 + amplitude * sin(2 pi t / period)), 0 <= amplitude <= 1 */
void sx_arrival_bursts(struct sx_arrival *a, double on, double off, double on_seconds,
                       double off_seconds, uint64_t seed);
void sx_arrival_step(struct sx_arrival *a, double before, double after, double at_seconds,
                     uint64_t seed);
void sx_arrival_wave(struct sx_arrival *a, double rate, double amplitude, double period_seconds,
                     uint64_t seed);
/* counts[i] requests in period i, of `unit` ns.  The gaps in a period with n requests are n + 1
 * gamma numbers of this shape, scaled to fill it: 1 is a Poisson process given its counts, less is
 * more bursty.  Drawn one by one, so memory is the counts'.  Takes `counts` (malloc'ed) over. */
void sx_arrival_counts(struct sx_arrival *a, uint32_t *counts, size_t n, uint64_t unit,
                       double shape, uint64_t seed);

/* Parse text with one number a line; blank lines and what follows '#' are skipped, and of a line
 * with commas the first field counts.  `name` is for messages, which name the line.  `unit` is in
 * ns.  With `loop`, the pattern starts again at its end.  Times must not decrease. */
enum sx_rc sx_arrival_parse(struct sx_arrival *a, const char *name, const char *text,
                            enum sx_trace_format format, uint64_t unit, bool loop, uint64_t seed,
                            struct sx_err *err);
/* The same from a file. */
enum sx_rc sx_arrival_file(struct sx_arrival *a, const char *path, enum sx_trace_format format,
                           uint64_t unit, bool loop, uint64_t seed, struct sx_err *err);

/* The next time, ns since start; SX_NEVER when the trace is over. */
uint64_t sx_arrival_next(struct sx_arrival *a);
void sx_arrival_fini(struct sx_arrival *a);

#endif
