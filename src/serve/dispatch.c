/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch.c - requests into queues, queues into jobs, jobs into answers.
 *
 * Always true while the server's lock is free
 *   D1  a request is in a model's queue (QUEUED), in a job's list (RUNNING), or its caller's.
 *   D2  unit_busy[u] is set exactly while one job has u in [first_unit, first_unit + width).
 *   D3  queued_samples is the sum over the queue; it is ordered by priority, then deadline.
 *   D4  if something waits and could start, it has been started; if only time can change
 *       that, the alarm is set for then.
 *   D5  in_flight counts requests in D1's first two states, and profiling jobs.
 *   D6  server->running holds the jobs of D2; each has a reference on its model.
 *
 * With several devices, fleet.c takes the place of the pump and of job_done; with several models on
 * one device, share_run.c that of the pump's decisions.
 *
 * Threads: sx_server_infer in the caller's, job_done in a unit's, sx_server_alarm in the alarm's.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "serve/server_int.h"

void sx_outcome_init(struct outcome *o)
{
    sx_list_init(&o->start);
    sx_list_init(&o->finished);
    o->flows = NULL;
    o->flows_end = &o->flows;
}

struct sx_sched sx_server_state(const struct sx_server *s)
{
    return (struct sx_sched){.n_units = s->n_units,
                             .free_at = s->unit_free_at,
                             .busy = s->unit_busy,
                             .models = s->sched_models,
                             .n_models = s->n_models};
}

unsigned sx_server_index_of(const struct sx_server *s, const struct sx_model *m)
{
    unsigned index = 0;
    while (s->models[index] != m)
        index++;
    return index;
}

static struct sx_job *take_job(struct sx_model *m)
{
    struct sx_job *job = NULL;
    if (!sx_list_empty(&m->free_jobs)) {
        job = SX_CONTAINER_OF(m->free_jobs.next, struct sx_job, link);
        sx_list_remove(&job->link);
    } else if (sx_job_create(m, &job)) {
        return NULL; /* no memory: the queue waits for a job that ends */
    }
    return job;
}

static void job_done(struct sx_task *task);

static void start_job(struct sx_server *s, struct sx_job *job, unsigned first_unit, unsigned width,
                      uint64_t predicted_ns, uint64_t now, struct outcome *o)
{
    atomic_fetch_add_explicit(&job->model->refs, 1, memory_order_relaxed);
    sx_list_insert(&s->running, &job->running);
    job->share_run = SX_NO_RUN;
    job->first_unit = first_unit;
    job->width = width;
    job->predicted_ns = predicted_ns;
    job->session = sx_model_session(job->model, width, first_unit);
    job->start_ns = now;
    job->task->run = sx_job_run;
    job->task->done = job_done;
    job->task->first_unit = first_unit;
    job->task->n_units = width;
    job->task->slowdown = s->slowdown;
    job->model->running_jobs++;
    for (unsigned u = first_unit; u < first_unit + width; u++) {
        s->unit_busy[u] = true;
        s->unit_free_at[u] = sx_time_add(now, predicted_ns);
        s->unit_since[u] = now;
    }
    sx_list_insert(&o->start, &job->link);
}

bool sx_server_start_batch(struct sx_server *s, struct sx_model *m, const struct sx_start *a,
                           uint64_t now, struct sx_job **ret_job, struct outcome *o)
{
    *ret_job = NULL;
    struct sx_job *job = take_job(m);
    if (!job)
        return false;
    unsigned wi = sx_cost_width_index(&m->cost, a->n_units);
    /* In doubt, give the place of one that is late to another, if there is another. */
    const struct sx_request *head = sx_queue_head(m);
    bool others = head && m->queued_samples > head->samples;
    double spread = others ? sx_cost_spread_ns(&m->cost, a->batch, wi) : 0;
    uint64_t ends = sx_time_add(now, a->predicted_ns + (uint64_t)spread);
    const struct sx_request *first = NULL;
    struct sx_request *r;
    job->samples = 0;
    while ((r = sx_queue_head(m)) != NULL && (!first || sx_request_same_shape(r, first)) &&
           job->samples + r->samples <= a->batch) {
        if (ends > r->end_by_ns && !sx_model_may_probe(m, now)) {
            sx_queue_expire(s, r, now, o);
            continue;
        }
        sx_queue_remove(m, r);
        r->state = SX_REQUEST_RUNNING;
        r->start_ns = now;
        sx_list_insert(&job->requests, &r->link);
        first = r;
        job->samples += r->samples;
        m->running_requests++;
    }
    if (!job->samples) {
        sx_list_insert(&m->free_jobs, &job->link);
        return true; /* the queue became shorter: ask again */
    }
    uint64_t predicted = job->samples == a->batch
                             ? a->predicted_ns
                             : (uint64_t)sx_cost_ns(&m->cost, job->samples, wi);
    start_job(s, job, a->first_unit, a->n_units, predicted, now, o);
    *ret_job = job;
    return true;
}

