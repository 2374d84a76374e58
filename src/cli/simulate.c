/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * simulate.c - `staronnx simulate`: models that share machines, in virtual time.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "cli/cli.h"
#include "sim/report.h"

#define MAX_SPANS 20000

static struct sx_texts model_texts, kernel_texts;
static const char *mix_name, *policy_text, *fit_text, *router_text, *trace_path, *schedule_path;
static uint64_t units, machines, seed, no_seed = UINT64_MAX;
static double seconds, warm = -1, rate, noise, trace_scale = 1, trace_cv = 1, trace_begin,
                       schedule_begin, schedule_ms;
static bool json, ideal, half_rule, no_half_rule;

static const struct sx_option options[] = {
    {NULL, 0, NULL, SX_OPT_HEADING, NULL, "What runs"},
    {"model", 'm', "NAME=TABLE[,...]", SX_OPT_LIST, &model_texts,
     "a model: its table's file, a profile's (staronnx profile -o), or a recalled model such as "
     "VGG-19; then objective=MS (required but for recalled ones), rate=R requests a second "
     "(default: an endless queue), cv=C of their gaps, weight=W, priority=P, batch=N, noise=S, "
     "replicas=N; may be repeated"},
    {"mix", 0, "NAME", SX_OPT_TEXT, &mix_name,
     "models recalled from a paper: c2, c3, c4, c7, convnets; on 100 units"},
    {"kernels", 0, "NAME=KNEE@MS[,...]", SX_OPT_LIST, &kernel_texts,
     "a model of 50 kernels with this knee, in units, and that time there, for --ideal; then as "
     "with --model; may be repeated"},
    {"rate", 'r', "R", SX_OPT_REAL, &rate,
     "Poisson requests a second for each model that has none"},
    {"noise", 0, "S", SX_OPT_REAL, &noise,
     "standard deviation of the logarithm of run times, for all models; default 0"},
    {"trace", 0, "FILE", SX_OPT_TEXT, &trace_path,
     "requests from an Azure Functions trace (2019 or 2021), its functions to the models in turn"},
    {"trace-scale", 0, "S", SX_OPT_REAL, &trace_scale, "requests for each call; default 1"},
    {"trace-cv", 0, "C", SX_OPT_REAL, &trace_cv,
     "coefficient of variation of gaps inside a minute; default 1"},
    {"trace-begin", 0, "S", SX_OPT_REAL, &trace_begin, "where in the trace to begin"},
    {NULL, 0, NULL, SX_OPT_HEADING, NULL, "Where and how"},
    {"units", 'u', "N", SX_OPT_UINT, &units, "of a machine"},
    {"fit", 0, "HOW", SX_OPT_TEXT, &fit_text,
     "any: all free units (default); aligned: neighbours from a multiple of their number on"},
    {"policy", 'p', "NAME,NAME", SX_OPT_TEXT, &policy_text,
     "fair (default), edf, blind, temporal, fixed, greedy, max-throughput, max-min, or all"},
    {"half-rule", 0, NULL, SX_OPT_FLAG, &half_rule, "plan runs of at most half the objective"},
    {"no-half-rule", 0, NULL, SX_OPT_FLAG, &no_half_rule, "or not"},
    {"machines", 0, "N", SX_OPT_UINT, &machines, "machines behind a router; default 1"},
    {"router", 0, "NAME", SX_OPT_TEXT, &router_text,
     "round-robin (default), least-finish, two-choices"},
    {"seconds", 's', "S", SX_OPT_REAL, &seconds, "of virtual time; default 20"},
    {"warm", 0, "S", SX_OPT_REAL, &warm, "of them, at the beginning, not counted"},
    {"seed", 0, "N", SX_OPT_UINT, &seed, "of all random numbers; default 1"},
    {"ideal", 0, NULL, SX_OPT_FLAG, &ideal,
     "also an ideal scheduler that gives each kernel its own units; for a mix, or --kernels"},
    {NULL, 0, NULL, SX_OPT_HEADING, NULL, "What comes out"},
    {"schedule", 0, "FILE.svg", SX_OPT_TEXT, &schedule_path,
     "draw the schedule of the (first) machine under the (first) policy"},
    {"schedule-begin", 0, "S", SX_OPT_REAL, &schedule_begin, "from there on"},
    {"schedule-ms", 0, "MS", SX_OPT_REAL, &schedule_ms,
     "for so long; default: three times the greatest objective"},
    {"json", 'j', NULL, SX_OPT_FLAG, &json, "print one JSON object"},
    {NULL, 0, NULL, SX_OPT_FLAG, NULL, NULL},
};

