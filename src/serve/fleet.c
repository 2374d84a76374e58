/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * fleet.c - dispatch over several devices: requests into flows, flows into answers.
 *
 * sched/place decides from a picture of what is in flight and what waits; here that picture is
 * drawn and the answer acted upon.  A flow carries one request: on devices without wide arithmetic
 * to fill, a batch would only make its members wait for each other.
 *
 * Always true while the server's lock is free, besides D1 and D3 of dispatch.c
 *   F1  server->flows holds exactly the flows with steps that are not done, in the order of their
 *       start.
 *   F2  if something waits and place would start it, it has been started.
 *
 * Threads: as dispatch.c; step_done on the device's first unit.
 */
#include <math.h>
#include <string.h>
#include <time.h>

#include "serve/server_int.h"

#define MAX_MODELS 32 /* seen by one decision */

/* What place sees, and what its numbers mean here. */
struct picture {
    struct sx_place place;
    struct sx_place_variant variants[MAX_MODELS][SX_PLACE_VARIANTS];
    const struct sx_place_variant *by_model[MAX_MODELS];
    unsigned n_variants[MAX_MODELS];
    struct sx_place_job jobs[SX_PLACE_JOBS];
    struct sx_place_request waiting[SX_PLACE_LOOK];
    struct sx_request *requests[SX_PLACE_LOOK];
    struct sx_model *models[MAX_MODELS]; /* one entry for each size of requests, */
    unsigned samples[MAX_MODELS];        /* this */
};

double sx_variants_least_ns(const struct sx_model *m, unsigned samples)
{
    double least = INFINITY;
    for (unsigned i = 0; i < m->n_variants; i++) {
        double ns = 0;
        for (unsigned k = 0; k < m->variants[i].n_stages; k++)
            ns += sx_cost_ns(&m->variants[i].stages[k].cost, samples, 0);
        least = ns < least ? ns : least;
    }
    return least;
}

/* The number of a model in the picture; it is drawn at first sight, for runs of `samples`.  With
 * too many for the picture: any size of that model, or MAX_MODELS when there is none. */
static unsigned see_model(struct picture *p, struct sx_model *m, unsigned samples)
{
    unsigned i = 0;
    while (i < p->place.n_models && (p->models[i] != m || p->samples[i] != samples))
        i++;
    if (i == MAX_MODELS)
        for (i = 0; i < MAX_MODELS && p->models[i] != m;)
            i++;
    if (i < p->place.n_models || i == MAX_MODELS)
        return i;
    p->samples[i] = samples;
    p->place.n_models++;
    p->models[i] = m;
    p->by_model[i] = p->variants[i];
    p->n_variants[i] = m->n_variants;
    for (unsigned v = 0; v < m->n_variants; v++) {
        struct sx_place_variant *to = &p->variants[i][v];
        to->n_stages = m->variants[v].n_stages;
        for (unsigned k = 0; k < to->n_stages; k++) {
            to->device[k] = m->variants[v].stages[k].device;
            to->ns[k] = sx_cost_ns(&m->variants[v].stages[k].cost, samples, 0);
        }
    }
    return i;
}

static void see_flows(struct picture *p, struct sx_server *s)
{
    SX_LIST_FOREACH (it, &s->flows) {
        const struct sx_flow *f = SX_CONTAINER_OF(it, struct sx_flow, link);
        unsigned model = see_model(p, f->model, f->request->samples);
        if (model == MAX_MODELS || p->place.n_jobs == SX_PLACE_JOBS)
            continue;
        unsigned stage = 0;
        while (f->steps[stage].done)
            stage++;
        p->jobs[p->place.n_jobs++] = (struct sx_place_job){
            .variant = f->variant,
            .model = model,
            .stage = stage,
            .stage_ready = f->steps[stage].ready,
            .stage_began = atomic_load_explicit(&f->steps[stage].began, memory_order_relaxed)};
    }
}

/* The first requests of all queues, in the order in which they came. */
static void see_waiting(struct picture *p, struct sx_server *s)
{
    struct sx_list *next[MAX_MODELS];
    struct sx_model *of[MAX_MODELS];
    unsigned n = 0;
    for (unsigned i = 0; i < s->n_models && n < MAX_MODELS; i++) {
        if (!sx_list_empty(&s->models[i]->queue)) {
            of[n] = s->models[i];
            next[n++] = s->models[i]->queue.next;
        }
    }
    while (p->place.n_waiting < SX_PLACE_LOOK) {
        struct sx_request *first = NULL;
        unsigned from = 0;
        for (unsigned i = 0; i < n; i++) {
            if (next[i] == &of[i]->queue)
                continue;
            struct sx_request *r = SX_CONTAINER_OF(next[i], struct sx_request, link);
            if (!first || r->arrival_ns < first->arrival_ns) {
                first = r;
                from = i;
            }
        }
        if (!first)
            break;
        next[from] = next[from]->next;
        unsigned model = see_model(p, of[from], first->samples);
        if (model == MAX_MODELS)
            continue;
        /* Where a late request may try all the same, its deadline does not count. */
        uint64_t deadline = first->end_by_ns;
        if (sx_model_may_probe(of[from], first->arrival_ns))
            deadline = SX_NEVER;
        p->requests[p->place.n_waiting] = first;
        p->waiting[p->place.n_waiting++] = (struct sx_place_request){
            .arrival = first->arrival_ns, .deadline = deadline, .model = model};
    }
}