/* A batch that would end too late for its head, with all that predictions leave room for: rather a
 * smaller one than none.  Where as many again wait, heads that are late give way instead. */
static void shrink_batch(const struct sx_model *m, struct sx_start *start, uint64_t now)
{
    const struct sx_request *head = sx_queue_head(m);
    unsigned wi = sx_cost_width_index(&m->cost, start->n_units), batch = start->batch;
    double left = head->end_by_ns > now ? (double)(head->end_by_ns - now) : 0;
    if (m->sched.queued >= 2 * batch)
        return;
    while (batch > head->samples &&
           sx_cost_ns(&m->cost, batch, wi) + sx_cost_spread_ns(&m->cost, batch, wi) > left)
        batch--;
    if (batch == start->batch)
        return;
    start->batch = batch;
    start->predicted_ns = (uint64_t)sx_cost_ns(&m->cost, batch, wi);
}

/* Width follows load: the answer for one model, and for several under the policy "width". */
static uint64_t pump_by_width(struct sx_server *s, uint64_t now, struct outcome *o)
{
    struct sx_sched state = sx_server_state(s);
    struct sx_sched_action a;
    for (;;) {
        for (unsigned i = 0; i < s->n_models; i++) {
            s->models[i]->earliest = sx_queue_expire_late(s, s->models[i], now, o);
            sx_model_refresh(s->models[i]);
        }
        uint64_t begin = sx_now();
        sx_sched_decide(&state, now, &a);
        sx_hist_add(&s->quick->decide, sx_now() - begin);
        if (a.kind == SX_SCHED_WAIT)
            return a.wake_at;
        struct sx_start start = {.batch = a.batch,
                                 .first_unit = a.first_unit,
                                 .n_units = a.n_units,
                                 .predicted_ns = a.predicted_ns};
        struct sx_job *job;
        shrink_batch(s->models[a.model], &start, now);
        if (!sx_server_start_batch(s, s->models[a.model], &start, now, &job, o))
            return sx_time_add(now, NO_MEMORY_RETRY_NS);
    }
}

void sx_server_set_alarm(struct sx_server *s, uint64_t wake, uint64_t now)
{
    sx_exec_set_alarm(s->exec, sx_list_empty(&s->retired) ? wake : now);
}

void sx_server_pump(struct sx_server *s, uint64_t now, struct outcome *o)
{
    if (s->fleet) {
        sx_fleet_pump(s, now, o);
        return;
    }
    bool sharing = sx_sharing_active(s);
    uint64_t wake = sharing ? sx_sharing_pump(s, now, o) : pump_by_width(s, now, o);
    bool waiting = false;
    for (unsigned i = 0; i < s->n_models; i++) {
        if (!s->models[i]->queued_requests)
            continue;
        waiting = true;
        wake = s->models[i]->earliest < wake ? s->models[i]->earliest : wake;
    }
    if (!waiting && !s->stopping) {
        unsigned first;
        struct sx_job *job = sx_profile_next(s, &first);
        if (job) {
            s->in_flight++;
            start_job(s, job, first, job->width, job->predicted_ns, now, o);
            sx_sharing_note(s, job, now);
        }
    }
    sx_server_set_alarm(s, wake, now);
}

