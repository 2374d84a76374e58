/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * model.c - a model from file to ready: engine model, config, sessions for every width.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "serve/server_int.h"

/* A copy that owns its strings. */
static enum sx_rc copy_config(struct sx_config *to, const struct sx_config *from)
{
    sx_config_init(to);
    if (!from)
        return SX_OK;
    struct sx_config_port *in = calloc(from->n_inputs + 1, sizeof *in);
    struct sx_config_port *out = calloc(from->n_outputs + 1, sizeof *out);
    int64_t *specific = calloc(from->versions.n_specific + 1, sizeof *specific);
    *to = *from;
    to->inputs = in;
    to->outputs = out;
    to->versions.specific = specific;
    if (!in || !out || !specific) {
        to->n_inputs = to->n_outputs = to->versions.n_specific = 0;
        return SX_NO_MEMORY;
    }
    bool ok = true;
    for (size_t i = 0; i < from->n_inputs; i++) {
        in[i] = from->inputs[i];
        ok = (in[i].name = strdup(from->inputs[i].name)) && ok;
    }
    for (size_t i = 0; i < from->n_outputs; i++) {
        out[i] = from->outputs[i];
        ok = (out[i].name = strdup(from->outputs[i].name)) && ok;
    }
    for (size_t i = 0; i < from->versions.n_specific; i++)
        specific[i] = from->versions.specific[i];
    return ok ? SX_OK : SX_NO_MEMORY;
}

/* One session for each group of each width.  Units do not share the session of width 1, although
 * they could: its arena would hand memory from core to core, and on a machine whose cores do not
 * share a cache that made runs a third slower. */
static enum sx_rc create_sessions(struct sx_model *m, struct sx_err *err)
{
    const struct sx_machine *machine = m->server->config.machine;
    int cpus[SX_SCHED_UNITS];
    m->sessions = calloc(m->cost.n_widths, sizeof *m->sessions);
    if (!m->sessions)
        return sx_fail(err, SX_NO_MEMORY, "no memory for sessions");
    for (unsigned wi = 0; wi < m->cost.n_widths; wi++) {
        unsigned width = m->cost.widths[wi], groups = m->server->n_units / width;
        m->sessions[wi] = calloc(groups, sizeof **m->sessions);
        if (!m->sessions[wi])
            return sx_fail(err, SX_NO_MEMORY, "no memory for sessions");
        for (unsigned g = 0; g < groups; g++) {
            sx_machine_cpus(machine, g * width, width, cpus);
            enum sx_rc rc = sx_session_create_awake(
                m->engine_model, sx_machine_cores(machine, width), cpus, &m->sessions[wi][g], err);
            if (rc)
                return rc;
        }
    }
    return SX_OK;
}

struct sx_session *sx_model_session(struct sx_model *m, unsigned width, unsigned first_unit)
{
    unsigned wi = sx_cost_width_index(&m->cost, width);
    return m->sessions[wi][first_unit / width];
}

/* The engine's ports as the config narrows them; the names stay the engine's. */
static enum sx_rc make_ports(struct sx_model *m, struct sx_err *err)
{
    const struct sx_config *c = &m->config;
    int skip = c->max_batch_size > 0 ? 1 : 0;
    m->ports = malloc((m->n_in + m->n_out + 1) * sizeof *m->ports);
    if (!m->ports)
        return sx_fail(err, SX_NO_MEMORY, "no memory for the inputs and outputs");
    memcpy(m->ports, m->in, m->n_in * sizeof *m->ports);
    memcpy(m->ports + m->n_in, m->out, m->n_out * sizeof *m->ports);
    sx_config_narrow(c->inputs, c->n_inputs, skip, m->ports, m->n_in);
    sx_config_narrow(c->outputs, c->n_outputs, skip, m->ports + m->n_in, m->n_out);
    m->in = m->ports;
    m->out = m->ports + m->n_in;
    return SX_OK;
}

static bool is_batchable(const struct sx_model *m)
{
    return m->config.max_batch_size > 0;
}

static bool shapes_vary(const struct sx_model *m)
{
    for (size_t i = 0; i < m->n_in; i++) {
        if (m->in[i].rank < 0 || m->in[i].optional)
            return true;
        for (int d = m->batchable ? 1 : 0; d < m->in[i].rank; d++) {
            if (m->in[i].dims[d] < 0)
                return true;
        }
    }
    return false;
}

static void set_up_scheduling(struct sx_model *m)
{
    const struct sx_server_config *c = &m->server->config;
    struct sx_config *cfg = &m->config;
    m->batchable = is_batchable(m);
    m->varies = shapes_vary(m);
    m->max_batch = m->batchable ? (unsigned)cfg->max_batch_size : 1;
    unsigned run_batch = m->max_batch; /* what we put together; a client may send max_batch */
    if (!cfg->dynamic_batching)
        run_batch = 1;
    sx_cost_init(&m->cost, m->server->n_units, m->max_batch, cfg->preferred, cfg->n_preferred);
    m->sched = (struct sx_sched_model){
        .cost = &m->cost,
        .max_batch = run_batch,
        .target_batch = cfg->n_preferred ? cfg->preferred[cfg->n_preferred - 1] : run_batch,
        .max_delay_ns = run_batch > 1 ? cfg->max_queue_delay_ns : 0,
        .head_deadline = SX_NEVER,
    };
    if (!cfg->max_queue_size)
        cfg->max_queue_size = c->default_max_queue;
    if (!cfg->default_timeout_ns)
        cfg->default_timeout_ns = cfg->objective_ns ? cfg->objective_ns : c->default_timeout_ns;
}

