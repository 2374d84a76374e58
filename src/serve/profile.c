/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * profile.c - measure models while nobody asks for anything.
 *
 * A server is ready as soon as its sessions exist; it then fills the cost grid in idle time,
 * cheapest cells first.  A request that arrives meanwhile waits for at most one such run, so
 * cells that take long are left to be learnt in service.  While other models are asked, a run must
 * be over in half of their objectives: a model that joins a busy server does not break promises.
 */
#include <math.h>
#include <string.h>

#include "serve/server_int.h"

#define RUNS     3
#define SHORT_NS 100e6 /* up to here RUNS times */
#define LONG_NS  500e6 /* up to here once; beyond: not at all */
#define ASKED    0.1   /* requests per second that make a model one that is asked */

/* Worth another run?  Predicted times come from cells measured already, so the cheap end is
 * measured first and says what the rest would cost. */
static bool wanted(const struct sx_cost *c, unsigned bi, unsigned wi, double limit)
{
    double ns = sx_cost_ns(c, c->batches[bi], wi);
    uint64_t runs = c->cell[wi][bi].runs;
    return ns <= limit && runs < (ns <= SHORT_NS ? RUNS : ns <= LONG_NS ? 1 : 0);
}

static bool next_cell(const struct sx_model *m, double limit, unsigned *ret_batch,
                      unsigned *ret_width)
{
    const struct sx_cost *c = &m->cost;
    unsigned best_bi = 0, best_wi = 0;
    double best = INFINITY;
    for (unsigned bi = 0; bi < c->n_batches; bi++) {
        if (c->batches[bi] > m->max_batch)
            continue;
        for (unsigned wi = 0; wi < c->n_widths; wi++) {
            if (!wanted(c, bi, wi, limit))
                continue;
            double ns = sx_cost_ns(c, c->batches[bi], wi) * (double)(1 + c->cell[wi][bi].runs);
            if (ns < best) {
                best = ns;
                best_bi = bi;
                best_wi = wi;
            }
        }
    }
    if (!isfinite(best))
        return false;
    *ret_batch = c->batches[best_bi];
    *ret_width = c->widths[best_wi];
    return true;
}

/* Can inputs be made up?  Every dimension but the batch must be known. */
static bool can_make_inputs(const struct sx_model *m)
{
    for (size_t i = 0; i < m->n_in; i++) {
        const struct sx_port *p = &m->in[i];
        if (p->optional)
            continue;
        for (int d = m->batchable ? 1 : 0; d < p->rank; d++) {
            if (p->dims[d] < 0)
                return false;
        }
        if (p->rank < 0 || p->dtype == SX_BYTES)
            return false;
    }
    return true;
}

/* How long a run of this model may take for the others' sake. */
static double limit_of(const struct sx_server *s, const struct sx_model *m)
{
    double limit = LONG_NS;
    uint64_t now = sx_clock_now(s->clock);
    for (unsigned i = 0; i < s->n_models; i++) {
        const struct sx_model *o = s->models[i];
        if (o == m || sx_arrivals_rate(&o->sched.arrivals, now) < ASKED)
            continue;
        double half = (double)o->config.default_timeout_ns / 2;
        limit = half < limit ? half : limit;
    }
    return limit;
}

struct sx_job *sx_profile_next(struct sx_server *s, unsigned *ret_first_unit)
{
    if (s->config.no_profiling)
        return NULL;
    for (unsigned u = 0; u < s->n_units; u++) {
        if (s->unit_busy[u])
            return NULL; /* one at a time and alone, or it measures the neighbours */
    }
    for (unsigned i = 0; i < s->n_models; i++) {
        struct sx_model *m = s->models[i];
        if (m->profile_done)
            continue;
        unsigned batch, width;
        if (!can_make_inputs(m) || !next_cell(m, LONG_NS, &batch, &width)) {
            m->profile_done = true;
            continue;
        }
        if (!next_cell(m, limit_of(s, m), &batch, &width))
            continue; /* when there is more time */
        struct sx_job *job;
        if (!sx_list_empty(&m->free_jobs)) {
            job = SX_CONTAINER_OF(m->free_jobs.next, struct sx_job, link);
            sx_list_remove(&job->link);
        } else if (sx_job_create(m, &job)) {
            return NULL;
        }
        job->samples = batch;
        job->width = width;
        job->predicted_ns =
            (uint64_t)sx_cost_ns(&m->cost, batch, sx_cost_width_index(&m->cost, width));
        *ret_first_unit = 0;
        return job;
    }
    return NULL;
}

enum sx_rc sx_profile_inputs(struct sx_job *job)
{
    struct sx_model *m = job->model;
    for (size_t i = 0; i < m->n_in; i++) {
        const struct sx_port *p = &m->in[i];
        if (p->optional)
            continue;
        int64_t dims[SX_MAX_RANK];
        memcpy(dims, p->dims, sizeof dims);
        if (m->batchable)
            dims[0] = job->samples;
        enum sx_rc rc = sx_tensor_alloc(&job->inputs[i], m->server->pool, p->dtype, dims, p->rank);
        if (rc)
            return rc;
        /* Ones: a model that divides integers by its input would kill the process on zeros, and an
         * index out of range is only an error.  For floats small ordinary numbers, as arithmetic on
         * zeros may be short-cut. */
        struct sx_tensor *t = &job->inputs[i];
        size_t each = sx_dtype_size(p->dtype);
        memset(t->data, 0, t->nbytes);
        for (size_t at = 0; each && at < t->nbytes; at += each) /* the low byte comes first */
            t->data[at] = 1;
        if (p->dtype == SX_FP32) {
            for (size_t e = 0; e < t->nbytes / sizeof(float); e++) {
                float value = (float)(e % 251) / 251.0f - 0.5f;
                memcpy(t->data + e * sizeof value, &value, sizeof value);
            }
        }
    }
    return SX_OK;
}