void sx_server_flush(struct sx_server *s, struct outcome *o)
{
    while (!sx_list_empty(&o->start)) {
        struct sx_job *job = SX_CONTAINER_OF(o->start.next, struct sx_job, link);
        sx_list_remove(&job->link);
        if (!sx_session_claim(job->session)) {
            for (unsigned u = 1; u < job->width; u++)
                sx_exec_expect(s->exec, job->first_unit + u);
        }
        sx_exec_submit(s->exec, job->task);
    }
    for (struct sx_flow *f = o->flows, *next; f; f = next) {
        next = f->next_start;
        sx_flow_submit(f);
    }
    o->flows = NULL;
    while (!sx_list_empty(&o->finished)) {
        struct sx_request *r = SX_CONTAINER_OF(o->finished.next, struct sx_request, link);
        sx_list_remove(&r->link);
        r->done(r);
    }
}

static void count_run(struct sx_model *m, const struct sx_job *job)
{
    struct sx_model_stats *st = m->stats;
    st->executions++;
    struct sx_batch_stats *b = NULL;
    for (unsigned i = 0; i < st->n_batches && !b; i++) {
        if (st->batches[i].batch == job->samples)
            b = &st->batches[i];
    }
    if (!b && st->n_batches < sizeof st->batches / sizeof *st->batches) {
        b = &st->batches[st->n_batches++];
        b->batch = job->samples;
    }
    if (b) {
        b->count++;
        b->infer_ns += job->infer_ns - job->input_ns;
    }
    st->width_runs[sx_cost_width_index(&m->cost, job->width)]++;
}

static void count_request(struct sx_model *m, const struct sx_job *job, const struct sx_request *r)
{
    sx_model_count_answer(m, r);
    if (r->rc)
        return;
    m->stats->input_ns += job->input_ns - job->start_ns;
    m->stats->infer_ns += job->infer_ns - job->input_ns;
    m->stats->output_ns += job->end_ns - job->infer_ns;
}

/* Plan with what is known now; a plan of the share that was being made may have undone it. */
static void see_apart(struct sx_model *m)
{
    if (!atomic_load_explicit(&m->apart, memory_order_relaxed))
        return;
    m->sched.max_batch = m->sched.target_batch = m->share.max_batch = 1;
    m->sched.max_delay_ns = 0;
}

/* The first run of a width may read weights from the disk, and makes the session's memory: when
 * nobody waits for it, the next one tells more. */
static bool ran_before(struct sx_model *m, unsigned width)
{
    unsigned bit = 1u << sx_cost_width_index(&m->cost, width);
    bool before = m->ran & bit;
    m->ran |= bit;
    return before;
}

/* The exec's `done`: learn, start what can start now, then answer. */
static void job_done(struct sx_task *task)
{
    struct sx_job *job = task->user;
    struct sx_model *m = job->model;
    struct sx_server *s = m->server;
    struct outcome o;
    sx_outcome_init(&o);
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME_COARSE, &wall);
    bool profile = sx_list_empty(&job->requests);
    bool answered = sx_job_scatter(job);
    pthread_mutex_lock(&s->lock);
    uint64_t now = sx_clock_now(s->clock);
    job->end_ns = now;
    for (unsigned u = job->first_unit; u < job->first_unit + job->width; u++) {
        s->unit_busy[u] = false;
        s->unit_busy_ns[u] += now - s->unit_since[u];
    }
    m->running_jobs--;
    see_apart(m);
    if (m->last_run_ns && job->start_ns > m->last_run_ns)
        sx_cost_rest(&m->cost, job->start_ns - m->last_run_ns);
    m->last_run_ns = now;
    sx_list_remove(&job->running);
    sx_hist_add(&s->quick->start, task->begin_ns - job->start_ns);
    sx_sharing_ended(s, job, now);
    if (!job->rc) {
        if (!profile)
            sx_model_count_error(m, (double)job->predicted_ns, (double)(now - job->start_ns));
        if (ran_before(m, job->width) || !profile)
            sx_cost_record(&m->cost, job->samples, job->width, now - job->start_ns);
    } else if (profile) {
        m->profile_done = true; /* made-up inputs do not suit it: learn from requests alone */
    }
    if (profile) {
        s->in_flight--;
    } else {
        count_run(m, job);
        m->stats->last_inference_ms =
            (uint64_t)wall.tv_sec * 1000 + (uint64_t)wall.tv_nsec / 1000000;
    }
    SX_LIST_FOREACH_SAFE (it, &job->requests) {
        struct sx_request *r = SX_CONTAINER_OF(it, struct sx_request, link);
        m->running_requests--;
        sx_list_remove(&r->link);
        if (!answered && !r->cancelled) {
            r->alone = true;
            sx_queue_insert(m, r);
            continue;
        }
        r->end_ns = now;
        r->batch = job->samples;
        r->width = job->width;
        if (r->cancelled)
            r->rc = sx_fail(&r->err, SX_CANCELLED, "the client went away");
        count_request(m, job, r);
        sx_request_finish(s, r, &o);
    }
    if (m->removed) /* its queue is not looked at any more */
        sx_queue_fail(s, m, SX_UNAVAILABLE, "the model was unloaded while the request waited", &o);
    sx_job_reset(job);
    sx_list_insert(m->free_jobs.next, &job->link);
    sx_model_drop(m); /* neither it nor the job may be there any more */
    sx_server_pump(s, now, &o);
    if (!s->in_flight)
        pthread_cond_broadcast(&s->idle);
    pthread_mutex_unlock(&s->lock);
    sx_server_flush(s, &o);
}

