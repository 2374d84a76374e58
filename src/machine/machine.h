/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.h - what is here: cores, caches, NUMA nodes, memory.
 *
 * A snapshot, taken once at start.  It respects what the process may use (cpuset, cgroup
 * quota), so a container sees its own share and not the host's.  A `unit` is what the scheduler
 * hands out: one physical core (its first hardware thread), ordered so that neighbours in the
 * list share caches; or, after sx_machine_group, a few such neighbours.
 */
#ifndef SX_MACHINE_MACHINE_H
#define SX_MACHINE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rc.h"

struct sx_unit {
    int cpu;     /* the operating system's number of the hardware thread we run on; of the first
                    core, when the unit has several */
    int package; /* socket, from 0 */
    int numa;    /* NUMA node, from 0 */
    int l3;      /* group of cores that share the last cache, from 0 */
};

/* Something that runs a stage: neighbouring units of one kind. */
struct sx_device {
    char name[24]; /* "cpu", or as it was asked for: "cpu:1@8"; a long list as "cpu:0,.." */
    char kind[16]; /* "cpu"; what costs are measured for */
    unsigned first_unit, n_units;
    double slowdown;     /* 1, or how many times slower it is made to be: emulation, for tests and
                            what-if runs; it computes, then waits */
    double memory_bytes; /* that the weights of what runs there may take; 0: no limit of its own */
};

struct sx_machine {
    struct sx_unit *units;
    unsigned n_units;
    struct sx_device *devices; /* in the order of their units, which they divide among them */
    unsigned n_devices;        /* 1 unless sx_machine_select was given several */
    unsigned unit_cores;       /* cores of each unit; 0 is 1 */
    int *cpus;                 /* unit_cores of each unit, in their order; NULL: units[].cpu */
    double quota_cores;        /* CPU time quota of the cgroup in cores; 0 when there is none */
    uint64_t memory_bytes;     /* usable by this process */
    char cpu_model[96];        /* "AMD EPYC 9454" */
    char id[32]; /* fingerprint: same id, same kind of machine; goes into cached files */
};

/* Look at this machine.  Destroy with sx_machine_destroy.  Blocks (reads /sys). */
enum sx_rc sx_machine_detect(struct sx_machine **ret_machine, struct sx_err *err);
/* Make devices of the `--device` texts, one each, in their order: "cpu" (all units), "cpu:0",
 * "cpu:0-3", "cpu:0,2", where numbers index the units as detected, each with "@K" for one slowed
 * down K times (1 to 1000, also 2.5).  The units are sorted by device; those that nobody names are
 * gone.  A unit in two devices is SX_INVALID, as is anything else, with a hint, and then nothing
 * has changed.  No text at all leaves the one device "cpu".  Once for each machine. */
enum sx_rc sx_machine_select(struct sx_machine *machine, const char *const *devices, size_t n,
                             struct sx_err *err);
/* Without devices: keep only as many neighbouring cores, at least one, as the quota pays for;
 * threads on more of them, which wait for each other, would use it up early in each period and then
 * all stand still.  True: those are fewer than there were.  Instead of sx_machine_select. */
bool sx_machine_keep_quota(struct sx_machine *machine);
/* On a machine of many cores: make units of several neighbouring cores each, all of the same size,
 * so that there are at most `most`.  What is left over of a device when that does not divide it is
 * not used.  Costs of other sizes of units do not mix with these: the devices' kind says it, "cpu
 * x2".  Does nothing when there are no more than `most`.  SX_UNSUPPORTED: a device has too few
 * cores for a unit.  After sx_machine_select, and once. */
enum sx_rc sx_machine_group(struct sx_machine *machine, unsigned most, struct sx_err *err);
/* How many cores so many units have. */
unsigned sx_machine_cores(const struct sx_machine *machine, unsigned n_units);
/* Which: as many as sx_machine_cores says. */
void sx_machine_cpus(const struct sx_machine *machine, unsigned first_unit, unsigned n_units,
                     int *ret_cpus);
void sx_machine_destroy(struct sx_machine *machine);

#endif
