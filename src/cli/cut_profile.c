/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * cut_profile.c - measure a model's operators on the devices, and what a copy costs.
 *
 * The measuring thread is bound to the device's first core, as a server's worker is.  Ctrl-C is
 * noticed between runs, so that the engine can remove what it has written; files change only when
 * all has been measured.
 */
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cut.h"

#define BAR_WIDTH 24
#define MAX_UNITS 1024
#define COPY_MIN  ((size_t)64 << 10)
#define COPY_MAX  ((size_t)16 << 20)
#define COPY_RUNS 15

static volatile sig_atomic_t interrupted;

static void interrupt(int signal)
{
    (void)signal;
    interrupted = 1;
}

/* --- the bar ---------------------------------------------------------------------------------- */

struct bar {
    const char *command;
    char what[64];
    double begin, share; /* of the whole, for the measurement that runs */
    bool tty;
    int percent; /* shown last */
};

static void bar_begin(struct bar *b, const struct sx_device *device, unsigned batch, double begin,
                      double share)
{
    snprintf(b->what, sizeof b->what, "%s, %u core%s, batch %u", device->kind, device->n_units,
             device->n_units == 1 ? "" : "s", batch);
    b->begin = begin;
    b->share = share;
    b->percent = -1;
    if (!b->tty)
        fprintf(stderr, "%s: measuring %s\n", b->command, b->what);
}

static bool bar_tick(void *user, double done)
{
    struct bar *b = user;
    double all = b->begin + b->share * fmin(fmax(done, 0), 1);
    int percent = (int)(100 * all), full = (int)(BAR_WIDTH * all);

    if (b->tty && percent != b->percent) {
        fprintf(stderr, "\r\033[K%-32s [", b->what);
        for (int i = 0; i < BAR_WIDTH; i++)
            fputc(i < full ? '#' : '.', stderr);
        fprintf(stderr, "] %3d %%", percent);
        fflush(stderr);
        b->percent = percent;
    }
    return !interrupted;
}

/* --- operators -------------------------------------------------------------------------------- */

static void bind_to(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    if (cpu >= 0 && cpu < CPU_SETSIZE) {
        CPU_SET((unsigned)cpu, &set);
        sched_setaffinity(0, sizeof set, &set); /* else it measures where it is */
    }
}

static enum sx_rc measure_table(struct sx_cut *cut, const struct sx_device *device, unsigned batch,
                                unsigned runs, struct bar *bar, struct sx_err *err)
{
    uint32_t n = cut->dag->n_nodes;
    struct sx_profile_table t = {.units = device->n_units, .batch = batch, .runs = runs};
    int *cpus = calloc(device->n_units, sizeof *cpus);
    double whole[2] = {0};
    enum sx_rc rc;

    memcpy(t.kind, device->kind, sizeof t.kind);
    t.node_ns = calloc(n + 1, sizeof *t.node_ns);
    t.node_spread_ns = calloc(n + 1, sizeof *t.node_spread_ns);
    if (!cpus || !t.node_ns || !t.node_spread_ns) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for a profile");
        goto out;
    }
    for (unsigned u = 0; u < device->n_units; u++)
        cpus[u] = cut->machine->units[device->first_unit + u].cpu;
    bind_to(cpus[0]);
    rc = sx_engine_profile(cut->model, batch, device->n_units, cpus, runs, bar_tick, bar, t.node_ns,
                           t.node_spread_ns, whole, err);
    t.whole_ns = whole[0];
    t.whole_spread_ns = whole[1];
    if (!rc)
        rc = sx_profile_put(&cut->profile, &t, err);
out:
    free(cpus);
    free(t.node_ns);
    free(t.node_spread_ns);
    return rc;
}

/* --- copies ----------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Fixed and per byte by least squares of the relative errors over sizes of powers of 4. */
static enum sx_rc measure_link(struct sx_cut *cut, const char *from, const char *to,
                               struct sx_err *err)
{
    char *source = malloc(COPY_MAX), *target = malloc(COPY_MAX);
    double sw = 0, sx = 0, sy = 0, sxx = 0, sxy = 0;
    enum sx_rc rc = SX_OK;

    if (!source || !target) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory to measure copies");
        goto out;
    }
    memset(source, 1, COPY_MAX);
    memset(target, 2, COPY_MAX);
    for (size_t size = COPY_MIN; size <= COPY_MAX; size *= 4) {
        double ns[COPY_RUNS];
        for (int i = 0; i < COPY_RUNS; i++) {
            uint64_t begin = sx_now();
            memcpy(target, source, size);
            __asm__ volatile("" : : "r"(target) : "memory"); /* it is read, for all one knows */
            ns[i] = (double)(sx_now() - begin);
        }
        qsort(ns, COPY_RUNS, sizeof *ns, compare);
        double t = fmax(ns[COPY_RUNS / 2], 1), w = 1 / (t * t), x = (double)size;
        sw += w;
        sx += w * x;
        sy += w * t;
        sxx += w * x * x;
        sxy += w * x * t;
    }
    double byte_ns = fmax((sw * sxy - sx * sy) / (sw * sxx - sx * sx), 0);
    struct sx_profile_link link = {.byte_ns = byte_ns,
                                   .fixed_ns = fmax((sy - byte_ns * sx) / sw, 0)};
    snprintf(link.from, sizeof link.from, "%s", from);
    snprintf(link.to, sizeof link.to, "%s", to);
    rc = sx_profile_put_link(&cut->profile, &link, err);
