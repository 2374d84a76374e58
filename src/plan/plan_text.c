/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_text.c - a plan as a table for people.
 */
#include <stdio.h>
#include <string.h>

#include "plan/plan.h"

#define KINDS 4 /* of operators that are named for each stage */

static const char *ms(char buf[24], double ns)
{
    double v = ns * 1e-6;

    snprintf(buf, 24, v >= 100 ? "%.0f" : v >= 10 ? "%.1f" : v >= 1 ? "%.2f" : "%.3f", v);
    return buf;
}

static const char *bytes(char buf[24], double n)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t u = 0;

    while (n >= 1000 && u < 4) {
        n /= 1024;
        u++;
    }
    snprintf(buf, 24, u && n < 10 ? "%.1f %s" : "%.0f %s", n, units[u]);
    return buf;
}

static void add_proposals(const struct sx_plan *plan, struct sx_sbuf *out)
{
    static const char *const names[] = {"metis", "topological", "exhaustive"};
    const char *comma = "";
    char t[24];

    if (plan->n_stages < 2 ||
        !(plan->proposed_ns[0] > 0 || plan->proposed_ns[1] > 0 || plan->proposed_ns[2] > 0))
        return;
    sx_sbuf_puts(out, "proposals     slowest stage ");
    for (size_t i = 0; i < 3; i++) {
        if (!(plan->proposed_ns[i] > 0))
            continue;
        sx_sbuf_printf(out, "%s%s %s ms", comma, names[i], ms(t, plan->proposed_ns[i]));
        comma = ", ";
    }
    sx_sbuf_puts(out, ", before refinement\n");
}

/* "Conv 12, Relu 12, MaxPool 1, 3 more": the most frequent first. */
static void add_kinds(const struct sx_plan_stage *stage, const struct sx_dag *dag,
                      struct sx_sbuf *out)
{
    const char *best[KINDS] = {NULL};
    uint32_t named = 0;

    for (size_t k = 0; k < KINDS; k++) {
        uint32_t most = 0;
        for (uint32_t i = 0; i < stage->n_nodes; i++) {
            const char *type = dag->nodes[stage->nodes[i]].type;
            uint32_t count = 0;
            bool known = false;
            for (size_t b = 0; b < k; b++)
                known = known || !strcmp(best[b], type);
            if (known || (i && !strcmp(type, dag->nodes[stage->nodes[i - 1]].type)))
                continue; /* counted, or about to be counted by its first */
            for (uint32_t j = 0; j < stage->n_nodes; j++)
                count += !strcmp(dag->nodes[stage->nodes[j]].type, type);
            if (count > most) {
                most = count;
                best[k] = type;
            }
        }
        if (!most)
            break;
        sx_sbuf_printf(out, "%s%s %u", k ? ", " : "", best[k], most);
        named += most;
    }
    if (named < stage->n_nodes)
        sx_sbuf_printf(out, ", %u more", stage->n_nodes - named);
}

static void add_stage(const struct sx_plan *plan, unsigned s, const double *measured,
                      struct sx_sbuf *out)
{
    const struct sx_plan_stage *stage = &plan->stages[s];
    double whole = stage->ns + stage->transfer_ns;
    char a[24], b[24], c[24], d[24], e[24], f[24];

    sx_sbuf_printf(out, "%5u  %-16s %9u %11s %11s %11s", s + 1, plan->devices[stage->device],
                   stage->n_nodes, ms(a, stage->ns), ms(b, stage->transfer_ns), ms(c, whole));
    if (measured && measured[s] > 0 && whole > 0)
        sx_sbuf_printf(out, " %11s %+6.1f%%", ms(d, measured[s]),
                       100 * (measured[s] - whole) / whole);
    else if (measured)
        sx_sbuf_printf(out, " %11s %7s", "-", "");
    sx_sbuf_printf(out, " %9s %9s %9s\n", bytes(d, stage->in_bytes), bytes(e, stage->out_bytes),
                   bytes(f, (double)stage->weight_bytes));
}

void sx_plan_text(const struct sx_plan *plan, const struct sx_dag *dag, const double *measured,
                  struct sx_sbuf *out)
{
    char a[24], b[24];

    sx_sbuf_printf(out, "plan          %s, batch %u\n", plan->name, plan->batch);
    sx_sbuf_printf(out, "predicted     %.4g samples/s, latency %s ms, slowest stage %s ms\n",
                   sx_plan_throughput(plan), ms(a, plan->latency_ns), ms(b, plan->slowest_ns));
    sx_sbuf_printf(out, "method        %s%s\n", plan->method, plan->refined ? ", refined" : "");
    add_proposals(plan, out);
    if (plan->n_stages > 1)
        sx_sbuf_printf(out, "cut           %s between the stages\n", bytes(a, plan->bytes_cut));
    if (sx_plan_emulated(plan))
        sx_sbuf_puts(out, "emulation     @K: made K times slower; the figures are of a what-if\n");
    sx_sbuf_printf(out, "\n%5s  %-16s %9s %11s %11s %11s", "stage", "device", "operators",
                   "compute ms", "transfer ms", "total ms");
    if (measured)
        sx_sbuf_printf(out, " %11s %7s", "measured ms", "error");
    sx_sbuf_printf(out, " %9s %9s %9s\n", "in", "out", "weights");
    for (unsigned s = 0; s < plan->n_stages; s++)
        add_stage(plan, s, measured, out);
    for (unsigned s = 0; dag && s < plan->n_stages; s++) {
        sx_sbuf_printf(out, "%sstage %u: ", s ? "" : "\n", s + 1);
        add_kinds(&plan->stages[s], dag, out);
        sx_sbuf_putc(out, '\n');
    }
}
