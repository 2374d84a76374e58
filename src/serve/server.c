/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * server.c - the server's life, and finding models in it.
 */
#include "serve/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "serve/server_int.h"

#define DEFAULT_MAX_BATCH 4
#define DEFAULT_TIMEOUT   (30 * SX_S)
#define DEFAULT_MAX_QUEUE 1024

enum sx_rc sx_server_create(const struct sx_server_config *config, struct sx_server **ret_server,
                            struct sx_err *err)
{
    unsigned n_units = config->machine->n_units;
    unsigned n_cores = sx_machine_cores(config->machine, n_units); /* a unit may be several */
    if (!n_units || n_cores > SX_SCHED_UNITS)
        return sx_fail(err, SX_UNSUPPORTED, "%u cores, between 1 and %d are supported", n_cores,
                       SX_SCHED_UNITS);
    if (config->machine->n_devices > SX_PLACE_DEVICES) {
        sx_fail(err, SX_UNSUPPORTED, "%u devices, at most %d are supported",
                config->machine->n_devices, SX_PLACE_DEVICES);
        sx_hint(err, "give several cores to one device, as cpu:0-3 does");
        return SX_UNSUPPORTED;
    }
    struct sx_server *s = calloc(1, sizeof *s);
    int *cpus = calloc(n_units, sizeof *cpus);
    enum sx_rc rc = SX_NO_MEMORY;
    if (s) {
        sx_list_init(&s->flows);
        sx_list_init(&s->running);
        sx_list_init(&s->retired);
    }
    if (!s || !cpus)
        goto fail;
    s->config = *config;
    if (!s->config.default_max_batch)
        s->config.default_max_batch = DEFAULT_MAX_BATCH;
    if (!s->config.default_timeout_ns)
        s->config.default_timeout_ns = DEFAULT_TIMEOUT;
    if (!s->config.default_max_queue)
        s->config.default_max_queue = DEFAULT_MAX_QUEUE;
    s->n_units = n_units;
    s->fleet = config->machine->n_devices > 1;
    if (config->machine->n_devices == 1 && config->machine->devices[0].slowdown > 1)
        s->slowdown = config->machine->devices[0].slowdown;
    pthread_mutex_init(&s->load_lock, NULL);
    pthread_mutex_init(&s->reap_lock, NULL);
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->idle, &attr);
    pthread_condattr_destroy(&attr);
    s->unit_busy = calloc(n_units, sizeof *s->unit_busy);
    s->unit_free_at = calloc(n_units, sizeof *s->unit_free_at);
    s->unit_busy_ns = calloc(n_units, sizeof *s->unit_busy_ns);
    s->unit_since = calloc(n_units, sizeof *s->unit_since);
    s->quick = calloc(1, sizeof *s->quick);
    if (!s->unit_busy || !s->unit_free_at || !s->unit_busy_ns || !s->unit_since || !s->quick)
        goto fail;
    sx_hist_init(&s->quick->decide);
    sx_hist_init(&s->quick->start);
    if (config->trace_spans && !(s->spans = calloc(config->trace_spans, sizeof *s->spans)))
        goto fail;
    rc = sx_pool_create(&s->pool);
    if (rc)
        goto fail;
    /* Bodies and tensors may have half of the memory; the other one is for weights and runs. */
    sx_pool_set_limit(s->pool, (size_t)(config->machine->memory_bytes / 2));
    rc = sx_sharing_create(s, config->policy, err);
    if (rc)
        goto fail_explained;
    for (unsigned u = 0; u < n_units; u++)
        cpus[u] = config->machine->units[u].cpu;
    struct sx_exec_config exec = {.kind = config->exec,
                                  .n_units = n_units,
                                  .cpus = cpus,
                                  .alarm = sx_server_alarm,
                                  .alarm_user = s};
    rc = sx_exec_create(&exec, &s->exec, err);
    if (rc)
        goto fail_explained;
    s->clock = sx_exec_clock(s->exec);
    free(cpus);
    *ret_server = s;
    return SX_OK;
