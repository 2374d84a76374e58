/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * cuts.c - cut one model in many ways, run each cut, compare with the whole.
 *
 *     cut-cases MODEL.onnx [--runs N] [--inputs N] [--seed N] [--cache DIR]
 *
 * A case is a number of stages and a split of speeds: device s is as fast as its share says, the
 * fastest as fast as this core.  Times are measured once, on one core; each case is then planned,
 * its stages are opened as models of their own and run one after the other.  One line of JSON for
 * each case goes to stdout.  What a cut is worth is counted by judge.c.
 */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/sbuf.h"
#include "chain.h"
#include "judge.h"
#include "partition/metis.h"

#define MAX_STAGES 4
#define RAW        64  /* of METIS's partitions, where the planner did not ask */
#define STAGE_NS   2e4 /* what a task costs */
#define LINK_NS    1e3 /* a copy: 1 us and 10 GB/s */
#define LINK_BYTE  0.1

static struct {
    const char *model, *cache;
    unsigned runs, inputs;
    uint64_t seed;
} opt = {.runs = 7, .inputs = 3, .seed = 1};

/* --- the model, its answers, its times ------------------------------------------------------ */

struct whole {
    struct chain_model m;
    struct sx_tensor *answer; /* [input * n_out + output] */
    bool finite, varied;      /* its answers are numbers, and differ between inputs */
    double *node_ns;
};

static bool is_finite(const struct sx_tensor *t)
{
    const float *x = (const float *)(const void *)t->data;
    for (size_t i = 0; t->dtype == SX_FP32 && i < t->nbytes / sizeof *x; i++) {
        if (!isfinite(x[i]))
            return false;
    }
    return true;
}

static void open_whole(struct whole *w, const struct sx_machine *machine)
{
    struct sx_err err = {0};
    struct chain_model *m = &w->m;
    struct sx_session *session;
    chain_open_model(m, machine, opt.model, opt.cache, opt.inputs, opt.seed);
    chain_or_die(sx_session_create(m->model, 1, NULL, &session, &err), &err);
    w->answer = chain_need(calloc(opt.inputs * m->n_out, sizeof *w->answer));
    w->finite = w->varied = true;
    for (unsigned i = 0; i < opt.inputs; i++) {
        struct sx_tensor *answer = &w->answer[i * m->n_out];
        chain_or_die(sx_session_run(session, &m->data.tensor[i * m->n_in], answer, NULL, &err),
                     &err);
        bool same = i > 0;
        for (size_t o = 0; o < m->n_out; o++) {
            w->finite &= is_finite(&answer[o]);
            same = same && sx_tensor_equal(&answer[o], &w->answer[o]);
        }
        w->varied &= !same;
    }
    sx_session_destroy(session);

    w->node_ns = chain_need(calloc(m->dag->n_nodes + 1, sizeof *w->node_ns));
    double *spread = chain_need(calloc(m->dag->n_nodes + 1, sizeof *spread)), total[2];
    chain_or_die(sx_engine_profile(m->model, 1, 1, &machine->units[0].cpu, opt.runs, NULL, NULL,
                                   w->node_ns, spread, total, &err),
                 &err);
    free(spread);
}

static void close_whole(struct whole *w)
{
    for (size_t i = 0; i < opt.inputs * w->m.n_out; i++)
        sx_tensor_unref(&w->answer[i]);
    free(w->answer);
    free(w->node_ns);
    chain_close_model(&w->m);
}

/* --- the problem ---------------------------------------------------------------------------- */

struct problem {
    struct sx_part_problem p;
    double *node_ns, *bytes;
    uint32_t *producer, *use_at, *uses;
    struct sx_part_link link[MAX_STAGES * MAX_STAGES];
};

