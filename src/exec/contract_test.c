/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * contract_test.c - the contract of exec.h, run against every implementation, and what is each
 * one's own.  SX_STRESS=N multiplies the lengths of the stress tests.
 */
#include <pthread.h>
#include <string.h>

#include "base/rng.h"
#include "exec/contract_test.h"
#include "exec/exec.h"

struct fix {
    enum sx_exec_kind kind;
    struct sx_exec *exec;
    unsigned n; /* units: UNITS, or fewer where StarPU finds fewer cores */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    /* under the mutex */
    unsigned n_done;
    unsigned n_alarms;
    uint64_t alarmed_at;
    void (*on_alarm)(struct fix *f);
    bool free_units[UNITS];
    uint64_t left; /* submits that a stress test still makes */
    struct sx_rng rng;
};

struct job {
    struct fix *fix;
    struct sx_task *task;
    uint64_t left;    /* times that `done` submits again */
    atomic_uint runs; /* of the submit under way: 1 after `run` */
    unsigned total;
    int cpu; /* where `run` was; -1: on more than one CPU */
};

static void fix_alarm(void *user)
{
    struct fix *f = user;
    pthread_mutex_lock(&f->mutex);
    f->n_alarms++;
    f->alarmed_at = sx_clock_now(sx_exec_clock(f->exec));
    void (*more)(struct fix *) = f->on_alarm;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mutex);
    if (more)
        more(f);
}

static int setup(void **state, enum sx_exec_kind kind)
{
    struct fix *f = calloc(1, sizeof *f);
    f->kind = kind;
    pthread_mutex_init(&f->mutex, NULL);
    pthread_cond_init(&f->changed, NULL);
    sx_rng_init(&f->rng, 7);
    struct sx_exec_config config = {
        .kind = kind, .n_units = UNITS, .cpus = cpus, .alarm = fix_alarm, .alarm_user = f};
    struct sx_err err;
    while (sx_exec_create(&config, &f->exec, &err)) {
        if (err.rc != SX_UNSUPPORTED || --config.n_units == 0)
            fail_msg("%s (%s)", err.message, err.hint);
    }
    f->n = config.n_units;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fix *f = *state;
    sx_exec_destroy(f->exec);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->mutex);
    free(f);
    return atomic_exchange(&wrong, 0);
}

static int setup_starpu(void **state)
{
    return setup(state, SX_EXEC_STARPU);
}

static int setup_inline(void **state)
{
    return setup(state, SX_EXEC_INLINE);
}

static int setup_virtual(void **state)
{
    return setup(state, SX_EXEC_VIRTUAL);
}

static void wait_done(struct fix *f, unsigned n)
{
    sx_exec_advance(f->exec, SX_NEVER);
    pthread_mutex_lock(&f->mutex);
    while (f->n_done < n)
        pthread_cond_wait(&f->changed, &f->mutex);
    pthread_mutex_unlock(&f->mutex);
}

static void wait_alarms(struct fix *f, unsigned n)
{
    sx_exec_advance(f->exec, SX_NEVER);
    pthread_mutex_lock(&f->mutex);
    while (f->n_alarms < n)
        pthread_cond_wait(&f->changed, &f->mutex);
    pthread_mutex_unlock(&f->mutex);
}

static void post_done(struct fix *f)
{
    pthread_mutex_lock(&f->mutex);
    f->n_done++;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mutex);
}

static void job_run(struct sx_task *task)
{
    struct job *j = task->user;
    EXPECT(atomic_fetch_add(&j->runs, 1) == 0);
    task->virtual_ns = 100;
    if (j->fix->kind == SX_EXEC_STARPU) {
        cpu_set_t set;
        EXPECT(sched_getaffinity(0, sizeof set, &set) == 0);
        EXPECT(CPU_COUNT(&set) == 1 && CPU_ISSET((unsigned)cpus[task->first_unit], &set));
        EXPECT(sched_getcpu() == cpus[task->first_unit]);
    }
}

/* Has `run` run once since the submit? */
static void job_ended(struct job *j)
{
    EXPECT(atomic_exchange(&j->runs, 0) == 1);
    j->total++;
}

