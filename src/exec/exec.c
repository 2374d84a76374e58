/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * exec.c - common part of the executors: checks, the book of units, dispatch.
 */
#include "exec/exec.h"

#include <assert.h>
#include <stdlib.h>

#include "exec/exec_int.h"

enum sx_rc sx_exec_init(struct sx_exec *exec, const struct sx_exec_ops *ops, struct sx_clock *clock,
                        const struct sx_exec_config *config, struct sx_err *err)
{
    assert(ops->destroy && ops->task_create && ops->task_destroy && ops->submit && ops->set_alarm);
    assert(ops->data_create && ops->data_destroy);
    exec->ops = ops;
    exec->clock = clock;
    exec->alarm = config->alarm;
    exec->alarm_user = config->alarm_user;
    exec->n_units = config->n_units;
    exec->book = calloc(config->n_units, sizeof *exec->book);
    return exec->book ? SX_OK : sx_fail(err, SX_NO_MEMORY, "no memory for %u units", exec->n_units);
}

void sx_exec_fini(struct sx_exec *exec)
{
    free(exec->book);
    exec->book = NULL;
}

/* --- the book of units ------------------------------------------------------------------------ */

/* Tasks that have a unit in common have all their units in common. */
static void book_in(struct sx_exec *exec, const struct sx_task *task)
{
    uint64_t units = (uint64_t)task->first_unit << 48 | (uint64_t)task->n_units << 32;
    for (unsigned u = task->first_unit; u < task->first_unit + task->n_units; u++) {
        uint64_t old = atomic_load_explicit(&exec->book[u], memory_order_relaxed), n;
        do {
            n = old & UINT32_MAX;
            assert(n == 0 || old - n == units); /* two tasks overlap by half */
        } while (!atomic_compare_exchange_weak_explicit(
            &exec->book[u], &old, units | (n + 1), memory_order_acquire, memory_order_relaxed));
    }
}

static void book_out(struct sx_exec *exec, const struct sx_task *task)
{
    for (unsigned u = task->first_unit; u < task->first_unit + task->n_units; u++)
        atomic_fetch_sub_explicit(&exec->book[u], 1, memory_order_release);
}

void sx_exec_run(struct sx_task *task, unsigned unit)
{
    task->ran_on = unit;
    task->begin_ns = sx_now();
    task->run(task);
    task->end_ns = sx_now();
    if (task->slowdown > 1) {
        double ns = (double)(task->end_ns - task->begin_ns) * task->slowdown;
        sx_sleep_until(sx_time_add(task->begin_ns, (uint64_t)ns));
        task->end_ns = sx_now();
    }
}

void sx_exec_finish(struct sx_exec *exec, struct sx_task *task)
{
    if (task->first_unit != SX_ANY_UNIT)
        book_out(exec, task);
    task->done(task); /* from here on the task is its owner's */
}

/* --- the interface ---------------------------------------------------------------------------- */

unsigned sx_exec_max_units(enum sx_exec_kind kind)
{
    return kind == SX_EXEC_STARPU ? sx_exec_starpu_max_units() : UINT16_MAX;
}

enum sx_rc sx_exec_create(const struct sx_exec_config *config, struct sx_exec **ret_exec,
                          struct sx_err *err)
{
    if (config->n_units == 0)
        return sx_fail(err, SX_INVALID, "an executor needs at least one unit");
    if (config->n_units > UINT16_MAX)
        return sx_fail(err, SX_UNSUPPORTED, "%u units are too many", config->n_units);
    if (config->starpu_policy && config->kind != SX_EXEC_STARPU)
        return sx_fail(err, SX_INVALID, "'%s' is a policy of StarPU, and this is another executor",
                       config->starpu_policy);
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

enum sx_rc sx_exec_data_create(struct sx_exec *exec, struct sx_data **ret_data)
{
    struct sx_data *data = exec->ops->data_create(exec);
    if (!data)
        return SX_NO_MEMORY;
    *ret_data = data;
    return SX_OK;
}

void sx_exec_data_destroy(struct sx_exec *exec, struct sx_data *data)
{
    if (data)
        exec->ops->data_destroy(exec, data);
}

void sx_exec_expect(struct sx_exec *exec, unsigned unit)
{
    assert(unit < exec->n_units);
    if (exec->ops->expect)
        exec->ops->expect(exec, unit);
}

void sx_exec_submit(struct sx_exec *exec, struct sx_task *task)
{
    assert(task->run && task->done && task->n_units > 0);
    assert(task->n_data <= SX_TASK_DATA);
    for (unsigned i = 0; i < task->n_data; i++)
        for (unsigned k = 0; k < i; k++)
            assert(task->data[i] != task->data[k]); /* it would wait for itself */
    if (task->first_unit == SX_ANY_UNIT) {
        assert(exec->any_unit && task->n_units == 1);
    } else {
        assert(task->first_unit < exec->n_units);
        assert(task->n_units <= exec->n_units - task->first_unit);
        book_in(exec, task);
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
