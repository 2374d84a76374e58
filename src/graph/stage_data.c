/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * stage_data.c - the weights of a stage, and its files.
 *
 * Weights are never copied in memory: messages point into the model's file or into maps of its
 * external files, and are written from there.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "graph/stage_int.h"

#define ALIGN 64 /* of a tensor in a weights file */

struct sx_stage_block {
    struct sx_stage_block *next;
    max_align_t memory[];
};

struct sx_stage_map {
    struct sx_stage_map *next;
    const char *location;
    const void *data;
    size_t size;
};

void *sx_stage_alloc(struct sx_stage_piece *p, size_t size)
{
    struct sx_stage_block *b = calloc(1, sizeof(*b) + size);
    if (!b) {
        if (!p->rc)
            p->rc = sx_fail(p->err, SX_NO_MEMORY, "no memory to write a stage");
        return NULL;
    }
    b->next = p->blocks;
    p->blocks = b;
    return b->memory;
}

void sx_stage_fini(struct sx_stage_piece *p)
{
    for (struct sx_stage_map *m = p->maps; m; m = m->next)
        sx_file_unmap(m->data, m->size);
    while (p->blocks) {
        struct sx_stage_block *next = p->blocks->next;
        free(p->blocks);
        p->blocks = next;
    }
    p->maps = NULL;
}

/* --- external data into the piece --------------------------------------------------------- */

/* Each of these returns the message itself, or a changed copy. */
typedef void *change(struct sx_stage_piece *p, void *message);

static void *copy_of(struct sx_stage_piece *p, const void *message, size_t size)
{
    void *copy = sx_stage_alloc(p, size);
    return copy ? memcpy(copy, message, size) : NULL;
}

/* A list with each item changed: itself when nothing was. */
static void *change_list(struct sx_stage_piece *p, void *list, size_t n, change *f)
{
    void **items = list, **copy = NULL;
    for (size_t i = 0; i < n && !p->rc; i++) {
        void *item = f(p, items[i]);
        if (item == items[i] || p->rc)
            continue;
        if (!copy)
            copy = copy_of(p, items, n * sizeof(*items));
        if (copy)
            copy[i] = item;
    }
    return copy ? copy : list;
}

static const struct sx_stage_map *map_file(struct sx_stage_piece *p, const char *location)
{
    for (const struct sx_stage_map *m = p->maps; m; m = m->next)
        if (!strcmp(m->location, location))
            return m;
    struct sx_stage_map *m = sx_stage_alloc(p, sizeof(*m));
    char *path = NULL;
    if (!m || asprintf(&path, "%s/%s", p->model->dir, location) < 0) {
        p->rc = sx_fail(p->err, SX_NO_MEMORY, "no memory to write a stage");
        return NULL;
    }
    p->rc = sx_file_map(path, &m->data, &m->size, p->err);
    free(path);
    if (p->rc)
        return NULL;
    m->location = location;
    m->next = p->maps;
    return p->maps = m;
}

static void *change_tensor(struct sx_stage_piece *p, void *message)
{
    const Onnx__TensorProto *t = message;
    struct sx_onnx_initializer i;

    if (t->data_location != ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL)
        return message;
    p->rc = sx_onnx_describe(p->model, t, &i, p->err); /* checks where it points */
    const struct sx_stage_map *m = p->rc ? NULL : map_file(p, i.location);
    Onnx__TensorProto *copy = m ? copy_of(p, t, sizeof(*t)) : NULL;
    if (!copy)
        return message;
    if (i.offset > m->size || i.nbytes > m->size - i.offset) { /* it shrank since the check */
        p->rc = sx_fail(p->err, SX_INVALID, "the weights file '%s' has become shorter", i.location);
        return message;
    }
    copy->has_data_location = 0;
    copy->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__DEFAULT;
    copy->n_external_data = 0;
    copy->external_data = NULL;
    copy->has_raw_data = 1;
    copy->raw_data.len = i.nbytes;
    copy->raw_data.data = i.nbytes ? (uint8_t *)m->data + i.offset : NULL;
    return copy;
}

static void *change_sparse(struct sx_stage_piece *p, void *message)
{
    const Onnx__SparseTensorProto *s = message;
    if (!s->values || !s->indices) /* in a function, whose inside is the engine's business */
        return message;
    void *values = change_tensor(p, s->values);
    void *indices = p->rc ? s->indices : change_tensor(p, s->indices);
    if (p->rc || (values == s->values && indices == s->indices))
        return message;
    Onnx__SparseTensorProto *copy = copy_of(p, s, sizeof(*s));
    if (copy) {
        copy->values = values;
        copy->indices = indices;
    }
    return copy;
}

