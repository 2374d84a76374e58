/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "perf/report.h"

static const char *const kind_text[] = {
#define KIND_TEXT(code, key, head, text) text,
    SX_LOAD_KIND_TABLE(KIND_TEXT)
#undef KIND_TEXT
};

static uint64_t total(const struct sx_point *p)
{
    uint64_t n = 0;
    for (int i = 0; i < SX_OUTCOME_COUNT; i++)
        n += p->outcome[i];
    return n;
}

static const char *load_text(char buf[32], enum sx_load_kind kind, double load)
{
    if (kind != SX_LOAD_CONCURRENCY)
        return sx_text_number(buf, load);
    snprintf(buf, 32, "%.0f", load);
    return buf;
}

static void add_failures(struct sx_sbuf *out, const struct sx_series *s, const struct sx_point *p)
{
    uint64_t all = total(p);
    if (all == p->outcome[SX_OUTCOME_OK])
        return;
    sx_sbuf_printf(out, "    Failed: %llu of %llu (%.2f %%)\n",
                   (unsigned long long)(all - p->outcome[SX_OUTCOME_OK]), (unsigned long long)all,
                   100.0 * (double)(all - p->outcome[SX_OUTCOME_OK]) / (double)all);
    for (int i = SX_OUTCOME_OK + 1; i < SX_OUTCOME_COUNT; i++) {
        if (!p->outcome[i])
            continue;
        sx_sbuf_printf(out, "      %llu %s", (unsigned long long)p->outcome[i],
                       sx_outcome_text((enum sx_outcome)i));
        if (s->example[i][0])
            sx_sbuf_printf(out, " (%s)", s->example[i]);
        sx_sbuf_putc(out, '\n');
    }
}

void sx_report_point_text(struct sx_sbuf *out, const struct sx_report *r, const struct sx_series *s,
                          const struct sx_point *p)
{
    char load[32];
    sx_sbuf_printf(out, "%s: ",
                   p->kind == SX_LOAD_CONCURRENCY ? "Request concurrency"
                   : p->kind == SX_LOAD_RATE      ? "Request rate"
                                                  : "Trace, mean request rate");
    sx_sbuf_puts(out, load_text(load, p->kind, p->load));
    sx_sbuf_printf(out, "\n  Client:\n    Request count: %llu in %.1f s",
                   (unsigned long long)total(p), p->seconds);
    if (p->windows)
        sx_sbuf_printf(out, " (%d windows, %s)", p->windows,
                       p->stable ? "stable" : "NOT stable: numbers are of the last ones");
    sx_sbuf_printf(out, "\n    Throughput: %.2f infer/sec\n", p->throughput);
    if (r->objective_ms > 0)
        sx_sbuf_printf(out, "    Goodput: %.2f infer/sec within %g ms (%.2f %% of requests)\n",
                       p->goodput, r->objective_ms, 100 * p->within);
    add_failures(out, s, p);
    if (p->outcome[SX_OUTCOME_OK]) {
        sx_sbuf_printf(out, "    Avg latency: %.0f usec (standard deviation %.0f usec)\n",
                       p->mean_us, p->stddev_us);
        sx_sbuf_printf(out,
                       "    p50 latency: %.0f usec\n    p90 latency: %.0f usec\n"
                       "    p95 latency: %.0f usec\n    p99 latency: %.0f usec\n"
                       "    p99.9 latency: %.0f usec\n",
                       p->p50_us, p->p90_us, p->p95_us, p->p99_us, p->p999_us);
    }
    if (p->server_requests > 0)
        sx_sbuf_printf(out,
                       "  Server:\n    Inference count: %.0f in %.0f runs\n"
                       "    Avg request: queue %.0f usec + compute input %.0f usec + compute infer "
                       "%.0f usec + compute output %.0f usec\n",
                       p->server_samples, p->server_runs, p->server_queue_us, p->server_input_us,
                       p->server_infer_us, p->server_output_us);
    if (p->kind != SX_LOAD_CONCURRENCY && p->late_percent >= 1)
        sx_sbuf_printf(out,
                       "    WARNING: %.1f %% of the requests were sent more than 1 ms late (p99 "
                       "%.1f ms); latencies count from the time they were due\n",
                       p->late_percent, p->lag_p99_us * 1e-3);
    if (p->cpu > 0.9)
        sx_sbuf_printf(out,
                       "    WARNING: the client used %.0f %% of its core and may be the limit\n",
                       100 * p->cpu);
}

/* --- the table ----------------------------------------------------------------------------------
 */

enum { COLUMNS = 10 };

struct row {
    char cell[COLUMNS][40];
};