static void draw(struct picture *p, struct sx_server *s)
{
    p->place = (struct sx_place){.n_devices = s->config.machine->n_devices,
                                 .variants = p->by_model,
                                 .n_variants = p->n_variants,
                                 .jobs = p->jobs,
                                 .waiting = p->waiting,
                                 .greedy = s->config.greedy};
    see_flows(p, s);
    see_waiting(p, s);
    for (unsigned i = 0; i < s->n_models; i++)
        p->place.n_more += s->models[i]->queued_requests;
    p->place.n_more -= p->place.n_waiting;
}

uint64_t sx_fleet_predict(struct sx_server *s, struct sx_model *m, unsigned samples, uint64_t now)
{
    struct picture p;
    draw(&p, s);
    unsigned model = see_model(&p, m, samples);
    return model == MAX_MODELS ? now : sx_place_predict(&p.place, model, now);
}

static struct sx_flow *take_flow(struct sx_model *m, unsigned variant)
{
    struct sx_variant *v = &m->variants[variant];
    struct sx_flow *f = NULL;
    if (!sx_list_empty(&v->free_flows)) {
        f = SX_CONTAINER_OF(v->free_flows.next, struct sx_flow, link);
        sx_list_remove(&f->link);
    } else if (sx_flow_create(m, variant, &f)) {
        return NULL; /* no memory: the queue waits for a flow that ends */
    }
    return f;
}

static void step_done(struct sx_task *task);

/* A device that was disturbed looks slow until something runs on it again: so its times must come
 * back to what they were by themselves, or it would never be chosen. */
static void rest(struct sx_model *m, uint64_t now)
{
    for (unsigned i = 0; i < m->n_variants; i++) {
        for (unsigned k = 0; k < m->variants[i].n_stages; k++) {
            struct sx_stage *stage = &m->variants[i].stages[k];
            if (stage->rested_ns && now > stage->rested_ns)
                sx_cost_rest(&stage->cost, now - stage->rested_ns);
            stage->rested_ns = now;
        }
    }
}

static bool start_flow(struct sx_server *s, struct sx_request *r, const struct sx_place_action *a,
                       uint64_t now, struct outcome *o)
{
    struct sx_model *m = r->model;
    struct sx_flow *f = take_flow(m, a->variant);
    if (!f)
        return false;
    sx_queue_remove(m, r);
    r->state = SX_REQUEST_RUNNING;
    r->start_ns = now;
    m->running_requests++;
    m->running_jobs++;
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    f->number = s->n_flows++;
    rest(m, now);
    sx_flow_begin(f, r, now, step_done);
    sx_list_insert(&s->flows, &f->link);
    f->next_start = NULL;
    *o->flows_end = f;
    o->flows_end = &f->next_start;
    return true;
}

void sx_fleet_pump(struct sx_server *s, uint64_t now, struct outcome *o)
{
    struct picture p;
    uint64_t wake = SX_NEVER;
    for (;;) {
        for (unsigned i = 0; i < s->n_models; i++)
            s->models[i]->earliest = sx_queue_expire_late(s, s->models[i], now, o);
        draw(&p, s);
        if (!p.place.n_waiting)
            break;
        struct sx_place_action a;
        uint64_t begin = sx_now();
        sx_place_decide(&p.place, now, &a);
        sx_hist_add(&s->quick->decide, sx_now() - begin);
        wake = a.start ? SX_NEVER : a.wake_at;
        if (!a.start)
            break;
        if (!start_flow(s, p.requests[a.request], &a, now, o)) {
            wake = sx_time_add(now, NO_MEMORY_RETRY_NS);
            break;
        }
    }
    for (unsigned i = 0; i < s->n_models; i++) {
        if (s->models[i]->queued_requests && s->models[i]->earliest < wake)
            wake = s->models[i]->earliest;
    }
    sx_server_set_alarm(s, wake, now);
}

/* --- learning and answering --------------------------------------------------------------------
 */

static void remember(struct sx_server *s, const struct sx_flow *f, unsigned k, uint64_t begin,
                     uint64_t end)
{
    if (!s->config.trace_spans)
        return;
    s->spans[s->n_spans++ % s->config.trace_spans] =
        (struct sx_span){.job = f->number,
                         .model = f->model,
                         .variant = f->variant,
                         .stage = k,
                         .device = f->model->variants[f->variant].stages[k].device,
                         .begin_ns = begin,
                         .end_ns = end,
                         .predicted_ns = f->steps[k].predicted_ns};
}