static void make_problem(struct problem *q, const struct whole *w, unsigned k, const double *share)
{
    const struct sx_dag *dag = w->m.dag;
    uint32_t n = dag->n_nodes, m = dag->n_tensors, edges = 0;
    for (uint32_t t = 0; t < m; t++)
        edges += dag->tensors[t].n_uses;
    q->node_ns = chain_need(calloc((size_t)n * k + 1, sizeof *q->node_ns));
    q->bytes = chain_need(calloc(m + 1, sizeof *q->bytes));
    q->producer = chain_need(calloc(m + 1, sizeof *q->producer));
    q->use_at = chain_need(calloc(m + 1, sizeof *q->use_at));
    q->uses = chain_need(calloc(edges + 1, sizeof *q->uses));
    double most = 0;
    for (unsigned s = 0; s < k; s++)
        most = fmax(most, share[s]);
    for (unsigned s = 0; s < k; s++) {
        for (uint32_t v = 0; v < n; v++)
            q->node_ns[(size_t)s * n + v] = w->node_ns[v] * most / share[s];
    }
    for (uint32_t t = 0, at = 0; t < m; t++) {
        const struct sx_dag_tensor *tensor = &dag->tensors[t];
        q->producer[t] = tensor->producer == SX_DAG_NONE ? SX_PART_NONE : tensor->producer;
        q->bytes[t] = sx_dag_bytes(dag, t, 1);
        q->use_at[t] = at;
        for (uint32_t u = 0; u < tensor->n_uses; u++)
            q->uses[at++] = dag->uses[tensor->first_use + u];
        q->use_at[t + 1] = at;
    }
    for (unsigned a = 0; a < k; a++) {
        for (unsigned b = 0; b < k; b++) {
            q->link[a * k + b] = (struct sx_part_link){.fixed_ns = a == b ? 0 : LINK_NS,
                                                       .byte_ns = a == b ? 0 : LINK_BYTE};
        }
    }
    q->p = (struct sx_part_problem){.n_nodes = n,
                                    .n_tensors = m,
                                    .n_stages = k,
                                    .node_ns = q->node_ns,
                                    .producer = q->producer,
                                    .use_at = q->use_at,
                                    .uses = q->uses,
                                    .bytes = q->bytes,
                                    .group = dag->group,
                                    .link = q->link,
                                    .stage_ns = STAGE_NS};
}

static void free_problem(struct problem *q)
{
    free(q->node_ns);
    free(q->bytes);
    free(q->producer);
    free(q->use_at);
    free(q->uses);
}

/* What METIS's raw partitions are worth where they are valid. */
struct rivals {
    struct judge_value value[RAW * 24];
    size_t n;
};

/* METIS numbers its parts as it likes: try every order of them. */
static void try_orders(const struct sx_part_problem *p, const uint32_t *part, unsigned *name,
                       unsigned fixed, uint32_t *stage, struct rivals *rivals)
{
    if (fixed == p->n_stages) {
        for (uint32_t v = 0; v < p->n_nodes; v++)
            stage[v] = name[part[v]];
        if (judge_valid(p, stage))
            rivals->value[rivals->n++] = judge_value(p, stage);
        return;
    }
    for (unsigned i = fixed; i < p->n_stages; i++) {
        unsigned swap = name[fixed];
        name[fixed] = name[i];
        name[i] = swap;
        try_orders(p, part, name, fixed + 1, stage, rivals);
        name[i] = name[fixed];
        name[fixed] = swap;
    }
}

/* As many as the planner asked for, so that with its seed they are the same. */
static void raw_metis(const struct sx_part_problem *p, uint64_t seed, unsigned asked,
                      struct rivals *rivals)
{
    uint32_t *parts[RAW], *stage = chain_need(calloc(p->n_nodes + 1, sizeof *stage));
    struct sx_err err = {0};
    size_t n = 0;
    rivals->n = 0;
    chain_or_die(
        sx_metis_propose(p, NULL, seed, parts, asked && asked < RAW ? asked : RAW, &n, &err), &err);
    for (size_t i = 0; i < n; i++) {
        unsigned name[MAX_STAGES] = {0, 1, 2, 3};
        try_orders(p, parts[i], name, 0, stage, rivals);
        free(parts[i]);
    }
    free(stage);
}

static double least_of(double least, const struct rivals *rivals)
{
    for (size_t i = 0; i < rivals->n; i++)
        least = fmin(least, rivals->value[i].slowest_ns);
    return least;
}