static const struct sx_usage usage = {
    .name = "staronnx simulate",
    .operands = "[SCENARIO.json]",
    .summary = "Simulate models that share machines: the server's scheduler for several models in "
               "virtual time, over tables of run times that were measured here or are given. A "
               "scenario file says it all, or options do, which also override the file. Prints, "
               "for each policy and model, what became of the requests, and says in a sentence "
               "how they compare.",
    .details =
        "A table: {\"units\": [1, 2], \"batches\": [1, 4], \"ms\": [[10, 5.6], [36, 19]]}, a row "
        "for\n"
        "each batch. A scenario: {\"units\": 2, \"seconds\": 60, \"policy\": [\"fair\", "
        "\"fixed\"],\n"
        "\"models\": [{\"name\": \"a\", \"table\": \"a.json\", \"objective_ms\": 100,\n"
        "\"load\": {\"kind\": \"poisson\", \"rate\": 20}}]}; staronnx(1) has all fields.\n\n"
        "Examples:\n"
        "  staronnx simulate --mix c4 --policy all --schedule c4.svg\n"
        "  staronnx simulate -m a=a.json,objective=50,rate=30 -m b=b.json,objective=200 --units 2\n"
        "  staronnx simulate scenario.json --policy fair,fixed --json\n",
    .options = options,
    .min_operands = 0,
    .max_operands = 1,
};

/* --- models of the command line --------------------------------------------------------------- */

struct spec {
    char name[SX_SIM_NAME], table[512];
    double objective, rate, cv, weight, noise;
    double priority, batch, replicas;
};

static bool parse_real(const char *text, size_t len, double *ret)
{
    char buf[32], *end;
    if (!len || len >= sizeof buf)
        return false;
    memcpy(buf, text, len);
    buf[len] = '\0';
    *ret = strtod(buf, &end);
    return !*end && isfinite(*ret);
}

/* "NAME=TABLE,objective=50,..."; -1, or the exit code. */
static int parse_spec(const char *option, const char *text, struct spec *s)
{
    const struct {
        const char *name;
        double *to, lo, hi;
    } keys[] = {
        {"objective", &s->objective, 1e-6, 1e6},
        {"rate", &s->rate, 1e-9, 1e9},
        {"cv", &s->cv, 0.01, 100},
        {"weight", &s->weight, 1e-6, 1e6},
        {"noise", &s->noise, 0, 3},
        {"priority", &s->priority, -1e6, 1e6},
        {"batch", &s->batch, 1, 1 << 20},
        {"replicas", &s->replicas, 1, SX_SIM_MACHINES},
    };
    enum { KEYS = sizeof keys / sizeof *keys };
    *s = (struct spec){.cv = 1, .weight = 1, .noise = -1};
    size_t name = strcspn(text, "="), table;
    if (!text[name] || !name || name >= sizeof s->name)
        return sx_usage_error(&usage, "--%s takes NAME=..., not '%s'", option, text);
    memcpy(s->name, text, name);
    text += name + 1;
    table = strcspn(text, ",");
    if (!table || table >= sizeof s->table)
        return sx_usage_error(&usage, "--%s %s: there is no table", option, s->name);
    memcpy(s->table, text, table);
    for (text += table; *text; text += strcspn(text, ",")) {
        text++;
        const char *value = text + strcspn(text, "=,");
        size_t i = 0;
        while (i < KEYS && (strlen(keys[i].name) != (size_t)(value - text) ||
                            strncmp(keys[i].name, text, (size_t)(value - text)) != 0))
            i++;
        if (i == KEYS || *value != '=')
            return sx_usage_error(&usage,
                                  "--%s %s: '%.*s' is not one of objective=, rate=, cv=, weight=, "
                                  "priority=, batch=, noise=, replicas=",
                                  option, s->name, (int)strcspn(text, ","), text);
        value++;
        if (!parse_real(value, strcspn(value, ","), keys[i].to) || *keys[i].to < keys[i].lo ||
            *keys[i].to > keys[i].hi)
            return sx_usage_error(&usage, "--%s %s: %s takes a number from %g to %g", option,
                                  s->name, keys[i].name, keys[i].lo, keys[i].hi);
    }
    return -1;
}

