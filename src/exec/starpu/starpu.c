/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * starpu.c - tasks run as StarPU tasks, one worker per unit.
 *
 * Why an sx_task has no StarPU task for good: StarPU still reads and writes a task after its
 * codelet returned, on the worker's thread, while `done` gives the sx_task back to a caller that
 * may submit it again at once, from any thread, or destroy it.  So an sx_task borrows a slot (a
 * StarPU task with room for its data), and each worker has a spare one.  When the codelet has
 * called `run`, and before it calls `done`, it gives the sx_task its worker's spare slot and keeps
 * the used one as the next spare.
 *
 * Why that is safe: a slot becomes a worker's spare while the worker is inside the slot's codelet,
 * and is handed out in the next codelet on that worker.  A CPU worker pops a task only when it has
 * finished with the one before altogether (it has no pipeline, and nothing here waits for tasks
 * inside a task).  Other threads do not touch a StarPU task either once it runs: to them it could
 * be one that StarPU destroys when it ends.  So an sx_task that is its owner's always has a slot
 * that StarPU has finished with, or never saw, and nothing is allocated on the way.
 *
 * `done` is called inside the codelet: StarPU then has not yet released the task's data, so
 * `done` returns before anything runs that waits for them.
 *
 * Data.  An sx_data is a handle on a dummy variable in main memory, as all our workers share one
 * memory: StarPU only orders by it.  What StarPU found out about the order stays in a task (it is
 * meant to be repeated as one graph), so a slot that had data is cleaned before its next use.
 * StarPU goes through a task's handles one by one, so two threads that submit tasks with the same
 * two handles could each be first on one, and both would wait for ever: tasks with several data
 * are submitted under `order`.  Handles are kept and used again, never unregistered while tasks
 * run: unregistering waits, and may not be done in a task.
 *
 * Threads: `run` and `done` on the worker that is first_unit's; the alarm on its own thread.
 * Locks: `order` before those of StarPU and the policy; `data_mutex` is a leaf, as is the alarm's.
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "exec/alarm.h"
#include "exec/exec_int.h"
#include "exec/starpu/policy.h"
#include "exec/starpu/start.h"

struct slot {
    struct starpu_task *starpu;
    starpu_data_handle_t handles[SX_TASK_DATA]; /* when there are too many for a StarPU task */
    enum starpu_data_access_mode modes[SX_TASK_DATA];
};

struct unit {
    _Alignas(64) struct slot *spare; /* the worker's own */
};

struct starpu_exec {
    struct sx_exec base;
    struct sx_alarm *alarm;
    struct unit *units;
    bool running;        /* starpu_init has succeeded */
    bool foreign_policy; /* one of StarPU's own */
    double (*expect_ns)(void *task_user, unsigned unit);
    pthread_mutex_t order;      /* while a task with several data is being submitted */
    pthread_mutex_t data_mutex; /* free_data */
    struct sx_list free_data;   /* of starpu_data.link */
};

struct starpu_exec_task {
    struct sx_task base;
    struct starpu_exec *exec;
    struct slot *slot;
};

struct starpu_exec_data {
    struct sx_list link; /* in starpu_exec.free_data */
    starpu_data_handle_t handle;
    int dummy; /* what it is a handle on; nobody reads it */
};

static atomic_flag in_use = ATOMIC_FLAG_INIT; /* StarPU is one per process */

/* --- codelet ---------------------------------------------------------------------------------- */

static void codelet_run(void *buffers[], void *arg)
{
    (void)buffers;
    struct starpu_exec_task *t = arg;
    unsigned worker = starpu_worker_get_id_check();
    sx_exec_run(&t->base, worker);
    struct unit *unit = &t->exec->units[worker];
    struct slot *used = t->slot;
    used->starpu->cl_arg = NULL; /* `t` is not ours any longer */
    t->slot = unit->spare;
    unit->spare = used;
    sx_exec_finish(&t->exec->base, &t->base);
}

/* In microseconds. */
static double expected_us(struct starpu_task *task, unsigned worker, unsigned implementation)
{
    (void)implementation;
    struct starpu_exec_task *t = task->cl_arg;
    return t && t->exec->expect_ns ? t->exec->expect_ns(t->base.user, worker) / 1e3 : 1;
}

static struct starpu_perfmodel model = {
    .type = STARPU_PER_WORKER,
    .symbol = "staronnx",
    .worker_cost_function = expected_us,
};

static struct starpu_codelet codelet = {
    .cpu_funcs = {codelet_run},
    .nbuffers = STARPU_VARIABLE_NBUFFERS,
    .name = "staronnx",
};

static struct starpu_codelet codelet_with_model = {
    .cpu_funcs = {codelet_run},
    .nbuffers = STARPU_VARIABLE_NBUFFERS,
    .name = "staronnx",
    .model = &model,
};

/* --- slots ------------------------------------------------------------------------------------ */

static void slot_fill(struct slot *slot, const struct starpu_exec *exec)
{
    struct starpu_task *task = slot->starpu;
    task->cl = exec->expect_ns ? &codelet_with_model : &codelet;
    task->destroy = 0;
    task->detach = 1;
}

