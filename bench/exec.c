/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * exec.c - what the StarPU executor costs: its start, a task's way there and back, idle time.
 *
 * Usage: bench-exec [TASKS [UNITS]]     one line per figure, on stdout
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "exec/exec.h"

struct probe {
    struct sx_exec *exec;
    uint64_t submitted, ran, done;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool back;      /* under the mutex */
    unsigned left;  /* of a chain */
    uint64_t *gaps; /* of a chain: `run` to the next `run` */
};

static void probe_run(struct sx_task *task)
{
    struct probe *p = task->user;
    p->ran = sx_now();
}

static void probe_done(struct sx_task *task)
{
    struct probe *p = task->user;
    p->done = sx_now();
    pthread_mutex_lock(&p->mutex);
    p->back = true;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->mutex);
}

static void chain_run(struct sx_task *task)
{
    struct probe *p = task->user;
    uint64_t now = sx_now();
    p->gaps[p->left] = now - p->ran;
    p->ran = now;
}

static void chain_done(struct sx_task *task)
{
    struct probe *p = task->user;
    if (p->left-- > 0)
        sx_exec_submit(p->exec, task);
    else
        probe_done(task);
}

static void wait_back(struct probe *p)
{
    pthread_mutex_lock(&p->mutex);
    while (!p->back)
        pthread_cond_wait(&p->changed, &p->mutex);
    p->back = false;
    pthread_mutex_unlock(&p->mutex);
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void show(const char *what, uint64_t *ns, unsigned n)
{
    qsort(ns, n, sizeof *ns, ascending);
    printf("%-34s p50 %6.2f  p90 %6.2f  p99 %6.2f us\n", what, (double)ns[n / 2] / 1e3,
           (double)ns[n * 9ul / 10] / 1e3, (double)ns[n * 99ul / 100] / 1e3);
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static void pause_ns(long ns)
{
    struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    nanosleep(&t, NULL);
}

static void ignore(void *user)
{
    (void)user;
}

/* One task at a time, submitted `gap` after the last one came back. */
static void ping(struct probe *p, struct sx_task *task, const char *name, unsigned n, long gap)
{
    uint64_t *to = calloc(n, sizeof *to), *back = calloc(n, sizeof *back),
             *waiter = calloc(n, sizeof *waiter), *call = calloc(n, sizeof *call);
    if (!to || !back || !waiter || !call)
        abort();
    for (unsigned i = 0; i < n; i++) {
        if (gap)
            pause_ns(gap);
        p->submitted = sx_now();
        sx_exec_submit(p->exec, task);
        call[i] = sx_now() - p->submitted;
        wait_back(p);
        waiter[i] = sx_now() - p->done;
        to[i] = p->ran - p->submitted;
        back[i] = p->done - p->ran;
    }
    char text[64];
    snprintf(text, sizeof text, "%s: submit returns", name);
    show(text, call, n);
    snprintf(text, sizeof text, "%s: submit to run", name);
    show(text, to, n);
    snprintf(text, sizeof text, "%s: run to done", name);
    show(text, back, n);
    snprintf(text, sizeof text, "%s: done to waiter", name);
    show(text, waiter, n);
    free(to);
    free(back);
    free(waiter);
    free(call);
}

/* Two stages: the second one, on another unit, waits for what the first one writes. */
static void stages(struct probe *p, unsigned units, unsigned n)
{
    struct sx_task *first, *second;
    struct sx_data *data;
    struct probe before = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    const enum sx_mode write = SX_WRITE, read = SX_READ;
    uint64_t *call = calloc(n, sizeof *call), *over = calloc(n, sizeof *over);
    if (sx_exec_task_create(p->exec, &first) || sx_exec_task_create(p->exec, &second) ||
        sx_exec_data_create(p->exec, &data) || !call || !over)
        abort();
    *first = (struct sx_task){.run = probe_run,
                              .done = probe_done,
                              .user = &before,
                              .n_units = 1,
                              .data = &data,
                              .modes = &write,
                              .n_data = 1};
    *second = (struct sx_task){.run = probe_run,
                               .done = probe_done,
                               .user = p,
                               .first_unit = units - 1,
                               .n_units = 1,
                               .data = &data,
                               .modes = &read,
                               .n_data = 1};
    for (unsigned i = 0; i < n; i++) {
        uint64_t begin = sx_now();
        sx_exec_submit(p->exec, first);
        sx_exec_submit(p->exec, second);
        call[i] = (sx_now() - begin) / 2;
        wait_back(p);
        wait_back(&before);
        over[i] = second->begin_ns > first->end_ns ? second->begin_ns - first->end_ns : 0;
    }
    show("stages: submit returns", call, n);
    show("stages: end to next stage's begin", over, n);
    sx_exec_task_destroy(p->exec, first);
    sx_exec_task_destroy(p->exec, second);
    sx_exec_data_destroy(p->exec, data);
    free(call);
    free(over);
}

int main(int argc, char **argv)
{
    unsigned n = argc > 1 ? (unsigned)atoi(argv[1]) : 20000;
    unsigned units = argc > 2 ? (unsigned)atoi(argv[2]) : 2;
    int cpus[64];
    cpu_set_t set;
    if (n == 0 || units == 0 || units > 64 || sched_getaffinity(0, sizeof set, &set))
        return 2;
    for (unsigned u = 0, cpu = 0; u < units; cpu = (cpu + 1) % CPU_SETSIZE)
        if (CPU_ISSET(cpu, &set))
            cpus[u++] = (int)cpu;

    struct probe p = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct sx_err err;
    for (int i = 0; i < 3; i++) {
        struct sx_exec_config config = {
            .kind = SX_EXEC_STARPU, .n_units = units, .cpus = cpus, .alarm = ignore};
        uint64_t begin = sx_now();
        if (sx_exec_create(&config, &p.exec, &err)) {
            fprintf(stderr, "%s\n%s\n", err.message, err.hint);
            return 1;
        }
        uint64_t middle = sx_now();
        if (i < 2)
            sx_exec_destroy(p.exec);
        printf("start %.1f ms, stop %.1f ms\n", (double)(middle - begin) / 1e6,
               i < 2 ? (double)(sx_now() - middle) / 1e6 : 0.0);
    }

    double cpu = cpu_seconds();
    uint64_t begin = sx_now();
    pause_ns(3000000000);
    printf("idle: %.3f %% of a core\n", (cpu_seconds() - cpu) * 1e11 / (double)(sx_now() - begin));

    struct sx_task *task;
    if (sx_exec_task_create(p.exec, &task))
        return 1;
    *task = (struct sx_task){
        .run = probe_run, .done = probe_done, .user = &p, .first_unit = units - 1, .n_units = 1};
    ping(&p, task, "at once", n, 0);
    ping(&p, task, "after 200 us", n / 10 + 1, 200000);

    p.gaps = calloc(n + 1, sizeof *p.gaps);
    if (!p.gaps)
        return 1;
    p.left = n;
    task->run = chain_run;
    task->done = chain_done;
    p.ran = sx_now();
    sx_exec_submit(p.exec, task);
    wait_back(&p);
    show("chain: run to next run", p.gaps, n);

    stages(&p, units, n);

    uint64_t far = sx_now() + 3600 * SX_S;
    sx_exec_set_alarm(p.exec, far);
    pause_ns(10000000);
    begin = sx_now();
    for (unsigned i = 0; i < 1000000; i++)
        sx_exec_set_alarm(p.exec, far + i);
    printf("set_alarm to a later time: %.1f ns\n", (double)(sx_now() - begin) / 1e6);

    sx_exec_task_destroy(p.exec, task);
    sx_exec_destroy(p.exec);
    free(p.gaps);
    return 0;
}
