/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * select.c - which units are used, and as which devices.
 *
 * `taken[u]` is 1 plus the number of the device that unit u, as detected, goes to; 0 while no
 * text has named it.  The machine itself changes only when every text has been understood.
 *
 * Units of several cores come last: until then a unit is a core, which is what texts name.
 */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine/machine_int.h"

#define SLOWEST 1000

enum sx_rc sx_machine_whole(struct sx_machine *machine, struct sx_err *err)
{
    struct sx_device *device = calloc(1, sizeof *device);
    if (!device)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a list of devices");
    *device = (struct sx_device){
        .name = "cpu", .kind = "cpu", .n_units = machine->n_units, .slowdown = 1};
    free(machine->devices);
    machine->devices = device;
    machine->n_devices = 1;
    return SX_OK;
}

static enum sx_rc no_device(const char *text, struct sx_err *err)
{
    sx_fail(err, SX_INVALID, "'%s' names no device", text);
    sx_hint(err, "write cpu, cpu:0, cpu:0-3 or cpu:0,2, with @8 behind it to emulate one that is 8 "
                 "times slower");
    return SX_INVALID;
}

static bool parse_index(const char **p, unsigned *ret_value)
{
    char *end;
    if (!isdigit((unsigned char)**p))
        return false;
    errno = 0;
    unsigned long v = strtoul(*p, &end, 10);
    if (errno || v > 1000000)
        return false;
    *p = end;
    *ret_value = (unsigned)v;
    return true;
}

/* "@8", "@2.5" or nothing. */
static enum sx_rc parse_slowdown(const char *text, const char *p, double *ret_slowdown,
                                 struct sx_err *err)
{
    char *end = NULL;
    *ret_slowdown = 1;
    if (!*p)
        return SX_OK;
    if (*p != '@' || !isdigit((unsigned char)p[1]) || p[1 + strspn(p + 1, "0123456789.")])
        return no_device(text, err);
    *ret_slowdown = strtod(p + 1, &end);
    if (*end)
        return no_device(text, err);
    if (*ret_slowdown >= 1 && *ret_slowdown <= SLOWEST)
        return SX_OK;
    sx_fail(err, SX_INVALID, "device '%s' is to be %s times slower", text, p + 1);
    sx_hint(err, "1 to %d are possible; 1 is its own speed", SLOWEST);
    return SX_INVALID;
}

/* One text: mark its units as those of device `d`, and fill all of `device` but first_unit. */
static enum sx_rc parse_device(const struct sx_machine *machine, const char *const *texts, size_t d,
                               size_t *taken, struct sx_device *device, struct sx_err *err)
{
    const char *text = texts[d], *p = text;
    unsigned lowest = machine->n_units;

    if (strncmp(p, "cpu", 3))
        return no_device(text, err);
    p += 3;
    bool all = *p != ':';
    do {
        unsigned first = 0, last = machine->n_units - 1;
        if (!all) {
            p++; /* ':' or ',' */
            if (!parse_index(&p, &first))
                return no_device(text, err);
            last = first;
            if (*p == '-' && (p++, !parse_index(&p, &last)))
                return no_device(text, err);
            if (last < first)
                return no_device(text, err);
        }
        if (last >= machine->n_units) {
            sx_fail(err, SX_INVALID, "device '%s' names core %u, but there are %u", text, last,
                    machine->n_units);
            sx_hint(err, "cores are numbered from 0 to %u here", machine->n_units - 1);
            return SX_INVALID;
        }
        for (unsigned i = first; i <= last; i++) {
            if (taken[i] && taken[i] != d + 1) {
                sx_fail(err, SX_INVALID, "devices '%s' and '%s' both have core %u",
                        texts[taken[i] - 1], text, i);
                sx_hint(err, "give each core to one device");
                return SX_INVALID;
            }
            device->n_units += !taken[i];
            taken[i] = d + 1;
        }
        lowest = first < lowest ? first : lowest;
    } while (!all && *p == ',');

    enum sx_rc rc = parse_slowdown(text, p, &device->slowdown, err);
    if (rc)
        return rc;
    snprintf(device->kind, sizeof device->kind, "cpu");
    if (strlen(text) < sizeof device->name) {
        strcpy(device->name, text);
    } else { /* still a name of its own: no other device has `lowest` */
        char slower[16] = "";
        if (*p)
            snprintf(slower, sizeof slower, "@%g", device->slowdown);
        snprintf(device->name, sizeof device->name, "cpu:%u,..%s", lowest % 1000001, slower);
    }
    return SX_OK;
}