void sx_model_destroy(struct sx_model *m)
{
    if (!m)
        return;
    while (!sx_list_empty(&m->free_jobs)) {
        struct sx_job *job = SX_CONTAINER_OF(m->free_jobs.next, struct sx_job, link);
        sx_list_remove(&job->link);
        sx_job_destroy(job);
    }
    while (!sx_list_empty(&m->free_requests)) {
        struct sx_request *r = SX_CONTAINER_OF(m->free_requests.next, struct sx_request, link);
        sx_list_remove(&r->link);
        sx_request_destroy(r);
    }
    sx_variants_destroy(m);
    for (unsigned wi = 0; m->sessions && wi < m->cost.n_widths; wi++) {
        unsigned width = m->cost.widths[wi], groups = m->server->n_units / width;
        for (unsigned g = 0; m->sessions[wi] && g < groups; g++)
            sx_session_destroy(m->sessions[wi][g]);
        free(m->sessions[wi]);
    }
    free(m->sessions);
    free(m->ports);
    sx_engine_close_model(m->engine_model);
    sx_config_fini(&m->config);
    pthread_mutex_destroy(&m->pool_lock);
    free(m->stats);
    free(m);
}

static enum sx_rc create_model(struct sx_server *s, const char *name, int64_t version,
                               const char *path, const struct sx_config *config,
                               struct sx_model **ret_model, struct sx_err *err)
{
    uint64_t began = sx_now();
    struct sx_model *m = calloc(1, sizeof *m);
    if (!m)
        return sx_fail(err, SX_NO_MEMORY, "no memory for model '%s'", name);
    m->server = s;
    m->version = version;
    atomic_init(&m->refs, 1);
    atomic_init(&m->self_alloc, false);
    atomic_init(&m->apart, false);
    pthread_mutex_init(&m->pool_lock, NULL);
    sx_list_init(&m->queue);
    sx_list_init(&m->free_requests);
    sx_list_init(&m->free_jobs);
    sx_list_init(&m->retired);
    m->stats = calloc(1, sizeof *m->stats);
    enum sx_rc rc = copy_config(&m->config, config);
    if (rc || !m->stats) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for model '%s'", name);
        goto fail;
    }
    sx_hist_init(&m->stats->latency);
    sx_hist_init(&m->stats->queue);
    if (strlen(name) >= sizeof m->config.name) {
        rc = sx_fail(err, SX_INVALID, "the model's name is longer than %zu bytes",
                     sizeof m->config.name - 1);
        goto fail;
    }
    strcpy(m->config.name, name);
    rc = sx_engine_open_model(s->config.engine, path, &m->engine_model, err);
    if (rc)
        goto fail;
    m->n_in = sx_engine_inputs(m->engine_model, &m->in);
    m->n_out = sx_engine_outputs(m->engine_model, &m->out);
    rc = sx_config_complete(&m->config, m->engine_model, s->config.default_max_batch, err);
    if (!rc)
        rc = make_ports(m, err);
    if (rc)
        goto fail;
    set_up_scheduling(m);
    rc = s->fleet ? sx_variants_create(m, err) : create_sessions(m, err);
    if (rc)
        goto fail;
    sx_engine_model_settle(m->engine_model);
    if (*sx_engine_model_note(m->engine_model))
        sx_warning("model '%s': %s", name, sx_engine_model_note(m->engine_model));
    if (*m->config.not_assumed)
        sx_info("model '%s': %s", name, m->config.not_assumed);
    if (*m->config.notes)
        sx_info("model '%s': %s", name, m->config.notes);
    m->load_seconds = m->stats->load_seconds = (double)(sx_now() - began) * 1e-9;
    m->profile_done = s->fleet; /* measured before it was planned */
    m->stats->n_widths = m->cost.n_widths;
    memcpy(m->stats->widths, m->cost.widths, m->cost.n_widths * sizeof *m->cost.widths);
    *ret_model = m;
    return SX_OK;
fail:
    sx_model_destroy(m);
    return rc;
}

