/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.h - what is here: cores, caches, NUMA nodes, memory.
 *
 * A snapshot, taken once at start.  It respects what the process may use (cpuset, cgroup
 * quota), so a container sees its own share and not the host's.  A `unit` is what the scheduler
 * hands out: one physical core (its first hardware thread), ordered so that neighbours in the
 * list share caches.
 */
#ifndef SX_MACHINE_MACHINE_H
#define SX_MACHINE_MACHINE_H

#include <stddef.h>
#include <stdint.h>

#include "base/rc.h"

struct sx_unit {
    int cpu;     /* the operating system's number of the hardware thread we run on */
    int package; /* socket, from 0 */
    int numa;    /* NUMA node, from 0 */
    int l3;      /* group of cores that share the last cache, from 0 */
};

struct sx_machine {
    struct sx_unit *units;
    unsigned n_units;
    double quota_cores;    /* CPU time quota of the cgroup in cores; 0 when there is none */
    uint64_t memory_bytes; /* usable by this process */
    char cpu_model[96];    /* "AMD EPYC 9454" */
    char id[32];           /* fingerprint: same id, same kind of machine; goes into cached files */
};

/* Look at this machine.  Destroy with sx_machine_destroy.  Blocks (reads /sys). */
enum sx_rc sx_machine_detect(struct sx_machine **ret_machine, struct sx_err *err);
/* Keep the devices named by a `--device` text: "cpu" (all), "cpu:0", "cpu:0-3", "cpu:0,2", where
 * numbers index the units as detected.  SX_INVALID with a hint for anything else. */
enum sx_rc sx_machine_select(struct sx_machine *machine, const char *devices, struct sx_err *err);
void sx_machine_destroy(struct sx_machine *machine);

#endif
