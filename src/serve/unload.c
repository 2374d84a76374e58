/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * unload.c - a model on its way out.
 *
 *     served --unload--> removed: nobody finds it, its queue was answered, its runs go on
 *            --last reference--> retired: in server->retired, nobody can touch it
 *            --alarm's thread--> destroyed
 *
 * References are held by callers, requests, runs, and one by the server while the model is served.
 * Closing sessions takes milliseconds, and the last reference may go on a unit's thread or on one
 * that reads sockets: so the alarm's thread does it.
 */
#include <string.h>

#include "base/log.h"
#include "serve/server_int.h"

static void retire(struct sx_model *m)
{
    struct sx_server *s = m->server;
    sx_list_insert(&s->retired, &m->retired);
    for (unsigned i = 0; i < s->config.trace_spans; i++) {
        if (s->spans[i].model == m)
            s->spans[i].model = NULL;
    }
}

void sx_model_drop(struct sx_model *m)
{
    if (atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) == 1)
        retire(m);
}

void sx_model_unref(struct sx_model **model)
{
    struct sx_model *m = *model;
    *model = NULL;
    if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
        return;
    struct sx_server *s = m->server;
    pthread_mutex_lock(&s->lock);
    retire(m);
    sx_exec_set_alarm(s->exec, sx_clock_now(s->clock));
    pthread_mutex_unlock(&s->lock);
}

void sx_server_reap(struct sx_server *s)
{
    pthread_mutex_lock(&s->reap_lock);
    for (;;) {
        struct sx_model *m = NULL;
        pthread_mutex_lock(&s->lock);
        if (!sx_list_empty(&s->retired)) {
            m = SX_CONTAINER_OF(s->retired.next, struct sx_model, retired);
            sx_list_remove(&m->retired);
        }
        pthread_mutex_unlock(&s->lock);
        if (!m)
            break;
        sx_info("model '%s' version %lld: unloaded", m->config.name, (long long)m->version);
        sx_model_destroy(m);
    }
    pthread_mutex_unlock(&s->reap_lock);
}

static unsigned find(const struct sx_server *s, const char *name, int64_t version)
{
    unsigned found = s->n_models;
    for (unsigned i = 0; i < s->n_models; i++) {
        const struct sx_model *m = s->models[i];
        if (strcmp(m->config.name, name) != 0)
            continue;
        if (version ? m->version == version
                    : found == s->n_models || m->version > s->models[found]->version)
            found = i;
    }
    return found;
}

enum sx_rc sx_server_unload(struct sx_server *s, const char *name, int64_t version,
                            struct sx_err *err)
{
    struct outcome o;
    sx_outcome_init(&o);
    pthread_mutex_lock(&s->load_lock);
    pthread_mutex_lock(&s->lock);
    unsigned index = find(s, name, version);
    bool there = index < s->n_models;
    if (there) {
        struct sx_model *m = s->models[index];
        unsigned behind = --s->n_models - index;
        memmove(&s->models[index], &s->models[index + 1], behind * sizeof *s->models);
        memmove(&s->sched_models[index], &s->sched_models[index + 1],
                behind * sizeof *s->sched_models);
        m->removed = true;
        sx_queue_fail(s, m, SX_UNAVAILABLE, "the model was unloaded while the request waited", &o);
        if (s->sharing)
            sx_sharing_leave(s, m);
        sx_model_drop(m);
        sx_server_pump(s, sx_clock_now(s->clock), &o);
    }
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_unlock(&s->load_lock);
    sx_server_flush(s, &o);
    if (there)
        sx_sharing_replan(s);
    if (!there && version)
        return sx_fail(err, SX_NOT_FOUND, "there is no model '%.200s' version %lld to unload", name,
                       (long long)version);
    if (!there)
        return sx_fail(err, SX_NOT_FOUND, "there is no model '%.200s' to unload", name);
    return SX_OK;
}
