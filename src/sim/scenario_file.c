/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario_file.c - a scenario from JSON.
 *
 * A reader remembers its first failure and where in the file it is ("models[1].load"); after that
 * each call returns a default.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "base/file.h"
#include "base/sbuf.h"
#include "cost/latency_file.h"
#include "sim/scenario.h"

#define MAX_BYTES ((size_t)64 << 20)

struct reader {
    const char *path;
    char where[64]; /* "models[1].": what comes before a field's name */
    enum sx_rc rc;
    struct sx_err *err;
};

/* --- fields ----------------------------------------------------------------------------------- */

static void fail(struct reader *r, const char *field, const char *expected)
{
    if (!r->rc)
        r->rc = sx_fail(r->err, SX_INVALID, "scenario '%s': %s%s must be %s", r->path, r->where,
                        field, expected);
}

static double number_of(struct reader *r, yyjson_val *o, const char *field, double otherwise,
                        double lo, double hi)
{
    yyjson_val *v = yyjson_obj_get(o, field);
    char expected[64];
    if (!v || r->rc)
        return otherwise;
    if (yyjson_is_num(v) && yyjson_get_num(v) >= lo && yyjson_get_num(v) <= hi)
        return yyjson_get_num(v);
    snprintf(expected, sizeof expected, "a number from %g to %g", lo, hi);
    fail(r, field, expected);
    return otherwise;
}

static uint64_t whole_of(struct reader *r, yyjson_val *o, const char *field, uint64_t otherwise,
                         uint64_t lo, uint64_t hi)
{
    yyjson_val *v = yyjson_obj_get(o, field);
    char expected[80];
    if (!v || r->rc)
        return otherwise;
    if (yyjson_is_uint(v) && yyjson_get_uint(v) >= lo && yyjson_get_uint(v) <= hi)
        return yyjson_get_uint(v);
    snprintf(expected, sizeof expected, "a whole number from %llu to %llu", (unsigned long long)lo,
             (unsigned long long)hi);
    fail(r, field, expected);
    return otherwise;
}

static bool flag_of(struct reader *r, yyjson_val *o, const char *field, bool otherwise)
{
    yyjson_val *v = yyjson_obj_get(o, field);
    if (!v || r->rc)
        return otherwise;
    if (!yyjson_is_bool(v))
        fail(r, field, "true or false");
    return yyjson_get_bool(v);
}

static const char *text_of(struct reader *r, yyjson_val *o, const char *field,
                           const char *otherwise)
{
    yyjson_val *v = yyjson_obj_get(o, field);
    if (!v || r->rc)
        return otherwise;
    if (yyjson_is_str(v) && yyjson_get_len(v) == strlen(yyjson_get_str(v)))
        return yyjson_get_str(v);
    fail(r, field, "a text");
    return otherwise;
}

/* Every field of an object must be one of these (NULL at the end). */
static void check_fields(struct reader *r, yyjson_val *o, const char *const *known)
{
    yyjson_val *key, *value;
    size_t i, n;
    if (r->rc)
        return;
    if (!yyjson_is_obj(o)) {
        size_t len = strlen(r->where);
        if (len)
            r->where[len - 1] = '\0'; /* the stop before a field */
        fail(r, len ? "" : "it", "an object");
        return;
    }
    yyjson_obj_foreach(o, i, n, key, value)
    {
        const char *name = yyjson_get_str(key);
        const char *const *k = known;
        while (*k && strcmp(*k, name) != 0)
            k++;
        if (*k)
            continue;
        struct sx_sbuf all = {0};
        for (k = known; *k; k++)
            sx_sbuf_printf(&all, "%s%s", k == known ? "" : ", ", *k);
        r->rc = sx_fail(r->err, SX_INVALID, "scenario '%s': there is no field %s%s", r->path,
                        r->where, name);
        sx_hint(r->err, "fields there: %s", all.data ? all.data : "");
        sx_sbuf_free(&all);
        return;
    }
}

