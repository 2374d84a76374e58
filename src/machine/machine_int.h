/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * machine_int.h - parts that tests and other files of machine/ call; for machine/ alone.
 */
#ifndef SX_MACHINE_MACHINE_INT_H
#define SX_MACHINE_MACHINE_INT_H

#include "machine/machine.h"

/* The machine that a recorded hwloc XML describes (cgroups are not looked at). */
enum sx_rc sx_machine_from_xml(const char *xml, struct sx_machine **ret_machine,
                               struct sx_err *err);
/* The same from hwloc's synthetic notation: "pack:2 l3:2 core:4 pu:2". */
enum sx_rc sx_machine_from_synthetic(const char *text, struct sx_machine **ret_machine,
                                     struct sx_err *err);

/* Make all units one device "cpu", as a machine has it that nobody selected from. */
enum sx_rc sx_machine_whole(struct sx_machine *machine, struct sx_err *err);

/* The limits of the control group described by files below `root` ("" is the system): reads
 * ROOT/proc/self/cgroup and ROOT/sys/fs/cgroup, version 1 and 2.  0: no limit. */
void sx_cgroup_limits(const char *root, double *ret_cores, uint64_t *ret_memory);

#endif
