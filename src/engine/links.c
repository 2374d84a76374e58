/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * links.c - what a copy between two kinds of device costs, measured.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/engine.h"
#include "machine/machine.h"

#define COPY_MIN  ((size_t)64 << 10)
#define COPY_MAX  ((size_t)16 << 20)
#define COPY_RUNS 15

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Fixed and per byte by least squares of the relative errors over sizes of powers of 4. */
static enum sx_rc measure_link(struct sx_profile *profile, const char *from, const char *to,
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
    rc = sx_profile_put_link(profile, &link, err);
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

enum sx_rc sx_engine_profile_links(const struct sx_machine *machine, bool anew,
                                   struct sx_profile *profile, bool *ret_changed,
                                   struct sx_err *err)
{
    enum sx_rc rc = SX_OK;
    for (unsigned a = 0; !rc && a < machine->n_devices; a++) {
        for (unsigned b = 0; !rc && b < machine->n_devices; b++) {
            const char *from = machine->devices[a].kind, *to = machine->devices[b].kind;
            if (!anew && has_link(profile, from, to))
                continue;
            rc = measure_link(profile, from, to, err);
            *ret_changed = true;
        }
    }
    return rc;
}
