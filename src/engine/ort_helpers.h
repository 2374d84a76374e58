/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * ort_helpers.h - the helper threads of a session, and when they sleep.
 *
 * A helper that spins takes the next run up at once; one that sleeps must be woken, and so must its
 * core.  On a machine that is mostly idle that costs SqueezeNet a tenth of its time.  But a helper
 * that spins takes half of its core from whoever else runs there, and ONNX Runtime lets it spin
 * for tens of milliseconds or, with session.force_spinning_stop, not at all once a run is over.
 *
 * So helpers spin for a while after a run, and are put to sleep the moment that somebody else is to
 * run on their core.  ONNX Runtime has no call for that, but it lets us make the threads.  So they
 * get a signal (SIGURG, which programs ignore unless they ask for it), and its handler sleeps until
 * their session is to run again.
 *
 *     RUNNING --run ends--> SPINNING --another session claims a core of theirs,--> AT_REST
 *        ^                     |              or 20 ms have passed                    |
 *        +---------------------+--------their session claims its cores----------------+
 *
 * They never get as far as to sleep in ONNX Runtime, where only the run itself could wake them:
 * from here they are woken while the run is still on its way to its worker.
 *
 * A helper at rest may hold a lock of its pool, so its session neither runs nor ends until it is
 * woken.
 *
 * Threads: claims and runs come from any thread, but no two at the same time for sessions that have
 * a core in common (whoever hands out cores sees to it).  A session may end at any time.
 */
#ifndef SX_ENGINE_ORT_HELPERS_H
#define SX_ENGINE_ORT_HELPERS_H

#include "engine/ort_int.h"

/* Who may be spinning on which CPU; one for all sessions of an engine.  NULL: no memory. */
struct ort_spinners *sx_ort_spinners_create(void);
void sx_ort_spinners_destroy(struct ort_spinners *spinners); /* NULL is fine */

/* For a session of this width (at least 2) whose caller is on cpus[0] and whose helpers are on the
 * others; the threads come with the session.  NULL: no memory, or this program handles the signal
 * itself; the session's helpers must not spin then. */
struct ort_helpers *sx_ort_helpers_create(struct ort_spinners *spinners, unsigned width,
                                          const int *cpus);
/* After the session's end, or if it was never made.  NULL is fine.  `spinners` outlives it. */
void sx_ort_helpers_destroy(struct ort_helpers *helpers);
/* Let the session that is made with these options have its threads from here. */
OrtStatus *sx_ort_helpers_use(struct ort_helpers *helpers, const OrtApi *api,
                              OrtSessionOptions *options);

/* A session is about to run on these n CPUs: put helpers of others that spin there to sleep, and
 * wake its own (NULL: it has none).  But not from a core of theirs: the one that woke there would
 * have the core till the next tick, some milliseconds, while the caller still has to start the run;
 * so `begin` wakes them.  False: they are asleep.  Some microseconds for each that is put to sleep
 * or woken, some nanoseconds otherwise. */
bool sx_ort_helpers_claim(struct ort_spinners *spinners, struct ort_helpers *helpers,
                          const int *cpus, unsigned n);
/* Around a run, on its thread: wake them if nobody claimed the cores; let them spin. */
void sx_ort_helpers_begin(struct ort_helpers *helpers);
void sx_ort_helpers_end(struct ort_helpers *helpers);
/* Before the session's end: wake them for good. */
void sx_ort_helpers_let_go(struct ort_helpers *helpers);

#endif
