/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * ort_profile.c - how long each operator takes, from ONNX Runtime's own profiler.
 *
 * Two sessions take turns: a plain one, timed from outside, and one with the profiler on, which
 * writes a JSON event for each operator of each run.  Watching costs time, a constant amount
 * per operator; so the operators' medians are scaled until their sum is the plain runs' median.
 * Turns are short: a moment in which something else disturbs the machine is in both.
 *
 * An event counts when its index and its name are those of an operator of the graph's file.  Events
 * from inside a Loop or an If, which have indices of their own, lie in time within that operator's
 * event and are skipped.  Operators that are in no graph (on constants alone) count for nobody.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "base/file.h"
#include "engine/ort_int.h"

#define WARM_UP    2      /* runs of each session before the first one counts */
#define TURN       4      /* runs */
#define MAX_EVENTS 800000 /* ONNX Runtime keeps 1,000,000 and drops the rest */
#define CUT_OFF_US 0.5    /* times are whole microseconds, rounded down: this much is missing */

struct watch {
    const struct sx_dag *dag;
    size_t n_file;     /* operators in the graph's file */
    uint32_t *node_of; /* index in the file -> node; SX_DAG_NONE */
    double *us;        /* [node * max_runs + run] */
    size_t max_runs, n_runs;
};

/* --- reading the profile ------------------------------------------------------------------------
 */

/* Unnamed operators are called TYPE_INDEX there. */
static bool same_name(const struct sx_dag_node *node, const char *event, size_t index)
{
    char unnamed[300];
    const char *name = node->name;
    if (!*name) {
        const char *type = strrchr(node->type, '.'); /* behind the domain */
        snprintf(unnamed, sizeof(unnamed), "%s_%zu", type ? type + 1 : node->type, index);
        name = unnamed;
    }
    size_t len = strlen(name);
    return !strncmp(event, name, len) && !strcmp(event + len, "_kernel_time");
}

/* The node that an event is about; SX_DAG_NONE: none of the graph. */
static uint32_t node_of(const struct watch *w, yyjson_val *event)
{
    const char *name = yyjson_get_str(yyjson_obj_get(event, "name"));
    yyjson_val *at = yyjson_obj_get(yyjson_obj_get(event, "args"), "node_index");
    const char *text = yyjson_get_str(at);
    char *end = NULL;

    unsigned long long index = text ? strtoull(text, &end, 10) : yyjson_get_uint(at);
    if (!name || !at || (text && (end == text || *end)) || index >= w->n_file)
        return SX_DAG_NONE;
    uint32_t node = w->node_of[index];
    if (node != SX_DAG_NONE && !same_name(&w->dag->nodes[node], name, (size_t)index))
        node = SX_DAG_NONE;
    return node;
}

static bool has_body(yyjson_val *event)
{
    const char *type = yyjson_get_str(yyjson_obj_get(yyjson_obj_get(event, "args"), "op_name"));
    return type && (!strcmp(type, "If") || !strcmp(type, "Loop") || !strcmp(type, "Scan"));
}

static bool is(yyjson_val *event, const char *key, const char *value)
{
    const char *text = yyjson_get_str(yyjson_obj_get(event, key));
    return text && !strcmp(text, value);
}

/* Events [0, n) of one run; backwards, since an event comes after those within it. */
static void read_run(struct watch *w, yyjson_val *const *events, size_t n)
{
    double body_begin = 0, body_end = -1;

    for (size_t i = n; i-- > 0;) {
        double ts = yyjson_get_num(yyjson_obj_get(events[i], "ts"));
        double us = yyjson_get_num(yyjson_obj_get(events[i], "dur"));
        if (ts >= body_begin && ts + us <= body_end)
            continue;
        uint32_t node = node_of(w, events[i]);
        if (has_body(events[i])) {
            body_begin = ts;
            body_end = ts + us;
        }
        if (node != SX_DAG_NONE)
            w->us[node * w->max_runs + w->n_runs] += us + CUT_OFF_US;
    }
    w->n_runs++;
}

