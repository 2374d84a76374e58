/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * perf.c - `staronnx perf`: put load on a model, report latency and throughput.
 *
 * Options are spelled as perf_analyzer's where it has them.  What is asked for is one of:
 * a sweep (of concurrencies, rates or one trace), a search (--binary-search, --find-threshold),
 * an MLPerf scenario, or a comparison of earlier results.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "cli/cli.h"
#include "cli/perf_int.h"
#include "perf/measure.h"

#define NAME "staronnx perf"

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
    if (interrupted)
        _exit(128 + sig); // asked twice
    interrupted = 1;
}

static const char details[] =
    "Examples:\n"
    "  staronnx perf -m resnet50 --concurrency-range 1:8\n"
    "      one to eight requests in flight, against the server on localhost:8000\n"
    "  staronnx perf -m resnet50 --request-rate-range 10:100:10 --objective 50 --html report.html\n"
    "      ten rates with Poisson arrivals, judged by p99 <= 50 ms, and a page with curves\n"
    "  staronnx perf -m resnet50 --find-threshold --objective 50\n"
    "      the highest rate that holds the objective\n"
    "  staronnx perf resnet50.onnx --scenario SingleStream\n"
    "      an MLPerf scenario, with the server in this process\n"
    "  staronnx perf --compare ours=a.json theirs=b.json --html compare.html\n"
    "      two results on one page\n"
    "\n"
    "Latencies count from when a request was due, not from when it was sent.  Windows: a load is\n"
    "measured until three windows in a row agree, as perf_analyzer does; with --duration or\n"
    "--request-count, once.  Scenarios follow\n" SX_SCENARIO_RULES
    ",\nexcept that they last --min-duration (10 s unless you say 600); the result says if it is "
    "valid.\n"
    "\n"
    "Here, status 1 means: it was measured, but a load missed the objective or requests failed;\n"
    "in a search, or a sweep that -l ends: no load held.  130: interrupted, and what was measured\n"
    "until then is printed.\n";

/* --- what can be measured -----------------------------------------------------------------------
 */

struct job {
    const struct sx_perf_args *p;
    struct sx_measure m;
    struct sx_report report;
    struct sx_perf_progress progress;
    struct sx_perf_asked asked;
    struct sx_arrival trace;
};

static void begin_load(void *arg, enum sx_load_kind kind, double load)
{
    struct job *j = arg;
    sx_perf_progress_begin(&j->progress, kind, load);
}

static void end_load(void *arg, const struct sx_point *p)
{
    struct job *j = arg;
    sx_perf_progress_end(&j->progress);
    if (j->p->json)
        return;
    struct sx_sbuf text = {0};
    sx_report_point_text(&text, &j->report, j->m.series, p);
    if (!text.failed)
        printf("%s\n", text.data);
    fflush(stdout);
    sx_sbuf_free(&text);
}

/* Loads from start to end, until one takes longer than -l allows. */
static enum sx_rc sweep(struct job *j, const struct sx_perf_range *r, bool closed,
                        struct sx_err *err)
{
    enum sx_rc rc = SX_OK;
    bool met = true;
    for (double load = r->start; !rc && (r->end <= 0 || load <= r->end * (1 + 1e-9));
         load += r->step) {
        if (closed && load > j->m.target->slots)
            break;
        rc = closed ? sx_measure_closed(&j->m, (uint32_t)load, &met, err)
                    : sx_measure_rate(&j->m, load, &met, err);
        if (!met && j->p->latency > 0)
            break;
    }
    return rc;
}

static enum sx_rc search(struct job *j, const struct sx_perf_range *r, bool closed,
                         struct sx_err *err)
{
    struct sx_threshold t;
    sx_threshold_init(&t, r->start, r->start, r->end);
    t.whole = closed;
    t.precision = j->p->precision / 100;
    return sx_measure_search(&j->m, closed ? SX_LOAD_CONCURRENCY : SX_LOAD_RATE,
                             closed ? "highest concurrency" : "highest request rate", &t, err);
}

static enum sx_rc measure(struct job *j, struct sx_err *err)
{
    const struct sx_perf_args *p = j->p;
    if (p->scenario)
        return sx_measure_scenario(&j->m, j->asked.scenario, p->precision / 100, err);
    if (p->find_threshold)
        return sx_measure_threshold(&j->m, "congestion threshold", p->precision / 100, err);
    if (j->trace.n_times)
        return sx_measure_trace(&j->m, &j->trace, err);
    bool closed = p->rate == NULL;
    const struct sx_perf_range *r = closed ? &j->asked.closed : &j->asked.open;
    return p->binary_search ? search(j, r, closed, err) : sweep(j, r, closed, err);
}

