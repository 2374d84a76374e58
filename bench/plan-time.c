/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * plan-time.c - times the cutting of graphs that look like models, METIS's process included.
 *
 * Usage: plan-times SHAPE OPERATORS STAGES ROUNDS     one JSON object per round, on stdout
 * SHAPE is inception, unet or transformer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "partition/problem_test.h"

/* Blocks of four branches that are joined. */
static void inception(struct made *m, uint32_t n)
{
    static const unsigned lengths[] = {1, 2, 3, 2};
    uint32_t v = 1;
    while (v + 9 <= n) {
        uint32_t input = v - 1, join = v + 8;
        for (unsigned b = 0; b < 4; b++) {
            uint32_t last = input;
            for (unsigned i = 0; i < lengths[b]; i++) {
                made_edge(m, last, v);
                last = v++;
            }
            made_edge(m, last, join);
        }
        v = join + 1;
    }
    for (; v < n; v++)
        made_edge(m, v - 1, v);
}

/* A way down and a way up, with a bridge at every sixth operator: the longest span all. */
static void unet(struct made *m, uint32_t n)
{
    for (uint32_t v = 1; v < n; v++) {
        made_edge(m, v - 1, v);
        if (v > n / 2 + 1 && v % 6 == 0)
            made_edge(m, n - 1 - v, v);
    }
}

/* Layers of 16 operators: three projections, attention, two residual additions; a mask is read by
 * every layer. */
static void transformer(struct made *m, uint32_t n)
{
    uint32_t v = 2, x = 1; /* 0: the mask */
    while (v + 16 <= n) {
        uint32_t q = v, k = v + 2, w = v + 4, score = v + 6;
        made_edge(m, x, q);
        made_edge(m, q, q + 1);
        made_edge(m, x, k);
        made_edge(m, k, k + 1);
        made_edge(m, x, w);
        made_edge(m, w, w + 1);
        made_edge(m, q + 1, score);
        made_edge(m, k + 1, score);
        made_edge(m, score, score + 1); /* with the mask */
        made_edge(m, 0, score + 1);
        made_edge(m, score + 1, score + 2);
        made_edge(m, score + 2, score + 3); /* times the values */
        made_edge(m, w + 1, score + 3);
        made_edge(m, score + 3, score + 4);
        made_edge(m, score + 4, score + 5); /* + x */
        made_edge(m, x, score + 5);
        for (uint32_t i = score + 5; i < score + 8; i++)
            made_edge(m, i, i + 1);
        made_edge(m, score + 8, score + 9); /* + the sum before */
        made_edge(m, score + 5, score + 9);
        x = score + 9;
        v = x + 1;
    }
    for (; v < n; v++) {
        made_edge(m, x, v);
        x = v;
    }
}

static const struct shape {
    const char *name;
    void (*make)(struct made *m, uint32_t n);
} shapes[] = {{"inception", inception}, {"unet", unet}, {"transformer", transformer}};

static void make(struct made *m, const struct shape *shape, uint32_t n, unsigned stages,
                 uint64_t seed)
{
    struct sx_rng r;
    double share[SX_PART_MAX_STAGES];
    memset(m, 0, sizeof *m);
    sx_rng_init(&r, seed);
    m->problem.n_nodes = n;
    shape->make(m, n);
    made_tensors(m, &r, 1e5);
    made_shares(stages, seed % 2, share);
    made_times(m, &r, stages, share);
    made_links(m, 1000, 0.1);
    m->problem.stage_ns = 20000;
}

static double time_of(const struct sx_part_problem *p, unsigned methods, struct sx_part_result *ret)
{
    const struct sx_part_options options = {.methods = methods};
    struct sx_err err = {0};
    uint64_t begin = sx_now();
    if (sx_part_solve(p, &options, ret, &err) != SX_OK) {
        fprintf(stderr, "plan-times: %s\n", err.message);
        exit(EXIT_FAILURE);
    }
    return (double)(sx_now() - begin) / 1e6;
}

int main(int argc, char **argv)
{
    const struct shape *shape = NULL;
    for (size_t i = 0; argc == 5 && i < sizeof shapes / sizeof shapes[0]; i++)
        shape = strcmp(shapes[i].name, argv[1]) == 0 ? &shapes[i] : shape;
    unsigned long n = argc == 5 ? strtoul(argv[2], NULL, 10) : 0;
    unsigned long stages = argc == 5 ? strtoul(argv[3], NULL, 10) : 0;
    unsigned long rounds = argc == 5 ? strtoul(argv[4], NULL, 10) : 0;
    if (!shape || n < 20 || n > 1000000 || stages < 2 || stages > SX_PART_MAX_STAGES) {
        fprintf(stderr, "usage: plan-times inception|unet|transformer OPERATORS STAGES ROUNDS\n");
        return 2;
    }
    for (unsigned long i = 0; i < rounds; i++) {
        struct made m;
        struct sx_part_result all = {0}, own = {0};
        make(&m, shape, (uint32_t)n, (unsigned)stages, i);
        double ms = time_of(&m.problem, 0, &all);
        double without = time_of(&m.problem, 1u << SX_PART_TOPOLOGICAL, &own);
        printf("{\"ms\": %.3f, \"ms_without_metis\": %.3f, \"metis_runs\": %u, \"method\": \"%s\", "
               "\"slowest_ns\": %.6g, \"dp_ns\": %.6g}\n",
               ms, without, all.metis_runs, sx_part_method_text(all.method), all.value.slowest_ns,
               all.proposed_ns[SX_PART_TOPOLOGICAL]);
        fflush(stdout);
        sx_part_result_fini(&all);
        sx_part_result_fini(&own);
        made_free(&m);
    }
    return EXIT_SUCCESS;
}