static enum sx_rc read_events(struct watch *w, const char *path, struct sx_err *err)
{
    char *text = NULL;
    size_t size, n = 0, run = 0;
    yyjson_read_err why;
    yyjson_doc *doc = NULL;
    yyjson_val **events = NULL;

    enum sx_rc rc = sx_file_read(path, 0, &text, &size, err);
    if (rc)
        return rc;
    doc = yyjson_read_opts(text, size, 0, NULL, &why);
    yyjson_val *root = yyjson_doc_get_root(doc);
    if (!yyjson_is_arr(root)) {
        rc = sx_fail(err, SX_ENGINE, "ONNX Runtime's profile cannot be read: %s",
                     doc ? "it is no list" : why.msg);
        goto out;
    }
    events = malloc((yyjson_arr_size(root) + 1) * sizeof(yyjson_val *));
    if (!events) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for a profile");
        goto out;
    }
    size_t i, max;
    yyjson_val *event;
    yyjson_arr_foreach(root, i, max, event)
    {
        if (is(event, "cat", "Node")) {
            events[n++] = event;
        } else if (is(event, "name", "model_run")) { /* after the events of the run */
            if (run++ >= WARM_UP && w->n_runs < w->max_runs)
                read_run(w, events, n);
            n = 0;
        }
    }
out:
    free(events);
    yyjson_doc_free(doc);
    free(text);
    return rc;
}

/* --- runs ---------------------------------------------------------------------------------------
 */

/* Runs in turns: `plain` into ns[runs], `observed` as often, but at most n_observed times. */
static enum sx_rc take_turns(const struct sx_engine_measure *what, struct sx_session *plain,
                             struct sx_session *observed, size_t n_observed,
                             const struct sx_tensor *inputs, double *ns, struct sx_err *err)
{
    size_t done[2] = {0}, total = WARM_UP + what->runs, all = 2 * total;
    struct sx_session *const sessions[2] = {plain, observed};
    double unused;

    while (done[0] < total || done[1] < total) {
        for (int k = 0; k < 2; k++) {
            for (size_t end = done[k] + TURN; done[k] < end && done[k] < total; done[k]++) {
                if (what->tick &&
                    !what->tick(what->user, (double)(done[0] + done[1]) / (double)all))
                    return sx_fail(err, SX_CANCELLED, "the measurement was stopped");
                if (k && done[k] >= WARM_UP + n_observed)
                    continue;
                bool counts = !k && done[k] >= WARM_UP;
                enum sx_rc rc = sx_measure_run(sessions[k], inputs,
                                               counts ? &ns[done[k] - WARM_UP] : &unused, err);
                if (rc)
                    return rc;
            }
        }
    }
    return SX_OK;
}

static enum sx_rc end_profile(const struct ort_lib *lib, OrtSession *session, struct watch *w,
                              struct sx_err *err)
{
    char *path = NULL;
    enum sx_rc rc =
        sx_ort_check(lib, lib->api->SessionEndProfiling(session, lib->allocator, &path), err);
    if (rc)
        return rc;
    rc = read_events(w, path, err);
    sx_ort_check(lib, lib->api->AllocatorFree(lib->allocator, path), NULL);
    return rc;
}

/* A session with the profiler on, run in turns with `plain`. */
static enum sx_rc observe(struct ort_model *m, const struct sx_engine_measure *what,
                          const struct sx_tensor *inputs, struct watch *w, double *ns,
                          struct sx_err *err)
{
    const char *tmp = getenv("TMPDIR");
    char *dir = NULL, *prefix = NULL;
    struct sx_session *plain = NULL;
    struct ort_session observed = {
        .base = {.ops = m->base.ops, .model = &m->base, .width = what->width}};
    enum sx_rc rc;

