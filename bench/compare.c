/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * compare.c - the same load on StarONNX and on plain ONNX Runtime, in turn.
 *
 *     compare MODEL.onnx [option...] TARGET...
 *
 * A TARGET is `staronnx` (one deployment that stays for the whole run), SxTxB (S plain sessions
 * of T threads, batches of up to B from one queue), bare:T (a loop around Run) or starpu:POLICY
 * (whole models under a policy of StarPU's own; not beside staronnx).  All are loaded at once;
 * each round puts each load on each target, so that a noisy machine hurts all of them alike.  One
 * line of JSON per measurement goes to stdout.
 *
 *     --load closed:N | poisson:RATE    repeatable; without any, one line {"ready": true} is
 *                                       printed when all is loaded, and then standard input says
 *                                       what to measure, one `TARGET LOAD SECONDS SEED [WARMUP]`
 *                                       a line
 *     --rounds N --seconds S --warmup S --seed N --objective MS --max-batch N
 *     --cache DIR                       for prepared models
 *     --device TEXT                     repeatable: `staronnx` then serves on several devices, and
 *                                       says what they did (fleet.h)
 *     --whole-only --greedy             of several devices: do not cut; any idle one takes the next
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "fleet.h"
#include "perf/inproc.h"
#include "perf/run.h"
#include "plain.h"
#include "policy.h"
#include "serve/server.h"

#define MAX_LOADS   32
#define MAX_TARGETS 32
#define MAX_DEVICES 16
#define SLOTS       4096

static struct {
    const char *model, *cache;
    const char *device[MAX_DEVICES];
    int n_devices;
    const char *load[MAX_LOADS];
    int n_loads, rounds;
    double seconds, warmup, objective_ms;
    uint64_t seed;
    long max_batch;
    bool whole_only, greedy;
} opt = {.rounds = 3, .seconds = 5, .warmup = 1, .seed = 1, .max_batch = 8};

static void or_die(enum sx_rc rc, const struct sx_err *err)
{
    if (!rc)
        return;
    fprintf(stderr, "compare: %s%s%s\n", err->message, *err->hint ? "; " : "", err->hint);
    exit(1);
}

/* `staronnx` on several devices; unused with one. */
static struct {
    struct sx_server *server;
    struct sx_model *model;
    unsigned n_devices;
} fleet;

static void measure(struct sx_target *t, const char *name, const char *load, double seconds,
                    double warmup, int round)
{
    bool us = !strcmp(name, "staronnx"), ours = us && fleet.n_devices > 1;
    struct sx_model_stats *before = us ? malloc(sizeof *before) : NULL;
    struct sx_model_stats *after = us ? malloc(sizeof *after) : NULL;
    struct fleet_mark mark;
    struct sx_err err = {0};
    struct sx_load l = {0};
    struct sx_arrival arrivals;
    if (!strncmp(load, "closed:", 7)) {
        l.concurrency = (uint32_t)atoi(load + 7);
    } else {
        sx_arrival_poisson(&arrivals, atof(load + 8), opt.seed + (uint64_t)round);
        l.arrivals = &arrivals;
    }
    struct sx_run_opts o = {.warmup_ns = (uint64_t)(warmup * 1e9),
                            .duration_ns = (uint64_t)(seconds * 1e9),
                            .drain_ns = 20 * SX_S,
                            .objective_ns = (uint64_t)(opt.objective_ms * 1e6),
                            .keep_latencies = true};
    struct sx_run_result *r = calloc(1, sizeof *r);
    if (ours)
        fleet_mark(fleet.model, &mark);
    if (before)
        sx_model_get_stats(fleet.model, before);
    uint64_t begin = sx_now() + o.warmup_ns;
    or_die(sx_run(t, &l, &o, r, &err), &err);
    t->ops->cancel(t);
    size_t n = r->n_latencies;
    double p50 = 0, p95 = 0, p99 = 0, mean = 0;
    if (n) {
        p50 = (double)r->latencies[n / 2] * 1e-3;
        p95 = (double)r->latencies[n * 95 / 100] * 1e-3;
        p99 = (double)r->latencies[n * 99 / 100] * 1e-3;
        for (size_t i = 0; i < n; i++)
            mean += (double)r->latencies[i] * 1e-3 / (double)n;
    }
    printf(
        "{\"target\": \"%s\", \"load\": \"%s\", \"round\": %d, \"n\": %zu, \"throughput\": %.3f, "
        "\"mean_us\": %.2f, \"p50_us\": %.2f, \"p95_us\": %.2f, \"p99_us\": %.2f, \"within\": "
        "%llu, \"rejected\": %llu, \"lost\": %llu, \"seconds\": %.3f",
        name, load, round, n, r->throughput, mean, p50, p95, p99,
        (unsigned long long)r->stats.within,
        (unsigned long long)(r->stats.outcome[SX_OUTCOME_REJECTED] +
                             r->stats.outcome[SX_OUTCOME_EXPIRED]),
        (unsigned long long)sx_stats_lost(&r->stats), r->seconds);
    if (before && after && !ours) {
        sx_model_get_stats(fleet.model, after);
        printf(", \"runs_by_width\": {");
        for (unsigned w = 0; w < after->n_widths; w++)
            printf("%s\"%u\": %llu", w ? ", " : "", after->widths[w],
                   (unsigned long long)(after->width_runs[w] - before->width_runs[w]));
        printf("}, \"runs_by_batch\": {");
        for (unsigned b = 0; b < after->n_batches; b++)
            printf("%s\"%u\": %llu", b ? ", " : "", after->batches[b].batch,
                   (unsigned long long)(after->batches[b].count -
                                        (b < before->n_batches ? before->batches[b].count : 0)));
        printf("}");
    }
    free(before);
    free(after);
    if (ours) {
        printf(", ");
        fleet_print(fleet.server, fleet.model, fleet.n_devices, &mark, begin, begin + o.duration_ns,
                    stdout);
    }
    printf("}\n");
    fflush(stdout);
    sx_run_result_fini(r);
    free(r);
    /* ONNX Runtime's pools spin for a while after a run: don't let one target's tail disturb the
     * next one's head. */
    usleep(100000);
}

static void parse(int argc, char **argv)
{
    enum {
        LOAD = 256,
        ROUNDS,
        SECONDS,
        WARMUP,
        SEED,
        OBJECTIVE,
        MAX_BATCH,
        DEVICE,
        CACHE,
        WHOLE,
        GREEDY
    };
    static const struct option options[] = {
        {"load", 1, NULL, LOAD},           {"rounds", 1, NULL, ROUNDS},
        {"seconds", 1, NULL, SECONDS},     {"warmup", 1, NULL, WARMUP},
        {"seed", 1, NULL, SEED},           {"objective", 1, NULL, OBJECTIVE},
        {"max-batch", 1, NULL, MAX_BATCH}, {"device", 1, NULL, DEVICE},
        {"cache", 1, NULL, CACHE},         {"whole-only", 0, NULL, WHOLE},
        {"greedy", 0, NULL, GREEDY},       {0}};
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case LOAD:
            if (opt.n_loads < MAX_LOADS)
                opt.load[opt.n_loads++] = optarg;
            break;
        case ROUNDS:
            opt.rounds = atoi(optarg);
            break;
        case SECONDS:
            opt.seconds = atof(optarg);
            break;
        case WARMUP:
            opt.warmup = atof(optarg);
            break;
        case SEED:
            opt.seed = strtoull(optarg, NULL, 10);
            break;
        case OBJECTIVE:
            opt.objective_ms = atof(optarg);
            break;
        case MAX_BATCH:
            opt.max_batch = atol(optarg);
            break;
        case DEVICE:
            if (opt.n_devices < MAX_DEVICES)
                opt.device[opt.n_devices++] = optarg;
            break;
        case CACHE:
            opt.cache = optarg;
            break;
        case WHOLE:
            opt.whole_only = true;
            break;
        case GREEDY:
            opt.greedy = true;
            break;
        default:
            exit(2);
        }
    }
    if (argc - optind < 2) {
        fprintf(stderr, "usage: compare [--load LOAD]... MODEL.onnx TARGET...\n");
        exit(2);
    }
    opt.model = argv[optind++];
}

