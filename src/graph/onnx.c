/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * onnx.c - open an ONNX file, tell what is in it, write it again.
 *
 *     bytes --onnx_wire.c--> messages --onnx_check.c--> a graph that can be trusted
 *
 * The file stays mapped while the model is open, and the messages point at the weights in it, so
 * that reading a model of half a gigabyte costs a few megabytes.
 */
#include "graph/onnx.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "graph/names.h"
#include "graph/onnx_int.h"

#define MAX_FILE ((size_t)INT32_MAX) /* of one protobuf message, for everybody who reads it */

void sx_onnx_close(struct sx_onnx *m)
{
    if (!m)
        return;
    sx_onnx_unpack_free(m->proto);
    sx_file_unmap(m->map, m->map_size);
    free(m->inputs);
    free(m->outputs);
    free(m->initializers);
    free(m->ops);
    free(m->path);
    free(m->dir);
    free(m);
}

static enum sx_rc find_file(const char *path, struct sx_onnx *m, struct sx_err *err)
{
    bool dir = sx_path_is_dir(path);
    if (asprintf(&m->path, "%s%s", path, dir ? "/model.onnx" : "") < 0) {
        m->path = NULL;
        return sx_fail(err, SX_NO_MEMORY, "no memory for a path");
    }
    /* not realpath: external data lies beside a link to the model, not beside its target */
    char *slash = strrchr(m->path, '/');
    m->dir =
        !slash ? strdup(".") : strndup(m->path, slash == m->path ? 1 : (size_t)(slash - m->path));
    if (!m->dir)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a path");
    if (!sx_path_is_file(m->path)) {
        bool there = !access(m->path, F_OK);
        return sx_fail(err, there ? SX_INVALID : SX_NOT_FOUND,
                       there ? "'%s' is not a file" : "there is no file '%s'", m->path);
    }
    return SX_OK;
}

static enum sx_rc describe_value(const Onnx__ValueInfoProto *info, struct sx_onnx_value *v,
                                 struct sx_err *err)
{
    *v = (struct sx_onnx_value){.name = info->name ? info->name : ""};
    if (!info->type)
        return SX_OK;
    switch (info->type->value_case) {
    case ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE:
        v->kind = SX_ONNX_TENSOR;
        break;
    case ONNX__TYPE_PROTO__VALUE_SPARSE_TENSOR_TYPE:
        v->kind = SX_ONNX_SPARSE;
        return SX_OK;
    case ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE:
        v->kind = SX_ONNX_SEQUENCE;
        return SX_OK;
    case ONNX__TYPE_PROTO__VALUE_MAP_TYPE:
        v->kind = SX_ONNX_MAP;
        return SX_OK;
    case ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE:
        v->kind = SX_ONNX_OPTIONAL;
        return SX_OK;
    default:
        return SX_OK;
    }
    const Onnx__TypeProto__Tensor *t = info->type->tensor_type;
    v->onnx_type = t->elem_type;
    v->dtype = sx_dtype_from_onnx(t->elem_type);
    if (!t->elem_type) {
        v->kind = SX_ONNX_UNTYPED;
        return SX_OK;
    }
    if (!t->shape)
        return SX_OK;
    if (t->shape->n_dim > SX_MAX_RANK)
        return sx_fail(err, SX_UNSUPPORTED, "'%s' has %zu dimensions, at most %d are supported",
                       v->name, t->shape->n_dim, SX_MAX_RANK);
    v->has_shape = true;
    v->rank = (int)t->shape->n_dim;
    for (int d = 0; d < v->rank; d++) {
        const Onnx__TensorShapeProto__Dimension *dim = t->shape->dim[d];
        bool fixed = dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        v->dims[d] = fixed && dim->dim_value >= 0 ? dim->dim_value : -1;
    }
    return SX_OK;
}

uint64_t sx_onnx_made_by(const Onnx__TensorProto *shape)
{
    int64_t dims[SX_MAX_RANK];
    size_t rank = shape->has_raw_data ? shape->raw_data.len / 8 : shape->n_int64_data;
    uint64_t count;

    if (shape->data_type != ONNX__TENSOR_PROTO__DATA_TYPE__INT64 || rank > SX_MAX_RANK)
        return 0;
    if (shape->has_raw_data && rank)
        memcpy(dims, shape->raw_data.data, rank * 8);
    for (size_t d = 0; !shape->has_raw_data && d < rank; d++)
        dims[d] = shape->int64_data[d];
    return sx_shape_count(dims, (int)rank, &count) && count < UINT64_C(1) << 40 ? count : 0;
}

