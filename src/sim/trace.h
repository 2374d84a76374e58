/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * trace.h - requests as they came to somebody else: the public Azure Functions traces.
 *
 *   2019   one row for each function, how often it was called in each minute of a day:
 *              HashOwner,HashApp,HashFunction,Trigger,1,2,...,1440
 *   2021   one row for each call: app,func,end_timestamp,duration   (seconds)
 *
 * The first line says which it is.  Functions are given to models in turn, in the order in which
 * they appear.  With `scale` s each call becomes s calls: whole ones, and one more with the
 * probability of the rest.  Inside a minute (2019) calls are spread with gamma gaps; copies of a
 * call (2021) come within a second after it, as random.  Everything is drawn from the seed.
 *
 * Nothing of the traces is part of this program.  The formats are as their publisher's pages
 * describe them; see the man page.
 */
#ifndef SX_SIM_TRACE_H
#define SX_SIM_TRACE_H

#include "base/rc.h"
#include "perf/arrival.h"

struct sx_trace_options {
    double scale; /* > 0; 0: 1 */
    double cv;    /* coefficient of variation of gaps inside a minute, > 0; 0: 1, Poisson */
    double begin, seconds; /* the part of the trace to take; seconds 0: to its end */
    uint64_t seed;
};

/* One arrival process for each of n_models, into ret_loads; each to be given to sx_arrival_fini.
 * A model without a call never gets one.  SX_INVALID: what is wrong in which line and column, and
 * what was expected there; then none is set.  `name` is for messages. */
enum sx_rc sx_trace_parse(const char *name, const char *text,
                          const struct sx_trace_options *options, unsigned n_models,
                          struct sx_arrival *ret_loads, struct sx_err *err);
/* The same from a file of at most 1 GiB. */
enum sx_rc sx_trace_load(const char *path, const struct sx_trace_options *options,
                         unsigned n_models, struct sx_arrival *ret_loads, struct sx_err *err);

#endif
