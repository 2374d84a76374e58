/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * judge.h - what a cut is worth, counted anew: so that the planner is not judged by itself.
 *
 * Nothing of partition/ is called here.  The problem must have one link between all stages and no
 * limits on memory, as the cases of bench/cuts.c do.
 */
#ifndef SX_BENCH_JUDGE_H
#define SX_BENCH_JUDGE_H

#include "partition/partition.h"

struct judge_value {
    double slowest_ns; /* the slowest stage with what it fetches */
    double bytes;      /* cut, each tensor once for each stage that fetches it */
};

/* Do labels never decrease along an edge, and do groups stay whole?  Then each stage is convex and
 * the quotient has no cycle. */
bool judge_valid(const struct sx_part_problem *p, const uint32_t *stage);
struct judge_value judge_value(const struct sx_part_problem *p, const uint32_t *stage);
/* Exact over the cuts of the file's order into k pieces, O(k n^2): of those within 1 % of the
 * least slowest stage, the one with the fewest bytes.  False when memory runs out. */
bool judge_topological(const struct sx_part_problem *p, struct judge_value *ret);
/* The objective of a over that of b; at most 1: a is not worse.  By the slowest stage; where both
 * are within 1 % of `least`, the least slowest stage of all that are compared, by the bytes.  In
 * pairs (`least` is then the lesser of the two) comparisons may go in circles. */
double judge_ratio(struct judge_value a, struct judge_value b, double least);

#endif
