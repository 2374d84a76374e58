/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * contract_data_test.c - the contract of exec.h about several tasks: their order by data and
 * units, slow-down, and StarPU's own policies.  SX_STRESS=N multiplies the lengths.
 */
#include <pthread.h>
#include <string.h>

#include "base/list.h"
#include "exec/contract_data_test.h"

/* --- random tasks over data and units, and a slow twin ---------------------------------------- */

static void random_data(struct fix *f, struct job *j, struct sx_data **data)
{
    static const unsigned numbers[] = {0, 0, 1, 1, 2, 3, 8, 9, 20, DATA};
    unsigned n = numbers[sx_rng_below(&f->rng, sizeof numbers / sizeof *numbers)];
    unsigned pick[DATA];
    for (unsigned i = 0; i < DATA; i++)
        pick[i] = i;
    /* those with few data meet each other often */
    unsigned among = n <= 3 ? 6 : DATA;
    for (unsigned i = 0; i < n; i++) {
        unsigned k = i + (unsigned)sx_rng_below(&f->rng, among - i), other = pick[k];
        pick[k] = pick[i];
        pick[i] = other;
        job_data(j, data[other], sx_rng_below(&f->rng, 3) ? SX_READ : SX_WRITE);
    }
}

/* Does `b`, submitted after `a`, have to wait for it? */
static bool follows(const struct job *a, const struct job *b)
{
    for (unsigned i = 0; i < a->task->n_data; i++)
        for (unsigned k = 0; k < b->task->n_data; k++)
            if (a->data[i] == b->data[k] && (a->modes[i] == SX_WRITE || b->modes[k] == SX_WRITE))
                return true;
    return false;
}

static void check_order(struct job *jobs)
{
    unsigned waits = 0;
    for (unsigned b = 0; b < TASKS; b++) {
        for (unsigned a = 0; a < b; a++) {
            const struct sx_task *x = jobs[a].task, *y = jobs[b].task;
            if (follows(&jobs[a], &jobs[b])) {
                waits++;
                assert_true(jobs[a].ended < jobs[b].began);
                assert_true(x->end_ns <= y->begin_ns);
            }
            if (x->ran_on == y->ran_on)
                assert_true(x->end_ns <= y->begin_ns || y->end_ns <= x->begin_ns);
        }
    }
    assert_true(waits > TASKS);
}

/* virtual: to the nanosecond.  A task begins when it is ready and the unit has no other, and on a
 * unit they begin in the order in which they became ready. */
static void check_times(struct job *jobs, uint64_t start)
{
    for (unsigned b = 0; b < TASKS; b++) {
        jobs[b].ready_ns = start;
        for (unsigned a = 0; a < b; a++)
            if (follows(&jobs[a], &jobs[b]) && jobs[a].task->end_ns > jobs[b].ready_ns)
                jobs[b].ready_ns = jobs[a].task->end_ns;
    }
    for (unsigned b = 0; b < TASKS; b++) {
        const struct sx_task *y = jobs[b].task;
        uint64_t unit_free = start;
        for (unsigned a = 0; a < TASKS; a++) {
            const struct sx_task *x = jobs[a].task;
            if (a == b || x->ran_on != y->ran_on)
                continue;
            if (jobs[a].began < jobs[b].began) {
                unit_free = x->end_ns > unit_free ? x->end_ns : unit_free;
                assert_true(jobs[a].ready_ns <= jobs[b].ready_ns);
            }
        }
        assert_true(y->begin_ns == (unit_free > jobs[b].ready_ns ? unit_free : jobs[b].ready_ns));
        assert_true(y->end_ns == y->begin_ns + jobs[b].spin_ns);
    }
}

static void test_random(void **state)
{
    struct fix *f = *state;
    static struct job jobs[TASKS];
    struct sx_data *data[DATA];
    for (unsigned i = 0; i < TASKS; i++)
        job_init(&jobs[i], f, 0);
    unsigned rounds = (f->chooses ? 3 : 12) * stress(); /* StarPU's workers spin: slow if shared */
    for (unsigned round = 0; round < rounds; round++) {
        uint64_t start = sx_clock_now(sx_exec_clock(f->exec));
        data_init(f, data, DATA);
        for (unsigned i = 0; i < TASKS; i++) {
            struct job *j = &jobs[i];
            j->task->n_data = 0;
            j->spin_ns = 1 + sx_rng_below(&f->rng, 5000);
            random_data(f, j, data);
            j->task->first_unit = (unsigned)sx_rng_below(&f->rng, f->n);
            if (f->chooses && sx_rng_below(&f->rng, 4))
                j->task->first_unit = SX_ANY_UNIT;
            sx_exec_submit(f->exec, j->task);
        }
        wait_done(f, TASKS);
        check_order(jobs);
        if (f->kind == SX_EXEC_VIRTUAL)
            check_times(jobs, start);
        data_fini(f, data, DATA);
    }
    assert_int_equal(wrong, 0);
    for (unsigned i = 0; i < TASKS; i++)
        sx_exec_task_destroy(f->exec, jobs[i].task);
}

