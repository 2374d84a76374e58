/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * dag.c - from the main graph's operators and names to numbers; groups; convexity.
 */
#include "graph/dag.h"

#include <stdlib.h>
#include <string.h>

#include "graph/flow.h"

void sx_dag_destroy(struct sx_dag *dag)
{
    if (!dag)
        return;
    free(dag->nodes);
    free(dag->tensors);
    free(dag->ins);
    free(dag->outs);
    free(dag->uses);
    free(dag->group);
    if (dag->by_name)
        sx_names_fini(dag->by_name);
    free(dag->by_name);
    free(dag->texts);
    free(dag);
}

/* --- from the file ------------------------------------------------------------------------ */

struct build {
    const struct sx_onnx *model;
    struct sx_flow flow;
    uint32_t *node_of;   /* the file's node -> the DAG's; SX_DAG_NONE */
    uint32_t *tensor_of; /* value -> tensor; SX_DAG_NONE */
    uint32_t *n_uses;    /* per value: DAG nodes that read it */
    struct sx_dag *dag;
};

static const char *text(const char *s)
{
    return s ? s : "";
}

static const Onnx__NodeProto *proto(const struct build *b, uint32_t node)
{
    return b->flow.graph->node[b->dag->nodes[node].onnx_index];
}

static bool makes_output(const struct sx_flow *f, uint32_t i)
{
    const Onnx__NodeProto *n = f->graph->node[i];
    for (size_t k = 0; k < n->n_output; k++) {
        uint32_t v = sx_flow_find(f, n->output[k]);
        if (v != SX_FLOW_NONE && f->values[v].output != SX_FLOW_NONE)
            return true;
    }
    return false;
}

/* Number the nodes that an output needs, walking back from the outputs. */
static bool number_nodes(struct build *b)
{
    const struct sx_flow *f = &b->flow;
    size_t n = f->graph->n_node;
    bool *needed = calloc(n + 1, sizeof(*needed));

    if (!needed)
        return false;
    for (size_t at = n; at-- > 0;) {
        uint32_t i = f->order[at];
        bool output = makes_output(f, i);
        needed[i] = output || (needed[i] && !f->constant[i]);
        for (uint32_t k = f->first_read[i]; needed[i] && k < f->first_read[i + 1]; k++) {
            const struct sx_flow_value *v = &f->values[f->reads[k]];
            if (v->constant)
                continue;
            b->n_uses[f->reads[k]]++;
            if (v->kind == SX_FLOW_NODE)
                needed[v->index] = true;
        }
    }
    for (size_t at = 0; at < n; at++) {
        uint32_t i = f->order[at];
        b->node_of[i] = needed[i] ? b->dag->n_nodes : SX_DAG_NONE;
        if (needed[i])
            b->dag->nodes[b->dag->n_nodes++].onnx_index = i;
    }
    free(needed);
    return true;
}

static void add_tensor(struct build *b, uint32_t v, uint32_t producer)
{
    const struct sx_flow_value *value = &b->flow.values[v];
    b->tensor_of[v] = b->dag->n_tensors;
    b->dag->tensors[b->dag->n_tensors++] = (struct sx_dag_tensor){
        .name = value->name,
        .producer = producer,
        .n_uses = b->n_uses[v],
        .output = value->output != SX_FLOW_NONE,
        .rank = -1,
    };
}

static void number_tensors(struct build *b)
{
    const struct sx_flow *f = &b->flow;
    struct sx_dag *dag = b->dag;
    uint32_t n_outs = 0, at = 0;

    for (uint32_t v = 0; v < f->n_values; v++) {
        b->tensor_of[v] = SX_DAG_NONE;
        if (f->values[v].kind == SX_FLOW_INPUT)
            add_tensor(b, v, SX_DAG_NONE);
    }
    for (uint32_t i = 0; i < dag->n_nodes; i++) {
        const Onnx__NodeProto *n = proto(b, i);
        dag->nodes[i].first_out = n_outs;
        for (size_t k = 0; k < n->n_output; k++) {
            uint32_t v = sx_flow_find(f, n->output[k]);
            if (v == SX_FLOW_NONE || (!b->n_uses[v] && f->values[v].output == SX_FLOW_NONE))
                continue;
            add_tensor(b, v, i);
            dag->outs[n_outs++] = b->tensor_of[v];
        }
        dag->nodes[i].n_out = n_outs - dag->nodes[i].first_out;
    }
    for (uint32_t t = 0; t < dag->n_tensors; t++) {
        dag->tensors[t].first_use = at;
        at += dag->tensors[t].n_uses;
        dag->tensors[t].n_uses = 0; /* counted again by connect() */
    }
}