static enum sx_rc add_model(struct sx_sim_scenario *scenario, const struct spec *s,
                            const struct sx_latency *latency, struct sx_err *err)
{
    struct sx_sim_model *m;
    uint64_t arrivals = sx_sim_scenario_seed(scenario);
    enum sx_rc rc = sx_sim_scenario_add(scenario, s->name, latency, s->objective, &m, err);
    if (rc)
        return rc;
    m->weight = s->weight;
    m->priority = (int)s->priority;
    m->max_batch = (unsigned)s->batch;
    m->replicas = (unsigned)s->replicas;
    m->noise = s->noise >= 0 ? s->noise : 0;
    if (s->rate > 0) {
        struct sx_arrival load;
        if (s->cv == 1) /* a gamma of shape 1, but drawn faster */
            sx_arrival_poisson(&load, s->rate, arrivals);
        else
            sx_arrival_gamma(&load, s->rate, 1 / (s->cv * s->cv), arrivals);
        sx_sim_scenario_give(scenario, &load);
    }
    return SX_OK;
}

static int add_models(struct sx_sim_scenario *scenario, enum sx_rc *ret_rc, struct sx_err *err)
{
    for (size_t i = 0; i < model_texts.count && !*ret_rc; i++) {
        struct spec s;
        struct sx_latency latency;
        const struct sx_mix_model *known;
        int code = parse_spec("model", model_texts.item[i], &s);
        if (code >= 0)
            return code;
        *ret_rc = sx_sim_table(s.table, &latency, &known, err);
        if (!*ret_rc && known) {
            scenario->recalled = true;
            s.objective = s.objective > 0 ? s.objective : known->objective_ms;
        }
        if (!*ret_rc && !(s.objective > 0))
            return sx_usage_error(&usage, "--model %s: objective=MS is missing", s.name);
        if (!*ret_rc)
            *ret_rc = add_model(scenario, &s, &latency, err);
    }
    return -1;
}

/* --- the ideal -------------------------------------------------------------------------------- */

struct kernels {
    struct sx_ideal_model models[SX_IDEAL_MODELS];
    unsigned n;
    double used, end_ns; /* of one simulation */
};

static enum sx_rc add_kernels(struct sx_sim_scenario *scenario, struct kernels *k, struct spec *s,
                              unsigned knee, double ms, unsigned batch, struct sx_err *err)
{
    struct sx_latency latency;
    struct sx_ideal_model *m = &k->models[k->n];
    if (k->n == SX_IDEAL_MODELS)
        return sx_fail(err, SX_INVALID, "the ideal scheduler takes at most %d models",
                       SX_IDEAL_MODELS);
    enum sx_rc rc =
        sx_ideal_model(scenario->config.n_units, knee, ms * 1e6, batch, s->objective * 1e6, m, err);
    if (rc)
        return sx_while(err, "model '%s'", s->name);
    k->n++;
    sx_ideal_latency(m, scenario->config.n_units, &latency);
    return add_model(scenario, s, &latency, err);
}

