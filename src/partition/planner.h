/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * planner.h - graph + profile + devices -> plans.
 *
 * Errors: SX_NOT_FOUND: the profile has no times for a device (another number of units counts as
 * another device); SX_INVALID: the profile is of another graph, a device that is not there, too
 * many of them; SX_TOO_LARGE: nothing fits into the devices' memory.  A plan's devices are all of
 * the machine's, in its order, so that sx_plan_stage.device is also the machine's number.
 *
 * Blocks while it computes (milliseconds per plan and a child process: see metis.h).  Any thread;
 * nothing is shared between calls.
 */
#ifndef SX_PARTITION_PLANNER_H
#define SX_PARTITION_PLANNER_H

#include "partition/partition.h"
#include "plan/plan.h"

/* Fill a problem for stages on devices[order[0]], devices[order[1]], ...; the arrays belong to the
 * result: sx_planner_problem_fini.  Times come from the profile at `batch`, times the slowdown. */
enum sx_rc sx_planner_problem(const struct sx_dag *dag, const struct sx_profile *profile,
                              const struct sx_machine *machine, const unsigned *order,
                              unsigned n_stages, unsigned batch,
                              struct sx_part_problem *ret_problem, struct sx_err *err);
void sx_planner_problem_fini(struct sx_part_problem *problem);

/* The whole model on one device. */
enum sx_rc sx_planner_whole(const struct sx_dag *dag, const struct sx_profile *profile,
                            const struct sx_machine *machine, unsigned device, unsigned batch,
                            struct sx_plan **ret_plan, struct sx_err *err);
/* The best cut over the devices in this order; stages that came out empty are left out. */
enum sx_rc sx_planner_cut(const struct sx_dag *dag, const struct sx_profile *profile,
                          const struct sx_machine *machine, const unsigned *order,
                          unsigned n_stages, unsigned batch, const struct sx_part_options *options,
                          struct sx_plan **ret_plan, struct sx_err *err);
/* Every plan worth having resident and that fits: the whole model on each device, and for each pair
 * (and, with three or more devices, all of them) the better of both directions by throughput, plus
 * the other if its latency is lower or it beats the fastest device alone.  Plans of equal stages
 * are made once.  At most `cap`; the caller destroys each. */
enum sx_rc sx_planner_variants(const struct sx_dag *dag, const struct sx_profile *profile,
                               const struct sx_machine *machine, unsigned batch,
                               const struct sx_part_options *options, struct sx_plan **ret_plans,
                               size_t cap, size_t *ret_n, struct sx_err *err);

#endif