/* --- order on a unit -------------------------------------------------------------------------- */

struct queue {
    struct job first, other, jobs[TASKS];
    struct sx_data *data;
    atomic_bool go;
};

/* On unit 0, which is therefore busy: all that is submitted for it now has to wait there. */
static void submit_many(struct sx_task *task)
{
    struct queue *q = SX_CONTAINER_OF((struct job *)task->user, struct queue, first);
    job_run(task);
    for (unsigned i = 0; i < TASKS; i++)
        sx_exec_submit(q->first.fix->exec, q->jobs[i].task);
}

static void test_queue(void **state)
{
    struct fix *f = *state;
    static struct queue q;
    memset(&q, 0, sizeof q);
    job_init(&q.first, f, 0);
    q.first.task->run = submit_many;
    for (unsigned i = 0; i < TASKS; i++)
        job_init(&q.jobs[i], f, 0);
    for (unsigned round = 0; round < 10 * stress(); round++) {
        sx_exec_submit(f->exec, q.first.task);
        wait_done(f, TASKS + 1);
        const struct job *before = &q.first;
        for (unsigned i = 0; i < TASKS; before = &q.jobs[i++]) {
            assert_true(q.jobs[i].began == before->ended + 1);
            assert_true(q.jobs[i].task->begin_ns >= before->task->end_ns);
        }
    }
    assert_int_equal(wrong, 0);
    sx_exec_task_destroy(f->exec, q.first.task);
    for (unsigned i = 0; i < TASKS; i++)
        sx_exec_task_destroy(f->exec, q.jobs[i].task);
}

/* jobs[0] is submitted before jobs[1], both for unit 0, but waits for `other` on unit 1. */
static void submit_unready(struct sx_task *task)
{
    struct queue *q = SX_CONTAINER_OF((struct job *)task->user, struct queue, first);
    struct sx_exec *exec = q->first.fix->exec;
    job_run(task);
    sx_exec_submit(exec, q->other.task);
    sx_exec_submit(exec, q->jobs[0].task);
    sx_exec_submit(exec, q->jobs[1].task);
    atomic_store(&q->go, true);
}

static void wait_for_go(struct sx_task *task)
{
    struct queue *q = SX_CONTAINER_OF((struct job *)task->user, struct queue, other);
    while (!atomic_load(&q->go))
        sched_yield();
    job_run(task);
}

static void test_ready_first(void **state)
{
    struct fix *f = *state;
    static struct queue q;
    if (f->n < 2)
        return; /* it needs two units */
    memset(&q, 0, sizeof q);
    data_init(f, &q.data, 1);
    job_init(&q.first, f, 0);
    job_init(&q.other, f, 1);
    job_init(&q.jobs[0], f, 0);
    job_init(&q.jobs[1], f, 0);
    q.first.task->run = submit_unready;
    q.other.task->run = wait_for_go;
    q.other.spin_ns = 1000;
    job_data(&q.other, q.data, SX_WRITE);
    job_data(&q.jobs[0], q.data, SX_READ);
    for (unsigned round = 0; round < 200 * stress(); round++) {
        atomic_store(&q.go, false);
        sx_exec_submit(f->exec, q.first.task);
        wait_done(f, 4);
        assert_true(q.jobs[1].ended < q.jobs[0].began);
        assert_true(q.other.ended < q.jobs[0].began);
    }
    assert_int_equal(wrong, 0);
    sx_exec_data_destroy(f->exec, q.data);
    sx_exec_task_destroy(f->exec, q.first.task);
    sx_exec_task_destroy(f->exec, q.other.task);
    sx_exec_task_destroy(f->exec, q.jobs[0].task);
    sx_exec_task_destroy(f->exec, q.jobs[1].task);
}

/* --- submitting from `done`, from many threads, and the end ----------------------------------- */

static struct {
    unsigned value; /* written and read only by tasks that name its data */
} shared;

static void write_run(struct sx_task *task)
{
    shared.value++;
    job_run(task);
    shared.value++;
}

static void read_run(struct sx_task *task)
{
    unsigned before = shared.value;
    EXPECT(before % 2 == 0);
    job_run(task);
    EXPECT(shared.value == before);
}