/* --- results ------------------------------------------------------------------------------------
 */

/* Complains itself: what could not be written does not keep the others from it. */
static enum sx_rc write_file(const char *path,
                             void (*print)(struct sx_sbuf *, const struct sx_report *),
                             const struct sx_report *r)
{
    struct sx_sbuf s = {0};
    struct sx_err err = {0};
    if (!path)
        return SX_OK;
    print(&s, r);
    enum sx_rc rc = s.failed ? sx_fail(&err, SX_NO_MEMORY, "out of memory for the report")
                             : sx_file_write(path, s.data, s.len, &err);
    sx_sbuf_free(&s);
    if (rc)
        sx_complain(NAME, &err);
    else
        fprintf(stderr, NAME ": wrote %s\n", path);
    return rc;
}

static enum sx_rc write_reports(const struct sx_perf_args *p, const struct sx_report *r)
{
    const struct {
        const char *path;
        void (*print)(struct sx_sbuf *, const struct sx_report *);
    } files[] = {
        {p->json_file, sx_report_json}, {p->csv, sx_report_csv}, {p->html, sx_report_html}};
    struct sx_sbuf s = {0};
    enum sx_rc rc = SX_OK;
    if (p->json) {
        sx_report_json(&s, r);
        fputs(s.data ? s.data : "", stdout);
    } else {
        if (r->n_series > 1 || r->series[0].n_points > 1 || r->series[0].verdict.done)
            sx_report_text(&s, r);
        fputs(s.data ? s.data : "", stdout);
    }
    sx_sbuf_free(&s);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        enum sx_rc one = write_file(files[i].path, files[i].print, r);
        rc = rc ? rc : one;
    }
    return rc;
}

static int verdict(const struct sx_perf_args *p, const struct sx_series *s)
{
    bool any = false, all = s->n_points > 0;
    for (size_t i = 0; i < s->n_points; i++) {
        any |= s->points[i].met;
        all &= s->points[i].met;
    }
    if (s->verdict.done) /* after a search, too, its last run is what counts */
        return s->n_points && s->points[s->n_points - 1].met ? SX_EXIT_OK : SX_EXIT_FAILED;
    if (s->found.done)
        return s->found.none ? SX_EXIT_FAILED : SX_EXIT_OK;
    return (p->latency > 0 ? any : all) ? SX_EXIT_OK : SX_EXIT_FAILED;
}

static int compare(const struct sx_perf_args *p, const struct sx_texts *files)
{
    struct sx_err err = {0};
    enum sx_rc rc = sx_report_compare(files->item, files->count, p->title, p->html, &err);
    if (rc)
        sx_complain(NAME, &err);
    else
        fprintf(stderr, NAME ": wrote %s\n", p->html);
    return sx_exit_of(rc);
}

/* --- setting up ---------------------------------------------------------------------------------
 */

static uint64_t seconds(double s)
{
    return s > 0 ? (uint64_t)(s * 1e9) : 0;
}

static void set_run_options(struct job *j)
{
    const struct sx_perf_args *p = j->p;
    struct sx_run_opts *o = &j->m.run;
    bool fixed = p->find_threshold || j->trace.n_times;
    double duration = p->scenario                  ? p->min_duration
                      : p->duration > 0            ? p->duration
                      : fixed && !j->trace.n_times ? 5
                                                   : 0;
    *o = (struct sx_run_opts){
        .duration_ns = seconds(duration),
        .requests = p->requests,
        .window_ns = p->window_requests ? 0 : seconds(p->interval_ms * 1e-3),
        .window_requests = p->window_requests,
        .max_windows = (int)p->max_trials,
        .stability = p->stability,
        .percentile = p->percentile,
        .objective_ns = seconds(j->report.objective_ms * 1e-3),
        .drain_ns = seconds(p->timeout),
        .progress = sx_perf_progress_show,
        .progress_arg = &j->progress,
        .stop = &interrupted,
    };
    if (j->trace.n_times && !duration && !o->requests)
        o->requests = j->trace.n_times;
    bool windows = !o->duration_ns && !o->requests;
    // windows that are not warm yet don't agree with those that are: they need no warm-up
    o->warmup_ns = p->warmup >= 0                ? seconds(p->warmup)
                   : windows || j->trace.n_times ? 0
                   : duration > 10               ? SX_S
                                                 : seconds(duration) / 10;
}