static void connect(struct build *b)
{
    const struct sx_flow *f = &b->flow;
    struct sx_dag *dag = b->dag;
    uint32_t n_ins = 0;

    for (uint32_t i = 0; i < dag->n_nodes; i++) {
        struct sx_dag_node *node = &dag->nodes[i];
        uint32_t k = f->first_read[node->onnx_index], end = f->first_read[node->onnx_index + 1];
        node->first_in = n_ins;
        node->weight_bytes = f->own[node->onnx_index];
        for (; k < end; k++) {
            const struct sx_flow_value *v = &f->values[f->reads[k]];
            if (v->constant) {
                node->weight_bytes += v->bytes;
                if (node->weight_bytes < v->bytes)
                    node->weight_bytes = UINT64_MAX;
                continue;
            }
            struct sx_dag_tensor *t = &dag->tensors[b->tensor_of[f->reads[k]]];
            dag->uses[t->first_use + t->n_uses++] = i;
            dag->ins[n_ins++] = b->tensor_of[f->reads[k]];
        }
        node->n_in = n_ins - node->first_in;
    }
}

static bool is_onnx(const char *domain)
{
    return !*domain || !strcmp(domain, "ai.onnx");
}

static bool name_all(struct build *b)
{
    struct sx_dag *dag = b->dag;
    size_t room = 1, at = 0;
    int old;

    for (uint32_t i = 0; i < dag->n_nodes; i++)
        if (!is_onnx(text(proto(b, i)->domain)))
            room += strlen(proto(b, i)->domain) + strlen(text(proto(b, i)->op_type)) + 2;
    dag->texts = malloc(room);
    dag->by_name = calloc(1, sizeof(*dag->by_name));
    if (!dag->texts || !dag->by_name)
        return false;
    for (uint32_t i = 0; i < dag->n_nodes; i++) {
        const Onnx__NodeProto *n = proto(b, i);
        dag->nodes[i].name = text(n->name);
        dag->nodes[i].type = text(n->op_type);
        if (is_onnx(text(n->domain)))
            continue;
        char *type = dag->texts + at;
        dag->nodes[i].type = type;
        type = stpcpy(stpcpy(stpcpy(type, n->domain), "."), text(n->op_type));
        at = (size_t)(type + 1 - dag->texts);
    }
    for (uint32_t t = 0; t < dag->n_tensors; t++)
        if (!sx_names_add(dag->by_name, dag->tensors[t].name, (int)t, &old))
            return false; /* names are unique, so memory is short */
    return true;
}

enum sx_rc sx_dag_build(const struct sx_onnx *model, struct sx_dag **ret_dag, struct sx_err *err)
{
    struct build b = {.model = model, .dag = calloc(1, sizeof(*b.dag))};
    enum sx_rc rc = b.dag ? sx_flow_build(model, &b.flow, err)
                          : sx_fail(err, SX_NO_MEMORY, "no memory for the graph's operators");
    if (rc)
        goto out;

    size_t n_node = b.flow.graph->n_node + 1, n_values = (size_t)b.flow.n_values + 1;
    size_t n_reads = (size_t)b.flow.first_read[n_node - 1] + 1;
    struct sx_dag *dag = b.dag;
    b.node_of = malloc(n_node * sizeof(*b.node_of));
    b.tensor_of = malloc(n_values * sizeof(*b.tensor_of));
    b.n_uses = calloc(n_values, sizeof(*b.n_uses));
    dag->nodes = calloc(n_node, sizeof(*dag->nodes));
    dag->tensors = calloc(n_values, sizeof(*dag->tensors));
    dag->ins = calloc(n_reads, sizeof(*dag->ins));
    dag->uses = calloc(n_reads, sizeof(*dag->uses));
    dag->outs = calloc(n_values, sizeof(*dag->outs));
    dag->group = calloc(n_node, sizeof(*dag->group));
    bool ok = b.node_of && b.tensor_of && b.n_uses && dag->nodes && dag->tensors && dag->ins &&
              dag->uses && dag->outs && dag->group && number_nodes(&b);
    if (ok) {
        number_tensors(&b);
        connect(&b);
        for (uint32_t i = 0; i < dag->n_nodes; i++)
            dag->group[i] = i;
        ok = name_all(&b);
    }
    if (!ok)
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for the graph's operators");
out:
    free(b.node_of);
    free(b.tensor_of);
    free(b.n_uses);
    sx_flow_fini(&b.flow);
    if (rc)
        sx_dag_destroy(b.dag);
    else
        *ret_dag = b.dag;
    return rc;
}