/* Writers and readers of one data on all units, each submitted again by its own `done`. */
static void test_again(void **state)
{
    struct fix *f = *state;
    enum { N = 3 * UNITS };
    unsigned times = (f->chooses ? 20 : 700) * stress();
    struct job jobs[N];
    struct sx_data *data[2];
    data_init(f, data, 2);
    shared.value = 0;
    for (unsigned i = 0; i < N; i++) {
        job_init(&jobs[i], f, f->chooses ? SX_ANY_UNIT : i % f->n);
        jobs[i].left = times;
        jobs[i].spin_ns = 100;
        job_data(&jobs[i], data[0], i % 3 ? SX_READ : SX_WRITE);
        if (i % 2)
            job_data(&jobs[i], data[1], SX_READ);
        jobs[i].task->run = i % 3 ? read_run : write_run;
    }
    for (unsigned i = 0; i < N; i++)
        sx_exec_submit(f->exec, jobs[i].task);
    wait_done(f, N);
    assert_int_equal(shared.value, 2 * (N / 3) * (times + 1));
    assert_int_equal(wrong, 0);
    for (unsigned i = 0; i < N; i++)
        sx_exec_task_destroy(f->exec, jobs[i].task);
    data_fini(f, data, 2);
}

struct submitter {
    struct fix *fix;
    pthread_t thread;
    struct job jobs[TASKS];
};

static void *submitter_main(void *arg)
{
    struct submitter *s = arg;
    for (unsigned i = 0; i < TASKS; i++)
        sx_exec_submit(s->fix->exec, s->jobs[i].task);
    return NULL;
}

/* Many threads submit tasks that write the same data, which they name in different orders: each
 * task is before or after another one on all of the data, so none waits for ever. */
static void test_many_threads(void **state)
{
    struct fix *f = *state;
    static struct submitter submitters[UNITS];
    struct sx_data *data[3];
    for (unsigned round = 0; round < 3 * stress(); round++) {
        data_init(f, data, 3);
        shared.value = 0;
        for (unsigned s = 0; s < UNITS; s++) {
            submitters[s].fix = f;
            for (unsigned i = 0; i < TASKS; i++) {
                struct job *j = &submitters[s].jobs[i];
                job_init(j, f, f->chooses ? SX_ANY_UNIT : (s + i) % f->n);
                for (unsigned d = 0; d < 3; d++)
                    job_data(j, data[(s + d) % 3], SX_WRITE);
                j->task->run = write_run;
            }
        }
        for (unsigned s = 0; s < UNITS; s++)
            assert_int_equal(
                pthread_create(&submitters[s].thread, NULL, submitter_main, &submitters[s]), 0);
        for (unsigned s = 0; s < UNITS; s++)
            pthread_join(submitters[s].thread, NULL);
        wait_done(f, UNITS * TASKS);
        assert_int_equal(shared.value, 2 * UNITS * TASKS);
        for (unsigned s = 0; s < UNITS; s++)
            for (unsigned i = 0; i < TASKS; i++)
                sx_exec_task_destroy(f->exec, submitters[s].jobs[i].task);
        data_fini(f, data, 3);
    }
    assert_int_equal(wrong, 0);
}

static struct sx_data *last_data;
static atomic_uint still;

/* The last one to be done destroys the data; each destroys its task. */
static void final_done(struct sx_task *task)
{
    struct job *j = task->user;
    struct sx_exec *exec = j->fix->exec;
    j->ended = atomic_fetch_add(&stamp, 1);
    sx_exec_task_destroy(exec, task);
    if (atomic_fetch_sub(&still, 1) == 1)
        sx_exec_data_destroy(exec, last_data);
}

static void test_destroy_waits(void **state)
{
    struct fix *f = *state;
    static struct job jobs[TASKS];
    data_init(f, &last_data, 1);
    atomic_store(&still, TASKS);
    for (unsigned i = 0; i < TASKS; i++) {
        job_init(&jobs[i], f, i % f->n);
        jobs[i].spin_ns = 1000;
        job_data(&jobs[i], last_data, SX_WRITE);
        jobs[i].task->done = final_done;
    }
    for (unsigned i = 0; i < TASKS; i++)
        sx_exec_submit(f->exec, jobs[i].task);
    sx_exec_destroy(f->exec);
    f->exec = NULL;
    assert_int_equal(still, 0);
    for (unsigned i = 1; i < TASKS; i++)
        assert_true(jobs[i - 1].ended < jobs[i].began);
    assert_int_equal(wrong, 0);
}

/* --- slow-down -------------------------------------------------------------------------------- */