static int add_kernel_texts(struct sx_sim_scenario *scenario, struct kernels *k, enum sx_rc *ret_rc,
                            struct sx_err *err)
{
    for (size_t i = 0; i < kernel_texts.count && !*ret_rc; i++) {
        struct spec s;
        double knee, ms;
        int code = parse_spec("kernels", kernel_texts.item[i], &s);
        if (code >= 0)
            return code;
        size_t at = strcspn(s.table, "@");
        if (!s.table[at] || !parse_real(s.table, at, &knee) ||
            !parse_real(s.table + at + 1, strlen(s.table + at + 1), &ms) || !(knee >= 1) ||
            !(knee <= SX_SCHED_UNITS) || !(ms > 0) || !(s.objective > 0))
            return sx_usage_error(&usage, "--kernels %s: takes KNEE@MS,objective=MS, as in 40@14.6",
                                  s.name);
        *ret_rc = add_kernels(scenario, k, &s, (unsigned)knee, ms,
                              s.batch > 0 ? (unsigned)s.batch : 16, err);
    }
    return -1;
}

static enum sx_rc add_mix(struct sx_sim_scenario *scenario, const struct sx_mix *mix,
                          struct kernels *k, struct sx_err *err)
{
    enum sx_rc rc = SX_OK;
    if (!ideal)
        return sx_sim_scenario_mix(scenario, mix, err);
    scenario->config.half_rule = false;
    scenario->recalled = true;
    for (unsigned i = 0; i < mix->n_models && !rc; i++) {
        const struct sx_mix_model *m = mix->models[i];
        struct spec s = {.weight = 1, .cv = 1, .objective = m->objective_ms};
        snprintf(s.name, sizeof s.name, "%s", m->name);
        rc = add_kernels(scenario, k, &s, m->knee, m->run_ms, m->batch, err);
    }
    return rc;
}

/* --- all options ------------------------------------------------------------------------------ */

static int set_policies(struct sx_sim_scenario *s)
{
    if (!policy_text)
        return -1;
    memset(s->policies, 0, sizeof s->policies);
    for (const char *p = policy_text;; p++) {
        enum sx_share_policy policy;
        char name[32];
        size_t len = strcspn(p, ",");
        snprintf(name, sizeof name, "%.*s", (int)len, p);
        if (strcmp(name, "all") == 0)
            for (int i = 0; i < SX_SHARE_POLICIES; i++)
                s->policies[i] = true;
        else if (sx_share_policy_find(name, &policy))
            s->policies[policy] = true;
        else
            return sx_usage_error(&usage,
                                  "--policy takes fair, edf, blind, temporal, fixed, greedy, "
                                  "max-throughput, max-min or all, not '%s'",
                                  name);
        p += len;
        if (!*p)
            return -1;
    }
}

static int apply(struct sx_sim_scenario *s)
{
    struct sx_sim_config *c = &s->config;
    if (fit_text && strcmp(fit_text, "any") != 0 && strcmp(fit_text, "aligned") != 0)
        return sx_usage_error(&usage, "--fit takes any or aligned, not '%s'", fit_text);
    if (fit_text)
        c->fit = strcmp(fit_text, "any") == 0 ? SX_SHARE_ANY : SX_SHARE_ALIGNED;
    if (fit_text)
        c->lone_width = c->fit == SX_SHARE_ALIGNED;
    if (router_text && !sx_sim_router_find(router_text, &c->router))
        return sx_usage_error(&usage,
                              "--router takes round-robin, least-finish or two-choices, not '%s'",
                              router_text);
    if (machines > SX_SIM_MACHINES)
        return sx_usage_error(&usage, "--machines takes 1 to %d", SX_SIM_MACHINES);
    if (machines)
        c->n_machines = (unsigned)machines;
    if (seconds > 0)
        c->seconds = seconds;
    if (warm >= 0)
        c->warm_seconds = warm;
    if (half_rule || no_half_rule)
        c->half_rule = half_rule;
    for (unsigned i = 0; i < c->n_models; i++) {
        if (noise > 0)
            s->models[i].noise = noise;
        if (rate > 0 && !s->models[i].load) {
            sx_arrival_poisson(&s->owned[i].load, rate, sx_sim_scenario_seed(s) + 1000 + i);
            s->models[i].load = &s->owned[i].load;
        }
    }
    if (schedule_path) {
        double longest = 0;
        for (unsigned i = 0; i < c->n_models; i++)
            longest = fmax(longest, c->models[i].objective_ns);
        c->span_begin = schedule_begin;
        c->span_end = schedule_begin + (schedule_ms > 0 ? schedule_ms * 1e-3 : 3e-9 * longest);
        c->max_spans = MAX_SPANS;
    }
    return set_policies(s);
}

