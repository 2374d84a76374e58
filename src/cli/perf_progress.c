/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/perf_int.h"

#define LINE_EVERY (5 * SX_S) /* when it is not a terminal */

void sx_perf_progress_begin(struct sx_perf_progress *p, enum sx_load_kind kind, double load)
{
    char n[32];
    if (kind == SX_LOAD_CONCURRENCY)
        snprintf(p->what, sizeof(p->what), "concurrency %.0f", load);
    else
        snprintf(p->what, sizeof(p->what), "%s/s", sx_text_number(n, load));
    p->last_line = sx_now();
}

void sx_perf_progress_show(void *progress, const struct sx_progress *s)
{
    struct sx_perf_progress *p = progress;
    char rate[32], p50[24], p99[24], time[48];
    if (p->off || (!p->tty && sx_now() < p->last_line + LINE_EVERY))
        return;
    p->last_line = sx_now();
    if (s->total > 0)
        snprintf(time, sizeof(time), "%.0f of %.0f s", s->elapsed, s->total);
    else if (s->warmup)
        snprintf(time, sizeof(time), "%.0f s", s->elapsed);
    else
        snprintf(time, sizeof(time), "window %d, %.0f s", s->windows + 1, s->elapsed);
    fprintf(stderr, "%s%s: %s%s, %s answers/s, p50 %s, p99 %s", p->tty ? "\r\033[K" : "", p->what,
            s->warmup ? "warm-up " : "", time, sx_text_number(rate, s->rate),
            sx_text_us(p50, (double)s->p50_ns * 1e-3), sx_text_us(p99, (double)s->p99_ns * 1e-3));
    if (s->failed)
        fprintf(stderr, ", %llu failed", (unsigned long long)s->failed);
    if (!p->tty)
        fputc('\n', stderr);
    fflush(stderr);
    p->shown = true;
}

void sx_perf_progress_end(struct sx_perf_progress *p)
{
    if (p->shown && p->tty)
        fputs("\r\033[K", stderr);
    p->shown = false;
}

bool sx_perf_range_parse(const char *text, bool whole, struct sx_perf_range *ret)
{
    double v[3] = {0, 0, 1};
    char *end;
    int n = 0;
    for (; n < 3; n++) {
        v[n] = strtod(text, &end);
        if (end == text || !(v[n] >= 0) || v[n] > 1e9 || (whole && floor(v[n]) < v[n]))
            return false;
        text = end;
        if (*text != ':')
            break;
        text++;
    }
    if (n == 3 || *text || v[0] <= 0 || v[2] <= 0 || (n > 0 && v[1] > 0 && v[1] < v[0]))
        return false;
    *ret = (struct sx_perf_range){v[0], n == 0 ? v[0] : v[1], v[2]};
    return true;
}
