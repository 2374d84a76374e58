/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * virtual.c - a discrete-event simulation: time passes only in sx_exec_advance.
 *
 * Always true between calls
 *   V1  every submitted task is in the heap, which is ordered by (due, seq): equal times
 *       complete in the order of submission, so that a simulation repeats exactly.
 *   V2  the heap has room for every task that exists, so submit cannot fail.
 *   V3  nothing due is earlier than the clock; an alarm set to the past is due now.
 */
#include <stdlib.h>

#include "exec/exec_int.h"

struct virtual_task {
    struct sx_task base;
    uint64_t due;
    uint64_t seq;
};

struct virtual_exec {
    struct sx_exec base;
    struct sx_clock_virtual clock;
    struct virtual_task **heap;
    size_t n_heap, cap_heap;
    size_t n_tasks; /* that exist; <= cap_heap */
    uint64_t next_seq;
    uint64_t alarm_at; /* SX_NEVER: not set */
};

static bool before(const struct virtual_task *a, const struct virtual_task *b)
{
    return a->due != b->due ? a->due < b->due : a->seq < b->seq;
}

static void heap_push(struct virtual_exec *exec, struct virtual_task *t)
{
    size_t i = exec->n_heap++;
    for (size_t up; i > 0 && before(t, exec->heap[up = (i - 1) / 2]); i = up)
        exec->heap[i] = exec->heap[up];
    exec->heap[i] = t;
}

static struct virtual_task *heap_pop(struct virtual_exec *exec)
{
    struct virtual_task *top = exec->heap[0], *last = exec->heap[--exec->n_heap];
    size_t i = 0;
    for (;;) {
        size_t down = 2 * i + 1;
        if (down >= exec->n_heap)
            break;
        if (down + 1 < exec->n_heap && before(exec->heap[down + 1], exec->heap[down]))
            down++;
        if (!before(exec->heap[down], last))
            break;
        exec->heap[i] = exec->heap[down];
        i = down;
    }
    exec->heap[i] = last;
    return top;
}

static void complete_next(struct virtual_exec *exec)
{
    struct virtual_task *t = heap_pop(exec);
    sx_clock_virtual_advance(&exec->clock, t->due);
    sx_exec_finish(&exec->base, &t->base);
}

static uint64_t next_task(const struct virtual_exec *exec)
{
    return exec->n_heap ? exec->heap[0]->due : SX_NEVER;
}

static uint64_t next_alarm(const struct virtual_exec *exec)
{
    return exec->alarm_at < exec->clock.at ? exec->clock.at : exec->alarm_at;
}

static void virtual_submit(struct sx_exec *base, struct sx_task *task)
{
    struct virtual_exec *exec = (struct virtual_exec *)base;
    struct virtual_task *t = (struct virtual_task *)task;
    t->seq = exec->next_seq++;
    task->run(task);
    t->due = sx_time_add(exec->clock.at, task->virtual_ns);
    if (t->due == SX_NEVER) /* a time that is over can be waited for */
        t->due--;
    heap_push(exec, t);
}

static struct sx_task *virtual_task_create(struct sx_exec *base)
{
    struct virtual_exec *exec = (struct virtual_exec *)base;
    if (exec->n_tasks == exec->cap_heap) {
        size_t cap = exec->cap_heap ? 2 * exec->cap_heap : 16;
        struct virtual_task **heap = realloc(exec->heap, cap * sizeof *heap);
        if (!heap)
            return NULL;
        exec->heap = heap;
        exec->cap_heap = cap;
    }
    struct virtual_task *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    exec->n_tasks++;
    return &t->base;
}

static void virtual_task_destroy(struct sx_exec *base, struct sx_task *task)
{
    ((struct virtual_exec *)base)->n_tasks--;
    free(task);
}

static void virtual_set_alarm(struct sx_exec *base, uint64_t at)
{
    ((struct virtual_exec *)base)->alarm_at = base->alarm ? at : SX_NEVER;
}

static uint64_t virtual_next_event(struct sx_exec *base)
{
    struct virtual_exec *exec = (struct virtual_exec *)base;
    uint64_t task = next_task(exec), alarm = next_alarm(exec);
    return task < alarm ? task : alarm;
}

static void virtual_advance(struct sx_exec *base, uint64_t until)
{
    struct virtual_exec *exec = (struct virtual_exec *)base;
    for (;;) {
        uint64_t next = virtual_next_event(base);
        if (next == SX_NEVER || next > until)
            break;
        if (next_task(exec) == next) { /* at equal times completions come first */
            complete_next(exec);
        } else {
            sx_clock_virtual_advance(&exec->clock, next);
            exec->alarm_at = SX_NEVER;
            base->alarm(base->alarm_user);
        }
    }
    if (until != SX_NEVER)
        sx_clock_virtual_advance(&exec->clock, until);
}

static void virtual_destroy(struct sx_exec *base)
{
    struct virtual_exec *exec = (struct virtual_exec *)base;
    while (exec->n_heap)
        complete_next(exec);
    free(exec->heap);
    sx_exec_fini(base);
    free(exec);
}

static const struct sx_exec_ops virtual_ops = {
    .destroy = virtual_destroy,
    .task_create = virtual_task_create,
    .task_destroy = virtual_task_destroy,
    .submit = virtual_submit,
    .set_alarm = virtual_set_alarm,
    .advance = virtual_advance,
    .next_event = virtual_next_event,
};

enum sx_rc sx_exec_create_virtual(const struct sx_exec_config *config, struct sx_exec **ret_exec,
                                  struct sx_err *err)
{
    struct virtual_exec *exec = calloc(1, sizeof *exec);
    if (!exec)
        return sx_fail(err, SX_NO_MEMORY, "no memory for an executor");
    sx_clock_virtual_init(&exec->clock, 0);
    exec->alarm_at = SX_NEVER;
    enum sx_rc rc = sx_exec_init(&exec->base, &virtual_ops, &exec->clock.base, config, err);
    if (rc) {
        free(exec);
        return rc;
    }
    *ret_exec = &exec->base;
    return SX_OK;
}
