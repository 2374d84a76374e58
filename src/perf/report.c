/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "perf/report.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

void sx_report_init(struct sx_report *r)
{
    memset(r, 0, sizeof(*r));
    r->percentile = 99;
}

void sx_report_fini(struct sx_report *r)
{
    for (size_t i = 0; i < r->n_series; i++) {
        struct sx_series *s = &r->series[i];
        for (size_t k = 0; k < s->n_points; k++)
            free(s->points[k].moments);
        free(s->points);
    }
    free(r->series);
    memset(r, 0, sizeof(*r));
}

/* "Intel(R) Xeon(R) ..., 2 CPUs, 7.8 GiB, Linux 6.1" */
static void describe_machine(char *to, size_t size)
{
    char model[128] = "unknown processor", *text;
    size_t len;
    if (sx_file_read("/proc/cpuinfo", 0, &text, &len, NULL) == SX_OK) {
        char *at = strstr(text, "model name");
        if (at && (at = strchr(at, ':')))
            snprintf(model, sizeof(model), "%.*s", (int)strcspn(at + 2, "\n"), at + 2);
        free(text);
    }
    struct utsname u = {0};
    uname(&u);
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    snprintf(to, size, "%s, %ld CPU%s, %.1f GiB, Linux %.60s", model, cpus, cpus == 1 ? "" : "s",
             (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / 0x1p30, u.release);
}

struct sx_series *sx_report_series(struct sx_report *r, const char *name)
{
    struct sx_series *grown = realloc(r->series, (r->n_series + 1) * sizeof(*grown));
    if (!grown)
        return NULL;
    r->series = grown;
    struct sx_series *s = &grown[r->n_series++];
    memset(s, 0, sizeof(*s));
    snprintf(s->name, sizeof(s->name), "%s", name);
    describe_machine(s->machine, sizeof(s->machine));
    time_t now = time(NULL);
    struct tm tm;
    strftime(s->when, sizeof(s->when), "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&now, &tm));
    return s;
}

enum sx_rc sx_series_add(struct sx_series *s, struct sx_point *p)
{
    if (s->n_points == s->cap_points) {
        size_t cap = s->cap_points ? 2 * s->cap_points : 8;
        struct sx_point *grown = realloc(s->points, cap * sizeof(*grown));
        if (!grown)
            return SX_NO_MEMORY;
        s->points = grown;
        s->cap_points = cap;
    }
    s->points[s->n_points++] = *p;
    p->moments = NULL;
    p->n_moments = 0;
    return SX_OK;
}

/* Steps close together where the tail is: the shares are 1 - 10^-x. */
static void take_cdf(struct sx_point *p, const struct sx_hist *h)
{
    if (h->count == 0)
        return;
    double last = log10((double)h->count);
    last = last > 4 ? 4 : last;
    for (int i = 0; i < SX_CDF_MAX; i++) {
        double share = 1 - pow(10, -last * i / (SX_CDF_MAX - 2.0));
        if (i == SX_CDF_MAX - 1)
            share = 1;
        p->cdf[p->n_cdf++] = (struct sx_cdf_step){
            .us = (float)((double)sx_hist_quantile(h, share) * 1e-3),
            .share = (float)share,
        };
    }
}

void sx_point_from_run(struct sx_point *p, enum sx_load_kind kind, double load,
                       struct sx_run_result *run, double objective_ms, double percentile)
{
    const struct sx_stats *s = &run->stats;
    const struct sx_hist *h = &s->latency;
    uint64_t total = sx_stats_total(s);
    memset(p, 0, sizeof(*p));
    p->kind = kind;
    p->load = load;
    p->per_query = run->per_query;
    p->seconds = run->seconds;
    p->throughput = run->throughput * run->per_query;
    p->within = total ? (double)s->within / (double)total : 0;
    if (s->outcome[SX_OUTCOME_OK])
        p->goodput = p->throughput * (double)s->within / (double)s->outcome[SX_OUTCOME_OK];
    memcpy(p->outcome, s->outcome, sizeof(p->outcome));
    p->mean_us = sx_hist_mean(h) * 1e-3;
    p->stddev_us = sx_hist_stddev(h) * 1e-3;
    p->min_us = h->count ? (double)h->min_ns * 1e-3 : 0;
    p->max_us = (double)h->max_ns * 1e-3;
    p->p50_us = (double)sx_hist_quantile(h, 0.5) * 1e-3;
    p->p90_us = (double)sx_hist_quantile(h, 0.9) * 1e-3;
    p->p95_us = (double)sx_hist_quantile(h, 0.95) * 1e-3;
    p->p99_us = (double)sx_hist_quantile(h, 0.99) * 1e-3;
    p->p999_us = (double)sx_hist_quantile(h, 0.999) * 1e-3;
    p->objective_us = (double)sx_hist_quantile(h, percentile / 100) * 1e-3;
    /* Who is refused misses the objective like who waits too long.  99.9 / 100 is a little over
     * 0.999, which must do. */
    double share = percentile / 100 * (1 - 4 * DBL_EPSILON);
    p->met = h->count > 0 &&
             (objective_ms > 0 ? !sx_stats_lost(s) && p->within >= share : !sx_stats_failed(s));
    p->late_percent = s->lag.count ? 100.0 * (double)s->late / (double)s->lag.count : 0;
    p->lag_p99_us = (double)sx_hist_quantile(&s->lag, 0.99) * 1e-3;
    p->cpu = run->cpu;
    p->windows = run->windows;
    p->stable = run->stable;
    take_cdf(p, h);
    p->moments = run->moments;
    p->n_moments = run->n_moments;
    run->moments = NULL;
    run->n_moments = 0;
}

void sx_point_add_server(struct sx_point *p, const struct sx_server_times *before,
                         const struct sx_server_times *after)
{
    if (after->requests <= before->requests) /* nothing, or it was started again */
        return;
    p->server_requests = (double)(after->requests - before->requests);
    p->server_samples = (double)(after->samples - before->samples);
    p->server_runs = (double)(after->runs - before->runs);
    double to_us = 1e-3 / p->server_requests;
    p->server_queue_us = (double)(after->queue_ns - before->queue_ns) * to_us;
    p->server_input_us = (double)(after->input_ns - before->input_ns) * to_us;
    p->server_infer_us = (double)(after->infer_ns - before->infer_ns) * to_us;
    p->server_output_us = (double)(after->output_ns - before->output_ns) * to_us;
}

int sx_series_best(const struct sx_series *s)
{
    int best = -1;
    for (size_t i = 0; i < s->n_points; i++) {
        const struct sx_point *p = &s->points[i];
        if (best < 0 || (p->met && !s->points[best].met) ||
            (p->met == s->points[best].met && p->throughput > s->points[best].throughput))
            best = (int)i;
    }
    return best;
}

const char *sx_text_us(char buf[24], double us)
{
    if (us < 1e3)
        snprintf(buf, 24, us < 100 ? "%.1f us" : "%.0f us", us);
    else if (us < 1e6)
        snprintf(buf, 24, us < 1e4 ? "%.2f ms" : us < 1e5 ? "%.1f ms" : "%.0f ms", us * 1e-3);
    else
        snprintf(buf, 24, us < 1e8 ? "%.2f s" : "%.0f s", us * 1e-6);
    return buf;
}

const char *sx_text_number(char buf[32], double x)
{
    char digits[32];
    double a = fabs(x);
    snprintf(digits, sizeof(digits), a < 10 ? "%.2f" : a < 1000 ? "%.1f" : "%.0f", x);
    size_t whole = strcspn(digits, "."), k = 0;
    size_t sign = digits[0] == '-';
    for (size_t i = 0; digits[i] && k < 30; i++) {
        if (i > sign && i < whole && (whole - i) % 3 == 0)
            buf[k++] = ',';
        buf[k++] = digits[i];
    }
    buf[k] = 0;
    return buf;
}
