/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.h - StarPU's scheduling policy of StarONNX: each task names its worker.
 *
 * Life: sx_policy_open, starpu_init with conf.sched_policy = &sx_policy, sx_policy_wait_started,
 * tasks placed with sx_policy_place, starpu_task_wait_for_all, sx_policy_close, starpu_shutdown;
 * then again from the start.  StarPU is one per process, and so is this.
 */
#ifndef SX_EXEC_STARPU_POLICY_H
#define SX_EXEC_STARPU_POLICY_H

#include <stdint.h>

#include <starpu.h>
#include <starpu_scheduler.h>

#include "base/rc.h"

extern struct starpu_sched_policy sx_policy;

/* Before starpu_init.  Worker i binds itself to cpus[i]; NULL: unbound.  `cpus` is borrowed until
 * sx_policy_wait_started has returned. */
void sx_policy_open(unsigned n_workers, const int *cpus);
/* Block until every worker is bound and asks for tasks; SX_UNSUPPORTED when one can't be bound. */
enum sx_rc sx_policy_wait_started(struct sx_err *err);
/* Where a policy of StarPU's own is used: do on every worker what pop_task of ours does first.
 * Blocks; after starpu_init, before sx_policy_wait_started. */
void sx_policy_start_workers(void);
/* Before starpu_shutdown, with no task left: let the workers go. */
void sx_policy_close(void);

/* Get the core of a worker out of its sleep: a run is about to need it.  Any thread. */
void sx_policy_rouse(unsigned worker);

/* Which worker the task is for; before each starpu_task_submit (StarPU keeps it between). */
static inline void sx_policy_place(struct starpu_task *task, unsigned worker)
{
    task->sched_data = (void *)(uintptr_t)worker;
}

#endif
