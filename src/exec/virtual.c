/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * virtual.c - a discrete-event simulation: time passes only in sx_exec_advance.
 *
 * A submitted task waits for its data, then in the queue of its first unit, then it runs.
 *
 * Always true between calls
 *   V1  every task that runs is in the heap, which is ordered by (due, seq): equal times
 *       complete in the order in which they began, so that a simulation repeats exactly.
 *   V2  the heap has room for every task that exists, so submit cannot fail.
 *   V3  nothing due is earlier than the clock; an alarm set to the past is due now.
 *   V4  a unit with a task in its queue runs another one.
 *   V5  the accesses of a data are in the order of their submission; those that are granted come
 *       first, and they are one write or only reads.
 *
 * `run` and `done` are called with `held` set: what becomes ready meanwhile begins when they have
 * returned, in the order in which it became ready.  So they never nest, and `done` of a task
 * returns before anything runs that waited for it.
 */
#include <assert.h>
#include <stdlib.h>

#include "base/list.h"
#include "exec/exec_int.h"

struct virtual_data {
    struct sx_list accesses; /* of access.link */
};

struct access {
    struct sx_list link; /* in virtual_data.accesses */
    struct virtual_task *task;
    enum sx_mode mode;
    bool granted;
};

struct virtual_task {
    struct sx_task base;
    uint64_t due;
    uint64_t seq;
    struct sx_list link; /* in virtual_unit.queue */
    unsigned n_missing;  /* accesses that are not granted */
    struct access accesses[SX_TASK_DATA];
};

struct virtual_unit {
    struct sx_list link;  /* in virtual_exec.startable: not busy, and its queue is not empty */
    struct sx_list queue; /* of virtual_task.link */
    bool busy;
};

struct virtual_exec {
    struct sx_exec base;
    struct sx_clock_virtual clock;
    struct virtual_unit *units;
    struct sx_list startable; /* of virtual_unit.link */
    bool held;
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

/* --- units ------------------------------------------------------------------------------------ */

static void begin(struct virtual_exec *exec, struct virtual_task *t)
{
    struct sx_task *task = &t->base;
    task->ran_on = task->first_unit;
    task->begin_ns = exec->clock.at;
    task->run(task);
    uint64_t ns = task->virtual_ns;
    if (task->slowdown > 1) {
        double slow = (double)ns * task->slowdown;
        ns = slow < 0x1p63 ? (uint64_t)slow : SX_NEVER;
    }
    t->due = sx_time_add(exec->clock.at, ns);
    if (t->due == SX_NEVER) /* a time that is over can be waited for */
        t->due--;
    t->seq = exec->next_seq++;
    heap_push(exec, t);
}

static void begin_all(struct virtual_exec *exec)
{
    if (exec->held)
        return;
    exec->held = true;
    while (!sx_list_empty(&exec->startable)) {
        struct virtual_unit *unit =
            SX_CONTAINER_OF(exec->startable.next, struct virtual_unit, link);
        struct virtual_task *t = SX_CONTAINER_OF(unit->queue.next, struct virtual_task, link);
        sx_list_remove(&unit->link);
        sx_list_remove(&t->link);
        unit->busy = true;
        begin(exec, t);
    }
    exec->held = false;
}

static void look_at(struct virtual_exec *exec, struct virtual_unit *unit)
{
    if (!unit->busy && !sx_list_empty(&unit->queue) && sx_list_empty(&unit->link))
        sx_list_insert(&exec->startable, &unit->link);
}

static void make_ready(struct virtual_exec *exec, struct virtual_task *t)
{
    struct virtual_unit *unit = &exec->units[t->base.first_unit];
    sx_list_insert(&unit->queue, &t->link);
    look_at(exec, unit);
}

/* --- data ------------------------------------------------------------------------------------- */

/* Grant what may now access `data`. */
static void grant(struct virtual_exec *exec, struct virtual_data *data)
{
    SX_LIST_FOREACH (it, &data->accesses) {
        struct access *a = SX_CONTAINER_OF(it, struct access, link);
        bool first = it->prev == &data->accesses;
        if (!first && (a->mode == SX_WRITE ||
                       SX_CONTAINER_OF(it->prev, struct access, link)->mode == SX_WRITE))
            break; /* and all that come behind it wait, too */
        if (!a->granted) {
            a->granted = true;
            if (--a->task->n_missing == 0)
                make_ready(exec, a->task);
        }
    }
}

static void ask_for_data(struct virtual_exec *exec, struct virtual_task *t)
{
    const struct sx_task *task = &t->base;
    t->n_missing = task->n_data + 1; /* 1: not ready before the last one has been asked for */
    for (unsigned i = 0; i < task->n_data; i++) {
        struct virtual_data *data = (struct virtual_data *)task->data[i];
        t->accesses[i] = (struct access){.task = t, .mode = task->modes[i]};
        sx_list_insert(&data->accesses, &t->accesses[i].link);
        grant(exec, data);
    }
    if (--t->n_missing == 0)
        make_ready(exec, t);
}

static void release_data(struct virtual_exec *exec, struct virtual_task *t)
{
    for (unsigned i = 0; i < t->base.n_data; i++) {
        sx_list_remove(&t->accesses[i].link);
        grant(exec, (struct virtual_data *)t->base.data[i]);
    }
}

static struct sx_data *virtual_data_create(struct sx_exec *base)
{
    (void)base;
    struct virtual_data *data = malloc(sizeof *data);
    if (data)
        sx_list_init(&data->accesses);
    return (struct sx_data *)data;
}

static void virtual_data_destroy(struct sx_exec *base, struct sx_data *data)
{
    (void)base;
    assert(sx_list_empty(&((struct virtual_data *)data)->accesses)); /* a task still names it */
    free(data);
}

/* --- time ------------------------------------------------------------------------------------- */

static void complete_next(struct virtual_exec *exec)
{
    struct virtual_task *t = heap_pop(exec);
    struct virtual_unit *unit = &exec->units[t->base.first_unit];
    sx_clock_virtual_advance(&exec->clock, t->due);
    t->base.end_ns = t->due;
    unit->busy = false;
    look_at(exec, unit);
    release_data(exec, t);
    exec->held = true;
    sx_exec_finish(&exec->base, &t->base);
    exec->held = false;
    begin_all(exec);
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
    ask_for_data(exec, (struct virtual_task *)task);
    begin_all(exec);
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
    free(exec->units);
    sx_exec_fini(base);
    free(exec);
}

static const struct sx_exec_ops virtual_ops = {
    .destroy = virtual_destroy,
    .task_create = virtual_task_create,
    .task_destroy = virtual_task_destroy,
    .data_create = virtual_data_create,
    .data_destroy = virtual_data_destroy,
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
    sx_list_init(&exec->startable);
    exec->alarm_at = SX_NEVER;
    enum sx_rc rc = sx_exec_init(&exec->base, &virtual_ops, &exec->clock.base, config, err);
    if (!rc) {
        exec->units = calloc(config->n_units, sizeof *exec->units);
        if (!exec->units)
            rc = sx_fail(err, SX_NO_MEMORY, "no memory for %u units", config->n_units);
    }
    if (rc) {
        virtual_destroy(&exec->base);
        return rc;
    }
    for (unsigned u = 0; u < config->n_units; u++) {
        sx_list_init(&exec->units[u].link);
        sx_list_init(&exec->units[u].queue);
    }
    *ret_exec = &exec->base;
    return SX_OK;
}