static void *change_graph(struct sx_stage_piece *p, void *message);

static void *change_attribute(struct sx_stage_piece *p, void *message)
{
    const Onnx__AttributeProto *a = message;
    Onnx__AttributeProto new = *a;

    if (a->t)
        new.t = change_tensor(p, a->t);
    if (a->sparse_tensor && !p->rc)
        new.sparse_tensor = change_sparse(p, a->sparse_tensor);
    if (a->g && !p->rc)
        new.g = change_graph(p, a->g);
    new.tensors = change_list(p, a->tensors, a->n_tensors, change_tensor);
    new.sparse_tensors = change_list(p, a->sparse_tensors, a->n_sparse_tensors, change_sparse);
    new.graphs = change_list(p, a->graphs, a->n_graphs, change_graph);
    if (new.t == a->t &&new.sparse_tensor == a->sparse_tensor &&new.g == a->g &&new.tensors ==
        a->tensors &&new.sparse_tensors == a->sparse_tensors &&new.graphs == a->graphs)
        return message;
    return copy_of(p, &new, sizeof(new));
}

static void *change_node(struct sx_stage_piece *p, void *message)
{
    const Onnx__NodeProto *n = message;
    void *attributes = change_list(p, n->attribute, n->n_attribute, change_attribute);
    if (attributes == n->attribute)
        return message;
    Onnx__NodeProto *copy = copy_of(p, n, sizeof(*n));
    if (copy)
        copy->attribute = attributes;
    return copy;
}

static void change_graph_lists(struct sx_stage_piece *p, Onnx__GraphProto *g)
{
    g->node = change_list(p, g->node, g->n_node, change_node);
    g->initializer = change_list(p, g->initializer, g->n_initializer, change_tensor);
    g->sparse_initializer =
        change_list(p, g->sparse_initializer, g->n_sparse_initializer, change_sparse);
}

static void *change_graph(struct sx_stage_piece *p, void *message)
{
    const Onnx__GraphProto *g = message;
    Onnx__GraphProto new = *g;

    change_graph_lists(p, &new);
    if (new.node == g->node &&new.initializer == g->initializer &&new.sparse_initializer ==
        g->sparse_initializer)
        return message;
    return copy_of(p, &new, sizeof(new));
}

static void *change_function(struct sx_stage_piece *p, void *message)
{
    const Onnx__FunctionProto *f = message;
    Onnx__FunctionProto new = *f;

    new.node = change_list(p, f->node, f->n_node, change_node);
    new.attribute_proto =
        change_list(p, f->attribute_proto, f->n_attribute_proto, change_attribute);
    if (new.node == f->node &&new.attribute_proto == f->attribute_proto)
        return message;
    return copy_of(p, &new, sizeof(new));
}

enum sx_rc sx_stage_copy_data(struct sx_stage_piece *p)
{
    if (p->rc)
        return p->rc;
    change_graph_lists(p, &p->graph);
    p->proto.functions = change_list(p, p->proto.functions, p->proto.n_functions, change_function);
    return p->rc;
}

/* --- files --------------------------------------------------------------------------------- */

/* A file that takes its name only when it is whole. */
struct output {
    ProtobufCBuffer base;
    FILE *file;
    char *temp;
    bool failed;
    uint64_t size;
};

static void append(ProtobufCBuffer *buffer, size_t len, const uint8_t *data)
{
    struct output *o = (struct output *)buffer;
    o->size += len;
    if (!o->failed && len && fwrite(data, 1, len, o->file) != len)
        o->failed = true; /* errno stays: nothing is called until output_end */
}

static enum sx_rc output_begin(struct output *o, const char *path, struct sx_err *err)
{
    static atomic_uint serial;
    const char *slash = strrchr(path, '/');
    int dir_len = slash ? (int)(slash + 1 - path) : 0;

    *o = (struct output){.base = {append}};
    if (asprintf(&o->temp, "%.*s.staronnx-%ld-%u.stage.tmp", dir_len, path, (long)getpid(),
                 atomic_fetch_add_explicit(&serial, 1, memory_order_relaxed)) < 0) {
        o->temp = NULL;
        return sx_fail(err, SX_NO_MEMORY, "no memory to write a stage");
    }
    o->file = fopen(o->temp, "wbxe");
    if (o->file)
        return SX_OK;
    enum sx_rc rc = sx_file_fail(err, "write", path);
    free(o->temp);
    o->temp = NULL;
    return rc;
}

/* With `path` give it its name, with NULL drop it. */
static enum sx_rc output_end(struct output *o, const char *path, struct sx_err *err)
{
    bool ok = path && !o->failed && !fflush(o->file) && !fsync(fileno(o->file));
    int saved = errno;

