/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * onnx_check.c - is the graph one that can be run?
 *
 * Checked here: every name has one producer and every use a producer, in the graph itself or in
 * one around it (bodies of If, Loop, Scan); no operator waits for its own result, also not by way
 * of a name that its body uses; every constant has as much data as its shape asks for; external
 * data is in a file below the model's directory, and the file is long enough.  Operators
 * themselves are the engine's business.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/sbuf.h"
#include "graph/names.h"
#include "graph/onnx_int.h"

#define FROM_OUTSIDE (-1) /* produced by no operator: an input or a constant */

/* --- constants ----------------------------------------------------------------------- */

/* Bits of an element; 0 for strings, -1 for a type that we do not know. */
static int element_bits(int type)
{
    switch (type) {
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT4:
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT4:
    case 23: /* FLOAT4E2M1, from ONNX 1.18 */
        return 4;
    case ONNX__TENSOR_PROTO__DATA_TYPE__BOOL:
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT8:
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT8:
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT8E4M3FN:
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT8E4M3FNUZ:
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT8E5M2:
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT8E5M2FNUZ:
        return 8;
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT16:
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT16:
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16:
    case ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16:
        return 16;
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT:
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT32:
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT32:
        return 32;
    case ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE:
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT64:
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT64:
    case ONNX__TENSOR_PROTO__DATA_TYPE__COMPLEX64:
        return 64;
    case ONNX__TENSOR_PROTO__DATA_TYPE__COMPLEX128:
        return 128;
    case ONNX__TENSOR_PROTO__DATA_TYPE__STRING:
        return 0;
    default:
        return -1;
    }
}

/* Are there as many typed values (float_data and its like) as `count` elements need? */
static bool typed_fits(const Onnx__TensorProto *t, uint64_t count)
{
    switch (t->data_type) {
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT:
        return t->n_float_data == count;
    case ONNX__TENSOR_PROTO__DATA_TYPE__COMPLEX64:
        return t->n_float_data / 2 == count && t->n_float_data % 2 == 0;
    case ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE:
        return t->n_double_data == count;
    case ONNX__TENSOR_PROTO__DATA_TYPE__COMPLEX128:
        return t->n_double_data / 2 == count && t->n_double_data % 2 == 0;
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT64:
        return t->n_int64_data == count;
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT32:
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT64:
        return t->n_uint64_data == count;
    case ONNX__TENSOR_PROTO__DATA_TYPE__STRING:
        return t->n_string_data == count;
    default:
        if (element_bits(t->data_type) == 4)
            return t->n_int32_data == count / 2 + count % 2;
        return t->n_int32_data == count;
    }
}

static bool parse_u64(const char *text, uint64_t *ret_value)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    unsigned long long v = strtoull(text, &end, 10);
    *ret_value = v;
    return !*end && v < UINT64_MAX / 2;
}

/* A location must stay below the directory: "weights.bin", "data/weights.bin". */
static bool location_is_safe(const char *p)
{
    if (!*p || *p == '/' || strchr(p, '\\'))
        return false;
    while (p) {
        if (!strncmp(p, "..", 2) && (p[2] == '/' || !p[2]))
            return false;
        p = strchr(p, '/');
        if (p)
            p++;
    }
    return true;
}

static enum sx_rc check_external(const struct sx_onnx *model, const Onnx__TensorProto *t,
                                 struct sx_onnx_initializer *i, struct sx_err *err)
{
    uint64_t length = i->nbytes;
    for (size_t k = 0; k < t->n_external_data; k++) {
        const char *key = t->external_data[k]->key, *value = t->external_data[k]->value;
        uint64_t *number = NULL;
        if (!key || !value)
            continue;
        if (!strcmp(key, "location"))
            i->location = value;
        else if (!strcmp(key, "offset"))
            number = &i->offset;
        else if (!strcmp(key, "length"))
            number = &length;
        if (number && !parse_u64(value, number))
            return sx_fail(err, SX_INVALID, "initializer '%s': external %s '%s' is not a number",
                           i->name, key, value);
    }
    if (!i->location)
        return sx_fail(err, SX_INVALID, "initializer '%s' is external, but in no file", i->name);
    if (!location_is_safe(i->location))
        return sx_fail(err, SX_INVALID,
                       "initializer '%s': external file '%s' is outside the model's directory",
                       i->name, i->location);
    if (t->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__STRING)
        return sx_fail(err, SX_INVALID, "initializer '%s': strings cannot be external", i->name);
    if (length != i->nbytes)
        return sx_fail(err, SX_INVALID,
                       "initializer '%s': %llu bytes of external data, its shape needs %llu",
                       i->name, (unsigned long long)length, (unsigned long long)i->nbytes);