/* Against the rival that is hardest to beat: the largest ratio, and its value. */
static double against(struct judge_value ours, const struct rivals *rivals, double least,
                      struct judge_value *ret_hardest)
{
    double worst = 0;
    for (size_t i = 0; i < rivals->n; i++) {
        struct judge_value rival = rivals->value[i];
        double pair = fmin(ours.slowest_ns, rival.slowest_ns);
        double ratio = judge_ratio(ours, rival, least > 0 ? least : pair);
        if (ratio >= worst) {
            worst = ratio;
            *ret_hardest = rival;
        }
    }
    return worst;
}

/* --- running a cut ---------------------------------------------------------------------------- */

/* Open the stages that have nodes; false: one of them may not be a stage. */
static bool open_stages(const struct whole *w, const uint32_t *label, unsigned k,
                        struct chain_stage *stages, unsigned *ret_n, struct sx_err *why)
{
    uint32_t n_nodes = w->m.dag->n_nodes, *nodes = chain_need(calloc(n_nodes + 1, sizeof *nodes));
    enum sx_rc rc = SX_OK;
    *ret_n = 0;
    for (unsigned s = 0; !rc && s < k; s++) {
        uint32_t n = 0;
        for (uint32_t v = 0; v < n_nodes; v++) {
            if (label[v] == s)
                nodes[n++] = v;
        }
        if (n)
            rc = chain_open_stage(&w->m, nodes, n, &stages[(*ret_n)++], why);
    }
    free(nodes);
    return !rc;
}

/* The largest difference over the largest value: relative to what the tensor is about. */
static double difference(const struct sx_tensor *a, const struct sx_tensor *b)
{
    if (sx_tensor_equal(a, b))
        return 0;
    if (a->dtype != SX_FP32 || b->dtype != SX_FP32 || a->nbytes != b->nbytes)
        return 1e9;
    const float *x = (const float *)(const void *)a->data,
                *y = (const float *)(const void *)b->data;
    double off = 0, large = 0;
    for (size_t i = 0; i < a->nbytes / sizeof *x; i++) {
        off = fmax(off, isfinite(x[i]) ? fabs((double)x[i] - (double)y[i]) : 1e9);
        large = fmax(large, fabs((double)y[i]));
    }
    return off / fmax(large, 1e-30);
}

/* One input through the stages, one after the other.  The largest relative difference. */
static double run_chain(const struct whole *w, const struct chain_stage *stages, unsigned n,
                        unsigned input)
{
    struct sx_tensor *values = chain_values(&w->m, input);
    double worst = 0;
    for (unsigned s = 0; s < n; s++)
        chain_run_stage(&stages[s], values);
    for (size_t o = 0; o < w->m.n_out; o++)
        worst = fmax(
            worst, difference(chain_output(&w->m, values, o), &w->answer[input * w->m.n_out + o]));
    chain_drop(&w->m, values);
    return worst;
}

/* --- a case ----------------------------------------------------------------------------------- */

static void print_value(const char *name, const struct judge_value *value)
{
    if (value)
        printf(", \"%s_ns\": %.0f, \"%s_bytes\": %.0f", name, value->slowest_ns, name,
               value->bytes);
    else
        printf(", \"%s_ns\": null, \"%s_bytes\": null", name, name);
}