static void join_command(char *to, size_t size, int argc, char **argv)
{
    size_t len = (size_t)snprintf(to, size, "staronnx");
    for (int i = 0; i < argc && len < size; i++) {
        bool plain = argv[i][0] && !argv[i][strcspn(argv[i], " \t\"'$\\*?;&|<>()#")];
        len += (size_t)snprintf(to + len, size - len, plain ? " %s" : " '%s'", argv[i]);
    }
}

static void describe_load(const struct sx_perf_args *p, char *to, size_t size)
{
    if (p->scenario)
        snprintf(to, size, "MLPerf %s", p->scenario);
    else if (p->trace || p->intervals || p->trace_counts)
        snprintf(to, size, "open loop, %s",
                 p->trace       ? p->trace
                 : p->intervals ? p->intervals
                                : p->trace_counts);
    else if (p->rate || p->find_threshold)
        snprintf(to, size, "open loop, %s arrivals, seed %llu", p->distribution,
                 (unsigned long long)p->seed);
    else
        snprintf(to, size, "closed loop");
    size_t len = strlen(to);
    if (p->target.batch > 1 && len < size)
        snprintf(to + len, size - len, ", batch %llu", (unsigned long long)p->target.batch);
}

static int run(struct job *j, int argc, char **argv)
{
    const struct sx_perf_args *p = j->p;
    struct sx_err err = {0};
    struct sx_perf_opened opened = {0};
    sx_report_init(&j->report);
    j->report.objective_ms = p->objective > 0 ? p->objective : p->latency;
    j->report.percentile = p->percentile > 0 ? p->percentile : 99;
    if (p->scenario && sx_scenario(j->asked.scenario)->percentile > 0)
        j->report.percentile = sx_scenario(j->asked.scenario)->percentile;
    enum sx_rc rc = p->target.model_path ? sx_perf_open_inproc(&p->target, &opened, &err)
                                         : sx_perf_open_http(&p->target, &opened, &err);
    if (rc) {
        sx_complain(NAME, &err);
        return sx_exit_of(rc);
    }
    struct sx_series *s = sx_report_series(&j->report, p->name ? p->name : "");
    if (!s)
        rc = sx_fail(&err, SX_NO_MEMORY, "out of memory");
    if (!rc) {
        snprintf(s->model, sizeof(s->model), "%s", opened.target->model);
        snprintf(s->target, sizeof(s->target), "%s", opened.target->name);
        snprintf(j->report.title, sizeof(j->report.title), "%s",
                 p->title ? p->title : opened.target->model);
        join_command(s->command, sizeof(s->command), argc, argv);
        describe_load(p, s->load, sizeof(s->load));
        j->m.target = opened.target;
        j->m.report = &j->report;
        j->m.series = s;
        j->m.begin = begin_load;
        j->m.end = end_load;
        j->m.arg = j;
        j->m.load = j->asked.arrivals;
        set_run_options(j);
        signal(SIGINT, on_signal);
        signal(SIGTERM, on_signal);
        rc = measure(j, &err);
        sx_perf_progress_end(&j->progress);
    }
    if (rc)
        sx_complain(NAME, &err);
    int code = rc == SX_CANCELLED ? 130 : rc ? sx_exit_of(rc) : verdict(p, s);
    if (s && s->n_points > 0) {
        rc = write_reports(p, &j->report);
        if (rc)
            code = sx_exit_of(rc);
    }
    opened.close(&opened);
    sx_report_fini(&j->report);
    return code;
}

static enum sx_rc read_trace(struct job *j, const struct sx_perf_args *p, struct sx_err *err)
{
    if (p->trace)
        return sx_arrival_file(&j->trace, p->trace, SX_TRACE_TIMES, j->asked.trace_unit, false,
                               p->seed, err);
    if (p->intervals)
        return sx_arrival_file(&j->trace, p->intervals, SX_TRACE_GAPS, SX_US, p->duration > 0,
                               p->seed, err);
    if (p->trace_counts)
        return sx_arrival_file(&j->trace, p->trace_counts, SX_TRACE_COUNTS, 60 * SX_S, false,
                               p->seed, err);
    return SX_OK;
}