    struct sx_sbuf path = {0};
    struct stat st;
    enum sx_rc rc = SX_OK;
    sx_sbuf_printf(&path, "%s/%s", model->dir, i->location);
    if (path.failed)
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for a path");
    else if (stat(path.data, &st) || !S_ISREG(st.st_mode))
        rc = sx_fail(err, SX_NOT_FOUND, "the weights file '%s' is missing", path.data);
    else if (i->offset > (uint64_t)st.st_size || i->nbytes > (uint64_t)st.st_size - i->offset)
        rc = sx_fail(err, SX_INVALID,
                     "initializer '%s' needs bytes %llu to %llu of '%s', which has %llu", i->name,
                     (unsigned long long)i->offset, (unsigned long long)(i->offset + i->nbytes),
                     i->location, (unsigned long long)st.st_size);
    if (rc == SX_NOT_FOUND)
        sx_hint(err, "keep the files of a model together");
    sx_sbuf_free(&path);
    return rc;
}

enum sx_rc sx_onnx_describe(const struct sx_onnx *model, const Onnx__TensorProto *t,
                            struct sx_onnx_initializer *ret_initializer, struct sx_err *err)
{
    struct sx_onnx_initializer i = {.name = t->name ? t->name : "", .onnx_type = t->data_type};
    int bits = element_bits(t->data_type);
    uint64_t count;

    if (bits < 0)
        return sx_fail(err, SX_INVALID, "initializer '%s' has the unknown type %d", i.name,
                       t->data_type);
    if (t->n_dims > SX_MAX_RANK)
        return sx_fail(err, SX_UNSUPPORTED,
                       "initializer '%s' has %zu dimensions, at most %d are "
                       "supported",
                       i.name, t->n_dims, SX_MAX_RANK);
    i.rank = (int)t->n_dims;
    for (int d = 0; d < i.rank; d++)
        i.dims[d] = t->dims[d];
    if (!sx_shape_count(i.dims, i.rank, &count) || count > UINT64_MAX / 256)
        return sx_fail(err, SX_INVALID, "initializer '%s' has an impossible shape", i.name);
    i.dtype = sx_dtype_from_onnx(t->data_type);
    i.nbytes = count / 8 * (uint64_t)bits + (count % 8 * (uint64_t)bits + 7) / 8;
    if (t->segment)
        return sx_fail(err, SX_UNSUPPORTED, "initializer '%s' is in segments", i.name);

    if (t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL) {
        i.external = true;
        enum sx_rc rc = check_external(model, t, &i, err);
        if (rc)
            return rc;
    } else if (t->has_raw_data && bits) {
        if (t->raw_data.len != i.nbytes)
            return sx_fail(err, SX_INVALID, "initializer '%s' has %zu bytes, its shape needs %llu",
                           i.name, t->raw_data.len, (unsigned long long)i.nbytes);
    } else if (!typed_fits(t, count)) {
        return sx_fail(err, SX_INVALID,
                       "initializer '%s' does not have the %llu values that its "
                       "shape needs",
                       i.name, (unsigned long long)count);
    }
    for (size_t k = 0; !bits && k < t->n_string_data; k++)
        i.nbytes += t->string_data[k].len;
    *ret_initializer = i;
    return SX_OK;
}

/* A constant anywhere in the file. */
static enum sx_rc check_tensor(struct sx_onnx *model, const Onnx__TensorProto *t, bool count,
                               struct sx_err *err)
{
    struct sx_onnx_initializer i;
    uint64_t n;
    enum sx_rc rc = sx_onnx_describe(model, t, &i, err);
    if (rc)
        return rc;
    model->has_external |= i.external;
    if (count && sx_shape_count(i.dims, i.rank, &n))
        model->parameters += n;
    return SX_OK;
}

static enum sx_rc check_sparse(struct sx_onnx *model, const Onnx__SparseTensorProto *s, bool count,
                               struct sx_err *err)
{
    enum sx_rc rc = SX_OK;
    if (!s->values || !s->indices)
        return sx_fail(err, SX_INVALID, "a sparse initializer has no values or no indices");
    rc = check_tensor(model, s->values, count, err);
    return rc ? rc : check_tensor(model, s->indices, false, err);
}

