/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.c - StarPU's scheduling policy of StarONNX, and the one place with its locking duties.
 *
 * The scheduler (sched/) has decided where a task runs before StarPU sees it, so there is one
 * queue per worker and nothing to choose.  What matters is how a worker waits: Debian's StarPU
 * lets idle workers spin, which burns a core each and slows down an ONNX Runtime pool on the
 * same core 1.5-2.3 times.  Here an idle worker sleeps in pop_task, on a condition variable of
 * its own, and only a task for that worker wakes it.
 *
 * What StarPU asks of a policy (1.4.7, starpu_scheduler.h and src/core), and how it is met
 *   S1  push_task calls starpu_push_task_end before another thread can pop the task, because
 *       the popper may run and free it: called under the queue's mutex.
 *   S2  push_task touches nothing of the task after that: the task may be done already.
 *   S3  pop_task runs inside a "scheduling operation" of the worker.  Who waits there lets other
 *       threads that need the worker (its lock, its contexts, a shutdown) wait for it, so the
 *       sleep lies between starpu_worker_relax_on and starpu_worker_relax_off.
 *   S4  a mutex taken in a hook may not be held by somebody who waits for a worker.  A queue's
 *       mutex is a leaf: its holders wait for nothing but the condition variable, and call
 *       nothing of StarPU's but starpu_push_task_end, which only marks the task.  So taking it
 *       needs no relax_on, and relax_on and relax_off are called without it.
 *   S5  after a push the worker is woken.  A worker of this policy sleeps in pop_task; but where
 *       StarPU was built with blocking drivers it also sleeps in StarPU after an empty pop, and
 *       is then woken with starpu_wake_worker_relax_light as well.
 *   S6  returning NULL from pop_task and going to sleep must be one step for a pusher: with
 *       spinning drivers there is no sleep outside; with blocking ones S5's call covers it.
 *   S7  starpu_shutdown joins the workers and does not know how to wake them here: they are let
 *       go first (sx_policy_close), and pop_task then returns at once.
 *   S8  deinit_sched finds the queues empty.
 *   S9  push_task is called by whoever makes the task ready: the thread that submits it, or the
 *       worker whose task was the last one to hold its data.  That worker may be inside its own
 *       scheduling operation or a lock of the job; by S4 nothing waits for it here.
 *
 * Always true, under a queue's mutex
 *   P1  `asleep` is true only while the worker is in the wait on `wake` and no task or end was
 *      signalled.
 *   P2  if a task is in the queue of a worker that is in the wait, it was signalled.
 *
 * Looking before the sleep.  To wake a thread on a core that sleeps takes 10 us, on virtual
 * machines 25; for a model that runs for 2 that is most of what a request costs.  So a worker whose
 * tasks have lately come soon after it had none looks for the next one for LOOK_NS, on a core that
 * it yields to anyone who wants it, and then sleeps.  One whose tasks come later never looks, so
 * idleness costs nothing.
 *
 * A worker may be roused although there is no task for it: because one is about to come and what to
 * do with it is still being decided, or because a run on several units needs its core, for a helper
 * thread of ONNX Runtime's that is woken later.  Cores then leave their sleep at the same time, and
 * not one after the other.
 *
 * The queues are static and never destroyed: a pusher may be late in pthread_cond_signal when
 * the task that it pushed is done and the executor is being destroyed.
 */
#include "exec/starpu/policy.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base/clock.h"

/* Return to StarPU now and then, so that its own housekeeping goes on. */
#define SLEEP_NS  (2 * SX_S)
/* How long a worker looks for its next task; a client that asks again at once is woken and back in
 * that time. */
#define LOOK_NS   (60 * SX_US)
/* Of `soon`: how much the last wait counts, and from where on looking pays. */
#define SOON_LAST 0.1
#define SOON_PAYS 0.5

