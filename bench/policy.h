/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.h - whole models under a scheduling policy of StarPU's own: a baseline of the benchmarks.
 *
 * The engine, the executor and the tasks are the server's; who runs what is StarPU's decision. Each
 * request is a task for any unit.  Policies that want to know a task's time are told what was
 * measured here, times the slowdown of the unit's device.
 */
#ifndef SX_BENCH_POLICY_H
#define SX_BENCH_POLICY_H

#include "engine/engine.h"
#include "machine/machine.h"
#include "perf/dataset.h"
#include "perf/target.h"

/* All arguments are borrowed and outlive the target.  One at a time, and no server on StarPU beside
 * it: StarPU is one per process. */
enum sx_rc policy_target(struct sx_engine *engine, const struct sx_machine *machine,
                         const char *path, const char *policy, const struct sx_dataset *data,
                         uint32_t slots, struct sx_target **ret_target, struct sx_err *err);

#endif