/* A path in the file, seen from the file's directory. */
static bool near_file(struct reader *r, const char *name, char *buf, size_t size)
{
    const char *slash = strrchr(r->path, '/');
    int dir = slash && *name != '/' ? (int)(slash - r->path) + 1 : 0;
    int len = snprintf(buf, size, "%.*s%s", dir, r->path, name);
    if (len < 0 || (size_t)len >= size)
        r->rc = sx_fail(r->err, SX_INVALID, "scenario '%s': a path is too long", r->path);
    return !r->rc;
}

/* --- loads ------------------------------------------------------------------------------------ */

static const char *const load_fields[] = {
    "kind",        "rate",         "cv",         "off_rate",  "on_seconds",
    "off_seconds", "to_rate",      "at_seconds", "amplitude", "period_seconds",
    "file",        "unit_seconds", "loop",       NULL};
static const char kinds[] = "\"endless\", \"poisson\", \"constant\", \"gamma\", \"bursts\", "
                            "\"step\", \"wave\", \"times\", \"gaps\" or \"counts\"";

static void read_file_load(struct reader *r, yyjson_val *o, const char *kind, uint64_t seed,
                           struct sx_arrival *ret)
{
    const char *file = text_of(r, o, "file", NULL);
    char path[4096];
    enum sx_trace_format format = strcmp(kind, "times") == 0  ? SX_TRACE_TIMES
                                  : strcmp(kind, "gaps") == 0 ? SX_TRACE_GAPS
                                                              : SX_TRACE_COUNTS;
    double unit = number_of(r, o, "unit_seconds", format == SX_TRACE_COUNTS ? 60 : 1, 1e-9, 1e6);
    bool loop = flag_of(r, o, "loop", false);
    if (!r->rc && !file)
        fail(r, "file", "there");
    if (!r->rc && near_file(r, file, path, sizeof path))
        r->rc =
            sx_arrival_file(ret, path, format, (uint64_t)llround(unit * 1e9), loop, seed, r->err);
}

/* False: endless. */
static bool read_load(struct reader *r, yyjson_val *o, uint64_t seed, struct sx_arrival *ret)
{
    check_fields(r, o, load_fields);
    const char *kind = text_of(r, o, "kind", "poisson");
    bool counted =
        strcmp(kind, "times") == 0 || strcmp(kind, "gaps") == 0 || strcmp(kind, "counts") == 0;
    double rate = number_of(r, o, "rate", 0, 0, 1e9);
    double cv = number_of(r, o, "cv", 1, 0.01, 100);
    double off = number_of(r, o, "off_rate", 0, 0, 1e9);
    double on_s = number_of(r, o, "on_seconds", 1, 1e-6, 1e9);
    double off_s = number_of(r, o, "off_seconds", 1, 1e-6, 1e9);
    double to = number_of(r, o, "to_rate", 0, 0, 1e9);
    double at_s = number_of(r, o, "at_seconds", 0, 0, 1e9);
    double amplitude = number_of(r, o, "amplitude", 0.5, 0, 1);
    double period = number_of(r, o, "period_seconds", 86400, 1e-6, 1e9);
    if (r->rc || strcmp(kind, "endless") == 0)
        return false;
    if (!counted && !(rate > 0 || (strcmp(kind, "step") == 0 && to > 0)))
        fail(r, "rate", "over 0");
    if (r->rc)
        return false;
    if (counted)
        read_file_load(r, o, kind, seed, ret);
    else if (strcmp(kind, "poisson") == 0)
        sx_arrival_poisson(ret, rate, seed);
    else if (strcmp(kind, "constant") == 0)
        sx_arrival_constant(ret, rate);
    else if (strcmp(kind, "gamma") == 0)
        sx_arrival_gamma(ret, rate, 1 / (cv * cv), seed);
    else if (strcmp(kind, "bursts") == 0)
        sx_arrival_bursts(ret, rate, off, on_s, off_s, seed);
    else if (strcmp(kind, "step") == 0)
        sx_arrival_step(ret, rate, to, at_s, seed);
    else if (strcmp(kind, "wave") == 0)
        sx_arrival_wave(ret, rate, amplitude, period, seed);
    else
        fail(r, "kind", kinds);
    return !r->rc;
}