static enum sx_rc too_late(const struct sx_request *r, uint64_t end, uint64_t now,
                           struct sx_err *err)
{
    return sx_fail(err, SX_UNAVAILABLE,
                   "Request timeout expired: predicted to take %.1f ms, allowed %.1f ms less %.1f "
                   "ms for its way back",
                   (double)(end - now) * 1e-6, (double)(r->deadline_ns - now) * 1e-6,
                   (double)(r->deadline_ns - r->end_by_ns) * 1e-6);
}

static enum sx_rc admit_to_fleet(struct sx_server *s, struct sx_model *m,
                                 const struct sx_request *r, uint64_t now, struct sx_err *err)
{
    uint64_t end = sx_fleet_predict(s, m, r->samples, now);
    if (end <= r->end_by_ns || (!m->queued_requests && sx_model_may_probe(m, now)))
        return SX_OK;
    return too_late(r, end, now, err);
}

/* Is there room, and would it end in time?  [lock] held. */
static enum sx_rc admit(struct sx_server *s, struct sx_model *m, struct sx_request *r, uint64_t now,
                        struct sx_err *err)
{
    if (s->stopping)
        return sx_fail(err, SX_UNAVAILABLE,
                       "Server is stopping, scheduler has stopped accepting new "
                       "inference requests");
    uint64_t limit = m->config.max_queue_size;
    if (m->queued_requests >= limit)
        return sx_fail(err, SX_UNAVAILABLE, "Exceeds maximum queue size");
    if (m->removed)
        return sx_fail(err, SX_UNAVAILABLE, "Request for model '%s' version %lld: it was unloaded",
                       m->config.name, (long long)m->version);
    if (s->fleet)
        return admit_to_fleet(s, m, r, now, err);
    uint64_t shared_end;
    if (sx_sharing_active(s))
        return sx_sharing_admits(s, m, r, now, &shared_end) ? SX_OK
                                                            : too_late(r, shared_end, now, err);
    struct sx_sched state = sx_server_state(s);
    uint64_t wait;
    uint64_t end =
        sx_sched_predict_finish(&state, sx_server_index_of(s, m), r->samples, now, &wait);
    double spread = sx_cost_spread_ns(&m->cost, r->samples, 0);
    if (sx_time_add(end, (uint64_t)spread) > r->end_by_ns &&
        (wait || !sx_model_may_probe(m, now))) {
        /* Alone it may be given more units than the prediction takes. */
        double least = sx_model_least_ns(m, r->samples);
        if (wait || sx_time_add(now, (uint64_t)least) > r->end_by_ns)
            return too_late(r, end, now, err);
    }
    return SX_OK;
}

/* It arrives now: its deadline, and may it come in?  [lock] held. */
static enum sx_rc arrive(struct sx_server *s, struct sx_model *m, struct sx_request *r,
                         struct sx_err *err)
{
    uint64_t timeout = r->timeout_ns ? r->timeout_ns : m->config.default_timeout_ns;
    uint64_t now = sx_clock_now(s->clock);
    uint64_t on_the_way = r->received_ns && r->received_ns < now ? now - r->received_ns : 0;
    if (on_the_way > timeout / 5)
        on_the_way = timeout / 5;
    r->arrival_ns = now;
    r->deadline_ns = sx_time_add(now, timeout - on_the_way);
    r->end_by_ns = r->deadline_ns - sx_reserve_ns(timeout, r->way_ns);
    s->way_ns = r->way_ns;
    return admit(s, m, r, now, err);
}