int sx_cmd_perf(int argc, char **argv)
{
    struct sx_perf_args p = {
        .target = {.input_data = "random", .batch = 1},
        .distribution = "poisson",
        .trace_unit = "s",
        .gamma_shape = 0.25,
        .protocol = "http",
        .mode = "time_windows",
        .warmup = -1,
        .min_duration = 10,
        .interval_ms = 5000,
        .stability = 10,
        .timeout = 30,
        .precision = 2,
        .max_trials = 10,
        .connections = 1024,
        .seed = 1,
    };
    struct sx_perf_target_options *t = &p.target;
    const struct sx_option options[] = {
        {.kind = SX_OPT_HEADING, .help = "What to measure"},
        {"model", 'm', "NAME", SX_OPT_TEXT, &t->model, "the model on the server"},
        {"model-version", 'x', "N", SX_OPT_TEXT, &t->version,
         "its version (default: the server's)"},
        {"url", 'u', "HOST:PORT", SX_OPT_TEXT, &t->url, "the server (default: localhost:8000)"},
        {"protocol", 'i', "http", SX_OPT_TEXT, &p.protocol, "how to talk to it"},
        {"model-path", 0, "FILE", SX_OPT_TEXT, &t->model_path,
         "run this .onnx file in this process instead; the same as the operand"},
        {"device", 0, "DEVICE", SX_OPT_LIST, &t->devices, "in this process, " SX_DEVICE_HELP},
        {"onnxruntime", 0, "PATH", SX_OPT_TEXT, &t->onnxruntime,
         "ONNX Runtime to load in this process"},
        {.kind = SX_OPT_HEADING, .help = "Requests"},
        {"batch-size", 'b', "N", SX_OPT_UINT, &t->batch, "samples in a request (default: 1)"},
        {"shape", 0, "NAME:D,D", SX_OPT_LIST, &t->shapes,
         "the shape of an input with free dimensions"},
        {"input-data", 0, "WHAT", SX_OPT_TEXT, &t->input_data,
         "zero, random (default), or a .json, .npy or raw file, or a directory with a file per "
         "input"},
        {"json-tensors", 0, NULL, SX_OPT_FLAG, &t->json_tensors,
         "send and ask for tensors as JSON, not as binary data"},
        {"server-timeout", 0, "US", SX_OPT_UINT, &p.server_timeout,
         "the protocol's timeout parameter, in microseconds"},
        {"priority", 0, "N", SX_OPT_UINT, &p.priority, "the protocol's priority parameter"},
        {.kind = SX_OPT_HEADING, .help = "Load (one of these; default: one request in flight)"},
        {"concurrency-range", 0, "S:E:STEP", SX_OPT_TEXT, &p.concurrency,
         "closed loop: requests in flight"},
        {"request-rate-range", 0, "S:E:STEP", SX_OPT_TEXT, &p.rate,
         "open loop: requests per second"},
        {"request-intervals", 0, "FILE", SX_OPT_TEXT, &p.intervals,
         "open loop: gaps in microseconds, one a line; with --duration, from the start again"},
        {"trace", 0, "FILE", SX_OPT_TEXT, &p.trace, "open loop: times of requests, one a line"},
        {"trace-counts", 0, "FILE", SX_OPT_TEXT, &p.trace_counts,
         "open loop: numbers of requests in successive minutes, one a line"},
        {"scenario", 0, "NAME", SX_OPT_TEXT, &p.scenario,
         "MLPerf's SingleStream, MultiStream, Server or Offline"},
        {"find-threshold", 0, NULL, SX_OPT_FLAG, &p.find_threshold,
         "search the highest rate at which all but 1 % are answered within the objective"},
        {"binary-search", 0, NULL, SX_OPT_FLAG, &p.binary_search,
         "search a range for the highest load that holds, instead of measuring all of it"},
        {"request-distribution", 0, "KIND", SX_OPT_TEXT, &p.distribution,
         "constant, poisson (default) or gamma"},
        {"gamma-shape", 0, "K", SX_OPT_REAL, &p.gamma_shape,
         "below 1: bursts (default: 0.25, gaps that vary twice as much as Poisson's)"},
        {"trace-unit", 0, "UNIT", SX_OPT_TEXT, &p.trace_unit, "of --trace: s (default), ms or us"},
        {"max-connections", 0, "N", SX_OPT_UINT, &p.connections,
         "open loop: requests in flight at most (default: 1024)"},
        {"seed", 0, "N", SX_OPT_UINT, &p.seed, "of random times and data (default: 1)"},
        {.kind = SX_OPT_HEADING, .help = "Measuring"},
        {"measurement-interval", 'p', "MS", SX_OPT_REAL, &p.interval_ms,
         "length of a window (default: 5000)"},
        {"measurement-request-count", 0, "N", SX_OPT_UINT, &p.window_requests,
         "windows of so many requests instead"},
        {"measurement-mode", 0, "MODE", SX_OPT_TEXT, &p.mode,
         "time_windows, or count_windows: of 50 requests unless the option above says"},
        {"stability-percentage", 's', "PCT", SX_OPT_REAL, &p.stability,
         "how far three windows may differ from their mean (default: 10)"},
        {"max-trials", 'r', "N", SX_OPT_UINT, &p.max_trials, "windows at most (default: 10)"},
        {"duration", 0, "S", SX_OPT_REAL, &p.duration,
         "measure each load once, for so long; trials of --find-threshold take 5 s by default"},
        {"request-count", 0, "N", SX_OPT_UINT, &p.requests,
         "measure each load once, for so many requests"},
        {"min-duration", 0, "S", SX_OPT_REAL, &p.min_duration,
         "of a scenario (default: 10; the rules: 600)"},
        {"warmup", 0, "S", SX_OPT_REAL, &p.warmup,
         "before each load, unmeasured (default: a tenth of --duration, at most 1 s; else none)"},
        {"timeout", 0, "S", SX_OPT_REAL, &p.timeout,
         "after which a request counts as lost (default: 30)"},
        {"percentile", 0, "P", SX_OPT_REAL, &p.percentile,
         "which latency is judged (default: p99) and must be stable (default: the mean)"},
        {"objective", 0, "MS", SX_OPT_REAL, &p.objective, "judge each load by that percentile"},
        {"latency-threshold", 'l', "MS", SX_OPT_REAL, &p.latency,
         "the same, and a sweep ends at the first load that misses it"},
        {"precision", 0, "PCT", SX_OPT_REAL, &p.precision, "of a search (default: 2)"},
        {.kind = SX_OPT_HEADING, .help = "Results"},
        {"json", 'j', NULL, SX_OPT_FLAG, &p.json, "print one JSON object and nothing else"},
        {"output", 'o', "FILE", SX_OPT_TEXT, &p.json_file, "write that object to a file"},
        {"html", 0, "FILE", SX_OPT_TEXT, &p.html, "write a page with curves"},
        {"csv", 'f', "FILE", SX_OPT_TEXT, &p.csv,
         "write perf_analyzer's CSV columns, and some more"},
        {"name", 0, "TEXT", SX_OPT_TEXT, &p.name, "what to call this result next to others"},
        {"title", 0, "TEXT", SX_OPT_TEXT, &p.title, "of the page"},
        {"compare", 0, NULL, SX_OPT_FLAG, &p.compare,
         "measure nothing: put JSON results (FILE or NAME=FILE) on one page"},
        {"quiet", 'q', NULL, SX_OPT_FLAG, &p.quiet, "no progress line"},
        {"async", 'a', NULL, SX_OPT_FLAG, &(bool){false},
         "accepted: requests never wait for each other here"},
        {.kind = SX_OPT_FLAG},
    };
    const struct sx_usage usage = {
        .name = NAME,
        .operands = "[FILE.onnx | --compare RESULT.json ...]",
        .summary = "Put load on a model and report latency and throughput: over HTTP against any "
                   "server of the Open Inference Protocol, or in this process.",
        .details = details,
        .options = options,
        .max_operands = SIZE_MAX,
    };
    struct sx_texts operands = {0};
    struct sx_err err = {0};
    struct job j = {.p = &p};
    int code = sx_options_parse(&usage, argc, argv, &operands);
    if (code < 0)
        code = sx_perf_check(&p, &usage, &operands, &j.asked);
    if (code < 0 && p.compare)
        code = compare(&p, &operands);
    if (code < 0) {
        enum sx_rc rc = read_trace(&j, &p, &err);
        if (rc) {
            sx_complain(NAME, &err);
            code = sx_exit_of(rc);
        }
    }
    if (code < 0) {
        t->seed = p.seed;
        t->quiet = p.quiet;
        t->priority = p.priority;
        t->server_timeout_us = p.server_timeout;
        t->timeout_ns = seconds(p.timeout);
        j.progress.tty = isatty(STDERR_FILENO);
        j.progress.off = p.quiet;
        code = run(&j, argc, argv);
    }
    sx_arrival_fini(&j.trace);
    sx_texts_free(&t->shapes);
    sx_texts_free(&t->devices);
    sx_texts_free(&operands);
    return code;
}