/* --- tables ----------------------------------------------------------------------------------- */

static void read_table(struct reader *r, yyjson_val *o, struct sx_sim_scenario *s,
                       struct sx_latency *ret, const struct sx_mix_model **ret_mix)
{
    yyjson_val *v = yyjson_obj_get(o, "table");
    char path[4096];
    *ret_mix = NULL;
    if (r->rc)
        return;
    if (yyjson_is_obj(v)) {
        snprintf(path, sizeof path, "scenario '%s': %stable", r->path, r->where);
        r->rc = sx_latency_read((struct yyjson_val *)v, path, ret, NULL, r->err);
        return;
    }
    const char *name = text_of(r, o, "table", NULL);
    if (!r->rc && !name)
        fail(r, "table", "a file's name, a recalled model's or {units, batches, ms}");
    if (r->rc)
        return;
    bool known = sx_mix_model_find(name) != NULL;
    if (known || near_file(r, name, path, sizeof path))
        r->rc = sx_sim_table(known ? name : path, ret, ret_mix, r->err);
    if (r->rc)
        sx_while(r->err, "scenario '%s': %stable", r->path, r->where);
    s->recalled = s->recalled || known;
}

/* --- models ----------------------------------------------------------------------------------- */

static const char *const model_fields[] = {
    "name",       "table",      "objective_ms", "weight",   "priority", "max_batch", "max_delay_ms",
    "lone_units", "max_queue",  "samples",      "load",     "rate",     "noise",     "slowness",
    "run_ms",     "request_ms", "way_ms",       "replicas", NULL};

static void read_model(struct reader *r, yyjson_val *o, struct sx_sim_scenario *s)
{
    struct sx_latency latency;
    const struct sx_mix_model *mix = NULL;
    struct sx_sim_model *m;
    struct sx_arrival load = {0};
    bool has_load = false;
    check_fields(r, o, model_fields);
    const char *name = text_of(r, o, "name", NULL);
    read_table(r, o, s, &latency, &mix);
    double objective = number_of(r, o, "objective_ms", mix ? mix->objective_ms : 0, 1e-6, 1e6);
    if (!r->rc && !name && mix)
        name = mix->name;
    if (!r->rc && !name)
        fail(r, "name", "there");
    if (!r->rc && !(objective > 0))
        fail(r, "objective_ms", "there");
    yyjson_val *v = yyjson_obj_get(o, "load");
    if (!r->rc && v) {
        size_t len = strlen(r->where);
        snprintf(r->where + len, sizeof r->where - len, "load.");
        has_load = read_load(r, v, sx_sim_scenario_seed(s), &load);
        if (!r->rc)
            r->where[len] = '\0';
    }
    if (r->rc)
        return;
    r->rc = sx_sim_scenario_add(s, name, &latency, objective, &m, r->err);
    if (r->rc) {
        sx_arrival_fini(&load);
        sx_while(r->err, "scenario '%s'", r->path);
        return;
    }
    if (has_load)
        sx_sim_scenario_give(s, &load);
    m->weight = number_of(r, o, "weight", 1, 1e-6, 1e6);
    v = yyjson_obj_get(o, "priority");
    if (v && !yyjson_is_int(v))
        fail(r, "priority", "a whole number");
    m->priority = v ? (int)yyjson_get_sint(v) : 0;
    m->max_batch = (unsigned)whole_of(r, o, "max_batch", 0, 1, 1u << 20);
    if (yyjson_obj_get(o, "max_delay_ms"))
        m->max_delay_ns = (uint64_t)(number_of(r, o, "max_delay_ms", 0, 0, 1e6) * 1e6);
    m->lone_units = (unsigned)whole_of(r, o, "lone_units", 0, 0, SX_SCHED_UNITS);
    m->max_queue = (unsigned)whole_of(r, o, "max_queue", 0, 1, 1u << 26);
    m->samples = (unsigned)whole_of(r, o, "samples", 0, 1, 1u << 20);
    m->rate = number_of(r, o, "rate", 0, 0, 1e9);
    m->noise = number_of(r, o, "noise", 0, 0, 3);
    m->slowness = number_of(r, o, "slowness", 0, 1e-3, 1e3);
    m->run_ns = number_of(r, o, "run_ms", 0, 0, 1e6) * 1e6;
    m->request_ns = number_of(r, o, "request_ms", 0, 0, 1e6) * 1e6;
    m->way_ns = number_of(r, o, "way_ms", 0, 0, 1e6) * 1e6;
    m->replicas = (unsigned)whole_of(r, o, "replicas", 0, 0, SX_SIM_MACHINES);
}