static struct slot *slot_create(const struct starpu_exec *exec)
{
    struct slot *slot = malloc(sizeof *slot);
    if (!slot)
        return NULL;
    slot->starpu = starpu_task_create(); /* never NULL: StarPU aborts */
    slot_fill(slot, exec);
    return slot;
}

/* The arrays of handles are ours, but StarPU frees what it finds there. */
static void slot_take_arrays(struct slot *slot)
{
    struct starpu_task *task = slot->starpu;
    if (!task->dyn_handles)
        return;
    free(task->dyn_interfaces);
    task->dyn_interfaces = NULL;
    task->dyn_handles = NULL;
    task->dyn_modes = NULL;
}

/* As new. */
static void slot_clean(struct slot *slot, const struct starpu_exec *exec)
{
    slot_take_arrays(slot);
    starpu_task_clean(slot->starpu);
    starpu_task_init(slot->starpu);
    slot_fill(slot, exec);
}

static void slot_destroy(struct slot *slot)
{
    if (!slot)
        return;
    slot_take_arrays(slot);
    starpu_task_destroy(slot->starpu);
    free(slot);
}

/* --- tasks ------------------------------------------------------------------------------------ */

static void set_data(struct slot *slot, const struct sx_task *task)
{
    struct starpu_task *s = slot->starpu;
    starpu_data_handle_t *handles = s->handles;
    enum starpu_data_access_mode *modes = s->modes;
    if (task->n_data > STARPU_NMAXBUFS) {
        handles = s->dyn_handles = slot->handles;
        modes = s->dyn_modes = slot->modes;
    }
    for (unsigned i = 0; i < task->n_data; i++) {
        handles[i] = ((struct starpu_exec_data *)task->data[i])->handle;
        modes[i] = task->modes[i] == SX_WRITE ? STARPU_W : STARPU_R;
    }
    s->nbuffers = (int)task->n_data;
}

static void starpu_exec_submit(struct sx_exec *base, struct sx_task *task)
{
    struct starpu_exec *exec = (struct starpu_exec *)base;
    struct starpu_exec_task *t = (struct starpu_exec_task *)task;
    struct starpu_task *s = t->slot->starpu;
    bool ordered = task->n_data > 1;

    if (s->nbuffers || task->n_data || exec->foreign_policy)
        slot_clean(t->slot, exec);
    if (task->n_data)
        set_data(t->slot, task);
    s->cl_arg = t;
    s->name = task->name;
    if (!exec->foreign_policy) {
        sx_policy_place(s, task->first_unit);
    } else if (task->first_unit != SX_ANY_UNIT) {
        s->execute_on_a_specific_worker = 1;
        s->workerid = task->first_unit;
    }
    if (ordered)
        pthread_mutex_lock(&exec->order);
    int rc = starpu_task_submit(s);
    if (ordered)
        pthread_mutex_unlock(&exec->order);
    assert(rc == 0); /* -ENODEV: no worker for the codelet, and every worker can run it */
    (void)rc;
}

static void starpu_exec_expect(struct sx_exec *base, unsigned unit)
{
    if (!((struct starpu_exec *)base)->foreign_policy)
        sx_policy_rouse(unit);
}

static struct sx_task *starpu_exec_task_create(struct sx_exec *base)
{
    struct starpu_exec *exec = (struct starpu_exec *)base;
    struct starpu_exec_task *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->exec = exec;
    t->slot = slot_create(exec);
    if (!t->slot) {
        free(t);
        return NULL;
    }
    return &t->base;
}

static void starpu_exec_task_destroy(struct sx_exec *base, struct sx_task *task)
{
    (void)base;
    struct starpu_exec_task *t = (struct starpu_exec_task *)task;
    slot_destroy(t->slot);
    free(t);
}

/* --- data ------------------------------------------------------------------------------------- */

static struct sx_data *starpu_exec_data_create(struct sx_exec *base)
{
    struct starpu_exec *exec = (struct starpu_exec *)base;
    struct starpu_exec_data *data = NULL;
    pthread_mutex_lock(&exec->data_mutex);
    if (!sx_list_empty(&exec->free_data)) {
        data = SX_CONTAINER_OF(exec->free_data.next, struct starpu_exec_data, link);
        sx_list_remove(&data->link);
    }
    pthread_mutex_unlock(&exec->data_mutex);
    if (data)
        return (struct sx_data *)data;
    data = calloc(1, sizeof *data);
    if (!data)
        return NULL;
    sx_list_init(&data->link);
    starpu_variable_data_register(&data->handle, STARPU_MAIN_RAM, (uintptr_t)&data->dummy,
                                  sizeof data->dummy);
    return (struct sx_data *)data;
}

static void starpu_exec_data_destroy(struct sx_exec *base, struct sx_data *opaque)
{
    struct starpu_exec *exec = (struct starpu_exec *)base;
    struct starpu_exec_data *data = (struct starpu_exec_data *)opaque;
    pthread_mutex_lock(&exec->data_mutex);
    sx_list_insert(&exec->free_data, &data->link);
    pthread_mutex_unlock(&exec->data_mutex);
}

