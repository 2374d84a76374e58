/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * predict.c - what plans predict, and what then happens.
 *
 *     predict-cases MODEL.onnx --device TEXT --device TEXT... [--runs N] [--rounds N] [--jobs N]
 *                   [--seed N] [--cache DIR]
 *
 * Operators are measured once on the first device's core; the planner makes the variants that a
 * server would have; then every stage of every variant is run alone on its device's core, in turns,
 * and every variant as a pipeline of StarPU tasks: one job at a time (latency), and several in
 * flight (the slowest stage).  Each stage and each variant is a line of JSON on stdout.
 */
#include <getopt.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/sbuf.h"
#include "chain.h"
#include "exec/exec.h"
#include "partition/planner.h"

#define MAX_DEVICES  16
#define MAX_UNITS    64
#define MAX_VARIANTS 16
#define IN_FLIGHT    3 /* jobs for each stage of a saturated pipeline */

static struct {
    const char *model, *cache;
    const char *device[MAX_DEVICES];
    size_t n_devices;
    unsigned runs, rounds, jobs;
    uint64_t seed;
} opt = {.runs = 9, .rounds = 9, .jobs = 30, .seed = 1};

static struct chain_model model;
static struct sx_machine *machine;

struct variant {
    struct sx_plan *plan;
    struct chain_stage stages[SX_PLAN_MAX_STAGES];
    struct sx_tensor *values;
    double *took[SX_PLAN_MAX_STAGES]; /* opt.rounds each, on a core at full speed */
};

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, ascending);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/* --- on a device's core ----------------------------------------------------------------------- */

struct errand {
    const struct sx_device *device;
    void (*run)(void *arg);
    void *arg;
};

static void *bound(void *user)
{
    struct errand *e = user;
    cpu_set_t set;
    int cpu = machine->units[e->device->first_unit].cpu;
    CPU_ZERO(&set);
    if (cpu >= 0 && cpu < CPU_SETSIZE) {
        CPU_SET((unsigned)cpu, &set);
        sched_setaffinity(0, sizeof set, &set); /* else it runs where it is */
    }
    e->run(e->arg);
    return NULL;
}

static void on_device(unsigned device, void (*run)(void *arg), void *arg)
{
    pthread_t thread;
    struct errand e = {&machine->devices[device], run, arg};
    if (pthread_create(&thread, NULL, bound, &e))
        chain_or_die(SX_NO_MEMORY, &(struct sx_err){.message = "no thread"});
    pthread_join(thread, NULL);
}

static void measure_operators(void *arg)
{
    struct sx_profile_table *table = arg;
    struct sx_err err = {0};
    double whole[2];
    chain_or_die(sx_engine_profile(model.model, 1, 1, &machine->units[0].cpu, table->runs, NULL,
                                   NULL, table->node_ns, table->node_spread_ns, whole, &err),
                 &err);
    table->whole_ns = whole[0];
    table->whole_spread_ns = whole[1];
}

static void make_profile(struct sx_profile *profile)
{
    struct sx_err err = {0};
    uint32_t n = model.dag->n_nodes;
    struct sx_profile_table table = {.units = 1, .batch = 1, .runs = opt.runs};
    memcpy(table.kind, machine->devices[0].kind, sizeof table.kind);
    table.node_ns = chain_need(calloc(n + 1, sizeof(double)));
    table.node_spread_ns = chain_need(calloc(n + 1, sizeof(double)));
    on_device(0, measure_operators, &table);
    profile->key.n_nodes = n;
    chain_or_die(sx_profile_put(profile, &table, &err), &err);
    free(table.node_ns);
    free(table.node_spread_ns);
}

struct timed {
    const struct chain_stage *stage;
    struct sx_tensor *values;
    double ns;
};

static void time_stage(void *arg)
{
    struct timed *t = arg;
    chain_run_stage(t->stage, t->values); /* a device runs its stage again and again */
    uint64_t begin = sx_now();
    chain_run_stage(t->stage, t->values);
    t->ns = (double)(sx_now() - begin);
}

/* Round by round, so that a noisy moment hurts all alike; the first one warms up. */
static void measure_stages(struct variant *variants, size_t n)
{
    for (int r = -1; r < (int)opt.rounds; r++) {
        for (size_t i = 0; i < n; i++) {
            struct variant *v = &variants[i];
            for (unsigned s = 0; s < v->plan->n_stages; s++) {
                struct timed t = {&v->stages[s], v->values, 0};
                on_device(v->plan->stages[s].device, time_stage, &t);
                if (r >= 0)
                    v->took[s][r] = t.ns;
            }
        }
    }
}

/* --- as a pipeline ---------------------------------------------------------------------------- */

struct line;

struct job {
    struct line *line;
    struct sx_task *task;
    struct sx_tensor *values;
    unsigned stage;
    uint64_t begin;
};

