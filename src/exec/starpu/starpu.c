/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * starpu.c - tasks run as StarPU tasks, one worker per unit.
 *
 * Why a StarPU task is never an sx_task's own: StarPU still writes to a task after its callback
 * returned, on the worker's thread, while `done` gives the sx_task back to a caller that may
 * submit it again at once, from any thread.  So each unit has two StarPU tasks, used in turn,
 * created once and submitted again and again.
 *
 * Why two are enough: a unit has one sx_task at a time.  Let k, k+1, k+2 be three in a row on a
 * unit.  k+2 is submitted after the `done` of k+1, which ran on the unit's worker, which popped
 * k+1 only when it had finished with k's StarPU task altogether (CPU workers have no pipeline).
 * So k's StarPU task is free for k+2.
 *
 * Threads: `run` and `done` on the worker that is first_unit's; the alarm on its own thread.
 * Locks: none here; those of the policy and the alarm are leaves.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "exec/alarm.h"
#include "exec/exec_int.h"
#include "exec/starpu/policy.h"

struct starpu_exec;

struct slot {
    struct starpu_task *starpu;
    struct starpu_exec *exec;
    struct sx_task *task; /* from submit until its `done` */
};

struct unit {
    _Alignas(64) struct slot slots[2];
    unsigned turn; /* guarded by sx_exec.busy, as `slots` */
};

struct starpu_exec {
    struct sx_exec base;
    struct sx_alarm *alarm;
    struct unit *units;
    bool running; /* starpu_init has succeeded */
};

static atomic_flag in_use = ATOMIC_FLAG_INIT; /* StarPU is one per process */

static void codelet_run(void *buffers[], void *arg)
{
    (void)buffers;
    struct slot *slot = arg;
    slot->task->run(slot->task);
}

static void codelet_done(void *arg)
{
    struct slot *slot = arg;
    sx_exec_finish(&slot->exec->base, slot->task);
}

static struct starpu_codelet codelet = {
    .cpu_funcs = {codelet_run},
    .nbuffers = 0,
    .name = "staronnx",
};

static void starpu_exec_submit(struct sx_exec *base, struct sx_task *task)
{
    struct unit *unit = &((struct starpu_exec *)base)->units[task->first_unit];
    struct slot *slot = &unit->slots[unit->turn];
    unit->turn ^= 1;
    slot->task = task;
    int rc = starpu_task_submit(slot->starpu);
    assert(rc == 0); /* -ENODEV: no worker for the codelet, and every worker can run it */
    (void)rc;
}

static struct sx_task *starpu_exec_task_create(struct sx_exec *base)
{
    (void)base;
    return calloc(1, sizeof(struct sx_task));
}

static void starpu_exec_task_destroy(struct sx_exec *base, struct sx_task *task)
{
    (void)base;
    free(task);
}

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
        starpu_task_wait_for_all(); /* also for the end of the callbacks */
        for (unsigned u = 0; exec->units && u < base->n_units; u++)
            for (unsigned i = 0; i < 2; i++)
                if (exec->units[u].slots[i].starpu)
                    starpu_task_destroy(exec->units[u].slots[i].starpu);
        sx_policy_close();
        starpu_shutdown();
    }
    sx_alarm_destroy(exec->alarm);
    free(exec->units);
    sx_exec_fini(base);
    free(exec);
    atomic_flag_clear(&in_use);
}

static const struct sx_exec_ops starpu_exec_ops = {
    .destroy = starpu_exec_destroy,
    .task_create = starpu_exec_task_create,
    .task_destroy = starpu_exec_task_destroy,
    .submit = starpu_exec_submit,
    .set_alarm = starpu_exec_set_alarm,
};

/* Debian's CPU and CUDA packages have one soname and different struct sizes, so the loader takes
 * either, and starpu_conf_init of the larger would write past our struct. */