static void job_done(struct sx_task *task)
{
    struct job *j = task->user;
    job_ended(j);
    if (j->left > 0) {
        j->left--;
        sx_exec_submit(j->fix->exec, task);
        return;
    }
    post_done(j->fix);
}

static void job_init(struct job *j, struct fix *f, unsigned unit, unsigned n_units)
{
    memset(j, 0, sizeof *j);
    j->fix = f;
    assert_int_equal(sx_exec_task_create(f->exec, &j->task), SX_OK);
    *j->task = (struct sx_task){.run = job_run,
                                .done = job_done,
                                .user = j,
                                .first_unit = unit,
                                .n_units = n_units,
                                .name = "test"};
}

static void test_each_runs_once(void **state)
{
    struct fix *f = *state;
    struct job jobs[UNITS];
    for (unsigned u = 0; u < f->n; u++)
        job_init(&jobs[u], f, u, 1);
    for (unsigned round = 1; round <= 50; round++) {
        for (unsigned u = 0; u < f->n; u++)
            sx_exec_submit(f->exec, jobs[u].task);
        wait_done(f, round * f->n);
        for (unsigned u = 0; u < f->n; u++)
            assert_int_equal(jobs[u].total, round);
    }
    assert_int_equal(wrong, 0);
    for (unsigned u = 0; u < f->n; u++)
        sx_exec_task_destroy(f->exec, jobs[u].task);
}

/* Who is expected and does not come does no harm, and who comes is not lost. */
static void test_expected(void **state)
{
    struct fix *f = *state;
    struct job jobs[UNITS];
    for (unsigned u = 0; u < f->n; u++)
        job_init(&jobs[u], f, u, 1);
    for (unsigned round = 0; round < 300; round++) {
        for (unsigned u = 0; u < f->n; u++)
            sx_exec_expect(f->exec, u);
        sx_exec_submit(f->exec, jobs[round % f->n].task);
        wait_done(f, round + 1);
    }
    for (unsigned u = 0; u < f->n; u++) {
        assert_int_equal(jobs[u].total, (300 - u + f->n - 1) / f->n);
        sx_exec_task_destroy(f->exec, jobs[u].task);
    }
    assert_int_equal(wrong, 0);
}

static void test_resubmit_from_done(void **state)
{
    struct fix *f = *state;
    struct job jobs[UNITS];
    for (unsigned u = 0; u < f->n; u++) {
        job_init(&jobs[u], f, u, 1);
        jobs[u].left = 20000 * stress();
    }
    for (unsigned u = 0; u < f->n; u++)
        sx_exec_submit(f->exec, jobs[u].task);
    wait_done(f, f->n);
    for (unsigned u = 0; u < f->n; u++) {
        assert_int_equal(jobs[u].total, 20000 * stress() + 1);
        sx_exec_task_destroy(f->exec, jobs[u].task);
    }
    assert_int_equal(wrong, 0);
}

/* A wide task holds all units, then narrow ones run on each, then the wide one again. */
static void narrow_done(struct sx_task *task)
{
    struct job *j = task->user;
    job_ended(j);
    post_done(j->fix);
}

static void test_wide(void **state)
{
    struct fix *f = *state;
    struct job wide, narrow[UNITS];
    job_init(&wide, f, 0, f->n);
    for (unsigned u = 0; u < f->n; u++) {
        job_init(&narrow[u], f, u, 1);
        narrow[u].task->done = narrow_done;
    }
    for (unsigned round = 0; round < 200; round++) {
        wide.task->first_unit = round % f->n;
        wide.task->n_units = f->n - round % f->n;
        sx_exec_submit(f->exec, wide.task);
        wait_done(f, round * (f->n + 1) + 1);
        for (unsigned u = 0; u < f->n; u++)
            sx_exec_submit(f->exec, narrow[u].task);
        wait_done(f, (round + 1) * (f->n + 1));
    }
    assert_int_equal(wrong, 0);
    sx_exec_task_destroy(f->exec, wide.task);
    for (unsigned u = 0; u < f->n; u++)
        sx_exec_task_destroy(f->exec, narrow[u].task);
}

