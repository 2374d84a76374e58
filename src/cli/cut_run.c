/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * cut_run.c - run the stages of a plan for real, saturated, and see what happens.
 *
 * A thread for each stage, bound to its device's first core.  A few jobs, one more than there are
 * stages, go round: out of the last stage's hands into the first one's queue, under a new number.
 * A queue thus never holds more than all of them, and the slowest stage always has one waiting.
 * When the time is over the first stage takes no more, and each stage stops when the one before it
 * has stopped and its queue is empty.
 */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "cli/cut.h"
#include "cli/tensor_text.h"

#define MAX_JOBS (SX_PLAN_MAX_STAGES + 1)
#define MIN_JOBS 8 /* are run, however long it takes */
#define FREE_DIM                                                                                   \
    64 /* stands for free dimensions that are not the batch, as when operators are                 \
          measured */

struct job {
    unsigned number;
    struct sx_tensor *tensors; /* n_slots */
};

struct line;

struct stage {
    struct line *line;
    unsigned index;
    const struct sx_device *device;
    pthread_mutex_t *device_lock;  /* a device does one thing at a time */
    struct sx_engine_model *model; /* not owned when it is the whole */
    struct sx_session *session;
    size_t n_in, n_out;
    uint32_t *in, *out; /* slots */
    struct sx_tensor *args;
    int cpu;
    struct job *queue[MAX_JOBS]; /* line->lock */
    unsigned n_queue;            /* line->lock */
    bool ended;                  /* line->lock: puts nothing into the next queue any more */
    struct sx_plan_span *spans;
    size_t n_spans, cap;
};

struct line {
    struct sx_cut *cut;
    const struct sx_plan *plan;
    struct sx_pool *pool;
    const char **slots; /* names; the model's inputs first */
    uint32_t n_slots, n_inputs;
    struct stage stages[SX_PLAN_MAX_STAGES];
    pthread_mutex_t device_locks[SX_PLAN_MAX_STAGES];
    struct job jobs[MAX_JOBS];
    unsigned n_jobs;
    uint64_t start, until;
    unsigned numbers; /* the first stage's thread: the next job's number */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum sx_rc rc; /* lock: the first failure */
    struct sx_err err;
};

/* --- making ----------------------------------------------------------------------------------- */

static uint32_t find_slot(const struct line *l, const char *name)
{
    for (uint32_t i = 0; i < l->n_slots; i++)
        if (!strcmp(l->slots[i], name))
            return i;
    return UINT32_MAX;
}

static bool add_slot(struct line *l, const char *name)
{
    const char **grown = realloc(l->slots, (l->n_slots + 1) * sizeof *grown);

    if (!grown)
        return false;
    l->slots = grown;
    l->slots[l->n_slots++] = name;
    return true;
}

static enum sx_rc open_stage(struct line *l, unsigned index, struct sx_err *err)
{
    struct stage *s = &l->stages[index];
    const struct sx_plan_stage *plan = &l->plan->stages[index];
    const struct sx_machine *machine = l->cut->machine;
    const struct sx_port *in, *out;
    int *cpus;
    enum sx_rc rc = SX_OK;

    s->line = l;
    s->index = index;
    s->device = &machine->devices[plan->device];
    s->device_lock = &l->device_locks[plan->device];
    if (l->plan->n_stages == 1)
        s->model = l->cut->model;
    else
        rc = sx_engine_open_stage(l->cut->model, plan->nodes, plan->n_nodes, &s->model, err);
    if (rc)
        return rc;
    s->n_in = sx_engine_inputs(s->model, &in);
    s->n_out = sx_engine_outputs(s->model, &out);
    s->in = calloc(s->n_in + 1, sizeof *s->in);
    s->out = calloc(s->n_out + 1, sizeof *s->out);
    s->args = calloc(s->n_in + s->n_out + 1, sizeof *s->args);
    cpus = calloc(s->device->n_units, sizeof *cpus);
    if (!s->in || !s->out || !s->args || !cpus)
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for a stage");
    for (size_t i = 0; !rc && i < s->n_in; i++) {
        s->in[i] = find_slot(l, in[i].name);
        if (s->in[i] == UINT32_MAX)
            rc = sx_fail(err, SX_INTERNAL, "stage %u: nobody makes '%s'", index + 1, in[i].name);
    }
    for (size_t i = 0; !rc && i < s->n_out; i++) {
        s->out[i] = l->n_slots;
        if (!add_slot(l, out[i].name))
            rc = sx_fail(err, SX_NO_MEMORY, "no memory for a stage");
    }
    if (cpus)
        sx_machine_cpus(machine, s->device->first_unit, s->device->n_units, cpus);
    if (!rc)
        rc = sx_session_create(s->model, s->device->n_units, cpus, &s->session, err);
    s->cpu = cpus ? cpus[0] : -1;
    free(cpus);
    return rc;
}

