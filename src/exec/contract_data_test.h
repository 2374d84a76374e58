/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * contract_data_test.h - jobs that name data and units, for contract_data_test.c.
 */
#ifndef SX_EXEC_CONTRACT_DATA_TEST_H
#define SX_EXEC_CONTRACT_DATA_TEST_H

#include <pthread.h>
#include <string.h>

#include "base/rng.h"
#include "exec/contract_test.h"
#include "exec/exec.h"

#define TASKS 250
#define DATA  SX_TASK_DATA

static atomic_uint stamp;      /* what is the order of events? */
static atomic_uint n_expected; /* calls of expect_ns */
static double unit_ns[UNITS];  /* what it answers */

struct fix {
    enum sx_exec_kind kind;
    bool chooses; /* StarPU's policy chooses the unit */
    struct sx_exec *exec;
    unsigned n; /* units: UNITS, or fewer where StarPU finds fewer cores */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned n_done; /* under the mutex */
    struct sx_rng rng;
};

struct job {
    struct fix *fix;
    struct sx_task *task;
    struct sx_data *data[DATA];
    enum sx_mode modes[DATA];
    uint64_t spin_ns;
    unsigned left;         /* times that `done` submits again */
    unsigned began, ended; /* stamps of `run`, of `done` */
    uint64_t ready_ns;     /* of the twin */
};

static inline double expect_ns(void *user, unsigned unit)
{
    EXPECT(((struct job *)user)->fix != NULL);
    atomic_fetch_add(&n_expected, 1);
    return unit_ns[unit];
}

static inline int setup(void **state, enum sx_exec_kind kind, const char *policy)
{
    struct fix *f = calloc(1, sizeof *f);
    f->kind = kind;
    f->chooses = policy != NULL;
    pthread_mutex_init(&f->mutex, NULL);
    pthread_cond_init(&f->changed, NULL);
    sx_rng_init(&f->rng, 11);
    struct sx_exec_config config = {.kind = kind,
                                    .n_units = UNITS,
                                    .cpus = cpus,
                                    .starpu_policy = policy,
                                    .expect_ns = policy ? expect_ns : NULL};
    for (unsigned u = 0; u < UNITS; u++)
        unit_ns[u] = 10e3;
    struct sx_err err;
    while (sx_exec_create(&config, &f->exec, &err)) {
        if (err.rc != SX_UNSUPPORTED || --config.n_units == 0)
            fail_msg("%s (%s)", err.message, err.hint);
    }
    f->n = config.n_units;
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    struct fix *f = *state;
    sx_exec_destroy(f->exec);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->mutex);
    free(f);
    return atomic_exchange(&wrong, 0);
}

static inline int setup_starpu(void **state)
{
    return setup(state, SX_EXEC_STARPU, NULL);
}

static inline int setup_inline(void **state)
{
    return setup(state, SX_EXEC_INLINE, NULL);
}

static inline int setup_virtual(void **state)
{
    return setup(state, SX_EXEC_VIRTUAL, NULL);
}

static inline int setup_lws(void **state)
{
    return setup(state, SX_EXEC_STARPU, "lws");
}

static inline int setup_dmdas(void **state)
{
    return setup(state, SX_EXEC_STARPU, "dmdas");
}

static inline void wait_done(struct fix *f, unsigned n)
{
    sx_exec_advance(f->exec, SX_NEVER);
    pthread_mutex_lock(&f->mutex);
    while (f->n_done < n)
        pthread_cond_wait(&f->changed, &f->mutex);
    f->n_done -= n;
    pthread_mutex_unlock(&f->mutex);
}

static inline void post_done(struct fix *f)
{
    pthread_mutex_lock(&f->mutex);
    f->n_done++;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mutex);
}

static inline void job_run(struct sx_task *task)
{
    struct job *j = task->user;
    j->began = atomic_fetch_add(&stamp, 1);
    EXPECT(task->ran_on < j->fix->n);
    if (j->fix->kind == SX_EXEC_STARPU)
        EXPECT(sched_getcpu() == cpus[task->ran_on]);
    if (j->fix->kind == SX_EXEC_VIRTUAL)
        task->virtual_ns = j->spin_ns;
    else
        for (uint64_t until = sx_now() + j->spin_ns; sx_now() < until;)
            ;
}

static inline void job_done(struct sx_task *task)
{
    struct job *j = task->user;
    struct fix *f = j->fix;
    j->ended = atomic_fetch_add(&stamp, 1);
    EXPECT(task->end_ns >= task->begin_ns + j->spin_ns);
    EXPECT(task->first_unit == SX_ANY_UNIT || task->ran_on == task->first_unit);
    if (j->left > 0) {
        j->left--;
        sx_exec_submit(f->exec, task);
        return;
    }
    post_done(f);
}

static inline void job_init(struct job *j, struct fix *f, unsigned unit)
{
    memset(j, 0, sizeof *j);
    j->fix = f;
    assert_int_equal(sx_exec_task_create(f->exec, &j->task), SX_OK);
    *j->task = (struct sx_task){.run = job_run,
                                .done = job_done,
                                .user = j,
                                .first_unit = unit,
                                .n_units = 1,
                                .data = j->data,
                                .modes = j->modes,
                                .name = "test"};
}

static inline void job_data(struct job *j, struct sx_data *data, enum sx_mode mode)
{
    j->data[j->task->n_data] = data;
    j->modes[j->task->n_data++] = mode;
}

static inline void data_init(struct fix *f, struct sx_data **data, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(sx_exec_data_create(f->exec, &data[i]), SX_OK);
}

static inline void data_fini(struct fix *f, struct sx_data **data, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        sx_exec_data_destroy(f->exec, data[i]);
}

#endif