out:
    free(source);
    free(target);
    return rc;
}

static bool has_link(const struct sx_profile *p, const char *from, const char *to)
{
    for (size_t i = 0; i < p->n_links; i++)
        if (!strcmp(p->links[i].from, from) && !strcmp(p->links[i].to, to))
            return true;
    return false;
}

/* --- all of it -------------------------------------------------------------------------------- */

/* Is there a device before `d` that takes the same times? */
static bool like_earlier(const struct sx_machine *machine, unsigned d)
{
    for (unsigned e = 0; e < d; e++)
        if (machine->devices[e].n_units == machine->devices[d].n_units &&
            !strcmp(machine->devices[e].kind, machine->devices[d].kind))
            return true;
    return false;
}

/* Is this batch within what was measured?  Between two others is near enough. */
static bool covered(const struct sx_profile *p, const struct sx_device *device, unsigned batch)
{
    unsigned least = UINT_MAX, most = 0;

    for (size_t i = 0; i < p->n_tables; i++) {
        const struct sx_profile_table *t = &p->tables[i];
        if (strcmp(t->kind, device->kind) || t->units != device->n_units)
            continue;
        least = t->batch < least ? t->batch : least;
        most = t->batch > most ? t->batch : most;
    }
    return batch >= least && batch <= most;
}

static enum sx_rc measure_all(struct sx_cut *cut, const unsigned *batches, size_t n, unsigned runs,
                              bool anew, bool *ret_changed, struct sx_err *err)
{
    const struct sx_machine *machine = cut->machine;
    struct bar bar = {.command = cut->command, .tty = isatty(STDERR_FILENO)};
    double total = 0, done = 0;
    enum sx_rc rc = SX_OK;

    for (unsigned d = 0; d < machine->n_devices; d++)
        for (size_t i = 0; i < n; i++)
            total += like_earlier(machine, d) ? 0 : batches[i];
    for (unsigned d = 0; !rc && d < machine->n_devices; d++) {
        const struct sx_device *device = &machine->devices[d];
        for (size_t i = 0; !rc && i < n; i++) {
            if (like_earlier(machine, d) || (!anew && covered(&cut->profile, device, batches[i])))
                continue;
            if (!anew && !*ret_changed)
                fprintf(stderr, "%s: %s: no profile for it here; measuring one\n", cut->command,
                        cut->path);
            *ret_changed = true;
            bar_begin(&bar, device, batches[i], done / total, batches[i] / total);
            rc = measure_table(cut, device, batches[i], runs, &bar, err);
            done += batches[i];
        }
    }
    for (unsigned a = 0; !rc && a < machine->n_devices; a++) {
        for (unsigned b = 0; !rc && b < machine->n_devices; b++) {
            const char *from = machine->devices[a].kind, *to = machine->devices[b].kind;
            if (!anew && has_link(&cut->profile, from, to))
                continue;
            rc = measure_link(cut, from, to, err);
            *ret_changed = true;
        }
    }
    if (bar.tty && *ret_changed)
        fputs("\r\033[K", stderr);
    return rc;
}

enum sx_rc sx_cut_profile(struct sx_cut *cut, const unsigned *batches, size_t n, unsigned runs,
                          bool anew, const char *output, struct sx_err *err)
{
    const struct sx_profile_key key = cut->profile.key;
    struct sigaction act = {.sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND}, before;
    struct sx_err why = {0};
    struct sx_profile cached = {0};
    bool changed = false;
    cpu_set_t cores;
    enum sx_rc rc;

    /* anew, too: what is there of other devices stays */
    if (!output && !sx_profile_load(cut->profile_path, &key, &cached, &why)) {
        sx_profile_fini(&cut->profile);
        cut->profile = cached;
    } else if (!output && why.rc != SX_NOT_FOUND) {
        fprintf(stderr, "%s: %s; measured anew\n", cut->command, why.message);
    }
    bool bound = !sched_getaffinity(0, sizeof cores, &cores);
    interrupted = 0;
    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, &before);
    rc = measure_all(cut, batches, n, runs, anew, &changed, err);
    sigaction(SIGINT, &before, NULL);
    if (bound)
        sched_setaffinity(0, sizeof cores, &cores);
    if (rc == SX_CANCELLED || (!rc && interrupted))
        return sx_fail(err, SX_CANCELLED, "interrupted; no profile has been written");
    if (!rc && (changed || output))
        rc = sx_profile_save(&cut->profile, output ? output : cut->profile_path, err);
    return rc;
}