static void test_slowdown(void **state)
{
    struct fix *f = *state;
    enum { K = 200 };
    struct job slow, next, other;
    job_init(&slow, f, 0);
    job_init(&next, f, 0);
    job_init(&other, f, f->n > 1);
    slow.spin_ns = SX_MS;
    slow.task->slowdown = K;
    next.spin_ns = other.spin_ns = 1000;
    next.task->slowdown = 1;
    sx_exec_submit(f->exec, slow.task);
    sx_exec_submit(f->exec, next.task);
    sx_exec_submit(f->exec, other.task);
    wait_done(f, 3);
    const struct sx_task *s = slow.task, *n = next.task, *o = other.task;
    assert_true(s->end_ns >= s->begin_ns + K * SX_MS);
    assert_true(n->begin_ns >= s->end_ns && slow.ended < next.began);
    if (f->n > 1 && f->kind != SX_EXEC_INLINE)
        assert_true(other.ended < slow.ended && o->end_ns < s->end_ns);
    if (f->kind == SX_EXEC_VIRTUAL) {
        assert_int_equal(s->virtual_ns, SX_MS);
        assert_int_equal(s->end_ns, K * SX_MS);
        assert_int_equal(n->begin_ns, K * SX_MS);
        assert_int_equal(n->end_ns, K * SX_MS + 1000);
        assert_int_equal(o->end_ns, 1000);
    }
    /* less than 1 is not faster, and not slower either */
    slow.task->slowdown = 0.5;
    slow.spin_ns = 5000;
    sx_exec_submit(f->exec, slow.task);
    wait_done(f, 1);
    assert_true(s->end_ns - s->begin_ns >= 5000 && s->end_ns - s->begin_ns < K * SX_MS);
    assert_int_equal(wrong, 0);
    sx_exec_task_destroy(f->exec, slow.task);
    sx_exec_task_destroy(f->exec, next.task);
    sx_exec_task_destroy(f->exec, other.task);
}

/* --- StarPU's own policies -------------------------------------------------------------------- */

/* One task at a time: dmdas gives it to the unit where it expects it to end first. */
static void test_expects(void **state)
{
    struct fix *f = *state;
    struct job job;
    job_init(&job, f, SX_ANY_UNIT);
    for (unsigned round = 0; round < 50; round++) {
        unsigned fast = round / 10 % f->n;
        for (unsigned u = 0; u < f->n; u++)
            unit_ns[u] = u == fast ? 1e6 : 1e9;
        atomic_store(&n_expected, 0);
        sx_exec_submit(f->exec, job.task);
        wait_done(f, 1);
        assert_int_equal(job.task->ran_on, fast);
        assert_true(f->n == 1 || n_expected >= f->n);
    }
    assert_int_equal(wrong, 0);
    sx_exec_task_destroy(f->exec, job.task);
}

static void test_refusals(void **state)
{
    (void)state;
    struct sx_err err;
    struct sx_exec *exec = NULL;
    struct sx_exec_config config = {
        .kind = SX_EXEC_STARPU, .n_units = 1, .starpu_policy = "nonsense"};
    assert_int_equal(sx_exec_create(&config, &exec, &err), SX_INVALID);
    assert_non_null(strstr(err.hint, "dmdas"));
    config.starpu_policy = "lws";
    config.kind = SX_EXEC_INLINE;
    assert_int_equal(sx_exec_create(&config, &exec, &err), SX_INVALID);
    config.kind = SX_EXEC_VIRTUAL;
    assert_int_equal(sx_exec_create(&config, &exec, &err), SX_INVALID);
    int none[1] = {CPU_SETSIZE - 1};
    config.kind = SX_EXEC_STARPU;
    config.cpus = none;
    assert_int_equal(sx_exec_create(&config, &exec, &err), SX_UNSUPPORTED);
    assert_true(err.hint[0] != '\0');
    assert_null(exec);
    config.cpus = NULL; /* and after all that it works */
    config.starpu_policy = "eager";
    assert_int_equal(sx_exec_create(&config, &exec, &err), SX_OK);
    sx_exec_destroy(exec);
}

#define ONE(kind, test) {#kind ": " #test, test_##test, setup_##kind, teardown, NULL}
#define ALL(kind)                                                                                  \
    ONE(kind, random), ONE(kind, queue), ONE(kind, again), ONE(kind, destroy_waits),               \
        ONE(kind, slowdown)

int main(void)
{
    if (find_cpus())
        return 1;
    const struct CMUnitTest tests[] = {
        ALL(inline),
        ALL(virtual),
        ONE(virtual, ready_first),
        ALL(starpu),
        ONE(starpu, ready_first),
        ONE(starpu, many_threads),
        ONE(lws, random),
        ONE(lws, again),
        ONE(lws, many_threads),
        ONE(lws, slowdown),
        ONE(dmdas, random),
        ONE(dmdas, again),
        ONE(dmdas, many_threads),
        ONE(dmdas, expects),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