/* What is simulated, from everything that was said; -1, or the exit code. */
static int set_up(struct sx_sim_scenario *s, struct kernels *k, const struct sx_texts *operands,
                  enum sx_rc *ret_rc, struct sx_err *err)
{
    const struct sx_mix *mix = mix_name ? sx_mix_find(mix_name) : NULL;
    unsigned sources =
        operands->count + (mix_name != NULL) + (model_texts.count > 0) + (kernel_texts.count > 0);
    if (sources != 1)
        return sx_usage_error(&usage,
                              "one of SCENARIO.json, --mix, --model and --kernels says what "
                              "to simulate, not %s",
                              sources ? "several" : "none");
    if (mix_name && !mix)
        return sx_usage_error(&usage, "--mix takes c2, c3, c4, c7 or convnets, not '%s'", mix_name);
    if (units > SX_SCHED_UNITS)
        return sx_usage_error(&usage, "--units takes 1 to %d", SX_SCHED_UNITS);
    if (ideal && !mix && !kernel_texts.count)
        return sx_usage_error(&usage, "--ideal goes with --mix or --kernels");
    s->seed_given = seed != no_seed;
    if (s->seed_given)
        s->config.seed = seed;
    int code = -1;
    bool percent = mix || kernel_texts.count;
    s->config.n_units = units ? (unsigned)units : percent ? SX_MIX_UNITS : 0;
    if (operands->count)
        *ret_rc = sx_sim_scenario_load(s, operands->item[0], err);
    else if (mix)
        *ret_rc = add_mix(s, mix, k, err);
    else if (kernel_texts.count)
        code = add_kernel_texts(s, k, ret_rc, err);
    else
        code = add_models(s, ret_rc, err);
    if (code >= 0 || *ret_rc)
        return code;
    if (units)
        s->config.n_units = (unsigned)units;
    if (!s->config.n_units && s->recalled)
        s->config.n_units = SX_MIX_UNITS;
    if (!s->config.n_units)
        return sx_usage_error(&usage, "--units says how many units a machine has");
    code = apply(s);
    if (code < 0 && trace_path) {
        struct sx_trace_options o = {.scale = trace_scale,
                                     .cv = trace_cv,
                                     .begin = trace_begin,
                                     .seconds = s->config.seconds,
                                     .seed = s->config.seed};
        *ret_rc = sx_sim_scenario_trace(s, trace_path, &o, err);
    }
    return code;
}

/* --- running ---------------------------------------------------------------------------------- */

/* What kernels use of a run's units, up to the end of the simulation. */
static void count_kernels(void *user, const struct sx_sim_decision *d)
{
    struct kernels *k = user;
    double end = fmin((double)d->ends, k->end_ns);
    k->used += (end - (double)d->at) * d->n_units * sx_ideal_used(&k->models[d->model], d->n_units);
}