/* Tasks move between units: `done` frees its unit and submits the task to another free one. */
static void roam_done(struct sx_task *task)
{
    struct job *j = task->user;
    struct fix *f = j->fix;
    job_ended(j);
    bool go = false;
    pthread_mutex_lock(&f->mutex);
    f->free_units[task->first_unit] = true;
    if (f->left > 0) {
        f->left--;
        unsigned u = (unsigned)sx_rng_below(&f->rng, f->n);
        while (!f->free_units[u])
            u = (u + 1) % f->n;
        f->free_units[u] = false;
        task->first_unit = u;
        go = true;
    } else {
        f->n_done++;
        pthread_cond_broadcast(&f->changed);
    }
    pthread_mutex_unlock(&f->mutex);
    if (go)
        sx_exec_submit(f->exec, task);
}

static void test_roam(void **state)
{
    struct fix *f = *state;
    struct job jobs[UNITS];
    if (f->n < 2)
        return; /* nowhere to roam */
    f->free_units[f->n - 1] = true;
    f->left = 50000 * stress();
    for (unsigned u = 0; u + 1 < f->n; u++) {
        job_init(&jobs[u], f, u, 1);
        jobs[u].task->done = roam_done;
    }
    for (unsigned u = 0; u + 1 < f->n; u++)
        sx_exec_submit(f->exec, jobs[u].task);
    wait_done(f, f->n - 1);
    unsigned total = 0;
    for (unsigned u = 0; u + 1 < f->n; u++) {
        total += jobs[u].total;
        sx_exec_task_destroy(f->exec, jobs[u].task);
    }
    assert_int_equal(total, 50000 * stress() + f->n - 1);
    assert_int_equal(wrong, 0);
}

/* Many threads, each with a unit, submit again as soon as `done` was called. */
struct owner {
    struct job job;
    pthread_t thread;
    atomic_bool back; /* `done` was called */
};

static void owner_done(struct sx_task *task)
{
    struct owner *o = task->user;
    job_ended(&o->job);
    atomic_store(&o->back, true);
}

static void *owner_main(void *arg)
{
    struct owner *o = arg;
    for (unsigned i = 0; i < 5000 * stress(); i++) {
        atomic_store(&o->back, false);
        sx_exec_submit(o->job.fix->exec, o->job.task);
        while (!atomic_load(&o->back))
            sched_yield(); /* as soon as possible after `done`, while StarPU tidies up */
    }
    return NULL;
}

static void test_many_threads(void **state)
{
    struct fix *f = *state;
    if (f->kind == SX_EXEC_VIRTUAL)
        return; /* one thread owns it */
    static struct owner owners[UNITS];
    for (unsigned u = 0; u < f->n; u++) {
        struct owner *o = &owners[u];
        job_init(&o->job, f, u, 1);
        o->job.task->user = o;
        o->job.task->done = owner_done;
        assert_int_equal(pthread_create(&o->thread, NULL, owner_main, o), 0);
    }
    for (unsigned u = 0; u < f->n; u++) {
        pthread_join(owners[u].thread, NULL);
        assert_int_equal(owners[u].job.total, 5000 * stress());
        sx_exec_task_destroy(f->exec, owners[u].job.task);
    }
    assert_int_equal(wrong, 0);
}

static void last_done(struct sx_task *task)
{
    struct job *j = task->user;
    bool last = j->left == 0;
    struct sx_exec *exec = j->fix->exec;
    job_done(task);
    if (last)
        sx_exec_task_destroy(exec, task);
}

static void test_destroy_waits(void **state)
{
    struct fix *f = *state;
    struct job jobs[UNITS];
    for (unsigned u = 0; u < f->n; u++) {
        job_init(&jobs[u], f, u, 1);
        jobs[u].task->done = last_done;
        jobs[u].left = 500;
    }
    for (unsigned u = 0; u < f->n; u++)
        sx_exec_submit(f->exec, jobs[u].task);
    sx_exec_set_alarm(f->exec, sx_time_add(sx_clock_now(sx_exec_clock(f->exec)), 3600 * SX_S));
    sx_exec_destroy(f->exec);
    f->exec = NULL;
    for (unsigned u = 0; u < f->n; u++)
        assert_int_equal(jobs[u].total, 501);
    assert_int_equal(f->n_alarms, 0);
}