enum sx_rc sx_machine_select(struct sx_machine *machine, const char *const *devices, size_t n,
                             struct sx_err *err)
{
    enum sx_rc rc = SX_OK;
    struct sx_device *list = NULL;
    struct sx_unit *units = NULL;
    size_t *taken = NULL;
    unsigned n_units = 0;

    if (!n)
        return SX_OK;
    list = calloc(n, sizeof *list);
    units = calloc(machine->n_units, sizeof *units);
    taken = calloc(machine->n_units, sizeof *taken);
    if (!list || !units || !taken) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for a list of devices");
        goto out;
    }
    for (size_t d = 0; d < n && !rc; d++)
        rc = parse_device(machine, devices, d, taken, &list[d], err);
    if (rc)
        goto out;
    for (size_t d = 0; d < n; d++) {
        list[d].first_unit = n_units;
        for (unsigned u = 0; u < machine->n_units; u++)
            if (taken[u] == d + 1)
                units[n_units++] = machine->units[u];
    }
    free(machine->units);
    free(machine->devices);
    machine->units = units;
    machine->n_units = n_units;
    machine->devices = list;
    machine->n_devices = (unsigned)n;
    if (machine->quota_cores >= n_units)
        machine->quota_cores = 0; /* more than there is: no limit */
    units = NULL;
    list = NULL;
out:
    free(list);
    free(units);
    free(taken);
    return rc;
}

bool sx_machine_keep_quota(struct sx_machine *machine)
{
    double cores = ceil(machine->quota_cores); /* 0: there is none */
    if (cores < 1 || cores >= machine->n_units)
        return false;
    machine->n_units = machine->devices[0].n_units = (unsigned)cores;
    return true;
}

/* --- units of several cores --------------------------------------------------------------------
 */

enum sx_rc sx_machine_group(struct sx_machine *machine, unsigned most, struct sx_err *err)
{
    unsigned each = most ? (machine->n_units + most - 1) / most : 1, n_units = 0;
    if (each <= 1)
        return SX_OK;
    for (unsigned d = 0; d < machine->n_devices; d++) {
        const struct sx_device *device = &machine->devices[d];
        if (device->n_units < each) {
            sx_fail(err, SX_UNSUPPORTED, "%u cores make units of %u, and device '%s' has %u",
                    machine->n_units, each, device->name, device->n_units);
            sx_hint(err, "use fewer cores, or give the device more");
            return SX_UNSUPPORTED;
        }
    }
    int *cpus = calloc(machine->n_units, sizeof *cpus);
    if (!cpus)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a list of cores");
    for (unsigned d = 0; d < machine->n_devices; d++) {
        struct sx_device *device = &machine->devices[d];
        unsigned from = device->first_unit;
        device->first_unit = n_units;
        device->n_units /= each;
        snprintf(device->kind, sizeof device->kind, "cpu x%u", each);
        for (unsigned u = 0; u < device->n_units; u++, n_units++, from += each) {
            for (unsigned k = 0; k < each; k++)
                cpus[n_units * each + k] = machine->units[from + k].cpu;
            machine->units[n_units] = machine->units[from]; /* never ahead of `from` */
        }
    }
    machine->n_units = n_units;
    machine->unit_cores = each;
    machine->cpus = cpus;
    return SX_OK;
}

unsigned sx_machine_cores(const struct sx_machine *machine, unsigned n_units)
{
    return machine->unit_cores > 1 ? n_units * machine->unit_cores : n_units;
}

void sx_machine_cpus(const struct sx_machine *machine, unsigned first_unit, unsigned n_units,
                     int *ret_cpus)
{
    unsigned n = sx_machine_cores(machine, n_units), first = sx_machine_cores(machine, first_unit);
    for (unsigned i = 0; i < n; i++)
        ret_cpus[i] = machine->cpus ? machine->cpus[first + i] : machine->units[first + i].cpu;
}