static void fill_row(struct row *row, const struct sx_report *r, const struct sx_series *s,
                     const struct sx_point *p)
{
    char n[32];
    const double us[] = {p->p50_us, p->p90_us, p->p95_us, p->p99_us, p->p999_us};
    snprintf(row->cell[0], sizeof(row->cell[0]), "%.38s", s->name);
    snprintf(row->cell[1], sizeof(row->cell[1]), "%s", load_text(n, p->kind, p->load));
    snprintf(row->cell[2], sizeof(row->cell[2]), "%s", sx_text_number(n, p->throughput));
    for (int i = 0; i < 5; i++) {
        char text[24];
        snprintf(row->cell[3 + i], sizeof(row->cell[0]), "%s",
                 p->outcome[SX_OUTCOME_OK] ? sx_text_us(text, us[i]) : "-");
    }
    snprintf(row->cell[8], sizeof(row->cell[8]), "%llu",
             (unsigned long long)(total(p) - p->outcome[SX_OUTCOME_OK]));
    snprintf(row->cell[9], sizeof(row->cell[9]), "%s%s",
             r->objective_ms > 0 ? (p->met ? "met" : "missed") : (p->met ? "ok" : "failures"),
             p->stable ? "" : ", unstable");
}

static void add_table(struct sx_sbuf *out, const struct sx_report *r)
{
    static const char *const head[COLUMNS] = {"",    "",    "infer/s", "p50",    "p90",
                                              "p95", "p99", "p99.9",   "failed", "result"};
    size_t width[COLUMNS] = {0};
    struct row row;
    enum sx_load_kind kind = SX_LOAD_CONCURRENCY;
    bool names = r->n_series > 1;
    for (int pass = 0; pass < 2; pass++) { // widths, then text
        for (int c = 0; c < COLUMNS; c++) {
            const char *h = c == 1 ? kind_text[kind == SX_LOAD_TRACE ? SX_LOAD_RATE : kind]
                            : c == 9 && r->objective_ms > 0 ? "objective"
                                                            : head[c];
            width[c] = strlen(h) > width[c] ? strlen(h) : width[c];
            if (pass == 1 && (c > 0 || names))
                sx_sbuf_printf(out, c == 0 || c == 9 ? "  %-*s" : "  %*s",
                               c == 9 ? 0 : (int)width[c], h);
        }
        for (size_t i = 0; i < r->n_series; i++) {
            for (size_t k = 0; k < r->series[i].n_points; k++) {
                kind = r->series[i].points[k].kind;
                fill_row(&row, r, &r->series[i], &r->series[i].points[k]);
                if (pass == 1)
                    sx_sbuf_putc(out, '\n');
                for (int c = 0; c < COLUMNS; c++) {
                    size_t len = strlen(row.cell[c]);
                    width[c] = len > width[c] ? len : width[c];
                    if (pass == 1 && (c > 0 || names))
                        sx_sbuf_printf(out, c == 0 || c == 9 ? "  %-*s" : "  %*s",
                                       c == 9 ? 0 : (int)width[c], row.cell[c]);
                }
            }
        }
    }
    sx_sbuf_putc(out, '\n');
}

static void add_found(struct sx_sbuf *out, const struct sx_report *r, const struct sx_series *s)
{
    const struct sx_found *f = &s->found;
    char a[32], b[32];
    if (!f->done)
        return;
    sx_sbuf_printf(out, "\n%s%s", s->name, s->name[0] ? ": " : "");
    if (f->none) {
        sx_sbuf_printf(out, "%s: no load held, not even %s %s", f->what, kind_text[f->kind],
                       load_text(a, f->kind, f->above));
    } else {
        sx_sbuf_printf(out, "%s: %s %s", f->what, kind_text[f->kind],
                       load_text(a, f->kind, f->value));
        if (f->above > 0)
            sx_sbuf_printf(out, " holds, %s does not", load_text(b, f->kind, f->above));
        else
            sx_sbuf_puts(out, " holds; a load that does not was not reached");
    }
    if (r->objective_ms > 0)
        sx_sbuf_printf(out, " (p%g of all requests <= %g ms; %d trials)", r->percentile,
                       r->objective_ms, f->trials);
    if (f->client_bound)
        sx_sbuf_puts(out,
                     "\nWARNING: the client could not keep the schedule: the target may hold more");
    sx_sbuf_putc(out, '\n');
}

static void add_verdict(struct sx_sbuf *out, const struct sx_verdict *v)
{
    char n[32];
    if (!v->done)
        return;
    sx_sbuf_printf(out, "\nMLPerf %s: %s %s %s\n  %s by %s\n", v->scenario, v->metric,
                   sx_text_number(n, v->value), v->unit, v->valid ? "VALID" : "NOT VALID",
                   v->rules);
    for (const char *p = v->reasons; *p;) {
        size_t len = strcspn(p, "\n");
        sx_sbuf_printf(out, "    - %.*s\n", (int)len, p);
        p += len + (p[len] != 0);
    }
}

void sx_report_text(struct sx_sbuf *out, const struct sx_report *r)
{
    add_table(out, r);
    for (size_t i = 0; i < r->n_series; i++) {
        add_found(out, r, &r->series[i]);
        add_verdict(out, &r->series[i].verdict);
    }
}
