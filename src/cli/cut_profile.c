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

static void bar_begin(struct bar *b, const struct sx_device *device, unsigned units, unsigned batch,
                      double begin, double share)
{
    snprintf(b->what, sizeof b->what, "%s, %u core%s, batch %u", device->kind, units,
             units == 1 ? "" : "s", batch);
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

/* --- all of it -------------------------------------------------------------------------------- */

/* Is device d the first that takes these times: one of its kind with so many units? */
static bool first_of(const struct sx_machine *machine, unsigned d, unsigned units, bool own)
{
    for (unsigned e = 0; e < d; e++)
        if ((own ? machine->devices[e].n_units == units : machine->devices[e].n_units >= units) &&
            !strcmp(machine->devices[e].kind, machine->devices[d].kind))
            return false;
    return true;
}

/* Is this batch within what was measured?  Between two others is near enough. */
static bool covered(const struct sx_profile *p, const struct sx_device *device, unsigned units,
                    unsigned batch)
{
    unsigned least = UINT_MAX, most = 0;

    for (size_t i = 0; i < p->n_tables; i++) {
        const struct sx_profile_table *t = &p->tables[i];
        if (strcmp(t->kind, device->kind) || t->units != units)
            continue;
        least = t->batch < least ? t->batch : least;
        most = t->batch > most ? t->batch : most;
    }
    return batch >= least && batch <= most;
}

/* One measurement. */
struct job {
    const struct sx_device *device;
    unsigned units, batch;
};

/* All there is to measure, without doubles, into room for all; returns how many. */
static size_t list_jobs(const struct sx_cut *cut, const struct sx_cut_grid *grid, struct job *jobs)
{
    const struct sx_machine *machine = cut->machine;
    bool own = !grid->n_units;
    size_t n = 0;

    for (unsigned d = 0; d < machine->n_devices; d++) {
        const struct sx_device *device = &machine->devices[d];
        for (size_t u = 0; u < (own ? 1 : grid->n_units); u++) {
            unsigned units = own ? device->n_units : grid->units[u];
            if (units > device->n_units || !first_of(machine, d, units, own))
                continue;
            for (size_t i = 0; i < grid->n_batches; i++)
                if (grid->anew || !covered(&cut->profile, device, units, grid->batches[i]))
                    jobs[n++] = (struct job){device, units, grid->batches[i]};
        }
    }
    return n;
}

static enum sx_rc measure_all(struct sx_cut *cut, const struct sx_cut_grid *grid, bool *ret_changed,
                              struct sx_err *err)
{
    const struct sx_machine *machine = cut->machine;
    struct bar bar = {.command = cut->command, .tty = isatty(STDERR_FILENO)};
    size_t cap = machine->n_devices * (grid->n_units + 1) * grid->n_batches;
    struct job *jobs = calloc(cap, sizeof *jobs);
    double total = 0, done = 0;
    enum sx_rc rc = SX_OK;

    if (!jobs)
        return sx_fail(err, SX_NO_MEMORY, "no memory to measure");
    size_t n = list_jobs(cut, grid, jobs);
    for (size_t i = 0; i < n; i++)
        total += (double)jobs[i].batch / jobs[i].units;
    if (n && !grid->anew)
        fprintf(stderr, "%s: %s: no profile for it here; measuring one\n", cut->command, cut->path);
    for (size_t i = 0; !rc && i < n; i++) {
        double work = (double)jobs[i].batch / jobs[i].units;
        *ret_changed = true;
        bar_begin(&bar, jobs[i].device, jobs[i].units, jobs[i].batch, done / total, work / total);
        rc = sx_engine_profile_table(cut->model, machine, jobs[i].device, jobs[i].units,
                                     jobs[i].batch, grid->runs, bar_tick, &bar, &cut->profile, err);
        done += work;
    }
    free(jobs);
    if (!rc)
        rc = sx_engine_profile_links(machine, grid->anew, &cut->profile, ret_changed, err);
    if (bar.tty && *ret_changed)
        fputs("\r\033[K", stderr);
    return rc;
}

enum sx_rc sx_cut_profile(struct sx_cut *cut, const struct sx_cut_grid *grid, struct sx_err *err)
{
    const char *output = grid->output;
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
    rc = measure_all(cut, grid, &changed, err);
    sigaction(SIGINT, &before, NULL);
    if (bound)
        sched_setaffinity(0, sizeof cores, &cores);
    if (rc == SX_CANCELLED || (!rc && interrupted))
        return sx_fail(err, SX_CANCELLED, "interrupted; no profile has been written");
    if (!rc && (changed || output))
        rc = sx_profile_save(&cut->profile, output ? output : cut->profile_path, err);
    return rc;
}
