/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * inline.c - runs each task inside sx_exec_submit, on the caller's thread.
 *
 * A thread's outermost submit has a frame on its stack.  A submit that finds a frame of its
 * executor only appends to it, so a chain of tasks that submit each other needs no stack.
 *
 * Tasks run in the order of their submission, one at a time in each frame, and what shares units or
 * data is submitted by one thread: so units and data need no book-keeping.
 */
#include <pthread.h>
#include <stdlib.h>

#include "base/list.h"
#include "exec/alarm.h"
#include "exec/exec_int.h"

struct inline_exec {
    struct sx_exec base;
    struct sx_alarm *alarm;
    pthread_mutex_t mutex; /* a leaf; guards n_active */
    pthread_cond_t idle;
    unsigned n_active; /* threads inside an outermost submit */
};

struct inline_task {
    struct sx_task base;
    struct sx_list link; /* in frame.tasks */
};

struct frame {
    struct frame *outer;
    struct inline_exec *exec;
    struct sx_list tasks; /* of inline_task.link */
};

static _Thread_local struct frame *frames; /* this thread's, innermost first */

static void inline_count(struct inline_exec *exec, int change)
{
    pthread_mutex_lock(&exec->mutex);
    exec->n_active += (unsigned)change;
    if (exec->n_active == 0)
        pthread_cond_broadcast(&exec->idle);
    pthread_mutex_unlock(&exec->mutex);
}

static void inline_submit(struct sx_exec *base, struct sx_task *task)
{
    struct inline_exec *exec = (struct inline_exec *)base;
    struct inline_task *t = (struct inline_task *)task;

    for (struct frame *f = frames; f; f = f->outer) {
        if (f->exec == exec) {
            sx_list_insert(&f->tasks, &t->link);
            return;
        }
    }
    struct frame frame = {.outer = frames, .exec = exec};
    sx_list_init(&frame.tasks);
    sx_list_insert(&frame.tasks, &t->link);
    frames = &frame;
    inline_count(exec, +1);
    while (!sx_list_empty(&frame.tasks)) {
        t = SX_CONTAINER_OF(frame.tasks.next, struct inline_task, link);
        sx_list_remove(&t->link);
        sx_exec_run(&t->base, t->base.first_unit);
        sx_exec_finish(base, &t->base);
    }
    frames = frame.outer;
    inline_count(exec, -1);
}

static struct sx_task *inline_task_create(struct sx_exec *base)
{
    (void)base;
    struct inline_task *t = calloc(1, sizeof *t);
    return t ? &t->base : NULL;
}

static void inline_task_destroy(struct sx_exec *base, struct sx_task *task)
{
    (void)base;
    free(task);
}

static struct sx_data *inline_data_create(struct sx_exec *base)
{
    (void)base;
    return malloc(1); /* a name, and nothing behind it */
}

static void inline_data_destroy(struct sx_exec *base, struct sx_data *data)
{
    (void)base;
    free(data);
}

static void inline_set_alarm(struct sx_exec *base, uint64_t at)
{
    sx_alarm_set(((struct inline_exec *)base)->alarm, at);
}

static void inline_destroy(struct sx_exec *base)
{
    struct inline_exec *exec = (struct inline_exec *)base;
    if (exec->alarm)
        sx_alarm_stop(exec->alarm);
    pthread_mutex_lock(&exec->mutex);
    while (exec->n_active > 0)
        pthread_cond_wait(&exec->idle, &exec->mutex);
    pthread_mutex_unlock(&exec->mutex);
    sx_alarm_destroy(exec->alarm);
    pthread_cond_destroy(&exec->idle);
    pthread_mutex_destroy(&exec->mutex);
    sx_exec_fini(base);
    free(exec);
}

static const struct sx_exec_ops inline_ops = {
    .destroy = inline_destroy,
    .task_create = inline_task_create,
    .task_destroy = inline_task_destroy,
    .data_create = inline_data_create,
    .data_destroy = inline_data_destroy,
    .submit = inline_submit,
    .set_alarm = inline_set_alarm,
};

enum sx_rc sx_exec_create_inline(const struct sx_exec_config *config, struct sx_exec **ret_exec,
                                 struct sx_err *err)
{
    struct inline_exec *exec = calloc(1, sizeof *exec);
    if (!exec)
        return sx_fail(err, SX_NO_MEMORY, "no memory for an executor");
    pthread_mutex_init(&exec->mutex, NULL);
    pthread_cond_init(&exec->idle, NULL);
    enum sx_rc rc = sx_exec_init(&exec->base, &inline_ops, sx_clock_real(), config, err);
    if (!rc)
        rc = sx_alarm_create(config->alarm, config->alarm_user, &exec->alarm, err);
    if (rc) {
        inline_destroy(&exec->base);
        return rc;
    }
    *ret_exec = &exec->base;
    return SX_OK;
}
