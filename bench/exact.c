/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * exact.c - solves random small graphs and searches all their cuts.
 *
 * Usage: exact-cuts [GRAPHS [SEED]]     one JSON object per graph, on stdout
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "partition/problem_test.h"

#define LEAST 6
#define MOST  16

static enum sx_rc solve(const struct sx_part_problem *p, unsigned methods, bool no_refine,
                        struct sx_part_result *ret)
{
    const struct sx_part_options options = {.methods = methods, .no_refine = no_refine};
    struct sx_err err = {0};
    enum sx_rc rc = sx_part_solve(p, &options, ret, &err);
    if (rc != SX_OK)
        fprintf(stderr, "exact-cuts: %s\n", err.message);
    return rc;
}

int main(int argc, char **argv)
{
    static const char *const shapes[] = {"series-parallel", "layers", "random", "skips"};
    unsigned long graphs = argc > 1 ? strtoul(argv[1], NULL, 10) : 480;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    struct sx_rng rng;
    sx_rng_init(&rng, seed);
    for (unsigned long i = 0; i < graphs; i++) {
        struct made m;
        struct sx_part_result best = {0}, ours = {0}, dp = {0};
        enum made_shape shape = (enum made_shape)(i % MADE_SHAPES);
        uint32_t n = LEAST + (uint32_t)sx_rng_below(&rng, MOST - LEAST + 1);
        unsigned stages = 2 + (unsigned)(i / MADE_SHAPES % 3);
        bool equal = i / MADE_SHAPES / 3 % 2;
        made_init(&m, sx_rng_u64(&rng), shape, n, stages, equal);
        uint64_t begin = sx_now();
        int failed = solve(&m.problem, 1u << SX_PART_EXHAUSTIVE, true, &best) != SX_OK;
        uint64_t middle = sx_now();
        failed |= solve(&m.problem, 0, false, &ours) != SX_OK;
        uint64_t end = sx_now();
        failed |= solve(&m.problem, 1u << SX_PART_TOPOLOGICAL, true, &dp) != SX_OK;
        if (!failed)
            printf("{\"shape\": \"%s\", \"operators\": %u, \"stages\": %u, \"equal\": %s, "
                   "\"best_ns\": %.17g, \"ours_ns\": %.17g, \"dp_ns\": %.17g, \"best_bytes\": "
                   "%.17g, \"ours_bytes\": %.17g, \"method\": \"%s\", \"exhaustive_ms\": %.3f, "
                   "\"ms\": %.3f, \"metis_runs\": %u}\n",
                   shapes[shape], n, stages, equal ? "true" : "false", best.value.slowest_ns,
                   ours.value.slowest_ns, dp.value.slowest_ns, best.value.bytes_cut,
                   ours.value.bytes_cut, sx_part_method_text(ours.method),
                   (double)(middle - begin) / 1e6, (double)(end - middle) / 1e6, ours.metis_runs);
        sx_part_result_fini(&best);
        sx_part_result_fini(&ours);
        sx_part_result_fini(&dp);
        made_free(&m);
        if (failed)
            return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
