/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "graph/flow.h"

#include <stdlib.h>
#include <string.h>

#include "graph/shapes.h"

static const char *text(const char *s)
{
    return s ? s : "";
}

static uint64_t add(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

uint32_t sx_flow_find(const struct sx_flow *f, const char *name)
{
    int i = *text(name) ? sx_names_get(&f->names, name) : SX_NAMES_NONE;
    return i == SX_NAMES_NONE ? SX_FLOW_NONE : (uint32_t)i;
}

void sx_flow_fini(struct sx_flow *f)
{
    free(f->values);
    sx_names_fini(&f->names);
    free(f->first_read);
    free(f->reads);
    free(f->order);
    free(f->constant);
    free(f->own);
    *f = (struct sx_flow){0};
}

/* --- operators whose result may differ --------------------------------------------------- */

struct functions {
    struct sx_names names; /* to model->functions; the first of a name */
    Onnx__FunctionProto **list;
    bool vary; /* one of them has an operator in it whose result may differ */
};

static bool is_onnx(const char *domain)
{
    return !*domain || !strcmp(domain, "ai.onnx");
}

static bool nodes_vary(const struct functions *fs, Onnx__NodeProto **nodes, size_t n);

static bool node_varies(const struct functions *fs, const Onnx__NodeProto *n)
{
    const char *domain = text(n->domain), *type = text(n->op_type);
    int function = sx_names_get(&fs->names, type);

    if (function >= 0 && (!strcmp(domain, text(fs->list[function]->domain)) ||
                          (is_onnx(domain) && is_onnx(text(fs->list[function]->domain))))) {
        if (fs->vary)
            return true;
    } else if (!is_onnx(domain) && strcmp(domain, "ai.onnx.ml") &&
               strncmp(domain, "com.microsoft", 13)) {
        return true;
    } else if (!strncmp(type, "Random", 6) || !strcmp(type, "Multinomial") ||
               !strcmp(type, "Bernoulli")) {
        return true;
    } else if (strstr(type, "Dropout") && n->n_input > 2 && *text(n->input[2])) {
        return true; /* may be told to train */
    }
    for (size_t i = 0; i < n->n_attribute; i++) {
        const Onnx__AttributeProto *a = n->attribute[i];
        if (a->g && nodes_vary(fs, a->g->node, a->g->n_node))
            return true;
        for (size_t k = 0; k < a->n_graphs; k++)
            if (nodes_vary(fs, a->graphs[k]->node, a->graphs[k]->n_node))
                return true;
    }
    return false;
}

static bool nodes_vary(const struct functions *fs, Onnx__NodeProto **nodes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (node_varies(fs, nodes[i]))
            return true;
    return false;
}

static bool functions_init(struct functions *fs, const Onnx__ModelProto *m)
{
    fs->list = m->functions;
    for (size_t i = 0; i < m->n_functions; i++) {
        int old;
        if (!sx_names_add(&fs->names, text(m->functions[i]->name), (int)i, &old) &&
            old == SX_NAMES_NONE)
            return false;
    }
    for (size_t i = 0; i < m->n_functions && !fs->vary; i++)
        fs->vary = nodes_vary(fs, m->functions[i]->node, m->functions[i]->n_node);
    return true;
}

/* --- what a node reads ------------------------------------------------------------------- */

struct walk {
    const struct sx_onnx *model;
    struct sx_flow *flow;
    uint32_t *reader; /* per value: the last node that was seen to read it, plus one */
    uint32_t node;
    size_t n_reads, cap_reads;
    uint64_t own;
    bool failed;
};

/* The names that a body defines; they hide those of the graphs around it. */
struct scope {
    const struct scope *outer;
    struct sx_names names;
};

static void use(struct walk *w, const struct scope *s, const char *name)
{
    struct sx_flow *f = w->flow;
    for (; s; s = s->outer)
        if (sx_names_get(&s->names, text(name)) != SX_NAMES_NONE)
            return;
    uint32_t v = sx_flow_find(f, name);
    if (v == SX_FLOW_NONE || w->reader[v] == w->node + 1)
        return;
    w->reader[v] = w->node + 1;
    if (w->n_reads == w->cap_reads) {
        size_t cap = w->cap_reads ? 2 * w->cap_reads : 256;
        uint32_t *more = realloc(f->reads, cap * sizeof(*more));
        if (!more) {
            w->failed = true;
            return;
        }
        f->reads = more;
        w->cap_reads = cap;
    }
    f->reads[w->n_reads++] = v;
}

static void own_tensor(struct walk *w, const Onnx__TensorProto *t)
{
    struct sx_onnx_initializer i;
    if (t && !sx_onnx_describe(w->model, t, &i, NULL))
        w->own = add(w->own, i.nbytes);
}

static void own_sparse(struct walk *w, const Onnx__SparseTensorProto *s)
{
    if (s) {
        own_tensor(w, s->values);
        own_tensor(w, s->indices);
    }
}

static void walk_graph(struct walk *w, const struct scope *outer, const Onnx__GraphProto *g);

static void walk_node(struct walk *w, const struct scope *s, const Onnx__NodeProto *n)
{
    bool constant = !strcmp(text(n->op_type), "Constant");

    for (size_t i = 0; i < n->n_input; i++)
        use(w, s, n->input[i]);
    for (size_t i = 0; i < n->n_attribute; i++) {
        const Onnx__AttributeProto *a = n->attribute[i];
        own_tensor(w, a->t);
        own_sparse(w, a->sparse_tensor);
        for (size_t k = 0; k < a->n_tensors; k++)
            own_tensor(w, a->tensors[k]);
        for (size_t k = 0; k < a->n_sparse_tensors; k++)
            own_sparse(w, a->sparse_tensors[k]);
        if (constant) /* value_floats, value_ints */
            w->own = add(w->own, 4 * (uint64_t)a->n_floats + 8 * (uint64_t)a->n_ints);
        if (a->g)
            walk_graph(w, s, a->g);
        for (size_t k = 0; k < a->n_graphs; k++)
            walk_graph(w, s, a->graphs[k]);
    }
}

static void define(struct walk *w, struct scope *s, const char *name)
{
    int old;
    if (*text(name) && !sx_names_add(&s->names, name, 0, &old) && old == SX_NAMES_NONE)
        w->failed = true;
}

static void walk_graph(struct walk *w, const struct scope *outer, const Onnx__GraphProto *g)
{
    struct scope s = {.outer = outer};

    for (size_t i = 0; i < g->n_initializer; i++) {
        define(w, &s, g->initializer[i]->name);
        own_tensor(w, g->initializer[i]);
    }
    for (size_t i = 0; i < g->n_sparse_initializer; i++) {
        if (g->sparse_initializer[i]->values)
            define(w, &s, g->sparse_initializer[i]->values->name);
        own_sparse(w, g->sparse_initializer[i]);
    }
    for (size_t i = 0; i < g->n_input; i++)
        define(w, &s, g->input[i]->name);
    for (size_t i = 0; i < g->n_node; i++)
        for (size_t k = 0; k < g->node[i]->n_output; k++)
            define(w, &s, g->node[i]->output[k]);
    for (size_t i = 0; i < g->n_node; i++)
        walk_node(w, &s, g->node[i]);
    for (size_t i = 0; i < g->n_output; i++)
        use(w, &s, g->output[i]->name);
    sx_names_fini(&s.names);
}

static bool find_reads(struct sx_flow *f, const struct sx_onnx *model)
{
    struct walk w = {.model = model, .flow = f};

    w.reader = calloc((size_t)f->n_values + 1, sizeof(*w.reader));
    w.failed = !w.reader;
    for (uint32_t i = 0; i < f->graph->n_node && !w.failed; i++) {
        w.node = i;
        w.own = 0;
        walk_node(&w, NULL, f->graph->node[i]);
        f->own[i] = w.own;
        w.failed |= w.n_reads > UINT32_MAX / 2;
        f->first_read[i + 1] = (uint32_t)w.n_reads;
    }
    free(w.reader);
    return !w.failed;
}

/* --- values, order, constants -------------------------------------------------------------- */

static bool declare(struct sx_flow *f, const char *name, enum sx_flow_kind kind, size_t index,
                    uint64_t bytes)
{
    int old;
    if (!*text(name))
        return true;
    if (!sx_names_add(&f->names, name, (int)f->n_values, &old))
        return old != SX_NAMES_NONE; /* an initializer that is listed as an input, too */
    f->values[f->n_values++] = (struct sx_flow_value){
        .name = name,
        .kind = kind,
        .index = (uint32_t)index,
        .output = SX_FLOW_NONE,
        .constant = kind == SX_FLOW_INITIALIZER || kind == SX_FLOW_SPARSE,
        .bytes = bytes,
    };
    return true;
}

static bool declare_all(struct sx_flow *f, const struct sx_onnx *model)
{
    const Onnx__GraphProto *g = f->graph;
    bool ok = true;

    for (size_t i = 0; ok && i < g->n_initializer; i++)
        ok = declare(f, g->initializer[i]->name, SX_FLOW_INITIALIZER, i,
                     model->initializers[i].nbytes);
    for (size_t i = 0; ok && i < g->n_sparse_initializer; i++) {
        struct walk w = {.model = model};
        own_sparse(&w, g->sparse_initializer[i]);
        if (g->sparse_initializer[i]->values)
            ok = declare(f, g->sparse_initializer[i]->values->name, SX_FLOW_SPARSE, i, w.own);
    }
    for (size_t i = 0; ok && i < g->n_input; i++)
        ok = declare(f, g->input[i]->name, SX_FLOW_INPUT, i, 0);
    for (size_t i = 0; ok && i < g->n_node; i++)
        for (size_t k = 0; ok && k < g->node[i]->n_output; k++)
            ok = declare(f, g->node[i]->output[k], SX_FLOW_NODE, i, 0);
    for (size_t i = 0; ok && i < g->n_output; i++) {
        uint32_t v = sx_flow_find(f, g->output[i]->name);
        if (v != SX_FLOW_NONE && f->values[v].output == SX_FLOW_NONE)
            f->values[v].output = (uint32_t)i;
    }
    return ok;
}

/* Depth first along what a node reads, in file order: a node is appended once its producers are. */
static bool find_order(struct sx_flow *f)
{
    uint32_t n = (uint32_t)f->graph->n_node, n_order = 0;
    uint32_t *stack = malloc(((size_t)n + 1) * sizeof(*stack));
    uint32_t *cursor = calloc((size_t)n + 1, sizeof(*cursor)); /* 0: not seen */

    for (uint32_t root = 0; stack && cursor && root < n; root++) {
        uint32_t top = 0;
        if (cursor[root])
            continue;
        stack[top++] = root;
        cursor[root] = f->first_read[root] + 1;
        while (top) {
            uint32_t v = stack[top - 1];
            if (cursor[v] - 1 == f->first_read[v + 1]) {
                f->order[n_order++] = v;
                top--;
                continue;
            }
            const struct sx_flow_value *value = &f->values[f->reads[cursor[v]++ - 1]];
            if (value->kind != SX_FLOW_NODE || cursor[value->index])
                continue;
            cursor[value->index] = f->first_read[value->index] + 1;
            stack[top++] = value->index;
        }
    }
    bool ok = stack && cursor;
    free(stack);
    free(cursor);
    return ok;
}

/* Bytes of what a constant operator makes: exact for those that store or count, for others about
 * as much as the largest that they read. */
static uint64_t made_bytes(const struct sx_flow *f, uint32_t i)
{
    const Onnx__NodeProto *n = f->graph->node[i];
    const char *type = text(n->op_type);
    uint64_t sum = f->own[i], most = f->own[i];

    for (uint32_t k = f->first_read[i]; k < f->first_read[i + 1]; k++) {
        const struct sx_flow_value *v = &f->values[f->reads[k]];
        sum = add(sum, v->bytes);
        most = v->bytes > most ? v->bytes : most;
    }
    if (!strcmp(type, "Concat"))
        return sum;
    if (!strcmp(type, "ConstantOfShape") && f->first_read[i + 1] - f->first_read[i] == 1) {
        const struct sx_flow_value *v = &f->values[f->reads[f->first_read[i]]];
        const Onnx__AttributeProto *value = sx_attr(n, "value");
        const Onnx__TensorProto *shape = NULL;
        if (v->kind == SX_FLOW_INITIALIZER) {
            shape = f->graph->initializer[v->index];
        } else if (v->kind == SX_FLOW_NODE) {
            const Onnx__AttributeProto *a = sx_attr(f->graph->node[v->index], "value");
            shape = a ? a->t : NULL;
        }
        if (shape) /* own: the one value that is repeated */
            return sx_onnx_made_by(shape) * (value && f->own[i] <= 16 ? f->own[i] : 4);
    }
    return n->n_output > 1 ? most / n->n_output : most;
}

static void find_constants(struct sx_flow *f, const struct functions *fs)
{
    for (size_t at = 0; at < f->graph->n_node; at++) {
        uint32_t i = f->order[at];
        const Onnx__NodeProto *n = f->graph->node[i];
        bool constant = true;
        for (uint32_t k = f->first_read[i]; k < f->first_read[i + 1] && constant; k++)
            constant = f->values[f->reads[k]].constant;
        f->constant[i] = constant && !node_varies(fs, n);
        if (!f->constant[i])
            continue;
        uint64_t bytes = made_bytes(f, i);
        for (size_t k = 0; k < n->n_output; k++) {
            uint32_t v = sx_flow_find(f, n->output[k]);
            if (v != SX_FLOW_NONE) {
                f->values[v].constant = true;
                f->values[v].bytes = bytes;
            }
        }
    }
}

enum sx_rc sx_flow_build(const struct sx_onnx *model, struct sx_flow *f, struct sx_err *err)
{
    const Onnx__GraphProto *g = model->proto->graph;
    struct functions functions = {0};
    size_t room = g->n_input + g->n_initializer + g->n_sparse_initializer + 1, n = g->n_node + 1;

    *f = (struct sx_flow){.graph = g};
    for (size_t i = 0; i < g->n_node; i++)
        room += g->node[i]->n_output;
    f->values = calloc(room, sizeof(*f->values));
    f->first_read = calloc(n, sizeof(*f->first_read));
    f->order = calloc(n, sizeof(*f->order));
    f->constant = calloc(n, sizeof(*f->constant));
    f->own = calloc(n, sizeof(*f->own));
    bool ok = f->values && f->first_read && f->order && f->constant && f->own &&
              functions_init(&functions, model->proto) && declare_all(f, model) &&
              find_reads(f, model) && find_order(f);
    if (ok)
        find_constants(f, &functions);
    sx_names_fini(&functions.names);
    return ok ? SX_OK : sx_fail(err, SX_NO_MEMORY, "no memory for the graph's operators");
}
