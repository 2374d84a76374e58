/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * start.c - starting StarPU quietly, without leaving anything in the user's home, and as we want
 * it.
 */
#include "exec/starpu/start.h"

#include <assert.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "exec/starpu/policy.h"

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
static char home[256]; /* guarded by there being one executor */

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

/* StarPU would take another policy instead of one that it does not know. */
static enum sx_rc check_policy(const char *name, struct sx_err *err)
{
    struct starpu_sched_policy **known = starpu_sched_get_predefined_policies();
    char names[200] = "";
    size_t n = 0;
    for (; *known; known++) {
        if (!strcmp((*known)->policy_name, name))
            return SX_OK;
        size_t len = strlen((*known)->policy_name);
        if (strncmp((*known)->policy_name, "modular", 7) && n + len + 2 < sizeof names)
            n += (size_t)snprintf(names + n, sizeof names - n, " %s", (*known)->policy_name);
    }
    sx_fail(err, SX_INVALID, "StarPU has no policy '%s'", name);
    sx_hint(err, "it has%s", names);
    return SX_INVALID;
}

#ifndef STARPU_USE_CUDA
/* StarPU looks for devices with hwloc, several times: its plug-ins for displays, OpenCL and Level
 * Zero take 10 ms and X11's libraries, and leak; PCI devices and caches take 27 ms on a virtual
 * machine.  Without CUDA StarPU needs none of them, and we say how many cores there are and bind
 * threads ourselves: so it is shown no plug-ins (the directory is empty) and a count of processors.
 */
static const char *const hiding[][2] = {{"HWLOC_PLUGINS_PATH", home},
                                        {"HWLOC_COMPONENTS", "no_os,stop"}};
enum { N_HIDING = sizeof hiding / sizeof *hiding };

static void hide_devices(char *before[N_HIDING])
{
    for (int i = 0; i < N_HIDING; i++) {
        const char *value = getenv(hiding[i][0]);
        before[i] = value ? strdup(value) : NULL;
        setenv(hiding[i][0], hiding[i][1], 1);
    }
}

static void restore(char *before[N_HIDING])
{
    for (int i = 0; i < N_HIDING; i++) {
        if (before[i])
            setenv(hiding[i][0], before[i], 1);
        else
            unsetenv(hiding[i][0]);
        free(before[i]);
    }
}
#endif

enum sx_rc sx_starpu_start(const struct sx_exec_config *config, struct sx_err *err)
{
    struct starpu_conf conf;
#ifndef STARPU_USE_CUDA
    char *before[N_HIDING];
#endif
    enum sx_rc rc = probe_abi(&conf, err);
    if (!rc && config->starpu_policy)
        rc = check_policy(config->starpu_policy, err);
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
    hide_devices(before);
#endif

    conf.precedence_over_environment_variables = 1;
    conf.ncpus = (int)config->n_units;
    conf.reserve_ncpus = 0;
    conf.ncuda = conf.nhip = conf.nopencl = 0;
    conf.nmax_fpga = conf.nmpi_ms = conf.ntcpip_ms = 0;
    conf.catch_signals = 0;
    conf.calibrate = conf.bus_calibrate = 0;
    if (config->starpu_policy)
        setenv("STARPU_SCHED", config->starpu_policy, 1); /* it would win over `conf` */
    else
        conf.sched_policy = &sx_policy;

    char text[256];
    struct capture capture;
    sx_policy_open(config->n_units, config->cpus);
    capture_begin(&capture);
    int failed = starpu_init(&conf);
    capture_end(&capture, text, sizeof text);
    sx_dir_remove(home, NULL);
#ifndef STARPU_USE_CUDA
    restore(before);
#endif
    if (failed)
        return sx_fail(err, SX_UNSUPPORTED, "StarPU did not start: %s%s%s", strerror(-failed),
                       text[0] ? ": " : "", text);
    return SX_OK;
}
