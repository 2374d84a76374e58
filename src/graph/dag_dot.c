/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/* dag_dot.c - the DAG as a text for Graphviz. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sbuf.h"
#include "graph/dag.h"

#define MAX_NAME 60 /* bytes of a name that are shown */

/* Text inside a quoted string: names come from the file and may hold anything. */
static void put(struct sx_sbuf *s, const char *text)
{
    size_t shown = 0;
    for (; *text && shown < MAX_NAME; text++, shown++) {
        if (*text == '"' || *text == '\\')
            sx_sbuf_putc(s, '\\');
        sx_sbuf_putc(s, (unsigned char)*text < ' ' || *text == 0x7f ? ' ' : *text);
    }
    while (((unsigned char)*text & 0xc0) == 0x80) /* not in the middle of a character */
        sx_sbuf_putc(s, *text++);
    if (*text)
        sx_sbuf_puts(s, "...");
}

static void put_bytes(struct sx_sbuf *s, double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB"};
    size_t u = 0;
    for (; bytes >= 1024 && u < 3; u++)
        bytes /= 1024;
    sx_sbuf_printf(s, u && bytes < 100 ? "%.1f %s" : "%.0f %s", bytes, units[u]);
}

static void put_node(struct sx_sbuf *s, const struct sx_dag *dag, uint32_t v, const uint32_t *stage,
                     const double *ns)
{
    static const char *const colours[] = {"#8dd3c7", "#fdb462", "#bebada", "#fb8072",
                                          "#80b1d3", "#b3de69", "#fccde5", "#ffed6f"};
    const struct sx_dag_node *n = &dag->nodes[v];

    sx_sbuf_printf(s, "  n%u [label=\"", v);
    put(s, n->type);
    if (*n->name) {
        sx_sbuf_puts(s, "\\n");
        put(s, n->name);
    }
    if (ns && isfinite(ns[v]))
        sx_sbuf_printf(s, "\\n%.1f us", ns[v] / 1000);
    sx_sbuf_putc(s, '"');
    if (stage)
        sx_sbuf_printf(s, ", fillcolor=\"%s\", tooltip=\"stage %u\"",
                       colours[stage[v] % (sizeof(colours) / sizeof(*colours))], stage[v]);
    sx_sbuf_puts(s, "];\n");
}

/* Inputs are t<tensor>, outputs o<tensor>. */
static void put_edges(struct sx_sbuf *s, const struct sx_dag *dag, uint32_t t,
                      const uint32_t *stage)
{
    const struct sx_dag_tensor *tensor = &dag->tensors[t];
    bool input = tensor->producer == SX_DAG_NONE;

    for (uint32_t k = 0; k < tensor->n_uses + (tensor->output ? 1 : 0); k++) {
        bool output = k == tensor->n_uses;
        uint32_t to = output ? t : dag->uses[tensor->first_use + k];
        sx_sbuf_printf(s, "  %c%u -> %c%u", input ? 't' : 'n', input ? t : tensor->producer,
                       output ? 'o' : 'n', to);
        bool cut = stage && !input && !output && stage[tensor->producer] != stage[to];
        sx_sbuf_puts(s, cut ? " [color=red, penwidth=2" : " [color=gray40");
        if (tensor->sized) {
            sx_sbuf_puts(s, ", label=\"");
            put_bytes(s, sx_dag_bytes(dag, t, 1));
            sx_sbuf_putc(s, '"');
        }
        sx_sbuf_puts(s, ", edgetooltip=\"");
        put(s, tensor->name);
        sx_sbuf_puts(s, "\"];\n");
    }
}

enum sx_rc sx_dag_dot(const struct sx_dag *dag, const uint32_t *stage, const double *ns,
                      char **ret_text, struct sx_err *err)
{
    struct sx_sbuf s = {0};

    sx_sbuf_puts(&s, "digraph model {\n"
                     "  graph [rankdir=TB, fontname=\"sans-serif\"];\n"
                     "  node [shape=box, style=\"rounded,filled\", fillcolor=\"#eef2f7\", "
                     "fontname=\"sans-serif\", fontsize=11];\n"
                     "  edge [fontname=\"sans-serif\", fontsize=9];\n");
    for (uint32_t t = 0; t < dag->n_tensors; t++)
        for (int out = 0; out < 2; out++)
            if (out ? dag->tensors[t].output : dag->tensors[t].producer == SX_DAG_NONE) {
                sx_sbuf_printf(&s, "  %c%u [shape=ellipse, fillcolor=white, label=\"",
                               out ? 'o' : 't', t);
                put(&s, dag->tensors[t].name);
                sx_sbuf_puts(&s, "\"];\n");
            }
    for (uint32_t v = 0; v < dag->n_nodes; v++)
        put_node(&s, dag, v, stage, ns);
    for (uint32_t t = 0; t < dag->n_tensors; t++)
        put_edges(&s, dag, t, stage);
    sx_sbuf_puts(&s, "}\n");
    if (s.failed) {
        sx_sbuf_free(&s);
        return sx_fail(err, SX_NO_MEMORY, "no memory for a picture of the graph");
    }
    *ret_text = s.data;
    return SX_OK;
}