static void one_case(const struct whole *w, unsigned k, const char *split, const double *share)
{
    struct sx_err err = {0}, why = {0};
    struct problem q;
    make_problem(&q, w, k, share);
    struct sx_part_result result = {0};
    struct sx_part_options options = {.seed = opt.seed};
    uint64_t begin = sx_now();
    chain_or_die(sx_part_solve(&q.p, &options, &result, &err), &err);
    double ms = (double)(sx_now() - begin) / 1e6;

    struct judge_value ours = {0}, dp = {0}, metis = {0}, unused;
    struct rivals raw, other;
    bool valid = judge_valid(&q.p, result.stage);
    raw_metis(&q.p, opt.seed, result.metis_runs, &raw);
    raw_metis(&q.p, opt.seed + 1, result.metis_runs, &other); /* that the planner has not seen */
    if (!judge_topological(&q.p, &dp))
        chain_or_die(SX_NO_MEMORY, &(struct sx_err){.message = "out of memory"});
    struct chain_stage stages[MAX_STAGES];
    unsigned n = 0;
    double off = 0;
    if (valid) {
        ours = judge_value(&q.p, result.stage);
        valid = open_stages(w, result.stage, k, stages, &n, &why);
        for (unsigned i = 0; valid && i < opt.inputs; i++)
            off = fmax(off, run_chain(w, stages, n, i));
        for (unsigned s = 0; s < n; s++)
            chain_close_stage(&stages[s]);
    }
    double least = least_of(fmin(ours.slowest_ns, dp.slowest_ns), &raw);
    double vs_metis = against(ours, &raw, least, &metis);
    const char *name = strrchr(opt.model, '/');
    printf("{\"model\": \"%s\", \"stages\": %u, \"split\": \"%s\", \"nodes\": %u, \"used\": %u, "
           "\"valid\": %s, \"bits\": %s, \"max_rel\": %.3g, \"finite\": %s, \"varied\": %s",
           name ? name + 1 : opt.model, k, split, w->m.dag->n_nodes, n, valid ? "true" : "false",
           valid && off == 0 ? "true" : "false", off, w->finite ? "true" : "false",
           w->varied ? "true" : "false");
    print_value("plan", valid ? &ours : NULL);
    print_value("dp", &dp);
    print_value("metis", valid && raw.n ? &metis : NULL);
    printf(", \"told_ns\": %.0f", result.value.slowest_ns);
    if (valid)
        printf(", \"vs_dp\": %.6f", judge_ratio(ours, dp, least));
    if (valid && raw.n)
        printf(", \"vs_metis\": %.6f, \"vs_metis_pair\": %.6f", vs_metis,
               against(ours, &raw, 0, &unused));
    if (valid && other.n)
        printf(", \"vs_other_seed\": %.6f",
               against(ours, &other, least_of(least, &other), &unused));
    struct sx_sbuf note = {0};
    sx_sbuf_json(&note, valid ? result.note : why.message);
    printf(", \"method\": \"%s\", \"refined\": %s, \"solve_ms\": %.1f, \"note\": %s}\n",
           sx_part_method_text(result.method), result.refined ? "true" : "false", ms,
           (const char *)chain_need(note.data));
    fflush(stdout);
    sx_sbuf_free(&note);
    sx_part_result_fini(&result);
    free_problem(&q);
}

static void parse(int argc, char **argv)
{
    enum { RUNS = 256, INPUTS, SEED, CACHE };
    static const struct option options[] = {{"runs", 1, NULL, RUNS},
                                            {"inputs", 1, NULL, INPUTS},
                                            {"seed", 1, NULL, SEED},
                                            {"cache", 1, NULL, CACHE},
                                            {0}};
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case RUNS:
            opt.runs = (unsigned)atoi(optarg);
            break;
        case INPUTS:
            opt.inputs = (unsigned)atoi(optarg);
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
    if (argc - optind != 1 || !opt.runs || opt.inputs < 2) {
        fprintf(stderr, "usage: cut-cases MODEL.onnx [--runs N] [--inputs N, 2 or more]\n");
        exit(2);
    }
    opt.model = argv[optind];
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    sx_log_set_level(SX_LOG_WARNING);
    struct sx_err err = {0};
    struct sx_machine *machine;
    chain_or_die(sx_machine_detect(&machine, &err), &err);
    struct whole w = {0};
    open_whole(&w, machine);
    for (unsigned k = 2; k <= MAX_STAGES; k++) {
        double equal[MAX_STAGES] = {1, 1, 1, 1}, uneven[MAX_STAGES] = {0.8};
        for (unsigned s = 1; s < k; s++)
            uneven[s] = 0.2 / (k - 1);
        one_case(&w, k, "equal", equal);
        one_case(&w, k, "80/20", uneven);
    }
    close_whole(&w);
    sx_machine_destroy(machine);
    return 0;
}