static enum sx_rc publish(struct sx_server *s, struct sx_model *m, struct sx_err *err)
{
    struct outcome o;
    sx_outcome_init(&o);
    pthread_mutex_lock(&s->lock);
    unsigned n_models = s->n_models; /* load_lock: nobody else adds any */
    pthread_mutex_unlock(&s->lock);
    enum sx_rc rc = sx_sharing_reserve(s, n_models + 1, err);
    if (rc)
        return rc;
    pthread_mutex_lock(&s->lock);
    if (s->stopping)
        rc = sx_fail(err, SX_UNAVAILABLE, "the server is stopping");
    for (unsigned i = 0; !rc && i < s->n_models; i++) {
        if (s->models[i]->version == m->version &&
            !strcmp(s->models[i]->config.name, m->config.name))
            rc = sx_fail(err, SX_INVALID, "model '%s' version %lld is loaded already",
                         m->config.name, (long long)m->version);
    }
    if (!rc && s->n_models == s->cap_models) {
        unsigned cap = s->cap_models ? 2 * s->cap_models : 16;
        struct sx_model **models = realloc(s->models, cap * sizeof *models);
        if (models)
            s->models = models;
        struct sx_sched_model **views = realloc(s->sched_models, cap * sizeof *views);
        if (views)
            s->sched_models = views;
        if (models && views)
            s->cap_models = cap;
        else
            rc = sx_fail(err, SX_NO_MEMORY, "no memory for another model");
    }
    if (!rc) {
        s->models[s->n_models] = m;
        s->sched_models[s->n_models++] = &m->sched;
        sx_server_pump(s, sx_clock_now(s->clock), &o); /* begin to profile it */
    }
    pthread_mutex_unlock(&s->lock);
    sx_server_flush(s, &o);
    if (!rc)
        sx_sharing_replan(s);
    return rc;
}

enum sx_rc sx_server_load(struct sx_server *s, const char *name, int64_t version, const char *path,
                          const struct sx_config *config, struct sx_err *err)
{
    struct sx_model *m = NULL;
    pthread_mutex_lock(&s->load_lock);
    sx_info("model '%s' version %lld: loading %s", name, (long long)version, path);
    enum sx_rc rc = create_model(s, name, version, path, config, &m, err);
    if (!rc)
        rc = publish(s, m, err);
    if (rc && m)
        sx_model_destroy(m);
    if (!rc)
        sx_info("model '%s' version %lld: ready after %.2f s", name, (long long)version,
                m->load_seconds);
    pthread_mutex_unlock(&s->load_lock);
    return rc ? (err ? sx_while(err, "model '%s'", name) : rc) : SX_OK;
}

/* --- references and views --------------------------------------------------------------------- */

const char *sx_model_name(const struct sx_model *m)
{
    return m->config.name;
}

int64_t sx_model_version(const struct sx_model *m)
{
    return m->version;
}

const struct sx_config *sx_model_config(const struct sx_model *m)
{
    return &m->config;
}

size_t sx_model_inputs(const struct sx_model *m, const struct sx_port **ret_ports)
{
    *ret_ports = m->in;
    return m->n_in;
}

size_t sx_model_outputs(const struct sx_model *m, const struct sx_port **ret_ports)
{
    *ret_ports = m->out;
    return m->n_out;
}

void sx_model_count_answer(struct sx_model *m, const struct sx_request *r)
{
    struct sx_model_stats *st = m->stats;
    uint64_t whole = r->end_ns - r->arrival_ns, queue = r->start_ns - r->arrival_ns;
    if (r->rc) {
        if (r->rc == SX_CANCELLED)
            st->cancelled++;
        else if (r->rc == SX_INVALID)
            st->invalid++;
        else
            st->failed++;
        st->fail_ns += whole;
        return;
    }
    st->success++;
    st->in_time += r->end_ns <= r->deadline_ns;
    st->samples += r->samples;
    st->request_ns += whole;
    st->queue_ns += queue;
    sx_hist_add(&st->latency, whole);
    sx_hist_add(&st->queue, queue);
}

void sx_model_count_error(struct sx_model *m, double predicted_ns, double took_ns)
{
    struct sx_model_stats *st = m->stats;
    if (predicted_ns <= 0 || took_ns <= 0)
        return;
    double weight = st->executions < 20 ? 1.0 / (double)(st->executions + 1) : 0.05;
    st->prediction_error +=
        weight * (fabs(predicted_ns - took_ns) / took_ns - st->prediction_error);
}

void sx_model_get_stats(struct sx_model *m, struct sx_model_stats *ret_stats)
{
    pthread_mutex_lock(&m->server->lock);
    *ret_stats = *m->stats;
    ret_stats->pending = m->queued_requests;
    ret_stats->running = m->running_requests;
    pthread_mutex_unlock(&m->server->lock);
}

size_t sx_model_costs(struct sx_model *m, struct sx_cost_cell *cells, size_t cap)
{
    size_t n = 0;
    pthread_mutex_lock(&m->server->lock);
    for (unsigned bi = 0; bi < m->cost.n_batches; bi++) {
        for (unsigned wi = 0; wi < m->cost.n_widths; wi++) {
            const struct sx_cost_entry *e = &m->cost.cell[wi][bi];
            if (!e->runs)
                continue;
            if (n < cap)
                cells[n] = (struct sx_cost_cell){.batch = m->cost.batches[bi],
                                                 .width = m->cost.widths[wi],
                                                 .ns = e->ns,
                                                 .spread_ns = e->spread_ns,
                                                 .runs = e->runs};
            n++;
        }
    }
    pthread_mutex_unlock(&m->server->lock);
    return n;
}
