/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * report.h - measurements as data, and that data as text, JSON, CSV and HTML.
 *
 * A report holds series ("StarONNX", "plain ONNX Runtime"), a series holds points (one per load).
 * JSON carries everything, so reports can be read back and set next to each other.
 *
 *     sx_report_init -> sx_report_series, sx_series_add, ... -> write -> sx_report_fini
 */
#ifndef SX_PERF_REPORT_H
#define SX_PERF_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rc.h"
#include "base/sbuf.h"
#include "perf/run.h"
#include "perf/stats.h"

#define SX_CDF_MAX 96

/*   code, key in JSON, column head, what a value is called in a sentence */
#define SX_LOAD_KIND_TABLE(X)                                                                      \
    X(CONCURRENCY, "concurrency", "Concurrency", "concurrency")                                    \
    X(RATE, "rate", "Request Rate", "request rate")                                                \
    X(TRACE, "trace", "Request Rate", "trace with a mean request rate of")

enum sx_load_kind {
#define SX_LOAD_ENUM(code, key, head, text) SX_LOAD_##code,
    SX_LOAD_KIND_TABLE(SX_LOAD_ENUM)
#undef SX_LOAD_ENUM
        SX_LOAD_KIND_COUNT
};

struct sx_cdf_step {
    float us, share;
};

/* One load.  Rates are per second; throughput and goodput count inferences, load requests. */
struct sx_point {
    enum sx_load_kind kind;
    double load;
    uint32_t per_query; /* inferences in a request */
    double seconds, throughput, goodput;
    double within; /* share of all requests answered within the objective */
    uint64_t outcome[SX_OUTCOME_COUNT];
    double mean_us, stddev_us, min_us, max_us, p50_us, p90_us, p95_us, p99_us, p999_us;
    double objective_us; /* latency at the objective's percentile */
    bool met; /* nothing was lost, and at least `percentile` of all requests, refused ones
                 included, were answered within the objective; without one: none failed */
    double late_percent, lag_p99_us, cpu;
    int windows;
    bool stable;
    /* What the server says of this load, warm-up included; means of a request.  server_requests 0:
     * it does not say. */
    double server_requests, server_samples, server_runs;
    double server_queue_us, server_input_us, server_infer_us, server_output_us;
    size_t n_cdf;
    struct sx_cdf_step cdf[SX_CDF_MAX];
    size_t n_moments;
    struct sx_moment *moments; /* owned */
};

/* What a search for the highest load found. */
struct sx_found {
    bool done;         /* there was a search */
    bool none;         /* no load held */
    bool client_bound; /* the client, not the target, was the limit */
    char what[48];     /* "congestion threshold" */
    enum sx_load_kind kind;
    double value; /* the highest load that held */
    double above; /* the lowest one that did not; 0: none was found */
    int trials;
};

/* How an MLPerf scenario went. */
struct sx_verdict {
    bool done, valid; /* by the full rules */
    char scenario[24], metric[64], unit[24];
    double value;
    char rules[160];   /* which rules it was held against */
    char reasons[512]; /* why not valid, one a line */
};

struct sx_series {
    char name[96], model[128], target[256], load[160];
    char machine[256], command[1024], when[40];
    size_t n_points, cap_points;
    struct sx_point *points;
    struct sx_found found;
    struct sx_verdict verdict;
    char example[SX_OUTCOME_COUNT][192]; /* a message for each kind of failure */
};

struct sx_report {
    char title[160];
    double objective_ms; /* 0: none */
    double percentile;   /* of the objective */
    size_t n_series;
    struct sx_series *series;
};

void sx_report_init(struct sx_report *r);
void sx_report_fini(struct sx_report *r);
/* A new series, with machine and time filled in; valid until the next one is added.  NULL when
 * memory is short. */
struct sx_series *sx_report_series(struct sx_report *r, const char *name);
/* Takes the point over, with its moments; on failure the caller keeps it. */
enum sx_rc sx_series_add(struct sx_series *s, struct sx_point *p);

/* Turn a run into a point; takes the run's moments over. */
void sx_point_from_run(struct sx_point *p, enum sx_load_kind kind, double load,
                       struct sx_run_result *run, double objective_ms, double percentile);
/* What the server counted during the load, from what it said before and after. */
void sx_point_add_server(struct sx_point *p, const struct sx_server_times *before,
                         const struct sx_server_times *after);
/* The index of the point that a series is best shown by: the highest throughput among those that
 * met the objective, else the highest of all; -1 without points. */
int sx_series_best(const struct sx_series *s);

/* --- forms --------------------------------------------------------------------------------------
 */

/* One point in perf_analyzer's words. */
void sx_report_point_text(struct sx_sbuf *out, const struct sx_report *r, const struct sx_series *s,
                          const struct sx_point *p);
/* All points of all series as a table, and what was found. */
void sx_report_text(struct sx_sbuf *out, const struct sx_report *r);
/* perf_analyzer's columns, then ours. */
void sx_report_csv(struct sx_sbuf *out, const struct sx_report *r);
void sx_report_json(struct sx_sbuf *out, const struct sx_report *r);
/* A page that needs nothing but itself. */
void sx_report_html(struct sx_sbuf *out, const struct sx_report *r);

/* Append the series of a JSON report to `r`; takes the title over where `r` has none, and the
 * objective where it has no series: one that was judged by another is refused (SX_INVALID).  `name`
 * renames them (may be NULL). */
enum sx_rc sx_report_read(struct sx_report *r, const char *json, size_t len, const char *name,
                          struct sx_err *err);
/* Read `n` files and write them as one page: what `staronnx perf --compare` does. */
enum sx_rc sx_report_compare(const char *const *paths, size_t n, const char *title,
                             const char *html_path, struct sx_err *err);

/* "12.3 ms": a time in microseconds for people, into `buf`, which is returned. */
const char *sx_text_us(char buf[24], double us);
/* "12,345": three or more significant digits, thousands set apart. */
const char *sx_text_number(char buf[32], double x);

#endif