struct queue {
    _Alignas(128) pthread_mutex_t mutex; /* all below, but for what is said otherwise */
    pthread_cond_t wake;
    struct starpu_task_list tasks;
    bool asleep;
    bool closing;
    uint64_t woken_at; /* when it was last signalled for a task */
    atomic_bool news;  /* a task was pushed or it is closing; set under the mutex */
    int cpu;           /* constant between open and close; -1: unbound */
    bool started;      /* the worker's own, as `soon` */
    double soon;       /* share of its waits, lately, that were over within LOOK_NS */
};

static struct queue queues[STARPU_NMAXWORKERS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static struct {
    pthread_mutex_t mutex; /* a leaf */
    pthread_cond_t changed;
    unsigned n_started; /* under the mutex, as `failed_*` */
    int failed_cpu, failed_errno;
    unsigned n_workers; /* constant between open and close, as `cpus` */
    const int *cpus;
} start = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void init_queues(void)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    for (unsigned i = 0; i < STARPU_NMAXWORKERS; i++) {
        pthread_mutex_init(&queues[i].mutex, NULL);
        pthread_cond_init(&queues[i].wake, &attr);
    }
    pthread_condattr_destroy(&attr);
}

void sx_policy_open(unsigned n_workers, const int *cpus)
{
    assert(n_workers <= STARPU_NMAXWORKERS);
    pthread_once(&once, init_queues);
    for (unsigned i = 0; i < n_workers; i++) {
        starpu_task_list_init(&queues[i].tasks);
        queues[i].asleep = queues[i].closing = queues[i].started = false;
        atomic_store(&queues[i].news, false);
        queues[i].soon = 0;
        queues[i].cpu = cpus ? cpus[i] : -1;
    }
    start.n_workers = n_workers;
    start.cpus = cpus;
    start.n_started = 0;
    start.failed_errno = 0;
}

enum sx_rc sx_policy_wait_started(struct sx_err *err)
{
    pthread_mutex_lock(&start.mutex);
    while (start.n_started < start.n_workers)
        pthread_cond_wait(&start.changed, &start.mutex);
    int cpu = start.failed_cpu, e = start.failed_errno;
    pthread_mutex_unlock(&start.mutex);
    if (!e)
        return SX_OK;
    sx_fail(err, SX_UNSUPPORTED, "can't bind a thread to CPU %d: %s", cpu, strerror(e));
    sx_hint(err, "use CPUs that this process may run on; 'taskset -p $$' shows them");
    return SX_UNSUPPORTED;
}

void sx_policy_close(void)
{
    for (unsigned i = 0; i < start.n_workers; i++) {
        struct queue *q = &queues[i];
        pthread_mutex_lock(&q->mutex);
        assert(starpu_task_list_empty(&q->tasks)); /* S8 */
        q->closing = true;
        atomic_store_explicit(&q->news, true, memory_order_relaxed);
        pthread_mutex_unlock(&q->mutex);
        pthread_cond_signal(&q->wake);
    }
}

/* On the worker's own thread, before its first task.  StarPU could bind it, but counts CPUs its
 * own way and miscounts them in containers (fixed in 1.4.9). */
static void worker_start(struct queue *q, unsigned worker)
{
    int e = 0;
    if (start.cpus) {
        cpu_set_t set;
        CPU_ZERO(&set);
        if (start.cpus[worker] < 0 || start.cpus[worker] >= CPU_SETSIZE) {
            e = EINVAL;
        } else {
            CPU_SET((unsigned)start.cpus[worker], &set);
            e = sched_setaffinity(0, sizeof set, &set) ? errno : 0;
        }
    }
    q->started = true;
    pthread_mutex_lock(&start.mutex);
    if (e) {
        start.failed_cpu = start.cpus[worker];
        start.failed_errno = e;
    }
    start.n_started++;
    pthread_cond_signal(&start.changed);
    pthread_mutex_unlock(&start.mutex);
}

static void start_this_worker(void *unused)
{
    (void)unused;
    unsigned worker = starpu_worker_get_id_check();
    worker_start(&queues[worker], worker);
}

