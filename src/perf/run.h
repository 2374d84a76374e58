/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * run.h - put one load on a target and measure.
 *
 * Two kinds of load.  Closed loop: `concurrency` queries are always in flight, a new one is due
 * when one is answered.  Open loop: requests are due at the times of an arrival process, whatever
 * the server does.
 *
 * Two ways to end.  Windows, as perf_analyzer: measure window after window until the last three
 * agree; a request belongs to the window in which it was answered.  One that was due before the
 * last of them, has waited longer than any answer in them took and is still open a second later is
 * lost; what was due in them and found no free slot was not sent.  Fixed: an interval or a count of
 * requests; a request belongs to the run if it was *due* in the interval, so what an overloaded
 * server still owes at the end is waited for, and counted as lost if it does not come.
 *
 * A run also ends when nothing but refused connections came for GIVE_UP_NS (run.c): whoever served
 * is gone.
 */
#ifndef SX_PERF_RUN_H
#define SX_PERF_RUN_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "perf/arrival.h"
#include "perf/stats.h"
#include "perf/target.h"

#define SX_WINDOWS 3 /* how many windows must agree */

struct sx_load {
    uint32_t concurrency;        /* closed loop: queries in flight; 0: open loop */
    uint32_t group;              /* closed loop: requests in one query; 0 means 1 */
    struct sx_arrival *arrivals; /* open loop: borrowed, and used up from where it stands */
};

struct sx_progress {
    bool warmup;
    double elapsed, total; /* seconds; total 0: not known */
    double rate;           /* answers per second since the last report */
    uint64_t p50_ns, p99_ns, failed, answered;
    int windows; /* finished */
    uint32_t in_flight;
};

struct sx_run_opts {
    struct sx_clock *clock; /* NULL: real time */
    uint64_t warmup_ns;
    uint64_t duration_ns;     /* fixed interval, or ... */
    uint64_t requests;        /* ... so many queries, whichever comes first; both 0: windows */
    uint64_t min_requests;    /* a fixed interval goes on until so many queries were sent */
    uint64_t window_ns;       /* length of a window, or ... */
    uint64_t window_requests; /* ... so many answers in each */
    int max_windows;
    double stability;      /* percent */
    double percentile;     /* the latency that must be stable; 0: the mean */
    uint64_t objective_ns; /* 0: none */
    uint64_t drain_ns;     /* how long to wait for what is in flight at the end */
    bool keep_latencies;   /* all of them, for exact percentiles */
    void (*progress)(void *arg, const struct sx_progress *p); /* about 5 times a second; or NULL */
    void *progress_arg;
    const volatile sig_atomic_t *stop; /* non-zero: end early, with what there is; or NULL */
};

/* A slice of the run, for curves over time. */
struct sx_moment {
    float at;   /* seconds since the measuring began: the end of the slice */
    float rate; /* answers per second */
    float failed;
    float p50_us, p99_us;
};

struct sx_run_result {
    struct sx_stats stats;
    double seconds;     /* measured */
    double throughput;  /* queries per second answered within the interval */
    uint32_t per_query; /* inferences in a query */
    int windows;        /* 0: fixed run */
    bool stable;        /* fixed runs always are */
    bool interrupted;
    bool unreachable; /* connections were refused, from the start or until it gave up */
    double cpu;       /* of one core, used by the client's thread while measuring */
    struct sx_moment *moments;
    size_t n_moments;
    uint64_t *latencies; /* with keep_latencies; sorted */
    size_t n_latencies;
};

/* Blocks until the run is over.  `r` is initialised here; free it with sx_run_result_fini
 * whatever is returned.  Fails only for lack of memory or a load that the target can't take. */
enum sx_rc sx_run(struct sx_target *t, const struct sx_load *load, const struct sx_run_opts *opts,
                  struct sx_run_result *r, struct sx_err *err);
void sx_run_result_fini(struct sx_run_result *r);

#endif