/* A variant at work: jobs go from stage to stage and begin anew at the end. */
struct line {
    struct sx_exec *exec;
    struct variant *variant;
    pthread_mutex_t lock;
    pthread_cond_t idle;
    unsigned left, in_flight, done; /* [lock] */
    double *latency;                /* [lock] of each job, in the order of their ends */
    uint64_t *end;                  /* [lock] */
};

static void job_run(struct sx_task *task)
{
    struct job *j = task->user;
    chain_run_stage(&j->line->variant->stages[j->stage], j->values);
}

static void job_send(struct job *j)
{
    const struct sx_plan_stage *stage = &j->line->variant->plan->stages[j->stage];
    const struct sx_device *device = &machine->devices[stage->device];
    if (j->stage == 0)
        j->begin = sx_now();
    j->task->first_unit = device->first_unit;
    j->task->n_units = device->n_units;
    j->task->slowdown = device->slowdown;
    sx_exec_submit(j->line->exec, j->task);
}

static void job_done(struct sx_task *task)
{
    struct job *j = task->user;
    struct line *line = j->line;
    bool again = true;
    if (++j->stage == line->variant->plan->n_stages) {
        uint64_t now = sx_now();
        j->stage = 0;
        pthread_mutex_lock(&line->lock);
        line->end[line->done] = now;
        line->latency[line->done++] = (double)(now - j->begin);
        again = line->left > 0;
        line->left -= again;
        if (!again && !--line->in_flight)
            pthread_cond_signal(&line->idle);
        pthread_mutex_unlock(&line->lock);
    }
    if (again)
        job_send(j);
}

/* Run `jobs` jobs, `wide` at a time.  The median latency, and the time between two ends while all
 * are in flight. */
static void run_line(struct sx_exec *exec, struct variant *v, unsigned jobs, unsigned wide,
                     double *ret_latency, double *ret_interval)
{
    struct line line = {.exec = exec, .variant = v, .left = jobs - wide, .in_flight = wide};
    struct job *all = chain_need(calloc(wide, sizeof *all));
    pthread_mutex_init(&line.lock, NULL);
    pthread_cond_init(&line.idle, NULL);
    line.latency = chain_need(calloc(jobs, sizeof *line.latency));
    line.end = chain_need(calloc(jobs, sizeof *line.end));
    for (unsigned i = 0; i < wide; i++) {
        all[i].line = &line;
        all[i].values = chain_values(&model, i % model.n_inputs);
        chain_or_die(sx_exec_task_create(exec, &all[i].task),
                     &(struct sx_err){.message = "no memory for a task"});
        all[i].task->run = job_run;
        all[i].task->done = job_done;
        all[i].task->user = &all[i];
        all[i].task->name = "stage";
    }
    for (unsigned i = 0; i < wide; i++)
        job_send(&all[i]);
    pthread_mutex_lock(&line.lock);
    while (line.in_flight)
        pthread_cond_wait(&line.idle, &line.lock);
    pthread_mutex_unlock(&line.lock);
    /* Until job jobs - wide ended, all places were taken. */
    unsigned first = wide, last = jobs - wide;
    *ret_interval = (double)(line.end[last] - line.end[first]) / (last - first);
    *ret_latency = median(line.latency, jobs);
    for (unsigned i = 0; i < wide; i++) {
        sx_exec_task_destroy(exec, all[i].task);
        chain_drop(&model, all[i].values);
    }
    free(all);
    free(line.latency);
    free(line.end);
    pthread_cond_destroy(&line.idle);
    pthread_mutex_destroy(&line.lock);
}

static void run_variant(struct sx_exec *exec, struct variant *v, double *ret_latency,
                        double *ret_interval)
{
    double unused;
    unsigned wide = IN_FLIGHT * v->plan->n_stages;
    run_line(exec, v, 4, 1, &unused, &unused);
    run_line(exec, v, opt.jobs / 3 + 4, 1, ret_latency, &unused);
    run_line(exec, v, opt.jobs + 2 * wide + 1, wide, &unused, ret_interval);
}

/* --- cases ------------------------------------------------------------------------------------ */

static void open_variant(struct variant *v)
{
    struct sx_err err = {0};
    v->values = chain_values(&model, 0);
    for (unsigned s = 0; s < v->plan->n_stages; s++) {
        const struct sx_plan_stage *stage = &v->plan->stages[s];
        chain_or_die(chain_open_stage(&model, stage->nodes, stage->n_nodes, &v->stages[s], &err),
                     &err);
        v->took[s] = chain_need(calloc(opt.rounds, sizeof(double)));
    }
}