/* --- operators ----------------------------------------------------------------------- */

/* A graph while its names are resolved, and the graphs around it. */
struct scope {
    struct scope *outer;
    const Onnx__GraphProto *graph;
    struct sx_names names; /* to the producing node's index, or FROM_OUTSIDE */
    int node;              /* the one whose inputs are being resolved */
    struct edge {
        int from, to;
    } *edges;
    size_t n_edges, cap_edges;
};

static const char *text(const char *s)
{
    return s ? s : "";
}

/* How to call a node in a message. */
static const char *node_name(const Onnx__NodeProto *n)
{
    if (n->name && *n->name)
        return n->name;
    return n->n_output && n->output[0] && *n->output[0] ? n->output[0] : "(without a name)";
}

static enum sx_rc use_name(struct scope *s, const char *name, struct sx_err *err)
{
    for (; s; s = s->outer) {
        int from = sx_names_get(&s->names, name);
        if (from == SX_NAMES_NONE)
            continue;
        if (from == FROM_OUTSIDE || s->node < 0)
            return SX_OK;
        if (s->n_edges == s->cap_edges) {
            size_t cap = s->cap_edges ? 2 * s->cap_edges : 64;
            struct edge *more = realloc(s->edges, cap * sizeof(*more));
            if (!more)
                return sx_fail(err, SX_NO_MEMORY, "no memory to read the model");
            s->edges = more;
            s->cap_edges = cap;
        }
        s->edges[s->n_edges++] = (struct edge){from, s->node};
        return SX_OK;
    }
    return sx_fail(err, SX_INVALID, "nothing produces '%s'", name);
}

/* Kahn's algorithm: take nodes whose producers were taken; a cycle is what remains. */
static enum sx_rc check_acyclic(const struct scope *s, struct sx_err *err)
{
    size_t n = s->graph->n_node, taken = 0, head = 0;
    size_t *first = calloc(n + 2, sizeof(*first)), *waits = calloc(n + 1, sizeof(*waits));
    int *to = malloc((s->n_edges + 1) * sizeof(*to)), *queue = malloc((n + 1) * sizeof(*queue));
    enum sx_rc rc = SX_OK;

    if (!first || !waits || !to || !queue) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory to read the model");
        goto out;
    }
    for (size_t i = 0; i < s->n_edges; i++) {
        first[s->edges[i].from + 2]++;
        waits[s->edges[i].to]++;
    }
    for (size_t i = 2; i < n + 2; i++)
        first[i] += first[i - 1];
    for (size_t i = 0; i < s->n_edges; i++)
        to[first[s->edges[i].from + 1]++] = s->edges[i].to; /* first[k + 1] moves to k's end */
    for (size_t i = 0; i < n; i++)
        if (!waits[i])
            queue[taken++] = (int)i;
    for (; head < taken; head++)
        for (size_t k = first[queue[head]]; k < first[queue[head] + 1]; k++)
            if (!--waits[to[k]])
                queue[taken++] = to[k];
    for (size_t i = 0; taken < n && i < n; i++)
        if (waits[i]) {
            rc = sx_fail(err, SX_INVALID, "the graph has a cycle through operator '%s' (%s)",
                         node_name(s->graph->node[i]), text(s->graph->node[i]->op_type));
            break;
        }
out:
    free(first);
    free(waits);
    free(to);
    free(queue);
    return rc;
}

static enum sx_rc add_name(struct scope *s, const char *name, int value, const char *what,
                           struct sx_err *err)
{
    int old;
    if (sx_names_add(&s->names, name, value, &old))
        return SX_OK;
    if (old == SX_NAMES_NONE)
        return sx_fail(err, SX_NO_MEMORY, "no memory to read the model");
    return sx_fail(err, SX_INVALID, "%s '%s' is there twice", what, name);
}

static enum sx_rc declare_names(struct scope *s, struct sx_err *err)
{
    const Onnx__GraphProto *g = s->graph;
    enum sx_rc rc = SX_OK;
    int old;