/* --- the rest --------------------------------------------------------------------------------- */

static void set_policy(struct reader *r, const char *name, struct sx_sim_scenario *s)
{
    enum sx_share_policy policy;
    if (strcmp(name, "all") == 0) {
        for (int i = 0; i < SX_SHARE_POLICIES; i++)
            s->policies[i] = true;
    } else if (sx_share_policy_find(name, &policy)) {
        s->policies[policy] = true;
        s->config.policy = policy;
    } else {
        fail(r, "policy", "\"all\", a policy's name or a list of them");
    }
}

static void read_policy(struct reader *r, yyjson_val *root, struct sx_sim_scenario *s)
{
    yyjson_val *v = yyjson_obj_get(root, "policy"), *item;
    size_t i, n;
    if (r->rc || !v)
        return;
    if (yyjson_is_str(v))
        set_policy(r, yyjson_get_str(v), s);
    else if (!yyjson_is_arr(v) || !yyjson_arr_size(v))
        fail(r, "policy", "\"all\", a policy's name or a list of them");
    yyjson_arr_foreach(v, i, n, item)
        set_policy(r, yyjson_is_str(item) ? yyjson_get_str(item) : "", s);
}

static void read_trace(struct reader *r, yyjson_val *root, struct sx_sim_scenario *s)
{
    static const char *const fields[] = {"file", "scale", "cv", "begin_seconds", "seconds", NULL};
    yyjson_val *o = yyjson_obj_get(root, "trace");
    char path[4096];
    if (r->rc || !o)
        return;
    snprintf(r->where, sizeof r->where, "trace.");
    check_fields(r, o, fields);
    struct sx_trace_options options = {
        .scale = number_of(r, o, "scale", 1, 1e-9, 1e9),
        .cv = number_of(r, o, "cv", 1, 0.01, 100),
        .begin = number_of(r, o, "begin_seconds", 0, 0, 1e8),
        .seconds = number_of(r, o, "seconds", s->config.seconds, 0, 1e8),
        .seed = s->config.seed,
    };
    const char *file = text_of(r, o, "file", NULL);
    if (!r->rc && !file)
        fail(r, "file", "there");
    if (!r->rc && near_file(r, file, path, sizeof path))
        r->rc = sx_sim_scenario_trace(s, path, &options, r->err);
    r->where[0] = '\0';
}

static const char *const root_fields[] = {
    "format", "units",          "fit",       "seconds",   "warm_seconds",
    "seed",   "policy",         "half_rule", "margin_ms", "machines",
    "router", "replan_seconds", "admit_all", "keep_late", "lone_width",
    "models", "trace",          "what",      NULL};