static void count_arrival(struct sx_model *m, const struct sx_request *r)
{
    bool alone = !m->queued_requests && !m->running_requests;
    sx_arrivals_add(&m->sched.arrivals, &m->cost, r->arrival_ns, r->samples, alone);
}

enum sx_rc sx_server_precheck(struct sx_server *s, struct sx_model *m, uint64_t received_ns,
                              uint64_t way_ns, struct sx_err *err)
{
    struct sx_request one = {
        .model = m, .samples = 1, .received_ns = received_ns, .way_ns = way_ns};
    pthread_mutex_lock(&s->lock);
    enum sx_rc rc = arrive(s, m, &one, err);
    if (rc) {
        count_arrival(m, &one);
        m->stats->rejected++;
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}

enum sx_rc sx_server_infer(struct sx_server *s, struct sx_request *r, struct sx_err *err)
{
    struct sx_model *m = r->model;
    enum sx_rc rc = sx_request_check(r, err);
    if (rc) {
        pthread_mutex_lock(&s->lock);
        m->stats->invalid++;
        pthread_mutex_unlock(&s->lock);
        return rc;
    }
    sx_exec_expect(s->exec, 0); /* a lone request starts there, once all this is done */
    struct outcome o;
    sx_outcome_init(&o);
    pthread_mutex_lock(&s->lock);
    rc = arrive(s, m, r, err);
    count_arrival(m, r);
    if (rc) {
        m->stats->rejected++;
    } else {
        s->in_flight++;
        sx_queue_insert(m, r);
        sx_sharing_arrived(s, m, r->arrival_ns);
        sx_server_pump(s, r->arrival_ns, &o);
    }
    pthread_mutex_unlock(&s->lock);
    sx_server_flush(s, &o);
    return rc;
}

void sx_server_cancel(struct sx_server *s, struct sx_request *r)
{
    struct outcome o;
    sx_outcome_init(&o);
    pthread_mutex_lock(&s->lock);
    if (r->state == SX_REQUEST_QUEUED) {
        sx_queue_remove(r->model, r);
        r->model->stats->cancelled++;
        r->rc = sx_fail(&r->err, SX_CANCELLED, "the client went away");
        sx_request_finish(s, r, &o);
        sx_server_pump(s, sx_clock_now(s->clock), &o); /* it may have kept others from starting */
    } else {
        r->cancelled = true;
    }
    pthread_mutex_unlock(&s->lock);
    sx_server_flush(s, &o);
}

void sx_server_alarm(void *server)
{
    struct sx_server *s = server;
    struct outcome o;
    sx_outcome_init(&o);
    pthread_mutex_lock(&s->lock);
    uint64_t now = sx_clock_now(s->clock);
    bool replan = sx_sharing_due(s, now);
    sx_server_pump(s, now, &o);
    pthread_mutex_unlock(&s->lock);
    sx_server_flush(s, &o);
    sx_server_reap(s);
    if (replan)
        sx_sharing_replan(s);
}

void sx_server_fail_queued(struct sx_server *s, enum sx_rc rc, const char *message,
                           struct outcome *o)
{
    for (unsigned i = 0; i < s->n_models; i++)
        sx_queue_fail(s, s->models[i], rc, message, o);
}

unsigned sx_server_retry_after(struct sx_server *s)
{
    pthread_mutex_lock(&s->lock);
    double ns = 0;
    for (unsigned i = 0; i < s->n_models; i++) {
        const struct sx_model *m = s->models[i];
        ns += m->queued_samples * (s->fleet ? sx_model_least_ns(m, 1) : m->cost.unit_ns);
    }
    pthread_mutex_unlock(&s->lock);
    unsigned at_once = s->fleet ? s->config.machine->n_devices : s->n_units;
    double seconds = ns * 1e-9 / at_once;
    return seconds < 1 ? 1 : seconds > 60 ? 60 : (unsigned)(seconds + 0.999);
}