static enum sx_rc probe_abi(struct starpu_conf *ret_conf, struct sx_err *err)
{
    enum { GUARD = 8192, MARK = 0xa5 };
    union {
        struct starpu_conf conf;
        unsigned char bytes[sizeof(struct starpu_conf) + GUARD];
    } *probe = malloc(sizeof *probe);
    if (!probe)
        return sx_fail(err, SX_NO_MEMORY, "no memory to start StarPU");
    memset(probe->bytes, MARK, sizeof probe->bytes);
    int rc = starpu_conf_init(&probe->conf);
    size_t size = sizeof probe->bytes;
    while (size > 0 && probe->bytes[size - 1] == MARK)
        size--;
    if (rc == 0)
        memcpy(ret_conf, &probe->conf, sizeof *ret_conf);
    free(probe);

    int major, minor, release;
    starpu_get_version(&major, &minor, &release);
    if (rc == 0 && size == sizeof *ret_conf && major == STARPU_MAJOR_VERSION &&
        minor == STARPU_MINOR_VERSION)
        return SX_OK;
    sx_fail(err, SX_UNSUPPORTED,
            "the StarPU library that was loaded (%d.%d.%d, configuration of %zu bytes) is not the "
            "one that this program was built for (%d.%d, %zu bytes)",
            major, minor, release, size, STARPU_MAJOR_VERSION, STARPU_MINOR_VERSION,
            sizeof *ret_conf);
    sx_hint(err, "install the variant of libstarpu that it was built with, or build it again");
    return SX_UNSUPPORTED;
}

/* What starpu_init would print goes to memory: it warns, whatever STARPU_SILENT says, that a
 * directory of Debian's package does not exist.  Nothing else may print meanwhile, or it is lost;
 * this is at start. */
struct capture {
    int saved, text;
};

static void capture_begin(struct capture *c)
{
    c->saved = c->text = -1;
    c->text = memfd_create("starpu-init", MFD_CLOEXEC);
    if (c->text < 0)
        return;
    fflush(stderr);
    c->saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    if (c->saved >= 0)
        dup2(c->text, STDERR_FILENO);
}

static void capture_end(struct capture *c, char *buf, size_t size)
{
    buf[0] = '\0';
    if (c->saved >= 0) {
        fflush(stderr);
        dup2(c->saved, STDERR_FILENO);
        close(c->saved);
        ssize_t n = pread(c->text, buf, size - 1, 0);
        buf[n > 0 ? n : 0] = '\0';
        for (char *p = buf; *p; p++)
            if (*p == '\n')
                *p = ' ';
    }
    if (c->text >= 0)
        close(c->text);
}

/* StarPU measures its buses when its directory has no file on them, which takes milliseconds.  We
 * give it a directory that lives as long as starpu_init, so that nothing goes into the user's
 * home, two processes never share a file, and no old file is ever wrong.  StarPU remembers the
 * first name it was given, so it is the same for the life of the process. */
static char home[256]; /* guarded by in_use */

static enum sx_rc make_home(struct sx_err *err)
{
    const char *tmp = getenv("TMPDIR");
    bool made;
    if (home[0]) {
        made = mkdir(home, 0700) == 0;
    } else {
        int n = snprintf(home, sizeof home, "%s/staronnx-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
        made = n > 0 && (size_t)n < sizeof home && mkdtemp(home);
    }
    if (made)
        return SX_OK;
    sx_fail(err, SX_IO, "can't create a temporary directory %s: %m", home);
    sx_hint(err, "set TMPDIR to a directory that can be written");
    home[0] = '\0';
    return SX_IO;
}

static enum sx_rc start_starpu(const struct sx_exec_config *config, struct sx_err *err)
{
    struct starpu_conf conf;
    enum sx_rc rc = probe_abi(&conf, err);
    if (rc)
        return rc;