static void learn_step(struct sx_flow *f, unsigned k, uint64_t took, uint64_t now)
{
    struct sx_model *m = f->model;
    struct sx_stage *stage = &m->variants[f->variant].stages[k];
    double ns = (double)took;
    sx_model_count_error(m, f->steps[k].predicted_ns, ns);
    sx_cost_record(&stage->cost, f->request->samples, 1, took);
    stage->rested_ns = now;
    double each = ns / f->request->samples;
    stage->measured_ns += stage->measured_ns > 0 ? 0.1 * (each - stage->measured_ns) : each;
}

/* The last step of a flow is done: its request is answered. [lock] held. */
static void end_flow(struct sx_server *s, struct sx_flow *f, uint64_t now, struct outcome *o)
{
    struct sx_model *m = f->model;
    struct sx_variant *v = &m->variants[f->variant];
    struct sx_request *r = f->request;
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME_COARSE, &wall);
    m->stats->last_inference_ms = (uint64_t)wall.tv_sec * 1000 + (uint64_t)wall.tv_nsec / 1000000;
    sx_flow_finish(f);
    r->end_ns = now;
    r->batch = r->samples;
    r->width = s->config.machine->devices[v->stages[v->n_stages - 1].device].n_units;
    if (r->cancelled)
        r->rc = sx_fail(&r->err, SX_CANCELLED, "the client went away");
    m->stats->executions++;
    sx_model_count_answer(m, r);
    if (!r->rc)
        m->stats->infer_ns += r->end_ns - r->start_ns;
    double took = (double)(now - f->start_ns);
    v->latency_ns += v->runs ? 0.1 * (took - v->latency_ns) : took;
    v->runs++;
    m->running_jobs--;
    m->running_requests--;
    m->last_run_ns = now;
    sx_list_remove(&f->link);
    sx_list_insert(v->free_flows.next, &f->link);
    sx_request_finish(s, r, o);
    sx_model_drop(m); /* neither it nor the flow may be there any more */
}

/* The exec's `done` of one stage. */
static void step_done(struct sx_task *task)
{
    struct sx_flow_step *step = task->user;
    struct sx_flow *f = step->flow;
    struct sx_server *s = f->model->server;
    const struct sx_machine *machine = s->config.machine;
    unsigned k = (unsigned)(step - f->steps);
    const struct sx_device *device =
        &machine->devices[f->model->variants[f->variant].stages[k].device];
    struct outcome o;
    sx_outcome_init(&o);
    pthread_mutex_lock(&s->lock);
    uint64_t now = sx_clock_now(s->clock);
    uint64_t took = task->end_ns - task->begin_ns;
    step->done = true;
    if (k + 1 < f->model->variants[f->variant].n_stages)
        f->steps[k + 1].ready = now;
    for (unsigned u = device->first_unit; u < device->first_unit + device->n_units; u++)
        s->unit_busy_ns[u] += took;
    if (!atomic_load(&f->rc))
        learn_step(f, k, took, now);
    remember(s, f, k, task->begin_ns, task->end_ns);
    if (--f->left == 0)
        end_flow(s, f, now, &o);
    sx_fleet_pump(s, now, &o);
    if (!s->in_flight)
        pthread_cond_broadcast(&s->idle);
    pthread_mutex_unlock(&s->lock);
    sx_server_flush(s, &o);
}

/* --- what it did -------------------------------------------------------------------------------
 */

size_t sx_server_trace(struct sx_server *s, struct sx_span *spans, size_t cap)
{
    pthread_mutex_lock(&s->lock);
    uint64_t size = s->config.trace_spans, n = s->n_spans < size ? s->n_spans : size;
    if (n > cap)
        n = cap;
    for (uint64_t i = 0; i < n; i++)
        spans[i] = s->spans[(s->n_spans - n + i) % size];
    pthread_mutex_unlock(&s->lock);
    return (size_t)n;
}

size_t sx_model_variants(struct sx_model *m, struct sx_variant_info *infos, size_t cap)
{
    pthread_mutex_lock(&m->server->lock);
    for (unsigned i = 0; i < m->n_variants && i < cap; i++) {
        const struct sx_variant *v = &m->variants[i];
        struct sx_variant_info *to = &infos[i];
        *to = (struct sx_variant_info){
            .n_stages = v->n_stages, .latency_ns = v->latency_ns, .runs = v->runs};
        memcpy(to->name, v->name, sizeof to->name);
        for (unsigned k = 0; k < v->n_stages; k++) {
            to->device[k] = v->stages[k].device;
            to->predicted_ns[k] = v->stages[k].planned_ns;
            to->ns[k] = v->stages[k].measured_ns;
        }
    }
    pthread_mutex_unlock(&m->server->lock);
    return m->n_variants;
}