/* Is a target of this kind named? */
static bool has_target(int argc, char **argv, const char *prefix)
{
    for (int i = optind; i < argc; i++) {
        if (!strncmp(argv[i], prefix, strlen(prefix)))
            return true;
    }
    return false;
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    sx_log_set_level(SX_LOG_WARNING);
    struct sx_err err = {0};
    struct sx_machine *machine, *all;
    struct sx_engine *engine;
    struct sx_server *server;
    struct sx_model *model;
    or_die(sx_machine_detect(&all, &err), &err);
    or_die(sx_machine_detect(&machine, &err), &err);
    or_die(sx_machine_select(machine, opt.device, (size_t)opt.n_devices, &err), &err);
    /* Without `staronnx` nothing has to be learnt about the model, and StarPU is left to others. */
    bool us = has_target(argc, argv, "staronnx");
    if (us && has_target(argc, argv, "starpu:")) {
        fprintf(stderr, "compare: StarPU is one per process: staronnx or starpu:POLICY\n");
        return 2;
    }
    char cache[4096];
    if (!opt.cache && !sx_cache_dir(cache, sizeof cache))
        opt.cache = cache;
    struct sx_engine_config ec = {.name = "ort",
                                  .cache_dir = opt.cache,
                                  .library = getenv("STARONNX_ONNXRUNTIME"),
                                  .machine_id = machine->id};
    or_die(sx_engine_create(&ec, &engine, &err), &err);
    struct sx_server_config sc = {.engine = engine,
                                  .machine = us ? machine : all,
                                  .exec = us ? SX_EXEC_STARPU : SX_EXEC_INLINE,
                                  .default_max_batch = (unsigned)opt.max_batch,
                                  .default_max_queue = SLOTS,
                                  .no_profiling = !us,
                                  .cache_dir = opt.cache,
                                  .whole_only = opt.whole_only,
                                  .greedy = opt.greedy,
                                  .trace_spans = machine->n_devices > 1 ? FLEET_SPANS : 0};
    or_die(sx_server_create(&sc, &server, &err), &err);
    struct sx_config config;
    sx_config_init(&config);
    config.objective_ns = (uint64_t)(opt.objective_ms * 1e6);
    or_die(sx_server_load(server, "model", 1, opt.model, &config, &err), &err);
    or_die(sx_server_find(server, "model", 5, 0, &model, &err), &err);
    fleet.server = server;
    fleet.model = model;
    fleet.n_devices = us ? machine->n_devices : 1;

    struct sx_model_info info;
    struct sx_dataset data;
    or_die(sx_inproc_info(model, &info, &err), &err);
    or_die(sx_model_info_fix(&info, 1, &err), &err);
    or_die(sx_dataset_generate(&data, &info, 8, false, opt.seed, &err), &err);

    struct sx_target *target[MAX_TARGETS];
    const char *name[MAX_TARGETS];
    int n = 0;
    for (int i = optind; i < argc && n < MAX_TARGETS; i++, n++) {
        int s, t, b;
        name[n] = argv[i];
        if (!strcmp(argv[i], "staronnx")) {
            or_die(sx_inproc_create(server, model, &data, SLOTS, 0, &target[n], &err), &err);
        } else if (!strncmp(argv[i], "starpu:", 7)) {
            or_die(policy_target(engine, machine, opt.model, argv[i] + 7, &data, SLOTS, &target[n],
                                 &err),
                   &err);
        } else if (sscanf(argv[i], "bare:%d", &t) == 1) {
            target[n] = plain_target(opt.model, 1, t, 1, true, &data, SLOTS);
        } else if (sscanf(argv[i], "%dx%dx%d", &s, &t, &b) == 3) {
            target[n] = plain_target(opt.model, s, t, b, false, &data, SLOTS);
        } else {
            fprintf(stderr, "compare: '%s' is not a target\n", argv[i]);
            return 2;
        }
    }
    while (!sx_server_settled(server)) /* measured while idle: let it finish, as a server would */
        usleep(20000);
    for (int round = 0; round < opt.rounds; round++) {
        for (int l = 0; l < opt.n_loads; l++) {
            for (int i = 0; i < n; i++) {
                int at = round % 2 ? n - 1 - i : i;
                measure(target[at], name[at], opt.load[l], opt.seconds, opt.warmup, round);
            }
        }
    }
    char line[256], which[64], load[64];
    if (!opt.n_loads) { /* loading takes all cores: nobody should measure beside it */
        printf("{\"ready\": true");
        if (fleet.n_devices > 1) {
            printf(", ");
            fleet_print_variants(model, stdout);
        }
        printf("}\n");
        fflush(stdout);
    }
    while (!opt.n_loads && fgets(line, sizeof line, stdin)) {
        double seconds, warmup = opt.warmup;
        int seed, i = 0;
        if (sscanf(line, "%63s %63s %lf %d %lf", which, load, &seconds, &seed, &warmup) < 4)
            break;
        while (i < n && strcmp(name[i], which))
            i++;
        if (i == n)
            break;
        measure(target[i], name[i], load, seconds, warmup, seed);
    }
    for (int i = 0; i < n; i++)
        target[i]->ops->destroy(target[i]);
    sx_dataset_fini(&data);
    sx_config_fini(&config);
    sx_model_unref(&model);
    sx_server_destroy(server);
    sx_engine_destroy(engine);
    sx_machine_destroy(machine);
    sx_machine_destroy(all);
    return 0;
}
