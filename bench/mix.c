/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * mix.c - several models in one server in this process, under open load from one thread.
 *
 *     mix [--max-batch N] [--keep-plan] [--engine NAME] MODEL:OBJECTIVE_MS...
 *
 * Engines: "ort" (default), or "fake" with its files, whose times are injected.
 *
 * When all models are measured, one line {"ready": true, ...} goes to stdout, with what a sample of
 * each costs.  Then standard input says what to do, a line each:
 *
 *     policy NAME                       share the machine by it from now on
 *     at S rate R...                    of the next run: S seconds after its begin these are the
 *     at S unload I | at S load I       rates (requests per second, of each model); model I goes or
 *                                       comes, on a thread of its own
 *     run SECONDS WARMUP SEED R...      Poisson load at these rates on all models; prints one line:
 *                                       what was asked and when it was answered
 *     costs                             what a sample costs by now, as in the first line
 *     plan                              the present plan, as GET /v2/plan has it
 *     sched                             how long decisions took since the begin, and from them
 * until the runs began
 *
 * A request's latency counts from when it was due.  Of a run, {"requests": [[model, due, latency,
 * outcome], ...], ...}: microseconds from the end of the warm-up; outcome 0 answered, 1 refused or
 * expired, 2 its model was not there, 3 failed.
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/rng.h"
#include "perf/inproc.h"
#include "wire/v2.h"

#define MAX_MODELS 16
#define MAX_EVENTS 64
#define MAX_PLANS  4096

enum { ANSWERED, REFUSED, GONE, FAILED };

struct record {
    unsigned model;
    uint64_t due;
    atomic_uint_fast64_t done; /* 0: not yet */
    int outcome;
};

struct event {
    double at; /* seconds */
    enum { RATE, LOAD, UNLOAD } what;
    unsigned model;
    double rate[MAX_MODELS];
};

struct served {
    const char *path;
    double objective_ms;
    char name[32];
    struct sx_dataset data;
};

static struct sx_server *server;
static struct served models[MAX_MODELS];
static unsigned n_models;
static struct event events[MAX_EVENTS];
static unsigned n_events;
static long max_batch = 8;
static atomic_uint open_requests;

static void or_die(enum sx_rc rc, const struct sx_err *err)
{
    if (!rc)
        return;
    fprintf(stderr, "mix: %s%s%s\n", err->message, *err->hint ? "; " : "", err->hint);
    exit(1);
}

static void load(unsigned i)
{
    struct sx_err err = {0};
    struct sx_config config;
    sx_config_init(&config);
    config.objective_ns = (uint64_t)(models[i].objective_ms * 1e6);
    or_die(sx_server_load(server, models[i].name, 1, models[i].path, &config, &err), &err);
    sx_config_fini(&config);
}

static struct sx_model *find(unsigned i)
{
    struct sx_model *m = NULL;
    sx_server_find(server, models[i].name, strlen(models[i].name), 0, &m, NULL);
    return m;
}

/* --- the load ------------------------------------------------------------------------------------
 */

static void on_done(struct sx_request *r)
{
    struct record *rec = r->user;
    enum sx_rc rc = r->rc;
    uint64_t now = sx_now();
    sx_request_release(r);
    rec->outcome = !rc ? ANSWERED : rc == SX_DEADLINE || rc == SX_UNAVAILABLE ? REFUSED : FAILED;
    atomic_store(&rec->done, now);
    atomic_fetch_sub(&open_requests, 1);
}

static void submit(struct record *rec, uint64_t number)
{
    struct sx_model *m = find(rec->model);
    struct sx_request *r;
    rec->outcome = GONE;
    if (!m) {
        atomic_store(&rec->done, sx_now());
        return;
    }
    struct sx_err err = {0};
    or_die(sx_request_create(m, &r), &err);
    sx_model_unref(&m);
    const struct sx_dataset *d = &models[rec->model].data;
    const struct sx_tensor *from = &d->tensor[number % d->n_samples * (uint64_t)d->n_inputs];
    for (int i = 0; i < d->n_inputs; i++)
        sx_tensor_ref(&r->inputs[i], &from[i]);
    r->done = on_done;
    r->user = rec;
    atomic_fetch_add(&open_requests, 1);
    enum sx_rc rc = sx_server_infer(server, r, &err);
    if (!rc)
        return;
    sx_request_release(r);
    rec->outcome = rc == SX_UNAVAILABLE ? REFUSED : FAILED;
    atomic_store(&rec->done, sx_now());
    atomic_fetch_sub(&open_requests, 1);
}