static enum sx_rc make_inputs(struct line *l, struct sx_err *err)
{
    const struct sx_port *in;
    struct sx_rng rng;
    size_t n = sx_engine_inputs(l->cut->model, &in);
    enum sx_rc rc = SX_OK;

    sx_rng_init(&rng, 1);
    for (size_t i = 0; !rc && i < n; i++) {
        struct sx_tensor *t = &l->jobs[0].tensors[i];
        if (in[i].rank < 0)
            return sx_fail(err, SX_UNSUPPORTED, "input '%s' does not say its shape", in[i].name);
        t->dtype = in[i].dtype;
        t->rank = in[i].rank;
        for (int d = 0; d < t->rank; d++)
            t->dims[d] = in[i].dims[d] >= 0 ? in[i].dims[d]
                         : d                ? FREE_DIM
                                            : (int64_t)l->plan->batch;
        rc = sx_tensor_random(t, l->pool, &rng, err);
        for (unsigned j = 1; !rc && j < l->n_jobs; j++)
            sx_tensor_ref(&l->jobs[j].tensors[i], t);
    }
    return rc;
}

static enum sx_rc line_init(struct line *l, struct sx_err *err)
{
    const struct sx_port *in;
    enum sx_rc rc = sx_pool_create(&l->pool);

    if (rc)
        return sx_fail(err, rc, "no memory for tensors");
    l->n_jobs = l->plan->n_stages + 1;
    l->n_inputs = (uint32_t)sx_engine_inputs(l->cut->model, &in);
    for (uint32_t i = 0; i < l->n_inputs; i++)
        if (!add_slot(l, in[i].name))
            return sx_fail(err, SX_NO_MEMORY, "no memory for a stage");
    for (unsigned s = 0; !rc && s < l->plan->n_stages; s++)
        rc = open_stage(l, s, err);
    for (unsigned j = 0; !rc && j < l->n_jobs; j++) {
        l->jobs[j].tensors = calloc(l->n_slots + 1, sizeof *l->jobs[j].tensors);
        if (!l->jobs[j].tensors)
            rc = sx_fail(err, SX_NO_MEMORY, "no memory for tensors");
        l->stages[0].queue[l->stages[0].n_queue++] = &l->jobs[j];
    }
    return rc ? rc : make_inputs(l, err);
}