/* --- reading ------------------------------------------------------------------------------ */

uint32_t sx_dag_find(const struct sx_dag *dag, const char *tensor)
{
    if (dag->by_name) {
        int t = sx_names_get(dag->by_name, tensor);
        return t == SX_NAMES_NONE ? SX_DAG_NONE : (uint32_t)t;
    }
    for (uint32_t t = 0; t < dag->n_tensors; t++)
        if (!strcmp(dag->tensors[t].name, tensor))
            return t;
    return SX_DAG_NONE;
}

double sx_dag_bytes(const struct sx_dag *dag, uint32_t tensor, unsigned batch)
{
    const struct sx_dag_tensor *t = &dag->tensors[tensor];
    return t->sized ? t->fixed_bytes + batch * t->sample_bytes : 0;
}

/* --- groups ------------------------------------------------------------------------------- */

/* While groups grow, group[v] is a smaller node of the same group, or v itself: the least. */
static uint32_t least(uint32_t *group, uint32_t v)
{
    while (group[v] != v)
        v = group[v] = group[group[v]];
    return v;
}

void sx_dag_join(struct sx_dag *dag, uint32_t a, uint32_t b)
{
    a = least(dag->group, a);
    b = least(dag->group, b);
    if (a < b)
        dag->group[b] = a;
    else
        dag->group[a] = b;
}

/* Successors of each node, and one edge more: to the next member of its group, in a ring.  So a
 * group is strongly connected, and what must become one group is a strong component. */
struct edges {
    uint32_t *first, *to;
};

static bool make_edges(const struct sx_dag *dag, struct edges *e)
{
    uint32_t n = dag->n_nodes, at = 0;
    size_t room = n;

    for (uint32_t t = 0; t < dag->n_tensors; t++)
        if (dag->tensors[t].producer != SX_DAG_NONE)
            room += dag->tensors[t].n_uses;
    e->first = malloc(((size_t)n + 1) * sizeof(*e->first));
    e->to = malloc((room + 1) * sizeof(*e->to));
    uint32_t *next = malloc(((size_t)n + 1) * sizeof(*next));
    bool ok = e->first && e->to && next && room < UINT32_MAX;
    for (uint32_t v = 0; ok && v < n; v++) {
        uint32_t root = dag->group[v];
        next[v] = v;
        if (root != v) { /* roots are smaller: seen before */
            next[v] = next[root];
            next[root] = v;
        }
    }
    for (uint32_t v = 0; ok && v < n; v++) {
        const struct sx_dag_node *node = &dag->nodes[v];
        e->first[v] = at;
        for (uint32_t k = 0; k < node->n_out; k++) {
            const struct sx_dag_tensor *t = &dag->tensors[dag->outs[node->first_out + k]];
            for (uint32_t u = 0; u < t->n_uses; u++)
                e->to[at++] = dag->uses[t->first_use + u];
        }
        e->to[at++] = next[v];
        e->first[v + 1] = at;
    }
    free(next);
    return ok;
}

/* Tarjan's strong components, without recursion.  order[v]: when v was first seen, 0: not yet;
 * low[v]: the earliest that it reaches among those not yet in a component. */
enum sx_rc sx_dag_close_groups(struct sx_dag *dag)
{
    size_t n = dag->n_nodes, room = (n + 1) * sizeof(uint32_t);
    struct edges e = {0};
    uint32_t *order = calloc(1, room), *low = malloc(room), *cursor = malloc(room);
    uint32_t *path = malloc(room), *open = malloc(room);
    uint32_t seen = 0, n_path = 0, n_open = 0;
    enum sx_rc rc = SX_NO_MEMORY;

