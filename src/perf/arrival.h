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
    double shape; /* of the gamma distribution */
    double at;    /* ns; the last time given out */
    uint64_t count;
    struct sx_rng rng;
    uint64_t *times; /* of SX_ARRIVAL_TIMES, owned; ns since start */
    size_t n_times;
    uint64_t period; /* when the times start again; 0: they don't */
};

/* Rates are in requests per second, > 0. */
void sx_arrival_constant(struct sx_arrival *a, double rate);
void sx_arrival_poisson(struct sx_arrival *a, double rate, uint64_t seed);
void sx_arrival_gamma(struct sx_arrival *a, double rate, double shape, uint64_t seed);

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