fail:
    sx_fail(err, rc, "no memory for the server");
fail_explained:
    free(cpus);
    sx_server_destroy(s);
    return rc;
}

enum sx_rc sx_server_drain(struct sx_server *s, uint64_t deadline_ns)
{
    struct outcome o;
    sx_outcome_init(&o);
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_mutex_unlock(&s->lock);
    sx_exec_advance(s->exec, SX_NEVER); /* in virtual time: let everything end */
    enum sx_rc rc = SX_OK;
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / SX_S),
                             .tv_nsec = (long)(deadline_ns % SX_S)};
    pthread_mutex_lock(&s->lock);
    while (s->in_flight && !rc) {
        if (deadline_ns == SX_NEVER)
            pthread_cond_wait(&s->idle, &s->lock);
        else if (pthread_cond_timedwait(&s->idle, &s->lock, &until) == ETIMEDOUT)
            rc = SX_DEADLINE;
    }
    if (rc)
        sx_server_fail_queued(s, SX_UNAVAILABLE, "Server is stopping", &o);
    pthread_mutex_unlock(&s->lock);
    sx_server_flush(s, &o);
    return rc;
}

void sx_server_destroy(struct sx_server *s)
{
    if (!s)
        return;
    if (s->exec) {
        sx_server_drain(s, SX_NEVER);
        sx_exec_set_alarm(s->exec, SX_NEVER);
    }
    /* Jobs own exec tasks, so models go first; no task is in flight any more.  An alarm that was
     * due may still come: it finds no model. */
    pthread_mutex_lock(&s->lock);
    unsigned n_models = s->n_models;
    s->n_models = 0;
    sx_sharing_stop(s);
    pthread_mutex_unlock(&s->lock);
    sx_sharing_settle(s);
    sx_server_reap(s);
    for (unsigned i = 0; i < n_models; i++)
        sx_model_destroy(s->models[i]);
    sx_exec_destroy(s->exec);
    sx_sharing_destroy(s);
    free(s->models);
    free(s->sched_models);
    free(s->failures);
    free(s->unit_busy);
    free(s->unit_free_at);
    free(s->unit_busy_ns);
    free(s->unit_since);
    free(s->quick);
    free(s->spans);
    if (s->pool)
        sx_pool_destroy(s->pool);
    pthread_mutex_destroy(&s->load_lock);
    pthread_mutex_destroy(&s->reap_lock);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->idle);
    free(s);
}

struct sx_exec *sx_server_exec(struct sx_server *s)
{
    return s->exec;
}

struct sx_pool *sx_server_pool(struct sx_server *s)
{
    return s->pool;
}

bool sx_server_ready(struct sx_server *s)
{
    pthread_mutex_lock(&s->lock);
    bool ready = !s->stopping && !s->n_failures;
    pthread_mutex_unlock(&s->lock);
    return ready;
}

bool sx_server_settled(struct sx_server *s)
{
    pthread_mutex_lock(&s->lock);
    bool settled = true;
    for (unsigned i = 0; i < s->n_models; i++)
        settled = settled && (s->models[i]->profile_done || s->config.no_profiling);
    pthread_mutex_unlock(&s->lock);
    return settled;
}

void sx_server_busy(struct sx_server *s, double *ret_busy_seconds, unsigned n_units)
{
    pthread_mutex_lock(&s->lock);
    uint64_t now = sx_clock_now(s->clock);
    for (unsigned u = 0; u < n_units && u < s->n_units; u++) {
        uint64_t ns = s->unit_busy_ns[u] + (s->unit_busy[u] ? now - s->unit_since[u] : 0);
        ret_busy_seconds[u] = (double)ns * 1e-9;
    }
    pthread_mutex_unlock(&s->lock);
}

void sx_server_sched_stats(struct sx_server *s, struct sx_sched_stats *ret_stats)
{
    pthread_mutex_lock(&s->lock);
    *ret_stats = *s->quick;
    pthread_mutex_unlock(&s->lock);
}