/* Call only on a checked model. */
static enum sx_rc describe(struct sx_onnx *m, struct sx_err *err)
{
    const Onnx__GraphProto *g = m->proto->graph;
    struct sx_names constants = {0};
    enum sx_rc rc = SX_OK;
    int old;

    m->inputs = calloc(g->n_input + 1, sizeof(*m->inputs));
    m->outputs = calloc(g->n_output + 1, sizeof(*m->outputs));
    m->initializers = calloc(g->n_initializer + 1, sizeof(*m->initializers));
    bool full = !m->inputs || !m->outputs || !m->initializers;
    for (size_t i = 0; !full && !rc && i < g->n_initializer; i++) {
        rc = sx_onnx_describe(m, g->initializer[i], &m->initializers[m->n_initializers++], err);
        full = !sx_names_add(&constants, g->initializer[i]->name ? g->initializer[i]->name : "",
                             (int)i, &old);
    }
    for (size_t i = 0; !full && !rc && i < g->n_input; i++) {
        if (sx_names_get(&constants, g->input[i]->name) != SX_NAMES_NONE)
            m->n_overridable++;
        else
            rc = describe_value(g->input[i], &m->inputs[m->n_inputs++], err);
    }
    for (size_t i = 0; !full && !rc && i < g->n_output; i++)
        rc = describe_value(g->output[i], &m->outputs[m->n_outputs++], err);
    for (size_t i = 0; !full && !rc && i < g->n_node; i++) {
        const Onnx__NodeProto *n = g->node[i];
        if (strcmp(n->op_type, "ConstantOfShape") || n->n_input != 1)
            continue;
        int shape = sx_names_get(&constants, n->input[0]);
        if (shape >= 0)
            m->made_parameters += sx_onnx_made_by(g->initializer[shape]);
    }
    sx_names_fini(&constants);
    return full ? sx_fail(err, SX_NO_MEMORY, "no memory to read the model") : rc;
}

enum sx_rc sx_onnx_open(const char *path, struct sx_onnx **ret_model, struct sx_err *err)
{
    static const char lfs[] = "version https://git-lfs";
    struct sx_onnx *m = calloc(1, sizeof(*m));
    if (!m)
        return sx_fail(err, SX_NO_MEMORY, "no memory to read the model");

    enum sx_rc rc = find_file(path, m, err);
    if (rc)
        goto out;
    rc = sx_file_map(m->path, &m->map, &m->map_size, err);
    if (rc)
        goto out;
    if (m->map_size > MAX_FILE) {
        rc = sx_fail(err, SX_UNSUPPORTED, "'%s' is over 2 GiB, which no protobuf reader takes",
                     m->path);
        sx_hint(err, "save the model with its weights as external data");
        goto out;
    }
    if (!m->map_size)
        rc = sx_fail(err, SX_INVALID, "the file is empty");
    else
        rc = sx_onnx_unpack(m->map, m->map_size, &m->proto, err);
    if (rc && m->map_size > sizeof(lfs) && !memcmp(m->map, lfs, sizeof(lfs) - 1))
        sx_hint(err, "this is a Git LFS pointer, not the model: run 'git lfs pull'");
    if (!rc)
        rc = sx_onnx_check(m, err);
    if (!rc)
        rc = describe(m, err);
    if (rc)
        sx_while(err, "'%s': ", m->path);
out:
    if (rc)
        sx_onnx_close(m);
    else
        *ret_model = m;
    return rc;
}

/* --- reading ------------------------------------------------------------------------- */

size_t sx_onnx_inputs(const struct sx_onnx *m, const struct sx_onnx_value **ret_values)
{
    *ret_values = m->inputs;
    return m->n_inputs;
}

size_t sx_onnx_outputs(const struct sx_onnx *m, const struct sx_onnx_value **ret_values)
{
    *ret_values = m->outputs;
    return m->n_outputs;
}

size_t sx_onnx_initializers(const struct sx_onnx *m,
                            const struct sx_onnx_initializer **ret_initializers)
{
    *ret_initializers = m->initializers;
    return m->n_initializers;
}

size_t sx_onnx_ops(const struct sx_onnx *m, const struct sx_onnx_op_count **ret_ops)
{
    *ret_ops = m->ops;
    return m->n_ops;
}

size_t sx_onnx_node_count(const struct sx_onnx *m)
{
    return m->n_nodes;
}

int64_t sx_onnx_ir_version(const struct sx_onnx *m)
{
    return m->proto->ir_version;
}

static const char *plain_domain(const char *domain)
{
    return !domain || !strcmp(domain, "ai.onnx") ? "" : domain;
}