static void sleep_until(uint64_t at)
{
    struct timespec ts = {.tv_sec = (time_t)(at / SX_S), .tv_nsec = (long)(at % SX_S)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
        ;
}

static void *come_or_go(void *arg)
{
    const struct event *e = arg;
    struct sx_err err = {0};
    if (e->what == LOAD)
        load(e->model);
    else
        or_die(sx_server_unload(server, models[e->model].name, 1, &err), &err);
    return NULL;
}

static uint64_t count_replans(double *ret_plan_ms)
{
    struct sx_server_plan p;
    if (sx_server_get_plan(server, &p))
        return 0;
    uint64_t n = p.replans;
    *ret_plan_ms = p.plan_s * 1e3;
    sx_server_plan_fini(&p);
    return n;
}

static double draw_gap(struct sx_rng *rng, double rate)
{
    return rate > 0 ? sx_rng_exponential(rng, 1e9 / rate) : INFINITY;
}

struct run {
    double seconds, warmup;
    uint64_t begin;
    struct record *records;
    size_t n, cap;
    double plans[MAX_PLANS]; /* seconds after the warm-up, when a new plan was seen */
    size_t n_plans;
    double plan_ms;
    double submit_worst_us, submit_sum_us;
};

/* The arrivals of each model come from a generator of its own, so that they are the same whatever
 * the others do. */
static void put_load(struct run *r, uint64_t seed, double *rate)
{
    struct sx_rng rng[MAX_MODELS];
    double next[MAX_MODELS], ms = 0;
    pthread_t threads[MAX_EVENTS];
    unsigned n_threads = 0, at_event = 0;
    uint64_t begin = r->begin = sx_now() + 10 * SX_MS;
    uint64_t end = begin + (uint64_t)((r->warmup + r->seconds) * 1e9);
    uint64_t plans = count_replans(&ms);
    for (unsigned i = 0; i < n_models; i++) {
        sx_rng_init(&rng[i], seed * MAX_MODELS + i);
        next[i] = (double)begin + draw_gap(&rng[i], rate[i]);
    }
    for (;;) {
        unsigned i = 0;
        for (unsigned k = 1; k < n_models; k++)
            i = next[k] < next[i] ? k : i;
        double event_at = at_event < n_events
                              ? (double)begin + (r->warmup + events[at_event].at) * 1e9
                              : INFINITY;
        if (event_at <= next[i] && event_at < (double)end) {
            const struct event *e = &events[at_event++];
            sleep_until((uint64_t)event_at);
            if (e->what == RATE) {
                for (unsigned k = 0; k < n_models; k++) {
                    rate[k] = e->rate[k];
                    next[k] = event_at + draw_gap(&rng[k], rate[k]);
                }
            } else if (!pthread_create(&threads[n_threads], NULL, come_or_go, (void *)(size_t)e)) {
                n_threads++;
            }
            continue;
        }
        if (next[i] >= (double)end || r->n == r->cap)
            break;
        struct record *rec = &r->records[r->n];
        rec->model = i;
        rec->due = (uint64_t)next[i];
        next[i] += draw_gap(&rng[i], rate[i]);
        sleep_until(rec->due);
        uint64_t before = sx_now();
        submit(rec, r->n++);
        double us = (double)(sx_now() - before) * 1e-3;
        r->submit_sum_us += us;
        r->submit_worst_us = us > r->submit_worst_us ? us : r->submit_worst_us;
        uint64_t now_plans = count_replans(&r->plan_ms);
        if (now_plans != plans && r->n_plans < MAX_PLANS)
            r->plans[r->n_plans++] = (double)(int64_t)(sx_now() - begin) * 1e-9 - r->warmup;
        plans = now_plans;
    }
    for (unsigned i = 0; i < n_threads; i++)
        pthread_join(threads[i], NULL);
    while (atomic_load(&open_requests)) /* each is answered: by then, or at its deadline */
        usleep(1000);
}

static void print_run(const struct run *r)
{
    printf("{\"seconds\": %.3f, \"plan_ms\": %.4f, \"submit_mean_us\": %.2f, \"submit_worst_us\": "
           "%.1f, \"plans\": [",
           r->seconds, r->plan_ms, r->n ? r->submit_sum_us / (double)r->n : 0, r->submit_worst_us);
    for (size_t i = 0; i < r->n_plans; i++)
        printf("%s%.4f", i ? ", " : "", r->plans[i]);
    printf("], \"requests\": [");
    bool any = false;
    for (size_t i = 0; i < r->n; i++) {
        const struct record *rec = &r->records[i];
        double due = (double)(rec->due - r->begin) * 1e-3 - r->warmup * 1e6;
        if (due < 0)
            continue;
        printf("%s[%u,%.0f,%.0f,%d]", any ? "," : "", rec->model, due,
               (double)(atomic_load(&rec->done) - rec->due) * 1e-3, rec->outcome);
        any = true;
    }
    printf("]}\n");
    fflush(stdout);
}

static unsigned read_rates(const char *text, double *ret)
{
    unsigned n = 0;
    char *end;
    for (; n < n_models; n++, text = end) {
        ret[n] = strtod(text, &end);
        if (end == text)
            break;
    }
    return n;
}

static bool run(const char *text)
{
    struct run *r = calloc(1, sizeof *r);
    double rate[MAX_MODELS], most = 0;
    unsigned long long seed;
    int at = 0;
    if (!r || sscanf(text, "%lf %lf %llu %n", &r->seconds, &r->warmup, &seed, &at) < 3 ||
        read_rates(text + at, rate) != n_models) {
        free(r);
        return false;
    }
    for (unsigned i = 0; i < n_models; i++) {
        double high = rate[i];
        for (unsigned k = 0; k < n_events; k++)
            high = events[k].what == RATE && events[k].rate[i] > high ? events[k].rate[i] : high;
        most += high;
    }
    r->cap = (size_t)(1.5 * most * (r->seconds + r->warmup)) + 1000;
    r->records = calloc(r->cap, sizeof *r->records);
    if (!r->records) {
        free(r);
        return false;
    }
    put_load(r, seed, rate);
    print_run(r);
    n_events = 0;
    free(r->records);
    free(r);
    return true;
}

static bool read_event(const char *text)
{
    struct event e = {0};
    char what[16];
    int at = 0;
    if (n_events == MAX_EVENTS || sscanf(text, "%lf %15s %n", &e.at, what, &at) < 2)
        return false;
    if (!strcmp(what, "rate")) {
        e.what = RATE;
        if (read_rates(text + at, e.rate) != n_models)
            return false;
    } else {
        e.what = strcmp(what, "load") ? UNLOAD : LOAD;
        e.model = (unsigned)atoi(text + at);
        if (e.model >= n_models)
            return false;
    }
    events[n_events++] = e;
    return true;
}

/* --- the server
 * -----------------------------------------------------------------------------------
 */

/* Unit-time per sample at its most efficient, and the longest run so far. */
static void print_costs(void)
{
    struct sx_cost_cell cells[256];
    printf("{\"ready\": true, \"models\": [");
    for (unsigned i = 0; i < n_models; i++) {
        struct sx_model *m = find(i);
        double unit = 0, longest = 0;
        size_t n = m ? sx_model_costs(m, cells, 256) : 0;
        for (size_t k = 0; k < n && k < 256; k++) {
            double each = cells[k].ns * cells[k].width / cells[k].batch;
            unit = unit <= 0 || each < unit ? each : unit;
            longest = cells[k].ns > longest ? cells[k].ns : longest;
        }
        sx_model_unref(&m);
        printf("%s{\"unit_ms\": %.4f, \"longest_ms\": %.4f, \"cells\": [", i ? ", " : "",
               unit * 1e-6, longest * 1e-6);
        for (size_t k = 0; k < n && k < 256; k++)
            printf("%s[%u, %u, %.4f, %llu, %.4f]", k ? ", " : "", cells[k].width, cells[k].batch,
                   cells[k].ns * 1e-6, (unsigned long long)cells[k].runs,
                   cells[k].spread_ns * 1e-6);
        printf("]}");
    }
    printf("]}\n");
    fflush(stdout);
}

static void print_plan(void)
{
    struct sx_server_plan p;
    struct sx_sbuf s = {0};
    if (sx_server_get_plan(server, &p))
        return;
    sx_v2_put_plan(&s, &p);
    printf("%s\n", s.failed ? "{}" : s.data);
    fflush(stdout);
    sx_sbuf_free(&s);
    sx_server_plan_fini(&p);
}

static void print_sched(void)
{
    struct sx_sched_stats *stats = malloc(sizeof *stats);
    if (!stats)
        exit(1);
    sx_server_sched_stats(server, stats);
    const struct sx_hist *h[] = {&stats->decide, &stats->start};
    const char *name[] = {"decide", "start"};
    for (int i = 0; i < 2; i++)
        printf("%s\"%s\": {\"n\": %llu, \"p50_us\": %.3f, \"p99_us\": %.3f, \"max_us\": %.3f}",
               i ? ", " : "{", name[i], (unsigned long long)h[i]->count,
               (double)sx_hist_quantile(h[i], 0.5) * 1e-3,
               (double)sx_hist_quantile(h[i], 0.99) * 1e-3, (double)h[i]->max_ns * 1e-3);
    printf("}\n");
    fflush(stdout);
    free(stats);
}

static void obey(void)
{
    static char line[4096];
    while (fgets(line, sizeof line, stdin)) {
        char name[64];
        struct sx_err err = {0};
        bool ok = true;
        if (sscanf(line, "policy %63s", name) == 1)
            or_die(sx_server_set_policy(server, name, &err), &err);
        else if (!strncmp(line, "at ", 3))
            ok = read_event(line + 3);
        else if (!strncmp(line, "run ", 4))
            ok = run(line + 4);
        else if (!strncmp(line, "costs", 5))
            print_costs();
        else if (!strncmp(line, "plan", 4))
            print_plan();
        else if (!strncmp(line, "sched", 5))
            print_sched();
        else
            ok = false;
        if (!ok) {
            fprintf(stderr, "mix: cannot do: %s", line);
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"max-batch", 1, NULL, 'b'}, {"keep-plan", 0, NULL, 'k'}, {"engine", 1, NULL, 'e'}, {0}};
    struct sx_err err = {0};
    struct sx_machine *machine;
    struct sx_engine *engine;
    char cache[4096];
    const char *engine_name = "ort";
    bool keep_plan = false;
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'b')
            max_batch = atol(optarg);
        else if (c == 'k')
            keep_plan = true;
        else if (c == 'e')
            engine_name = optarg;
        else
            return 2;
    }
    sx_log_set_level(SX_LOG_WARNING);
    or_die(sx_machine_detect(&machine, &err), &err);
    struct sx_engine_config ec = {.name = engine_name,
                                  .cache_dir = !sx_cache_dir(cache, sizeof cache) ? cache : NULL,
                                  .library = getenv("STARONNX_ONNXRUNTIME"),
                                  .machine_id = machine->id};
    or_die(sx_engine_create(&ec, &engine, &err), &err);
    struct sx_server_config sc = {.engine = engine,
                                  .machine = machine,
                                  .exec = SX_EXEC_STARPU,
                                  .default_max_batch = (unsigned)max_batch,
                                  .default_max_queue = 4096,
                                  .keep_plan = keep_plan};
    or_die(sx_server_create(&sc, &server, &err), &err);
    for (; optind < argc && n_models < MAX_MODELS; optind++, n_models++) {
        struct served *s = &models[n_models];
        char *colon = strrchr(argv[optind], ':');
        if (!colon || (s->objective_ms = atof(colon + 1)) <= 0) {
            fprintf(stderr, "mix: '%s' is not MODEL.onnx:OBJECTIVE_MS\n", argv[optind]);
            return 2;
        }
        *colon = 0;
        s->path = argv[optind];
        snprintf(s->name, sizeof s->name, "m%u", n_models);
        load(n_models);
        struct sx_model_info info;
        struct sx_model *m = find(n_models);
        or_die(sx_inproc_info(m, &info, &err), &err);
        or_die(sx_model_info_fix(&info, 1, &err), &err);
        or_die(sx_dataset_generate(&s->data, &info, 4, false, 1, &err), &err);
        sx_model_unref(&m);
    }
    while (!sx_server_settled(server))
        usleep(20000);
    print_costs();
    obey();
    sx_server_destroy(server);
    for (unsigned i = 0; i < n_models; i++)
        sx_dataset_fini(&models[i].data);
    sx_engine_destroy(engine);
    sx_machine_destroy(machine);
    return 0;
}
