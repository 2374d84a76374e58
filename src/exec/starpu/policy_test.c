/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * policy_test.c - the policy under a bare StarPU: routing, order, waking, closing.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "exec/starpu/policy.h"
#include <cmocka.h>

#define WORKERS 2
#define TASKS   1000

static struct starpu_task *tasks[WORKERS][TASKS];
static unsigned order[WORKERS][TASKS]; /* the numbers of the tasks as worker w ran them */
static unsigned n_order[WORKERS];      /* worker w's */
static atomic_uint misplaced;

static void record(void *buffers[], void *arg)
{
    (void)buffers;
    unsigned number = (unsigned)(uintptr_t)arg, worker = starpu_worker_get_id_check();
    if (worker != number / TASKS)
        atomic_fetch_add(&misplaced, 1);
    order[worker][n_order[worker]++] = number % TASKS;
}

static struct starpu_codelet codelet = {.cpu_funcs = {record}, .name = "record"};

static void stop(void)
{
    sx_policy_close();
    starpu_shutdown();
}

static void start(void)
{
    setenv("STARPU_WORKERS_NOBIND", "1", 1);
    struct starpu_conf conf;
    assert_int_equal(starpu_conf_init(&conf), 0);
    conf.precedence_over_environment_variables = 1;
    conf.ncpus = WORKERS;
    conf.ncuda = conf.nopencl = 0;
    conf.catch_signals = 0;
    conf.sched_policy = &sx_policy;
    sx_policy_open(WORKERS, NULL);
    assert_int_equal(starpu_init(&conf), 0);
    if (starpu_worker_get_count() < WORKERS) {
        stop();
        skip(); /* one core */
    }
    assert_int_equal(sx_policy_wait_started(NULL), SX_OK);
}

/* Each worker runs the tasks that name it, in the order of their submission. */
static void test_order(void **state)
{
    (void)state;
    start();
    for (unsigned w = 0; w < WORKERS; w++) {
        n_order[w] = 0;
        for (unsigned i = 0; i < TASKS; i++) {
            tasks[w][i] = starpu_task_create();
            tasks[w][i]->cl = &codelet;
            tasks[w][i]->cl_arg = (void *)(uintptr_t)(w * TASKS + i);
            tasks[w][i]->destroy = 0;
            sx_policy_place(tasks[w][i], w);
        }
    }
    for (unsigned i = 0; i < TASKS; i++)
        for (unsigned w = 0; w < WORKERS; w++)
            assert_int_equal(starpu_task_submit(tasks[w][i]), 0);
    starpu_task_wait_for_all();
    assert_int_equal(misplaced, 0);
    for (unsigned w = 0; w < WORKERS; w++) {
        assert_int_equal(n_order[w], TASKS);
        for (unsigned i = 0; i < TASKS; i++) {
            assert_int_equal(order[w][i], i);
            starpu_task_destroy(tasks[w][i]);
        }
    }
    stop();
}

/* A task that follows another after a while finds its worker asleep, and wakes it. */
static void test_wakes(void **state)
{
    (void)state;
    start();
    struct starpu_task *task = starpu_task_create();
    task->cl = &codelet;
    task->destroy = 0;
    n_order[0] = 0;
    uint64_t begin = sx_now();
    for (unsigned i = 0; i < TASKS; i++) {
        sx_policy_place(task, 0);
        assert_int_equal(starpu_task_submit(task), 0);
        starpu_task_wait_for_all();
    }
    /* a lost wake-up would cost seconds: the worker's time-out */
    assert_true(sx_now() - begin < 30 * SX_S);
    assert_int_equal(n_order[0], TASKS);
    starpu_task_destroy(task);
    stop();
}

/* Idle workers use no CPU time to speak of: a spinning one would use all of it. */
static void test_idle(void **state)
{
    (void)state;
    start();
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    struct timespec pause = {.tv_nsec = 300 * 1000 * 1000};
    nanosleep(&pause, NULL); /* what is measured, not a way to wait for somebody */
    getrusage(RUSAGE_SELF, &after);
    int64_t us = (after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec -
                  before.ru_stime.tv_sec) *
                     INT64_C(1000000) +
                 after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec -
                 before.ru_stime.tv_usec;
    assert_true(us < 100 * 1000);
    stop();
}

static void test_stops_at_once(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        start();
        uint64_t begin = sx_now();
        stop();
        assert_true(sx_now() - begin < SX_S); /* not the workers' time-out */
    }
}

static void test_bad_cpu(void **state)
{
    (void)state;
    static const int cpus[WORKERS] = {-1, CPU_SETSIZE};
    struct starpu_conf conf;
    assert_int_equal(starpu_conf_init(&conf), 0);
    conf.precedence_over_environment_variables = 1;
    conf.ncpus = WORKERS;
    conf.ncuda = conf.nopencl = 0;
    conf.sched_policy = &sx_policy;
    sx_policy_open(WORKERS, cpus);
    assert_int_equal(starpu_init(&conf), 0);
    struct sx_err err;
    assert_int_equal(sx_policy_wait_started(&err), SX_UNSUPPORTED);
    assert_true(err.hint[0] != '\0');
    stop();
}

int main(void)
{
    /* StarPU's measurements of its buses: not into the home of who runs the tests */
    char dir[] = "/tmp/staronnx-policy-XXXXXX";
    if (!mkdtemp(dir))
        return 1;
    setenv("STARPU_PERF_MODEL_DIR", dir, 1);
    setenv("STARPU_HOME", dir, 1);
    setenv("HWLOC_PLUGINS_PATH", dir, 1); /* as starpu.c */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),         cmocka_unit_test(test_wakes),
        cmocka_unit_test(test_idle),          cmocka_unit_test(test_bad_cpu),
        cmocka_unit_test(test_stops_at_once),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    sx_dir_remove(dir, NULL);
    return rc;
}