static void test_alarm(void **state)
{
    struct fix *f = *state;
    struct sx_clock *clock = sx_exec_clock(f->exec);

    uint64_t at = sx_clock_now(clock) + SX_MS;
    sx_exec_set_alarm(f->exec, at);
    wait_alarms(f, 1);
    assert_true(f->alarmed_at >= at);

    /* the past is now */
    sx_exec_set_alarm(f->exec, 0);
    wait_alarms(f, 2);

    /* to an earlier time */
    at = sx_clock_now(clock) + SX_MS;
    sx_exec_set_alarm(f->exec, sx_clock_now(clock) + 3600 * SX_S);
    sx_exec_set_alarm(f->exec, at);
    wait_alarms(f, 3);
    assert_true(f->alarmed_at >= at && f->alarmed_at < at + 600 * SX_S);

    /* to a later time, and cleared between: one call, not before the later time */
    at = sx_clock_now(clock) + 60 * SX_MS;
    sx_exec_set_alarm(f->exec, at - 30 * SX_MS);
    sx_exec_set_alarm(f->exec, SX_NEVER);
    sx_exec_set_alarm(f->exec, at);
    wait_alarms(f, 4);
    assert_true(f->alarmed_at >= at);
    assert_int_equal(f->n_alarms, 4);

    /* cleared: not called before a later one */
    sx_exec_set_alarm(f->exec, sx_clock_now(clock) + 3600 * SX_S);
    sx_exec_set_alarm(f->exec, SX_NEVER);
    sx_exec_set_alarm(f->exec, sx_clock_now(clock));
    wait_alarms(f, 5);
    assert_int_equal(f->n_alarms, 5);
}

static void alarm_again(struct fix *f)
{
    pthread_mutex_lock(&f->mutex);
    bool more = f->left > 0;
    f->left -= more;
    pthread_mutex_unlock(&f->mutex);
    if (more)
        sx_exec_set_alarm(f->exec, sx_clock_now(sx_exec_clock(f->exec)) + 20 * SX_US);
}

static void test_alarm_rearms(void **state)
{
    struct fix *f = *state;
    f->on_alarm = alarm_again;
    f->left = 200;
    sx_exec_set_alarm(f->exec, sx_clock_now(sx_exec_clock(f->exec)));
    wait_alarms(f, 201);
    assert_int_equal(f->n_alarms, 201);
}

/* The alarm is set over and over from one thread; a setting is never slept over. */
static void test_alarm_not_lost(void **state)
{
    struct fix *f = *state;
    struct sx_clock *clock = sx_exec_clock(f->exec);
    for (unsigned i = 1; i <= 2000 * stress(); i++) {
        sx_exec_set_alarm(f->exec, sx_clock_now(clock) + 100 * SX_S);
        sx_exec_set_alarm(f->exec, sx_clock_now(clock) + sx_rng_below(&f->rng, 5 * SX_US));
        wait_alarms(f, i);
    }
    assert_int_equal(f->n_alarms, 2000 * stress());
}

static void free_done(struct sx_task *task)
{
    struct job *j = task->user;
    job_ended(j);
    struct fix *f = j->fix;
    sx_exec_task_destroy(f->exec, task); /* it is ours again */
    post_done(f);
}

static void submit_free_from_alarm(struct fix *f)
{
    static struct job job;
    job_init(&job, f, f->n - 1, 1);
    job.task->done = free_done;
    sx_exec_submit(f->exec, job.task);
}

static void test_submit_from_alarm(void **state)
{
    struct fix *f = *state;
    f->on_alarm = submit_free_from_alarm;
    sx_exec_set_alarm(f->exec, sx_clock_now(sx_exec_clock(f->exec)));
    wait_done(f, 1);
    assert_int_equal(wrong, 0);
}

static void test_refusals(void **state)
{
    (void)state;
    struct sx_err err;
    struct sx_exec *exec = NULL, *second = NULL;
    struct sx_exec_config config = {.kind = SX_EXEC_STARPU, .n_units = 33};
    assert_int_equal(sx_exec_create(&config, &exec, &err), SX_UNSUPPORTED);
    assert_true(err.hint[0] != '\0');
    config.n_units = 0;
    assert_int_equal(sx_exec_create(&config, &exec, &err), SX_INVALID);
    int none[1] = {CPU_SETSIZE - 1};
    config.n_units = 1;
    config.cpus = none;
    assert_int_equal(sx_exec_create(&config, &exec, &err), SX_UNSUPPORTED);
    assert_true(err.hint[0] != '\0');
    assert_null(exec);

    config.cpus = NULL;
    assert_int_equal(sx_exec_create(&config, &exec, &err), SX_OK);
    assert_int_equal(sx_exec_create(&config, &second, &err), SX_UNSUPPORTED);
    assert_null(second);
    sx_exec_destroy(exec);
    sx_exec_destroy(NULL);
}