    rc = make_home(err);
    if (rc)
        return rc;
    setenv("STARPU_HOME", home, 1);
    setenv("STARPU_PERF_MODEL_DIR", home, 1);
    setenv("STARPU_SILENT", "1", 1);
    setenv("STARPU_WORKERS_NOBIND", "1", 1);  /* policy.c binds */
    setenv("STARPU_WORKERS_GETBIND", "0", 1); /* nor does it count what we may use */
    unsetenv("STARPU_NTHREADS_PER_CORE");
#ifndef STARPU_USE_CUDA
    /* hwloc's plug-ins look for displays, OpenCL and Level Zero: 10 ms, X11's libraries and
     * a leak.  StarPU needs none of them here, so it finds none: the directory is empty. */
    const char *plugins = getenv("HWLOC_PLUGINS_PATH");
    char *plugins_before = plugins ? strdup(plugins) : NULL;
    setenv("HWLOC_PLUGINS_PATH", home, 1);
#endif

    conf.precedence_over_environment_variables = 1;
    conf.ncpus = (int)config->n_units;
    conf.reserve_ncpus = 0;
    conf.ncuda = conf.nhip = conf.nopencl = 0;
    conf.nmax_fpga = conf.nmpi_ms = conf.ntcpip_ms = 0;
    conf.catch_signals = 0;
    conf.calibrate = conf.bus_calibrate = 0;
    conf.sched_policy = &sx_policy;

    char text[256];
    struct capture capture;
    sx_policy_open(config->n_units, config->cpus);
    capture_begin(&capture);
    int failed = starpu_init(&conf);
    capture_end(&capture, text, sizeof text);
    sx_dir_remove(home, NULL);
#ifndef STARPU_USE_CUDA
    if (plugins_before)
        setenv("HWLOC_PLUGINS_PATH", plugins_before, 1);
    else
        unsetenv("HWLOC_PLUGINS_PATH");
    free(plugins_before);
#endif
    if (failed)
        return sx_fail(err, SX_UNSUPPORTED, "StarPU did not start: %s%s%s", strerror(-failed),
                       text[0] ? ": " : "", text);
    return SX_OK;
}

static enum sx_rc create_slots(struct starpu_exec *exec, struct sx_err *err)
{
    size_t size = exec->base.n_units * sizeof *exec->units;
    exec->units = aligned_alloc(_Alignof(struct unit), size);
    if (!exec->units)
        return sx_fail(err, SX_NO_MEMORY, "no memory for %u units", exec->base.n_units);
    memset(exec->units, 0, size);
    for (unsigned u = 0; u < exec->base.n_units; u++) {
        for (unsigned i = 0; i < 2; i++) {
            struct slot *slot = &exec->units[u].slots[i];
            struct starpu_task *task = starpu_task_create(); /* never NULL: StarPU aborts */
            task->cl = &codelet;
            task->cl_arg = slot;
            task->callback_func = codelet_done;
            task->callback_arg = slot;
            task->destroy = 0;
            task->detach = 1;
            sx_policy_place(task, u);
            slot->starpu = task;
            slot->exec = exec;
        }
    }
    return SX_OK;
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
    enum sx_rc rc = sx_exec_init(&exec->base, &starpu_exec_ops, sx_clock_real(), config, err);
    if (!rc)
        rc = sx_alarm_create(config->alarm, config->alarm_user, &exec->alarm, err);
    if (!rc)
        rc = start_starpu(config, err);
    if (!rc) {
        exec->running = true;
        if (starpu_worker_get_count() != config->n_units) /* it takes as many cores as it finds */
            rc = sx_fail(err, SX_UNSUPPORTED, "StarPU started %u workers instead of %u",
                         starpu_worker_get_count(), config->n_units);
    }
    if (!rc)
        rc = sx_policy_wait_started(err);
    if (!rc)
        rc = create_slots(exec, err);
    if (rc) {
        starpu_exec_destroy(&exec->base);
        return rc;
    }
    *ret_exec = &exec->base;
    return SX_OK;
}