void sx_policy_start_workers(void)
{
    starpu_execute_on_each_worker(start_this_worker, NULL, STARPU_CPU);
}

static void policy_init(unsigned ctx)
{
    starpu_sched_ctx_set_policy_data(ctx, queues);
}

static void policy_deinit(unsigned ctx)
{
    (void)ctx;
}

static int policy_push(struct starpu_task *task)
{
    unsigned worker = (unsigned)(uintptr_t)task->sched_data;
    assert(worker < start.n_workers);
    struct queue *q = &queues[worker];

    pthread_mutex_lock(&q->mutex); /* S4 */
    starpu_task_list_push_back(&q->tasks, task);
    starpu_push_task_end(task); /* S1 */
    atomic_store_explicit(&q->news, true, memory_order_relaxed);
    bool wake = q->asleep;
    q->asleep = false; /* one signal is enough */
    if (wake)
        q->woken_at = sx_now();
    pthread_mutex_unlock(&q->mutex);
    if (wake)
        pthread_cond_signal(&q->wake); /* P2; after the unlock, so that it needn't wait for us */
#ifndef STARPU_NON_BLOCKING_DRIVERS
    starpu_wake_worker_relax_light((int)worker); /* S5, S6 */
#endif
    return 0;
}

void sx_policy_rouse(unsigned worker)
{
    struct queue *q = &queues[worker];
    if (q->cpu != sched_getcpu())      /* the caller's core is awake */
        pthread_cond_signal(&q->wake); /* a waiting worker looks, and waits again */
}

/* Wait for news without sleeping, for LOOK_NS. */
static void look(struct queue *q, uint64_t since)
{
    while (!atomic_load_explicit(&q->news, memory_order_relaxed) && sx_now() - since < LOOK_NS)
        sched_yield();
}

static struct starpu_task *policy_pop(unsigned ctx)
{
    (void)ctx;
    unsigned worker = starpu_worker_get_id_check();
    struct queue *q = &queues[worker];

    if (!q->started)
        worker_start(q, worker);

    pthread_mutex_lock(&q->mutex); /* S4 */
    bool closing = q->closing;
    struct starpu_task *task =
        starpu_task_list_empty(&q->tasks) ? NULL : starpu_task_list_pop_front(&q->tasks);
    atomic_store_explicit(&q->news, false, memory_order_relaxed);
    pthread_mutex_unlock(&q->mutex);
    if (task || closing)
        return task;

    uint64_t since = sx_now(), until = since + SLEEP_NS;
    struct timespec ts = {.tv_sec = (time_t)(until / SX_S), .tv_nsec = (long)(until % SX_S)};
    int rc = 0;
    bool slept = false;
    starpu_worker_relax_on(); /* S3 */
    if (q->soon > SOON_PAYS)
        look(q, since);
    pthread_mutex_lock(&q->mutex);
    while (starpu_task_list_empty(&q->tasks) && !q->closing && rc == 0) {
        q->asleep = true;
        rc = pthread_cond_timedwait(&q->wake, &q->mutex, &ts);
        q->asleep = false;
        slept = true;
    }
    uint64_t end = slept && rc == 0 ? q->woken_at : sx_now(); /* waking up is not waiting */
    if (!starpu_task_list_empty(&q->tasks))
        task = starpu_task_list_pop_front(&q->tasks);
    pthread_mutex_unlock(&q->mutex);
    starpu_worker_relax_off();
    q->soon += SOON_LAST * ((end < since + LOOK_NS) - q->soon);
    return task;
}

struct starpu_sched_policy sx_policy = {
    .init_sched = policy_init,
    .deinit_sched = policy_deinit,
    .push_task = policy_push,
    .pop_task = policy_pop,
    .policy_name = "staronnx",
    .policy_description = "each task names its worker; idle workers sleep",
    .worker_type = STARPU_WORKER_LIST,
};