    if (asprintf(&dir, "%s/staronnx-profile-XXXXXX", tmp && *tmp ? tmp : "/tmp") < 0)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a path");
    if (!mkdtemp(dir)) {
        rc = sx_file_fail(err, "create", dir);
        free(dir);
        return rc;
    }
    if (asprintf(&prefix, "%s/ort", dir) < 0) {
        prefix = NULL;
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for a path");
        goto out;
    }
    const struct ort_source source = {.path = (char *)sx_onnx_path(m->base.onnx),
                                      .weights = &m->weights};
    const struct ort_session_config config = {
        .width = what->width, .cpus = what->cpus, .profile = prefix};
    rc = sx_session_create(&m->base, what->width, what->cpus, &plain, err);
    if (!rc)
        rc = sx_ort_session_open(m->lib, &source, &config, &observed.session, err);
    if (!rc)
        rc = take_turns(what, plain, &observed.base, w->max_runs, inputs, ns, err);
    if (!rc)
        rc = end_profile(m->lib, observed.session, w, err);
out:
    if (observed.session)
        m->lib->api->ReleaseSession(observed.session);
    if (plain && what->width == 1 && !m->spare)
        m->spare = (struct ort_session *)plain; /* from where it came */
    else
        sx_session_destroy(plain);
    sx_dir_remove(dir, NULL);
    free(prefix);
    free(dir);
    return rc;
}

/* --- the result ---------------------------------------------------------------------------------
 */

static enum sx_rc open_watch(const struct ort_model *m, unsigned runs, struct watch *w,
                             struct sx_err *err)
{
    const struct sx_dag *dag = m->base.dag;

    w->dag = dag;
    w->n_file = sx_onnx_node_count(m->base.onnx); /* bodies counted: at least as many */
    w->max_runs = MAX_EVENTS / (w->n_file + 2);
    w->max_runs = w->max_runs > runs ? runs : w->max_runs ? w->max_runs : 1;
    w->node_of = malloc((w->n_file + 1) * sizeof(*w->node_of));
    w->us = calloc((size_t)dag->n_nodes * w->max_runs, sizeof(*w->us));
    if (!w->node_of || !w->us)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a profile");
    for (size_t i = 0; i < w->n_file; i++)
        w->node_of[i] = SX_DAG_NONE;
    for (uint32_t i = 0; i < dag->n_nodes; i++)
        w->node_of[dag->nodes[i].onnx_index] = i;
    return SX_OK;
}

enum sx_rc sx_ort_profile(struct sx_engine_model *model, const struct sx_engine_measure *what,
                          double *ret_node_ns, double *ret_spread_ns, double ret_whole[2],
                          struct sx_err *err)
{
    struct ort_model *m = (struct ort_model *)model;
    struct sx_tensor *inputs = NULL;
    struct watch w = {0};
    double *ns = calloc(what->runs, sizeof(*ns)), sum = 0;

    enum sx_rc rc = ns ? open_watch(m, what->runs, &w, err)
                       : sx_fail(err, SX_NO_MEMORY, "no memory for a profile");
    if (!rc)
        rc = sx_measure_inputs(model->inputs, model->n_inputs, what->batch, &inputs, err);
    if (!rc)
        rc = observe(m, what, inputs, &w, ns, err);
    if (rc)
        goto out;

    for (uint32_t i = 0; w.n_runs && i < w.dag->n_nodes; i++) {
        ret_node_ns[i] =
            sx_measure_median(w.us + (size_t)i * w.max_runs, w.n_runs, &ret_spread_ns[i]);
        sum += ret_node_ns[i];
    }
    if (sum <= 0) {
        rc = sx_fail(err, SX_ENGINE, "ONNX Runtime's profile has no times for the operators");
        goto out;
    }
    ret_whole[0] = sx_measure_median(ns, what->runs, &ret_whole[1]);
    for (uint32_t i = 0; i < w.dag->n_nodes; i++) {
        ret_node_ns[i] *= ret_whole[0] / sum;
        ret_spread_ns[i] *= ret_whole[0] / sum;
    }
out:
    sx_measure_free(inputs, model->n_inputs);
    free(w.node_of);
    free(w.us);
    free(ns);
    return rc;
}