    if (o->file && fclose(o->file) && ok) {
        ok = false;
        saved = errno;
    }
    if (ok && rename(o->temp, path)) {
        ok = false;
        saved = errno;
    }
    if (!ok && o->temp)
        unlink(o->temp);
    free(o->temp);
    *o = (struct output){0};
    errno = saved;
    return ok || !path ? SX_OK : sx_file_fail(err, "write", path);
}

/* NAME.weights for NAME.onnx. */
static char *weights_path(struct sx_stage_piece *p, const char *path)
{
    size_t len = strlen(path);
    if (len > 5 && !strcmp(path + len - 5, ".onnx"))
        len -= 5;
    char *weights = sx_stage_alloc(p, len + sizeof(".weights"));
    if (weights)
        strcpy(mempcpy(weights, path, len), ".weights");
    return weights;
}

static void add_entry(struct sx_stage_piece *p, Onnx__TensorProto *t, const char *key,
                      const char *value)
{
    Onnx__StringStringEntryProto *e = sx_stage_alloc(p, sizeof(*e));
    if (!e)
        return;
    onnx__string_string_entry_proto__init(e);
    e->key = (char *)key;
    e->value = (char *)value;
    t->external_data[t->n_external_data++] = e;
}

static void add_number(struct sx_stage_piece *p, Onnx__TensorProto *t, const char *key,
                       uint64_t number)
{
    char *text = sx_stage_alloc(p, 24);
    if (text) {
        snprintf(text, 24, "%llu", (unsigned long long)number);
        add_entry(p, t, key, text);
    }
}

/* Write a tensor's data to the weights file; what refers to it there. */
static Onnx__TensorProto *move_out(struct sx_stage_piece *p, const Onnx__TensorProto *t,
                                   struct output *o, const char *location)
{
    static const uint8_t zeros[ALIGN];
    Onnx__TensorProto *copy = copy_of(p, t, sizeof(*t));
    if (copy)
        copy->external_data = sx_stage_alloc(p, 3 * sizeof(*copy->external_data));
    if (p->rc)
        return NULL;
    append(&o->base, (ALIGN - o->size % ALIGN) % ALIGN, zeros);
    copy->n_external_data = 0;
    add_entry(p, copy, "location", location);
    add_number(p, copy, "offset", o->size);
    add_number(p, copy, "length", t->raw_data.len);
    append(&o->base, t->raw_data.len, t->raw_data.data);
    copy->has_data_location = 1;
    copy->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    copy->has_raw_data = 0;
    copy->raw_data = (ProtobufCBinaryData){0};
    return copy;
}

static enum sx_rc write_weights(struct sx_stage_piece *p, const char *path)
{
    Onnx__GraphProto *g = &p->graph;
    const char *slash = strrchr(path, '/');
    struct output o;

    p->rc = output_begin(&o, path, p->err);
    if (p->rc)
        return p->rc;
    g->initializer = copy_of(p, g->initializer, g->n_initializer * sizeof(*g->initializer));
    for (size_t i = 0; !p->rc && i < g->n_initializer; i++)
        if (g->initializer[i]->has_raw_data && g->initializer[i]->raw_data.len >= SX_STAGE_SMALL)
            g->initializer[i] = move_out(p, g->initializer[i], &o, slash ? slash + 1 : path);
    enum sx_rc rc = output_end(&o, p->rc ? NULL : path, p->err);
    if (rc)
        p->rc = rc;
    return p->rc;
}

enum sx_rc sx_stage_save(struct sx_stage_piece *p, const char *path, uint64_t limit)
{
    uint64_t weights = 0;
    char *beside = NULL;
    struct output o;

    for (size_t i = 0; !p->rc && i < p->graph.n_initializer; i++)
        if (p->graph.initializer[i]->has_raw_data)
            weights += p->graph.initializer[i]->raw_data.len;
    if (!p->rc && weights > limit)
        beside = weights_path(p, path);
    if (beside)
        write_weights(p, beside);
    if (p->rc)
        return p->rc;
    if (onnx__model_proto__get_packed_size(&p->proto) > INT32_MAX) {
        p->rc = sx_fail(p->err, SX_UNSUPPORTED,
                        "'%s' would be over 2 GiB, which no protobuf reader takes", path);
    } else {
        p->rc = output_begin(&o, path, p->err);
        if (!p->rc) {
            onnx__model_proto__pack_to_buffer(&p->proto, &o.base);
            p->rc = output_end(&o, path, p->err);
        }
    }
    if (p->rc && beside)
        unlink(beside);
    return p->rc;
}