/* --- finding -------------------------------------------------------------------------------------
 */

enum sx_rc sx_server_find(struct sx_server *s, const char *name, size_t name_len, int64_t version,
                          struct sx_model **ret_model, struct sx_err *err)
{
    struct sx_model *found = NULL;
    bool name_known = false, failed = false;
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < s->n_models; i++) {
        struct sx_model *m = s->models[i];
        if (strlen(m->config.name) != name_len || memcmp(m->config.name, name, name_len) != 0)
            continue;
        name_known = true;
        if (version ? m->version == version : !found || m->version > found->version)
            found = m;
    }
    for (unsigned i = 0; i < s->n_failures; i++)
        failed = failed || (strlen(s->failures[i].name) == name_len &&
                            !memcmp(s->failures[i].name, name, name_len));
    if (found)
        atomic_fetch_add_explicit(&found->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&s->lock);
    if (found) {
        *ret_model = found;
        return SX_OK;
    }
    int len = name_len > 200 ? 200 : (int)name_len;
    if (name_known)
        return sx_fail(err, SX_NOT_FOUND,
                       "Request for unknown model: '%.*s' version %lld is not found", len, name,
                       (long long)version);
    if (failed)
        return sx_fail(err, SX_UNAVAILABLE,
                       "Request for unknown model: '%.*s' could not be loaded; see the repository "
                       "index for the reason",
                       len, name);
    return sx_fail(err, SX_NOT_FOUND, "Request for unknown model: '%.*s' is not found", len, name);
}

enum sx_rc sx_server_models(struct sx_server *s, struct sx_model ***ret_models, size_t *ret_count)
{
    pthread_mutex_lock(&s->lock);
    struct sx_model **list = calloc(s->n_models + 1, sizeof *list);
    size_t n = 0;
    for (unsigned i = 0; list && i < s->n_models; i++) {
        list[n++] = s->models[i];
        atomic_fetch_add_explicit(&s->models[i]->refs, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&s->lock);
    if (!list)
        return SX_NO_MEMORY;
    *ret_models = list;
    *ret_count = n;
    return SX_OK;
}

static int compare_entries(const void *a, const void *b)
{
    const struct sx_model_entry *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : x->version < y->version ? -1 : x->version > y->version;
}

enum sx_rc sx_server_index(struct sx_server *s, struct sx_model_entry **ret_entries,
                           size_t *ret_count)
{
    pthread_mutex_lock(&s->lock);
    size_t n = 0;
    struct sx_model_entry *list = calloc(s->n_models + s->n_failures + 1, sizeof *list);
    for (unsigned i = 0; list && i < s->n_models; i++) {
        struct sx_model_entry *e = &list[n++];
        snprintf(e->name, sizeof e->name, "%s", s->models[i]->config.name);
        e->version = s->models[i]->version;
        e->ready = !s->stopping;
        if (s->stopping)
            snprintf(e->reason, sizeof e->reason, "the server is stopping");
    }
    for (unsigned i = 0; list && i < s->n_failures; i++)
        list[n++] = s->failures[i];
    pthread_mutex_unlock(&s->lock);
    if (!list)
        return SX_NO_MEMORY;
    qsort(list, n, sizeof *list, compare_entries);
    *ret_entries = list;
    *ret_count = n;
    return SX_OK;
}

void sx_server_note_failure(struct sx_server *s, const char *name, int64_t version,
                            const char *reason)
{
    pthread_mutex_lock(&s->lock);
    struct sx_model_entry *list = realloc(s->failures, (s->n_failures + 1) * sizeof *list);
    if (list) {
        s->failures = list;
        struct sx_model_entry *e = &list[s->n_failures++];
        memset(e, 0, sizeof *e);
        snprintf(e->name, sizeof e->name, "%s", name);
        snprintf(e->reason, sizeof e->reason, "%s", reason);
        e->version = version;
    }
    pthread_mutex_unlock(&s->lock);
}