static void run_ideal(struct sx_sim_report *report, const struct kernels *k,
                      struct sx_ideal_result results[2])
{
    const struct sx_sim_config *c = &report->scenario->config;
    sx_ideal_run(k->models, k->n, 1, c->n_units, c->seconds, &results[0]);
    report->ideal = &results[0];
    if (2 * k->n > SX_IDEAL_MODELS)
        return;
    sx_ideal_run(k->models, k->n, 2, c->n_units, c->seconds, &results[1]);
    report->ideal_two = &results[1];
}

static enum sx_rc run(struct sx_sim_scenario *s, struct sx_sim_report *report, struct kernels *k,
                      struct sx_err *err)
{
    uint64_t begin = sx_now();
    bool any = false;
    enum sx_rc rc = SX_OK;
    for (int i = 0; i < SX_SHARE_POLICIES; i++)
        any = any || s->policies[i];
    for (int i = 0; i < SX_SHARE_POLICIES && !rc; i++) {
        if (any ? !s->policies[i] : i != (int)s->config.policy)
            continue;
        struct sx_sim_config config = s->config;
        config.policy = (enum sx_share_policy)i;
        k->used = 0;
        k->end_ns = config.seconds * 1e9;
        config.decided = ideal ? count_kernels : NULL;
        config.user = k;
        rc = sx_sim_run(&config, &report->results[report->n], err);
        if (rc)
            break;
        report->kernels[report->n] = k->used / (k->end_ns * config.n_units * config.n_machines);
        report->policies[report->n++] = config.policy;
    }
    report->wall_seconds = (double)(sx_now() - begin) * 1e-9;
    return rc;
}

static enum sx_rc print(const struct sx_sim_report *report, struct sx_err *err)
{
    struct sx_sbuf out = {0}, picture = {0};
    enum sx_rc rc = SX_OK;
    if (json)
        sx_sim_report_json(report, &out);
    else
        sx_sim_report_text(report, &out);
    if (schedule_path)
        sx_sim_picture(report->scenario, &report->results[0], report->policies[0], &picture);
    if (out.failed || picture.failed)
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for the report");
    if (!rc && schedule_path)
        rc = sx_file_write(schedule_path, picture.data, picture.len, err);
    if (!rc)
        fputs(out.data, stdout);
    sx_sbuf_free(&out);
    sx_sbuf_free(&picture);
    return rc;
}

int sx_cmd_simulate(int argc, char **argv)
{
    struct sx_texts operands = {0};
    struct sx_sim_scenario *scenario = calloc(1, sizeof *scenario);
    struct sx_sim_report *report = calloc(1, sizeof *report);
    struct kernels *kernels = calloc(1, sizeof *kernels);
    struct sx_ideal_result ideal_result[2];
    struct sx_err err = {0};
    enum sx_rc rc = SX_OK;
    seed = no_seed;
    int code = sx_options_parse(&usage, argc, argv, &operands);

    if (code >= 0)
        goto out;
    rc = scenario && report && kernels ? sx_sim_scenario_init(scenario, &err)
                                       : sx_fail(&err, SX_NO_MEMORY, "no memory for a simulation");
    if (!rc)
        code = set_up(scenario, kernels, &operands, &rc, &err);
    if (code < 0 && !rc) {
        report->scenario = scenario;
        rc = run(scenario, report, kernels, &err);
        if (!rc && ideal)
            run_ideal(report, kernels, ideal_result);
        if (!rc)
            rc = print(report, &err);
    }
    if (code < 0) {
        if (rc)
            sx_complain(usage.name, &err);
        code = sx_exit_of(rc);
    }
    if (scenario)
        sx_sim_scenario_fini(scenario);
out:
    for (unsigned i = 0; report && i < report->n; i++)
        sx_sim_result_fini(&report->results[i]);
    free(scenario);
    free(report);
    free(kernels);
    sx_texts_free(&model_texts);
    sx_texts_free(&kernel_texts);
    sx_texts_free(&operands);
    return code;
}