    for (uint32_t v = 0; v < n; v++)
        dag->group[v] = least(dag->group, v);
    if (!order || !low || !cursor || !path || !open || !make_edges(dag, &e))
        goto out;
    for (uint32_t root = 0; root < n; root++) {
        if (order[root])
            continue;
        path[n_path++] = open[n_open++] = root;
        order[root] = low[root] = ++seen;
        cursor[root] = e.first[root];
        while (n_path) {
            uint32_t v = path[n_path - 1];
            if (cursor[v] < e.first[v + 1]) {
                uint32_t w = e.to[cursor[v]++];
                if (!order[w]) {
                    path[n_path++] = open[n_open++] = w;
                    order[w] = low[w] = ++seen;
                    cursor[w] = e.first[w];
                } else if (order[w] < low[v]) { /* closed ones have order UINT32_MAX */
                    low[v] = order[w];
                }
                continue;
            }
            if (--n_path && low[v] < low[path[n_path - 1]])
                low[path[n_path - 1]] = low[v];
            if (low[v] != order[v])
                continue;
            uint32_t first = n_open, smallest = v;
            do {
                first--;
                smallest = open[first] < smallest ? open[first] : smallest;
            } while (open[first] != v);
            for (uint32_t k = first; k < n_open; k++) {
                dag->group[open[k]] = smallest;
                order[open[k]] = UINT32_MAX;
            }
            n_open = first;
        }
    }
    rc = SX_OK;
out:
    free(e.first);
    free(e.to);
    free(order);
    free(low);
    free(cursor);
    free(path);
    free(open);
    return rc;
}

/* --- stages -------------------------------------------------------------------------------- */

/* How to call a node in a message. */
static const char *label(const struct sx_dag *dag, uint32_t v)
{
    const struct sx_dag_node *n = &dag->nodes[v];
    if (*n->name)
        return n->name;
    return n->n_out ? dag->tensors[dag->outs[n->first_out]].name : n->type;
}

/* way[v], for v outside the set: a member of the set from which v is reached through others
 * outside; SX_DAG_NONE: none. */
static enum sx_rc check_convex(const struct sx_dag *dag, const bool *in, uint32_t *way,
                               struct sx_err *err)
{
    for (uint32_t v = 0; v < dag->n_nodes; v++) {
        const struct sx_dag_node *n = &dag->nodes[v];
        way[v] = SX_DAG_NONE;
        for (uint32_t k = 0; k < n->n_in; k++) {
            uint32_t p = dag->tensors[dag->ins[n->first_in + k]].producer;
            if (p == SX_DAG_NONE)
                continue;
            if (!in[v])
                way[v] = in[p] ? p : way[p] != SX_DAG_NONE ? way[p] : way[v];
            else if (!in[p] && way[p] != SX_DAG_NONE)
                return sx_fail(err, SX_INVALID,
                               "operators '%s' (%s) and '%s' (%s) cannot be in a stage without "
                               "'%s' (%s), which lies between them",
                               label(dag, way[p]), dag->nodes[way[p]].type, label(dag, v), n->type,
                               label(dag, p), dag->nodes[p].type);
        }
    }
    return SX_OK;
}

enum sx_rc sx_dag_check_stage(const struct sx_dag *dag, const uint32_t *nodes, size_t n,
                              struct sx_err *err)
{
    bool *in = calloc((size_t)dag->n_nodes + 1, sizeof(*in));
    uint32_t *way = malloc(((size_t)dag->n_nodes + 1) * sizeof(*way));
    enum sx_rc rc = SX_OK;

    if (!in || !way)
        rc = sx_fail(err, SX_NO_MEMORY, "no memory to check a stage");
    else if (!n)
        rc = sx_fail(err, SX_INVALID, "a stage has no operators");
    for (size_t i = 0; !rc && i < n; i++) {
        if (nodes[i] >= dag->n_nodes)
            rc = sx_fail(err, SX_INVALID, "a stage has operator %u, the graph has %u of them",
                         nodes[i], dag->n_nodes);
        else if (in[nodes[i]])
            rc = sx_fail(err, SX_INVALID, "a stage has operator '%s' twice", label(dag, nodes[i]));
        else
            in[nodes[i]] = true;
    }
    for (uint32_t v = 0; !rc && v < dag->n_nodes; v++) {
        uint32_t first = dag->group[v];
        if (in[v] != in[first])
            rc = sx_fail(
                err, SX_INVALID, "operators '%s' (%s) and '%s' (%s) must be in the same stage",
                label(dag, first), dag->nodes[first].type, label(dag, v), dag->nodes[v].type);
    }
    if (!rc)
        rc = check_convex(dag, in, way, err);
    free(in);
    free(way);
    return rc;
}
