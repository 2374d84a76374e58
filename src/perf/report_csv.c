/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "perf/report.h"

static const char *const kind_head[] = {
#define KIND_HEAD(code, key, head, text) head,
    SX_LOAD_KIND_TABLE(KIND_HEAD)
#undef KIND_HEAD
};

static uint64_t failed(const struct sx_point *p)
{
    uint64_t n = 0;
    for (int i = SX_OUTCOME_OK + 1; i < SX_OUTCOME_COUNT; i++)
        n += p->outcome[i];
    return n;
}

static const struct sx_point *nth_by_throughput(const struct sx_series *s, size_t n)
{
    for (size_t i = 0; i < s->n_points; i++) {
        size_t below = 0;
        for (size_t k = 0; k < s->n_points; k++) {
            double a = s->points[k].throughput, b = s->points[i].throughput;
            below += a < b || (!(a > b) && k < i);
        }
        if (below == n)
            return &s->points[i];
    }
    return NULL;
}

static void add_csv_text(struct sx_sbuf *out, const char *text)
{
    sx_sbuf_putc(out, '"');
    for (; *text; text++) {
        if (*text == '"')
            sx_sbuf_putc(out, '"');
        sx_sbuf_putc(out, *text);
    }
    sx_sbuf_putc(out, '"');
}

void sx_report_csv(struct sx_sbuf *out, const struct sx_report *r)
{
    enum sx_load_kind kind =
        r->n_series && r->series[0].n_points ? r->series[0].points[0].kind : SX_LOAD_CONCURRENCY;
    sx_sbuf_printf(out,
                   "%s,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,"
                   "Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,"
                   "p50 latency,p90 latency,p95 latency,p99 latency,p99.9 latency,Avg latency,"
                   "Goodput,Failed,Late Percent,Series\n",
                   kind_head[kind]);
    for (size_t i = 0; i < r->n_series; i++) {
        for (size_t k = 0; k < r->series[i].n_points; k++) {
            const struct sx_point *p = nth_by_throughput(&r->series[i], k);
            if (!p)
                continue;
            double inside =
                p->server_queue_us + p->server_input_us + p->server_infer_us + p->server_output_us;
            sx_sbuf_printf(out, "%.10g,%.2f,,%.0f,", p->load, p->throughput,
                           fmax(p->mean_us - inside, 0));
            if (p->server_requests > 0)
                sx_sbuf_printf(out, "%.0f,%.0f,%.0f,%.0f,", p->server_queue_us, p->server_input_us,
                               p->server_infer_us, p->server_output_us);
            else
                sx_sbuf_puts(out, ",,,,"); // not known, which is not 0
            sx_sbuf_printf(out, ",%.0f,%.0f,%.0f,%.0f,%.0f,%.0f,%.2f,%llu,%.2f,", p->p50_us,
                           p->p90_us, p->p95_us, p->p99_us, p->p999_us, p->mean_us, p->goodput,
                           (unsigned long long)failed(p), p->late_percent);
            add_csv_text(out, r->series[i].name);
            sx_sbuf_putc(out, '\n');
        }
    }
}