int64_t sx_onnx_opset(const struct sx_onnx *m, const char *domain)
{
    for (size_t i = 0; i < m->proto->n_opset_import; i++)
        if (!strcmp(plain_domain(m->proto->opset_import[i]->domain), plain_domain(domain)))
            return m->proto->opset_import[i]->version;
    return 0;
}

const char *sx_onnx_producer(const struct sx_onnx *m)
{
    return m->proto->producer_name ? m->proto->producer_name : "";
}

const char *sx_onnx_graph_name(const struct sx_onnx *m)
{
    return m->proto->graph->name ? m->proto->graph->name : "";
}

uint64_t sx_onnx_parameters(const struct sx_onnx *m)
{
    return m->parameters;
}

uint64_t sx_onnx_made_parameters(const struct sx_onnx *m)
{
    return m->made_parameters;
}

size_t sx_onnx_overridable(const struct sx_onnx *m)
{
    return m->n_overridable;
}

bool sx_onnx_has_external(const struct sx_onnx *m)
{
    return m->has_external;
}

const char *sx_onnx_path(const struct sx_onnx *m)
{
    return m->path;
}

const char *sx_onnx_dir(const struct sx_onnx *m)
{
    return m->dir;
}

const char *sx_onnx_kind_text(enum sx_onnx_kind kind)
{
    static const char *const texts[] = {"of an unknown type", "a tensor", "a sparse tensor",
                                        "a sequence",         "a map",    "optional"};
    return (unsigned)kind < sizeof(texts) / sizeof(*texts) ? texts[kind] : texts[0];
}

/* --- writing ------------------------------------------------------------------------- */

/* Shallow copies of the model and its graph that share everything but the list of inputs. */
struct stripped {
    Onnx__ModelProto model;
    Onnx__GraphProto graph;
};

static enum sx_rc strip(const struct sx_onnx *m, struct stripped *s, struct sx_err *err)
{
    const Onnx__GraphProto *g = m->proto->graph;
    if (m->has_external)
        return sx_fail(err, SX_UNSUPPORTED, "a model with external data cannot be written anew");
    s->model = *m->proto;
    s->graph = *g;
    s->model.graph = &s->graph;
    if (s->model.ir_version < 4) { /* before, an initializer had to be an input, too */
        s->model.has_ir_version = 1;
        s->model.ir_version = 4;
    }
    s->graph.input = calloc(g->n_input + 1, sizeof(*s->graph.input));
    s->graph.n_input = 0;
    if (!s->graph.input)
        return sx_fail(err, SX_NO_MEMORY, "no memory to write the model");
    for (size_t i = 0, k = 0; i < g->n_input && k < m->n_inputs; i++)
        if (g->input[i]->name == m->inputs[k].name) { /* the same pointer: ours came from there */
            s->graph.input[s->graph.n_input++] = g->input[i];
            k++;
        }
    return SX_OK;
}

struct file_sink {
    ProtobufCBuffer base;
    FILE *file;
    bool failed;
};

static void sink(ProtobufCBuffer *buffer, size_t len, const uint8_t *data)
{
    struct file_sink *s = (struct file_sink *)buffer;
    if (len && fwrite(data, 1, len, s->file) != len)
        s->failed = true;
}

enum sx_rc sx_onnx_write_stripped(const struct sx_onnx *m, const char *path, struct sx_err *err)
{
    struct stripped s;
    enum sx_rc rc = strip(m, &s, err);
    if (rc)
        return rc;
    struct file_sink out = {.base = {sink}, .file = fopen(path, "wbe")};
    if (!out.file) {
        rc = sx_file_fail(err, "write", path);
    } else {
        onnx__model_proto__pack_to_buffer(&s.model, &out.base);
        out.failed |= ferror(out.file) != 0;
        if (fclose(out.file) || out.failed) {
            rc = sx_file_fail(err, "write", path);
            unlink(path);
        }
    }
    free(s.graph.input);
    return rc;
}

enum sx_rc sx_onnx_stripped_bytes(const struct sx_onnx *m, char **ret_data, size_t *ret_size,
                                  struct sx_err *err)
{
    struct stripped s;
    enum sx_rc rc = strip(m, &s, err);
    if (rc)
        return rc;
    size_t size = onnx__model_proto__get_packed_size(&s.model);
    char *data = malloc(size + 1);
    if (data)
        *ret_size = onnx__model_proto__pack(&s.model, (uint8_t *)data);
    else
        rc = sx_fail(err, SX_NO_MEMORY, "no memory to write the model");
    free(s.graph.input);
    *ret_data = data;
    return rc;
}