static void test_starts_again(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        struct sx_exec *exec;
        struct sx_exec_config config = {.kind = SX_EXEC_STARPU, .n_units = 1};
        assert_int_equal(sx_exec_create(&config, &exec, NULL), SX_OK);
        sx_exec_destroy(exec);
    }
}

/* virtual: the order of events, to the nanosecond. */
static char story[64];

static void story_run(struct sx_task *task)
{
    strcat(story, "r");
    (void)task;
}

static void story_done(struct sx_task *task)
{
    strcat(story, task->name);
}

static void story_alarm(struct fix *f)
{
    (void)f;
    strcat(story, "A");
}

static void test_virtual_order(void **state)
{
    struct fix *f = *state;
    struct sx_clock *clock = sx_exec_clock(f->exec);
    f->on_alarm = story_alarm;
    story[0] = '\0';
    static const uint64_t length[UNITS] = {50, 20, 50, 10};
    static const char *const names[UNITS] = {"0", "1", "2", "3"};
    struct sx_task *tasks[UNITS];
    for (unsigned u = 0; u < UNITS; u++) {
        assert_int_equal(sx_exec_task_create(f->exec, &tasks[u]), SX_OK);
        *tasks[u] = (struct sx_task){.run = story_run,
                                     .done = story_done,
                                     .first_unit = u,
                                     .n_units = 1,
                                     .virtual_ns = length[u],
                                     .name = names[u]};
        sx_exec_submit(f->exec, tasks[u]);
    }
    assert_string_equal(story, "rrrr");
    assert_int_equal(sx_clock_now(clock), 0);
    sx_exec_set_alarm(f->exec, 50);
    assert_int_equal(sx_exec_next_event(f->exec), 10);
    sx_exec_advance(f->exec, 15);
    assert_string_equal(story, "rrrr3");
    assert_int_equal(sx_clock_now(clock), 15);
    assert_int_equal(sx_exec_next_event(f->exec), 20);
    sx_exec_advance(f->exec, 20);
    assert_string_equal(story, "rrrr31");
    sx_exec_submit(f->exec, tasks[3]); /* ends at 30 */
    sx_exec_advance(f->exec, SX_NEVER);
    assert_string_equal(story, "rrrr31r302A");
    assert_int_equal(sx_clock_now(clock), 50);
    assert_int_equal(sx_exec_next_event(f->exec), SX_NEVER);
    sx_exec_set_alarm(f->exec, 10); /* past: now */
    assert_int_equal(sx_exec_next_event(f->exec), 50);
    sx_exec_set_alarm(f->exec, SX_NEVER);
    sx_exec_advance(f->exec, 60);
    assert_int_equal(sx_clock_now(clock), 60);
    assert_string_equal(story, "rrrr31r302A");
    for (unsigned u = 0; u < UNITS; u++)
        sx_exec_task_destroy(f->exec, tasks[u]);
}

#define ONE(kind, test) {#kind ": " #test, test_##test, setup_##kind, teardown, NULL}
#define ALL(kind)                                                                                  \
    ONE(kind, each_runs_once), ONE(kind, expected), ONE(kind, resubmit_from_done),                 \
        ONE(kind, wide), ONE(kind, roam), ONE(kind, many_threads), ONE(kind, destroy_waits),       \
        ONE(kind, alarm), ONE(kind, alarm_rearms), ONE(kind, alarm_not_lost),                      \
        ONE(kind, submit_from_alarm)

int main(void)
{
    if (find_cpus())
        return 1;
    const struct CMUnitTest tests[] = {
        ALL(inline),
        ALL(virtual),
        ONE(virtual, virtual_order),
        ALL(starpu),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_starts_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