    for (size_t i = 0; !rc && i < g->n_initializer; i++)
        rc = add_name(s, text(g->initializer[i]->name), FROM_OUTSIDE, "initializer", err);
    for (size_t i = 0; !rc && i < g->n_sparse_initializer; i++)
        if (g->sparse_initializer[i]->values)
            rc = add_name(s, text(g->sparse_initializer[i]->values->name), FROM_OUTSIDE,
                          "initializer", err);
    for (size_t i = 0; !rc && i < g->n_input; i++) { /* may name an initializer again */
        const char *name = text(g->input[i]->name);
        if (!*name)
            rc = sx_fail(err, SX_INVALID, "an input has no name");
        else if (!sx_names_add(&s->names, name, FROM_OUTSIDE, &old) && old == SX_NAMES_NONE)
            rc = sx_fail(err, SX_NO_MEMORY, "no memory to read the model");
    }
    for (size_t i = 0; !rc && i < g->n_node; i++)
        for (size_t k = 0; !rc && k < g->node[i]->n_output; k++)
            if (*text(g->node[i]->output[k]))
                rc = add_name(s, g->node[i]->output[k], (int)i, "the name", err);
    return rc;
}

static enum sx_rc count_op(struct sx_onnx *model, struct sx_names *seen, const Onnx__NodeProto *n,
                           struct sx_err *err)
{
    int at = SX_NAMES_NONE;
    const char *domain = text(n->domain), *type = text(n->op_type);
    if (!strcmp(domain, "ai.onnx"))
        domain = "";
    at = sx_names_get(seen, type);
    model->n_nodes++;
    if (at == SX_NAMES_NONE || strcmp(model->ops[at].domain, domain)) {
        /* a new type, or (rare) one name in two domains: then look at all */
        size_t i = 0;
        if (at != SX_NAMES_NONE)
            while (i < model->n_ops &&
                   (strcmp(model->ops[i].domain, domain) || strcmp(model->ops[i].type, type)))
                i++;
        else
            i = model->n_ops;
        if (i == model->n_ops) {
            struct sx_onnx_op_count *more = realloc(model->ops, (i + 1) * sizeof(*more));
            int old;
            if (more)
                model->ops = more;
            if (!more || (at == SX_NAMES_NONE && !sx_names_add(seen, type, (int)i, &old)))
                return sx_fail(err, SX_NO_MEMORY, "no memory to read the model");
            model->ops[model->n_ops++] = (struct sx_onnx_op_count){domain, type, 0};
        }
        at = (int)i;
    }
    model->ops[at].count++;
    return SX_OK;
}

static enum sx_rc check_graph(struct sx_onnx *model, struct sx_names *seen,
                              const Onnx__GraphProto *graph, struct scope *outer,
                              struct sx_err *err);

static enum sx_rc check_attribute_tensors(struct sx_onnx *model, const Onnx__AttributeProto *a,
                                          bool count, struct sx_err *err)
{
    enum sx_rc rc = SX_OK;
    if (a->t)
        rc = check_tensor(model, a->t, count, err);
    for (size_t i = 0; !rc && i < a->n_tensors; i++)
        rc = check_tensor(model, a->tensors[i], count, err);
    if (!rc && a->sparse_tensor)
        rc = check_sparse(model, a->sparse_tensor, count, err);
    for (size_t i = 0; !rc && i < a->n_sparse_tensors; i++)
        rc = check_sparse(model, a->sparse_tensors[i], count, err);
    return rc;
}

static enum sx_rc check_attribute(struct sx_onnx *model, struct sx_names *seen,
                                  const Onnx__AttributeProto *a, bool count, struct scope *scope,
                                  struct sx_err *err)
{
    enum sx_rc rc = check_attribute_tensors(model, a, count, err);
    if (!rc && a->g)
        rc = check_graph(model, seen, a->g, scope, err);
    for (size_t i = 0; !rc && i < a->n_graphs; i++)
        rc = check_graph(model, seen, a->graphs[i], scope, err);
    return rc;
}

static enum sx_rc check_node(struct sx_onnx *model, struct sx_names *seen, const Onnx__NodeProto *n,
                             struct scope *scope, struct sx_err *err)
{
    bool constant = n->op_type && !strcmp(n->op_type, "Constant");
    enum sx_rc rc = SX_OK;

    if (!*text(n->op_type))
        return sx_fail(err, SX_INVALID, "operator '%s' has no type", node_name(n));
    for (size_t i = 0; !rc && scope && i < n->n_input; i++)
        if (*text(n->input[i])) /* an optional input left out has an empty name */
            rc = use_name(scope, n->input[i], err);
    for (size_t i = 0; !rc && i < n->n_attribute; i++)
        rc = check_attribute(model, seen, n->attribute[i], constant, scope, err);
    if (rc)
        sx_while(err, "operator '%s' (%s): ", node_name(n), n->op_type);
    return rc;
}

