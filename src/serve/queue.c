/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * queue.c - the requests that wait for a model: order, expiry, leaving.
 *
 * All with the server's lock held.
 */
#include "serve/server_int.h"

/* Without a run for this long, a request is let through although it is predicted to be late: the
 * prediction may stem from a stall, and only a run can mend it. */
#define PROBE_NS (1 * SX_S)

struct sx_request *sx_queue_head(const struct sx_model *m)
{
    return sx_list_empty(&m->queue) ? NULL
                                    : SX_CONTAINER_OF(m->queue.next, struct sx_request, link);
}

static uint32_t rank_of(const struct sx_request *r)
{
    return r->priority ? r->priority : UINT32_MAX;
}

void sx_queue_insert(struct sx_model *m, struct sx_request *r)
{
    struct sx_list *at = &m->queue;
    while (at->prev != &m->queue) {
        struct sx_request *before = SX_CONTAINER_OF(at->prev, struct sx_request, link);
        if (rank_of(before) < rank_of(r) ||
            (rank_of(before) == rank_of(r) && before->deadline_ns <= r->deadline_ns))
            break;
        at = at->prev;
    }
    sx_list_insert(at, &r->link);
    r->state = SX_REQUEST_QUEUED;
    m->queued_requests++;
    m->queued_ranked += r->priority != 0;
    m->queued_samples += r->samples;
}

void sx_queue_remove(struct sx_model *m, struct sx_request *r)
{
    sx_list_remove(&r->link);
    m->queued_requests--;
    m->queued_ranked -= r->priority != 0;
    m->queued_samples -= r->samples;
}

void sx_request_finish(struct sx_server *s, struct sx_request *r, struct outcome *o)
{
    r->state = SX_REQUEST_DONE;
    sx_list_insert(&o->finished, &r->link);
    if (--s->in_flight == 0)
        pthread_cond_broadcast(&s->idle);
}

void sx_queue_expire(struct sx_server *s, struct sx_request *r, uint64_t now, struct outcome *o)
{
    struct sx_model *m = r->model;
    sx_queue_remove(m, r);
    m->stats->expired++;
    m->stats->fail_ns += now - r->arrival_ns;
    r->rc = sx_fail(&r->err, SX_DEADLINE, "Request timeout expired");
    sx_request_finish(s, r, o);
}

bool sx_model_may_probe(const struct sx_model *m, uint64_t now)
{
    return !m->running_jobs && now > m->last_run_ns && now - m->last_run_ns > PROBE_NS;
}

void sx_queue_fail(struct sx_server *s, struct sx_model *m, enum sx_rc rc, const char *message,
                   struct outcome *o)
{
    struct sx_request *r;
    while ((r = sx_queue_head(m)) != NULL) {
        sx_queue_remove(m, r);
        m->stats->failed++;
        r->rc = sx_fail(&r->err, rc, "%s", message);
        sx_request_finish(s, r, o);
    }
}

void sx_model_refresh(struct sx_model *m)
{
    struct sx_sched_model *v = &m->sched;
    struct sx_request *head = sx_queue_head(m);
    v->queued = v->waiting = head ? m->queued_samples : 0;
    if (!head)
        return;
    v->head_samples = head->samples;
    v->head_arrival = head->arrival_ns;
    v->head_deadline = head->end_by_ns;
    if (!m->varies && !head->alone)
        return;
    v->queued = 0; /* only neighbours of one shape share a batch */
    SX_LIST_FOREACH (it, &m->queue) {
        struct sx_request *r = SX_CONTAINER_OF(it, struct sx_request, link);
        if (r != head && (!sx_request_same_shape(r, head) || v->queued >= m->max_batch))
            break;
        v->queued += r->samples;
    }
}

double sx_model_least_ns(const struct sx_model *m, unsigned samples)
{
    if (m->n_variants)
        return sx_variants_least_ns(m, samples);
    double least = sx_cost_ns(&m->cost, samples, 0);
    for (unsigned wi = 1; wi < m->cost.n_widths; wi++) {
        double ns = sx_cost_ns(&m->cost, samples, wi);
        least = ns < least ? ns : least;
    }
    return least;
}

/* Would it be late even if it started now in the best way? */
static bool is_late(const struct sx_model *m, const struct sx_request *r, uint64_t now)
{
    if (r->deadline_ns <= now)
        return true;
    uint64_t least = (uint64_t)sx_model_least_ns(m, r->samples);
    return sx_time_add(now, least) > r->end_by_ns && !sx_model_may_probe(m, now);
}

/* Within one priority the queue is in the order of deadlines, so its head tells; with several,
 * all are looked at. */
uint64_t sx_queue_expire_late(struct sx_server *s, struct sx_model *m, uint64_t now,
                              struct outcome *o)
{
    uint64_t earliest = SX_NEVER;
    uint32_t rank = 0;
    SX_LIST_FOREACH_SAFE (it, &m->queue) {
        struct sx_request *r = SX_CONTAINER_OF(it, struct sx_request, link);
        if (is_late(m, r, now)) {
            sx_queue_expire(s, r, now, o);
            continue;
        }
        if (rank_of(r) == rank && m->queued_ranked == 0)
            break;
        rank = rank_of(r);
        earliest = r->deadline_ns < earliest ? r->deadline_ns : earliest;
    }
    return earliest;
}