static void unregister_data(struct starpu_exec *exec)
{
    SX_LIST_FOREACH_SAFE (it, &exec->free_data) {
        struct starpu_exec_data *data = SX_CONTAINER_OF(it, struct starpu_exec_data, link);
        starpu_data_unregister_no_coherency(data->handle);
        free(data);
    }
}

/* --- life ------------------------------------------------------------------------------------- */

static void starpu_exec_set_alarm(struct sx_exec *base, uint64_t at)
{
    sx_alarm_set(((struct starpu_exec *)base)->alarm, at);
}

static void starpu_exec_destroy(struct sx_exec *base)
{
    struct starpu_exec *exec = (struct starpu_exec *)base;
    if (exec->alarm)
        sx_alarm_stop(exec->alarm); /* it could submit */
    if (exec->running) {
        starpu_task_wait_for_all(); /* also for what StarPU does after `done` */
        for (unsigned u = 0; exec->units && u < base->n_units; u++)
            slot_destroy(exec->units[u].spare);
        unregister_data(exec);
        sx_policy_close();
        starpu_shutdown();
    }
    sx_alarm_destroy(exec->alarm);
    free(exec->units);
    pthread_mutex_destroy(&exec->data_mutex);
    pthread_mutex_destroy(&exec->order);
    sx_exec_fini(base);
    free(exec);
    atomic_flag_clear(&in_use);
}

static const struct sx_exec_ops starpu_exec_ops = {
    .destroy = starpu_exec_destroy,
    .task_create = starpu_exec_task_create,
    .task_destroy = starpu_exec_task_destroy,
    .data_create = starpu_exec_data_create,
    .data_destroy = starpu_exec_data_destroy,
    .submit = starpu_exec_submit,
    .expect = starpu_exec_expect,
    .set_alarm = starpu_exec_set_alarm,
};

static enum sx_rc create_units(struct starpu_exec *exec, struct sx_err *err)
{
    size_t size = exec->base.n_units * sizeof *exec->units;
    exec->units = aligned_alloc(_Alignof(struct unit), size);
    if (!exec->units)
        return sx_fail(err, SX_NO_MEMORY, "no memory for %u units", exec->base.n_units);
    memset(exec->units, 0, size);
    for (unsigned u = 0; u < exec->base.n_units; u++) {
        exec->units[u].spare = slot_create(exec);
        if (!exec->units[u].spare)
            return sx_fail(err, SX_NO_MEMORY, "no memory for %u units", exec->base.n_units);
    }
    return SX_OK;
}

unsigned sx_exec_starpu_max_units(void)
{
    return STARPU_MAXCPUS;
}

enum sx_rc sx_exec_create_starpu(const struct sx_exec_config *config, struct sx_exec **ret_exec,
                                 struct sx_err *err)
{
    if (config->n_units > STARPU_MAXCPUS) {
        sx_fail(err, SX_UNSUPPORTED, "%u units, and this StarPU runs at most %d", config->n_units,
                STARPU_MAXCPUS);
        sx_hint(err,
                "use fewer, as with --device cpu:0-%d, or build StarPU with "
                "--enable-maxcpus",
                STARPU_MAXCPUS - 1);
        return SX_UNSUPPORTED;
    }
    if (atomic_flag_test_and_set(&in_use))
        return sx_fail(err, SX_UNSUPPORTED, "StarPU already runs in this process");
    struct starpu_exec *exec = calloc(1, sizeof *exec);
    if (!exec) {
        atomic_flag_clear(&in_use);
        return sx_fail(err, SX_NO_MEMORY, "no memory for an executor");
    }
    exec->foreign_policy = config->starpu_policy != NULL;
    exec->expect_ns = config->expect_ns;
    pthread_mutex_init(&exec->order, NULL);
    pthread_mutex_init(&exec->data_mutex, NULL);
    sx_list_init(&exec->free_data);
    enum sx_rc rc = sx_exec_init(&exec->base, &starpu_exec_ops, sx_clock_real(), config, err);
    exec->base.any_unit = exec->foreign_policy;
    if (!rc)
        rc = sx_alarm_create(config->alarm, config->alarm_user, &exec->alarm, err);
    if (!rc)
        rc = sx_starpu_start(config, err);
    if (!rc) {
        exec->running = true;
        if (starpu_worker_get_count() != config->n_units) /* it takes as many cores as it finds */
            rc = sx_fail(err, SX_UNSUPPORTED, "StarPU started %u workers instead of %u",
                         starpu_worker_get_count(), config->n_units);
    }
    if (!rc && exec->foreign_policy)
        sx_policy_start_workers();
    if (!rc)
        rc = sx_policy_wait_started(err);
    if (!rc)
        rc = create_units(exec, err);
    if (rc) {
        starpu_exec_destroy(&exec->base);
        return rc;
    }
    *ret_exec = &exec->base;
    return SX_OK;
}