static void read_root(struct reader *r, yyjson_val *root, struct sx_sim_scenario *s)
{
    struct sx_sim_config *c = &s->config;
    check_fields(r, root, root_fields);
    if (whole_of(r, root, "format", SX_SIM_SCENARIO_FORMAT, 0, UINT32_MAX) !=
        SX_SIM_SCENARIO_FORMAT)
        fail(r, "format", "1, which this program reads");
    c->n_units = (unsigned)whole_of(r, root, "units", 0, 1, SX_SCHED_UNITS);
    const char *fit = text_of(r, root, "fit", "any");
    if (strcmp(fit, "any") != 0 && strcmp(fit, "aligned") != 0)
        fail(r, "fit", "\"any\" or \"aligned\"");
    c->fit = strcmp(fit, "aligned") == 0 ? SX_SHARE_ALIGNED : SX_SHARE_ANY;
    c->lone_width = flag_of(r, root, "lone_width", c->fit == SX_SHARE_ALIGNED);
    c->seconds = number_of(r, root, "seconds", c->seconds, 1e-6, 1e9);
    c->warm_seconds = number_of(r, root, "warm_seconds", 0, 0, 1e9);
    uint64_t seed = whole_of(r, root, "seed", c->seed, 0, UINT64_MAX);
    c->seed = s->seed_given ? c->seed : seed;
    c->half_rule = flag_of(r, root, "half_rule", c->half_rule);
    c->margin_ns = number_of(r, root, "margin_ms", 0, 0, 1e6) * 1e6;
    c->n_machines = (unsigned)whole_of(r, root, "machines", 1, 1, SX_SIM_MACHINES);
    const char *router = text_of(r, root, "router", sx_sim_router_name(c->router));
    if (!sx_sim_router_find(router, &c->router))
        fail(r, "router", "\"round-robin\", \"least-finish\" or \"two-choices\"");
    c->replan_seconds = number_of(r, root, "replan_seconds", 0, 0, 1e9);
    c->admit_all = flag_of(r, root, "admit_all", false);
    c->keep_late = flag_of(r, root, "keep_late", false);
    text_of(r, root, "what", NULL);
    read_policy(r, root, s);
    yyjson_val *models = yyjson_obj_get(root, "models"), *v;
    size_t i, n;
    if (!r->rc && (!yyjson_is_arr(models) || !yyjson_arr_size(models)))
        fail(r, "models", "a list of at least one model");
    yyjson_arr_foreach(models, i, n, v)
    {
        snprintf(r->where, sizeof r->where, "models[%zu].", i);
        if (!r->rc)
            read_model(r, v, s);
    }
    if (!r->rc) {
        r->where[0] = '\0';
        if (!c->n_units && s->recalled)
            c->n_units = SX_MIX_UNITS;
        if (!c->n_units)
            fail(r, "units", "there: how many units a machine has");
    }
    read_trace(r, root, s);
}

enum sx_rc sx_sim_scenario_load(struct sx_sim_scenario *s, const char *path, struct sx_err *err)
{
    struct reader r = {.path = path, .err = err};
    char *text;
    size_t size;
    yyjson_read_err why;
    r.rc = sx_file_read(path, MAX_BYTES, &text, &size, err);
    if (r.rc)
        return r.rc;
    yyjson_doc *doc = yyjson_read_opts(
        text, size, YYJSON_READ_ALLOW_COMMENTS | YYJSON_READ_ALLOW_TRAILING_COMMAS, NULL, &why);
    if (doc) {
        read_root(&r, yyjson_doc_get_root(doc), s);
    } else if (why.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION) {
        r.rc = sx_fail(err, SX_NO_MEMORY, "no memory for '%s'", path);
    } else {
        size_t line = 1, column = 1;
        for (size_t i = 0; i < why.pos && i < size; i++) {
            column = text[i] == '\n' ? 1 : column + 1;
            line += text[i] == '\n';
        }
        r.rc = sx_fail(err, SX_INVALID, "scenario '%s': line %zu, column %zu: %s", path, line,
                       column, why.msg);
    }
    yyjson_doc_free(doc);
    free(text);
    return r.rc;
}