static void close_variant(struct variant *v)
{
    for (unsigned s = 0; s < v->plan->n_stages; s++) {
        chain_close_stage(&v->stages[s]);
        free(v->took[s]);
    }
    chain_drop(&model, v->values);
    sx_plan_destroy(v->plan);
}

static void print_variant(struct variant *v, double latency, double interval)
{
    const struct sx_plan *plan = v->plan;
    struct sx_sbuf name = {0};
    sx_sbuf_json(&name, plan->name);
    chain_need(name.data);
    for (unsigned s = 0; s < plan->n_stages; s++) {
        double slowdown = machine->devices[plan->stages[s].device].slowdown;
        printf("{\"what\": \"stage\", \"plan\": %s, \"stages\": %u, \"stage\": %u, \"nodes\": %u, "
               "\"predicted_ns\": %.0f, \"measured_ns\": %.0f}\n",
               name.data, plan->n_stages, s, plan->stages[s].n_nodes, plan->stages[s].ns,
               median(v->took[s], opt.rounds) * slowdown);
    }
    printf("{\"what\": \"plan\", \"plan\": %s, \"stages\": %u, \"latency_ns\": [%.0f, %.0f], "
           "\"slowest_ns\": [%.0f, %.0f]}\n",
           name.data, plan->n_stages, plan->latency_ns, latency, plan->slowest_ns, interval);
    fflush(stdout);
    sx_sbuf_free(&name);
}

static void parse(int argc, char **argv)
{
    enum { DEVICE = 256, RUNS, ROUNDS, JOBS, SEED, CACHE };
    static const struct option options[] = {{"device", 1, NULL, DEVICE},
                                            {"runs", 1, NULL, RUNS},
                                            {"rounds", 1, NULL, ROUNDS},
                                            {"jobs", 1, NULL, JOBS},
                                            {"seed", 1, NULL, SEED},
                                            {"cache", 1, NULL, CACHE},
                                            {0}};
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case DEVICE:
            if (opt.n_devices < MAX_DEVICES)
                opt.device[opt.n_devices++] = optarg;
            break;
        case RUNS:
            opt.runs = (unsigned)atoi(optarg);
            break;
        case ROUNDS:
            opt.rounds = (unsigned)atoi(optarg);
            break;
        case JOBS:
            opt.jobs = (unsigned)atoi(optarg);
            break;
        case SEED:
            opt.seed = strtoull(optarg, NULL, 10);
            break;
        case CACHE:
            opt.cache = optarg;
            break;
        default:
            exit(2);
        }
    }
    if (argc - optind != 1 || opt.n_devices < 2 || !opt.runs || !opt.rounds || !opt.jobs) {
        fprintf(stderr, "usage: predict-cases MODEL.onnx --device TEXT --device TEXT...\n");
        exit(2);
    }
    opt.model = argv[optind];
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    sx_log_set_level(SX_LOG_WARNING);
    struct sx_err err = {0};
    chain_or_die(sx_machine_detect(&machine, &err), &err);
    chain_or_die(sx_machine_select(machine, opt.device, opt.n_devices, &err), &err);
    for (unsigned d = 0; d < machine->n_devices; d++) {
        if (machine->devices[d].n_units != 1 || machine->n_units > MAX_UNITS) {
            fprintf(stderr, "predict-cases: devices of one core each, please\n");
            return 2;
        }
    }
    chain_open_model(&model, machine, opt.model, opt.cache, 2, opt.seed);

    struct sx_profile profile = {0};
    struct sx_plan *plans[MAX_VARIANTS];
    struct variant variants[MAX_VARIANTS] = {0};
    struct sx_part_options options = {.seed = opt.seed};
    size_t n = 0;
    make_profile(&profile);
    chain_or_die(sx_planner_variants(model.dag, &profile, machine, 1, &options, plans, MAX_VARIANTS,
                                     &n, &err),
                 &err);
    for (size_t i = 0; i < n; i++) {
        variants[i].plan = plans[i];
        open_variant(&variants[i]);
    }
    measure_stages(variants, n);

    int cpus[MAX_UNITS];
    struct sx_exec *exec;
    for (unsigned u = 0; u < machine->n_units; u++)
        cpus[u] = machine->units[u].cpu;
    struct sx_exec_config config = {
        .kind = SX_EXEC_STARPU, .n_units = machine->n_units, .cpus = cpus};
    chain_or_die(sx_exec_create(&config, &exec, &err), &err);
    for (size_t i = 0; i < n; i++) {
        double latency, interval;
        run_variant(exec, &variants[i], &latency, &interval);
        print_variant(&variants[i], latency, interval);
    }
    sx_exec_destroy(exec);
    for (size_t i = 0; i < n; i++)
        close_variant(&variants[i]);
    sx_profile_fini(&profile);
    chain_close_model(&model);
    sx_machine_destroy(machine);
    return 0;
}