static enum sx_rc check_graph(struct sx_onnx *model, struct sx_names *seen,
                              const Onnx__GraphProto *graph, struct scope *outer,
                              struct sx_err *err)
{
    struct scope s = {.outer = outer, .graph = graph, .node = -1};
    enum sx_rc rc = SX_OK;

    if (graph->n_node > INT32_MAX - 8)
        return sx_fail(err, SX_TOO_LARGE, "the graph has %zu operators", graph->n_node);
    rc = declare_names(&s, err);
    for (size_t i = 0; !rc && i < graph->n_initializer; i++)
        rc = check_tensor(model, graph->initializer[i], true, err);
    for (size_t i = 0; !rc && i < graph->n_sparse_initializer; i++)
        rc = check_sparse(model, graph->sparse_initializer[i], true, err);
    for (size_t i = 0; !rc && i < graph->n_node; i++) {
        s.node = (int)i;
        rc = count_op(model, seen, graph->node[i], err);
        if (!rc)
            rc = check_node(model, seen, graph->node[i], &s, err);
    }
    s.node = -1;
    for (size_t i = 0; !rc && i < graph->n_output; i++) {
        rc = use_name(&s, text(graph->output[i]->name), err);
        if (rc)
            sx_while(err, "output %zu: ", i);
    }
    if (!rc)
        rc = check_acyclic(&s, err);
    sx_names_fini(&s.names);
    free(s.edges);
    return rc;
}

/* Tensors anywhere below nodes of a function: names inside bodies are the engine's business, files
 * are ours.  How deep they lie was bounded when the file was scanned. */
static enum sx_rc check_function_attribute(struct sx_onnx *model, const Onnx__AttributeProto *a,
                                           struct sx_err *err);

static enum sx_rc check_function_nodes(struct sx_onnx *model, Onnx__NodeProto *const *nodes,
                                       size_t n, struct sx_err *err)
{
    enum sx_rc rc = SX_OK;
    for (size_t i = 0; !rc && i < n; i++)
        for (size_t k = 0; !rc && k < nodes[i]->n_attribute; k++)
            rc = check_function_attribute(model, nodes[i]->attribute[k], err);
    return rc;
}

static enum sx_rc check_function_graph(struct sx_onnx *model, const Onnx__GraphProto *g,
                                       struct sx_err *err)
{
    enum sx_rc rc = SX_OK;
    for (size_t i = 0; !rc && i < g->n_initializer; i++)
        rc = check_tensor(model, g->initializer[i], true, err);
    for (size_t i = 0; !rc && i < g->n_sparse_initializer; i++)
        rc = check_sparse(model, g->sparse_initializer[i], true, err);
    return rc ? rc : check_function_nodes(model, g->node, g->n_node, err);
}

static enum sx_rc check_function_attribute(struct sx_onnx *model, const Onnx__AttributeProto *a,
                                           struct sx_err *err)
{
    enum sx_rc rc = check_attribute_tensors(model, a, true, err);
    if (!rc && a->g)
        rc = check_function_graph(model, a->g, err);
    for (size_t i = 0; !rc && i < a->n_graphs; i++)
        rc = check_function_graph(model, a->graphs[i], err);
    return rc;
}

static int by_count(const void *a, const void *b)
{
    const struct sx_onnx_op_count *x = a, *y = b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    int c = strcmp(x->type, y->type);
    return c ? c : strcmp(x->domain, y->domain);
}

enum sx_rc sx_onnx_check(struct sx_onnx *model, struct sx_err *err)
{
    struct sx_names seen = {0};
    enum sx_rc rc = check_graph(model, &seen, model->proto->graph, NULL, err);

    for (size_t i = 0; !rc && i < model->proto->n_functions; i++) {
        const Onnx__FunctionProto *f = model->proto->functions[i];
        rc = check_function_nodes(model, f->node, f->n_node, err);
        for (size_t k = 0; !rc && k < f->n_attribute_proto; k++)
            rc = check_function_attribute(model, f->attribute_proto[k], err);
    }
    sx_names_fini(&seen);
    if (!rc && model->n_ops)
        qsort(model->ops, model->n_ops, sizeof(*model->ops), by_count);
    return rc;
}