static void line_fini(struct line *l)
{
    for (unsigned j = 0; j < MAX_JOBS; j++) {
        for (uint32_t i = 0; l->jobs[j].tensors && i < l->n_slots; i++)
            sx_tensor_unref(&l->jobs[j].tensors[i]);
        free(l->jobs[j].tensors);
    }
    for (unsigned i = 0; i < SX_PLAN_MAX_STAGES; i++) {
        struct stage *s = &l->stages[i];
        sx_session_destroy(s->session);
        if (s->model != l->cut->model)
            sx_engine_close_model(s->model);
        free(s->in);
        free(s->out);
        free(s->args);
        free(s->spans);
        pthread_mutex_destroy(&l->device_locks[i]);
    }
    sx_pool_destroy(l->pool);
    free(l->slots);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* --- running ---------------------------------------------------------------------------------- */

static bool add_span(struct stage *s, const struct job *job, uint64_t begin, uint64_t end)
{
    if (s->n_spans == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 256;
        struct sx_plan_span *grown = realloc(s->spans, cap * sizeof *grown);
        if (!grown)
            return false;
        s->spans = grown;
        s->cap = cap;
    }
    s->spans[s->n_spans++] = (struct sx_plan_span){
        job->number, s->index, (double)(begin - s->line->start), (double)(end - s->line->start)};
    return true;
}

static enum sx_rc run_job(struct stage *s, struct job *job, struct sx_err *err)
{
    struct sx_tensor *in = s->args, *out = s->args + s->n_in;
    enum sx_rc rc;

    for (size_t i = 0; i < s->n_in; i++)
        in[i] = job->tensors[s->in[i]]; /* on loan */
    memset(out, 0, s->n_out * sizeof *out);
    pthread_mutex_lock(s->device_lock);
    uint64_t begin = sx_now();
    rc = sx_session_run(s->session, in, out, NULL, err);
    uint64_t took = sx_now() - begin;
    if (s->device->slowdown > 1)
        sx_sleep_until(begin + (uint64_t)((double)took * s->device->slowdown));
    uint64_t end = sx_now();
    pthread_mutex_unlock(s->device_lock);
    for (size_t i = 0; i < s->n_out; i++)
        sx_tensor_move(&job->tensors[s->out[i]], &out[i]);
    if (!rc && !add_span(s, job, begin, end))
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for what is measured");
    return rc;
}

/* The next job, or NULL when there will be none. */
static struct job *take(struct stage *s)
{
    struct line *l = s->line;
    struct job *job = NULL;

    pthread_mutex_lock(&l->lock);
    for (;;) {
        bool over =
            s->index ? s[-1].ended && !s->n_queue : sx_now() >= l->until && l->numbers >= MIN_JOBS;
        if (l->rc || over)
            break;
        if (s->n_queue) {
            job = s->queue[0];
            memmove(s->queue, s->queue + 1, --s->n_queue * sizeof *s->queue);
            if (s->index == 0)
                job->number = l->numbers++;
            break;
        }
        pthread_cond_wait(&l->changed, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    return job;
}

static void pass_on(struct stage *s, struct job *job)
{
    struct line *l = s->line;
    struct stage *next = s->index + 1 < l->plan->n_stages ? s + 1 : &l->stages[0];

    if (next == &l->stages[0])
        for (uint32_t i = l->n_inputs; i < l->n_slots; i++)
            sx_tensor_unref(&job->tensors[i]);
    pthread_mutex_lock(&l->lock);
    next->queue[next->n_queue++] = job;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

static void *stage_thread(void *user)
{
    struct stage *s = user;
    struct line *l = s->line;
    struct sx_err err = {0};
    enum sx_rc rc = SX_OK;
    struct job *job;
    cpu_set_t set;

    CPU_ZERO(&set);
    if (s->cpu >= 0 && s->cpu < CPU_SETSIZE) {
        CPU_SET((unsigned)s->cpu, &set);
        sched_setaffinity(0, sizeof set, &set);
    }
    while (!rc && (job = take(s))) {
        rc = run_job(s, job, &err);
        if (!rc)
            pass_on(s, job);
    }
    pthread_mutex_lock(&l->lock);
    s->ended = true;
    if (rc && !l->rc) {
        l->rc = rc;
        l->err = err;
    }
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static enum sx_rc run_line(struct line *l, double seconds, struct sx_err *err)
{
    pthread_t threads[SX_PLAN_MAX_STAGES];
    unsigned n = 0;

    l->start = sx_now();
    l->until = l->start + (uint64_t)(seconds * 1e9);
    for (; n < l->plan->n_stages; n++) {
        if (!pthread_create(&threads[n], NULL, stage_thread, &l->stages[n]))
            continue;
        pthread_mutex_lock(&l->lock);
        l->rc = sx_fail(&l->err, SX_NO_MEMORY, "no thread for stage %u", n + 1);
        pthread_cond_broadcast(&l->changed);
        pthread_mutex_unlock(&l->lock);
        break;
    }
    for (unsigned i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    if (l->rc && err)
        *err = l->err;
    return l->rc;
}

/* --- what it says ----------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t n)
{
    if (!n)
        return 0;
    qsort(values, n, sizeof *values, by_value);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static int by_end(const void *a, const void *b)
{
    const struct sx_plan_span *x = a, *y = b;
    return (x->end_ns > y->end_ns) - (x->end_ns < y->end_ns);
}

static double overlap(const struct sx_plan_span *s, double from, double to)
{
    return fmax(fmin(s->end_ns, to) - fmax(s->begin_ns, from), 0);
}

/* Time within [from, to] in which every stage computes: stage by stage, keep what is left of the
 * spans of the one before.  Spans of a stage are in order and disjoint. */
static double all_busy(const struct line *l, double from, double to)
{
    double sum = 0;
    size_t at[SX_PLAN_MAX_STAGES] = {0};
    double now = from;

    while (now < to) { /* the next moment at which the set of busy stages changes */
        double next = to;
        bool all = true;
        for (unsigned s = 0; s < l->plan->n_stages; s++) {
            const struct stage *stage = &l->stages[s];
            while (at[s] < stage->n_spans && stage->spans[at[s]].end_ns <= now)
                at[s]++;
            if (at[s] == stage->n_spans) {
                all = false;
                continue;
            }
            const struct sx_plan_span *span = &stage->spans[at[s]];
            bool busy = span->begin_ns <= now;
            all = all && busy;
            next = fmin(next, busy ? span->end_ns : span->begin_ns);
        }
        sum += all ? next - now : 0;
        now = next;
    }
    return sum;
}

/* The first jobs fill the line and are not counted. */
static enum sx_rc summarise(struct line *l, struct sx_cut_run *run, struct sx_err *err)
{
    unsigned n = l->plan->n_stages, skip = l->n_jobs;
    const struct stage *first = &l->stages[0], *last = &l->stages[n - 1];
    size_t ended = last->n_spans, at = 0;
    double *values = malloc((first->n_spans + 1) * sizeof *values);

    for (unsigned s = 0; s < n; s++)
        run->n_spans += l->stages[s].n_spans;
    run->spans = malloc((run->n_spans + 1) * sizeof *run->spans);
    if (!values || !run->spans) {
        free(values);
        return sx_fail(err, SX_NO_MEMORY, "no memory for what was measured");
    }
    skip = skip + 2 < ended ? skip : 0;
    run->jobs = (unsigned)ended;
    double from = last->spans[skip].end_ns, to = first->spans[first->n_spans - 1].end_ns;
    size_t jobs = 0; /* that ended in (from, to] */
    for (size_t i = skip + 1; i < ended && last->spans[i].end_ns <= to; i++)
        jobs = i - skip;
    run->rate = jobs ? (double)jobs / (last->spans[skip + jobs].end_ns - from) * 1e9 : 0;
    for (unsigned s = 0; s < n; s++) {
        const struct stage *stage = &l->stages[s];
        memcpy(run->spans + at, stage->spans, stage->n_spans * sizeof *run->spans);
        at += stage->n_spans;
        for (size_t i = skip; i < stage->n_spans; i++) {
            values[i - skip] = stage->spans[i].end_ns - stage->spans[i].begin_ns;
            run->busy[s] += to > from ? overlap(&stage->spans[i], from, to) / (to - from) : 0;
        }
        run->median_ns[s] = median(values, stage->n_spans - skip);
    }
    for (size_t i = skip; i < ended; i++) /* jobs keep their order: the i-th span is job i's */
        values[i - skip] = last->spans[i].end_ns - first->spans[i].begin_ns;
    run->latency_ns = median(values, ended - skip);
    run->all_busy = to > from ? all_busy(l, from, to) / (to - from) : 0;
    qsort(run->spans, run->n_spans, sizeof *run->spans, by_end);
    free(values);
    return SX_OK;
}

enum sx_rc sx_cut_measure(struct sx_cut *cut, const struct sx_plan *plan, double seconds,
                          struct sx_cut_run *ret_run, struct sx_err *err)
{
    struct line *l = calloc(1, sizeof *l);
    enum sx_rc rc;

    memset(ret_run, 0, sizeof *ret_run);
    if (!l)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a pipeline");
    l->cut = cut;
    l->plan = plan;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    for (unsigned i = 0; i < SX_PLAN_MAX_STAGES; i++)
        pthread_mutex_init(&l->device_locks[i], NULL);
    rc = line_init(l, err);
    if (!rc)
        rc = run_line(l, seconds, err);
    if (!rc)
        rc = summarise(l, ret_run, err);
    line_fini(l);
    if (rc)
        sx_cut_run_fini(ret_run);
    return rc;
}

void sx_cut_run_fini(struct sx_cut_run *run)
{
    free(run->spans);
    memset(run, 0, sizeof *run);
}

size_t sx_cut_run_middle(const struct sx_cut_run *run, unsigned jobs,
                         struct sx_plan_span *ret_spans, size_t cap)
{
    unsigned first = run->jobs > jobs ? (run->jobs - jobs) / 2 : 0;
    size_t n = 0;

    for (size_t i = 0; i < run->n_spans && n < cap; i++)
        if (run->spans[i].job >= first && run->spans[i].job - first < jobs)
            ret_spans[n++] = run->spans[i];
    return n;
}
