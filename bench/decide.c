/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * decide.c - times the decisions of sched/share.h while all units are in use and all queues are
 * full.
 *
 * Usage: decide-times windows|requests MODELS UNITS DECISIONS SEED    one JSON object on stdout
 * Time is virtual: whenever a run ends, decisions are asked for until one says WAIT; each is timed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "sched/share.h"

struct bench {
    struct sx_share share;
    struct sx_share_model model[SX_SHARE_MODELS];
    struct sx_latency latency[SX_SHARE_MODELS];
    struct sx_rng rng;
    unsigned n_models, n_units;
    bool windows;
    uint64_t now;
};

static void table(struct bench *b, struct sx_latency *l)
{
    memset(l, 0, sizeof *l);
    for (unsigned u = 1; u <= b->n_units; u *= 2)
        l->units[l->n_units++] = u;
    for (unsigned k = 1; k <= 16; k *= 2)
        l->batches[l->n_batches++] = k;
    double one = 1e6 * (4 + 20 * sx_rng_double(&b->rng));
    double serial = 0.05 + 0.2 * sx_rng_double(&b->rng);
    for (unsigned u = 0; u < l->n_units; u++) {
        for (unsigned k = 0; k < l->n_batches; k++)
            l->ns[u][k] = one * (serial + (1 - serial) / l->units[u]) * (0.2 + 0.8 * l->batches[k]);
    }
}

/* The queue is never short: who has been started is replaced by one that came since. */
static void refill(struct bench *b, struct sx_share_model *m)
{
    if (b->windows)
        return;
    uint64_t age = (uint64_t)(m->objective_ns * 0.7 * sx_rng_double(&b->rng));
    m->queue = (struct sx_share_queue){.samples = 32 + (unsigned)sx_rng_below(&b->rng, 32),
                                       .head_samples = 1,
                                       .head_arrival = b->now - age,
                                       .head_deadline = b->now - age + (uint64_t)m->objective_ns};
}

static void set_up(struct bench *b)
{
    sx_share_init(&b->share, SX_SHARE_FAIR, b->windows ? SX_SHARE_ANY : SX_SHARE_ALIGNED,
                  b->n_units);
    b->now = 1000 * SX_S;
    for (unsigned i = 0; i < b->n_models; i++) {
        struct sx_share_model *m = &b->model[i];
        table(b, &b->latency[i]);
        double lone = sx_latency_ns(&b->latency[i], 1, 1);
        double work = lone * b->n_models / b->n_units; /* in sum, more than the machine can do */
        *m = (struct sx_share_model){.name = "m",
                                     .latency = &b->latency[i],
                                     .objective_ns = lone * (5 + 10 * sx_rng_double(&b->rng)),
                                     .weight = 1,
                                     .rate = 1.1e9 / work,
                                     .max_batch = 16};
        if (b->windows) {
            m->rate = 1.0 / 0.0;
            m->queue.endless = true;
        }
        sx_share_add(&b->share, m, b->now);
    }
    sx_share_plan(&b->share, b->now, NULL);
    for (unsigned i = 0; i < b->n_models; i++)
        refill(b, &b->model[i]);
}

static void end_first(struct bench *b)
{
    unsigned first = SX_SHARE_RUNS;
    for (unsigned i = 0; i < b->share.n_running; i++) {
        unsigned run = b->share.active[i];
        if (first == SX_SHARE_RUNS ||
            b->share.runs[run].predicted_end < b->share.runs[first].predicted_end)
            first = run;
    }
    if (first == SX_SHARE_RUNS) { /* nothing runs: until something begins */
        b->now += SX_MS;
        return;
    }
    uint64_t end = b->share.runs[first].predicted_end;
    b->now = end > b->now ? end : b->now;
    sx_share_end(&b->share, first, b->now);
}

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    struct bench *b = calloc(1, sizeof *b);
    unsigned long models = argc == 6 ? strtoul(argv[2], NULL, 10) : 0;
    unsigned long units = argc == 6 ? strtoul(argv[3], NULL, 10) : 0;
    unsigned long decisions = argc == 6 ? strtoul(argv[4], NULL, 10) : 0;
    uint64_t *took = calloc(decisions ? decisions : 1, sizeof *took);
    if (!b || !took || !models || models > SX_SHARE_MODELS || !units || units > SX_SCHED_UNITS ||
        decisions < 100 || (strcmp(argv[1], "windows") != 0 && strcmp(argv[1], "requests") != 0)) {
        fprintf(stderr, "usage: decide-times windows|requests MODELS UNITS DECISIONS SEED\n");
        free(b);
        free(took);
        return 2;
    }
    b->n_models = (unsigned)models;
    b->n_units = (unsigned)units;
    b->windows = strcmp(argv[1], "windows") == 0;
    sx_rng_init(&b->rng, strtoull(argv[5], NULL, 10));
    set_up(b);
    unsigned long n = 0, starts = 0, warm = decisions / 10, sum_running = 0;
    for (unsigned long all = 0; n < decisions; all++) {
        struct sx_share_action a;
        uint64_t begin = sx_now();
        sx_share_decide(&b->share, b->now, &a);
        uint64_t end = sx_now();
        if (all >= warm) {
            took[n++] = end - begin;
            starts += a.kind == SX_SCHED_START;
            sum_running += b->n_units - b->share.n_free;
        }
        if (a.kind == SX_SCHED_START) {
            sx_share_start(&b->share, &a, a.batch, b->now);
            refill(b, a.model);
        } else {
            end_first(b);
        }
    }
    double sum = 0;
    for (unsigned long i = 0; i < n; i++)
        sum += (double)took[i];
    qsort(took, n, sizeof *took, by_time);
    printf("{\"mean_us\": %.3f, \"p50_us\": %.3f, \"p99_us\": %.3f, \"max_us\": %.3f, \"starts\": "
           "%.3f, "
           "\"busy\": %.3f}\n",
           sum / (double)n / 1e3, (double)took[n / 2] / 1e3, (double)took[n * 99 / 100] / 1e3,
           (double)took[n - 1] / 1e3, (double)starts / (double)n,
           (double)sum_running / (double)n / (double)units);
    free(took);
    free(b);
    return EXIT_SUCCESS;
}
