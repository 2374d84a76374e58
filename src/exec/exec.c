/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * exec.c - common part of the executors: checks, the book of busy units, dispatch.
 */
#include "exec/exec.h"

#include <assert.h>
#include <stdlib.h>

#include "exec/exec_int.h"

enum sx_rc sx_exec_init(struct sx_exec *exec, const struct sx_exec_ops *ops, struct sx_clock *clock,
                        const struct sx_exec_config *config, struct sx_err *err)
{
    assert(ops->destroy && ops->task_create && ops->task_destroy && ops->submit && ops->set_alarm);
    exec->ops = ops;
    exec->clock = clock;
    exec->alarm = config->alarm;
    exec->alarm_user = config->alarm_user;
    exec->n_units = config->n_units;
    exec->busy = calloc(config->n_units, sizeof *exec->busy);
    return exec->busy ? SX_OK : sx_fail(err, SX_NO_MEMORY, "no memory for %u units", exec->n_units);
}

void sx_exec_fini(struct sx_exec *exec)
{
    free(exec->busy);
    exec->busy = NULL;
}

void sx_exec_finish(struct sx_exec *exec, struct sx_task *task)
{
    for (unsigned u = task->first_unit; u < task->first_unit + task->n_units; u++)
        atomic_store_explicit(&exec->busy[u], false, memory_order_release);
    task->done(task); /* from here on the task is its owner's */
}

enum sx_rc sx_exec_create(const struct sx_exec_config *config, struct sx_exec **ret_exec,
                          struct sx_err *err)
{
    if (config->n_units == 0)
        return sx_fail(err, SX_INVALID, "an executor needs at least one unit");
    switch (config->kind) {
    case SX_EXEC_STARPU:
        return sx_exec_create_starpu(config, ret_exec, err);
    case SX_EXEC_INLINE:
        return sx_exec_create_inline(config, ret_exec, err);
    case SX_EXEC_VIRTUAL:
        return sx_exec_create_virtual(config, ret_exec, err);
    }
    return sx_fail(err, SX_INVALID, "no such kind of executor: %d", (int)config->kind);
}

void sx_exec_destroy(struct sx_exec *exec)
{
    if (exec)
        exec->ops->destroy(exec);
}

struct sx_clock *sx_exec_clock(struct sx_exec *exec)
{
    return exec->clock;
}

enum sx_rc sx_exec_task_create(struct sx_exec *exec, struct sx_task **ret_task)
{
    struct sx_task *task = exec->ops->task_create(exec);
    if (!task)
        return SX_NO_MEMORY;
    *ret_task = task;
    return SX_OK;
}

void sx_exec_task_destroy(struct sx_exec *exec, struct sx_task *task)
{
    if (task)
        exec->ops->task_destroy(exec, task);
}

void sx_exec_submit(struct sx_exec *exec, struct sx_task *task)
{
    assert(task->run && task->done && task->n_units > 0);
    assert(task->first_unit < exec->n_units && task->n_units <= exec->n_units - task->first_unit);
    for (unsigned u = task->first_unit; u < task->first_unit + task->n_units; u++) {
        bool busy = atomic_exchange_explicit(&exec->busy[u], true, memory_order_acquire);
        assert(!busy); /* two tasks on one unit */
        (void)busy;
    }
    exec->ops->submit(exec, task);
}

void sx_exec_set_alarm(struct sx_exec *exec, uint64_t at)
{
    exec->ops->set_alarm(exec, at);
}

void sx_exec_advance(struct sx_exec *exec, uint64_t until)
{
    if (exec->ops->advance)
        exec->ops->advance(exec, until);
}

uint64_t sx_exec_next_event(struct sx_exec *exec)
{
    return exec->ops->next_event ? exec->ops->next_event(exec) : SX_NEVER;
}
