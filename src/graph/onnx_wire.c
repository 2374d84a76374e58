/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * onnx_wire.c - from protobuf bytes to protobuf-c messages.
 *
 * The bytes may be hostile, and protobuf-c has no limit on nesting and cuts strings at a NUL, so
 * a first pass walks the wire format along the descriptors and refuses both.  Weights stay where
 * they are: the second pass makes a copy of the bytes without the raw_data of the main graph's
 * initializers, unpacks that, and points the messages at the original bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/sbuf.h"
#include "graph/onnx_int.h"

#define MAX_DEPTH 64 /* of messages in messages; If in Loop in If costs three for each */

#define MODEL_GRAPH       7
#define GRAPH_INITIALIZER 5
#define TENSOR_RAW_DATA   9

struct wire {
    const unsigned char *at, *end;
};

struct field {
    const unsigned char *begin; /* of the tag */
    uint32_t number;
    int type;                  /* wire type */
    const unsigned char *data; /* type 2: the bytes */
    size_t len;
};

static bool get_varint(struct wire *w, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned shift = 0; w->at < w->end && shift < 70; shift += 7) {
        unsigned char byte = *w->at++;
        if (shift < 64)
            value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

/* The next field; false when the bytes are broken.  Not to be called at the end. */
static bool get_field(struct wire *w, struct field *f)
{
    uint64_t tag, value;
    f->begin = w->at;
    if (!get_varint(w, &tag) || tag >> 32 || !(tag >> 3))
        return false;
    f->number = (uint32_t)(tag >> 3);
    f->type = tag & 7;
    f->data = w->at;
    switch (f->type) {
    case 0:
        if (!get_varint(w, &value))
            return false;
        break;
    case 1:
    case 5:
        f->len = f->type == 1 ? 8 : 4;
        if ((size_t)(w->end - w->at) < f->len)
            return false;
        w->at += f->len;
        break;
    case 2:
        if (!get_varint(w, &value) || value > (size_t)(w->end - w->at))
            return false;
        f->data = w->at;
        f->len = value;
        w->at += value;
        break;
    default: /* groups: ONNX has none */
        return false;
    }
    return true;
}

static enum sx_rc scan(const ProtobufCMessageDescriptor *desc, struct wire w,
                       const unsigned char *file, int depth, struct sx_err *err)
{
    if (depth > MAX_DEPTH)
        return sx_fail(err, SX_INVALID, "the file nests more than %d levels deep", MAX_DEPTH);
    while (w.at < w.end) {
        struct field f;
        size_t at = (size_t)(w.at - file);
        if (!get_field(&w, &f))
            return sx_fail(err, SX_INVALID,
                           "the file is truncated or not an ONNX model (%s at byte %zu)",
                           desc->short_name, at);
        if (f.type != 2)
            continue;
        const ProtobufCFieldDescriptor *fd =
            protobuf_c_message_descriptor_get_field(desc, f.number);
        if (fd && fd->type == PROTOBUF_C_TYPE_MESSAGE) {
            enum sx_rc rc =
                scan(fd->descriptor, (struct wire){f.data, f.data + f.len}, file, depth + 1, err);
            if (rc)
                return rc;
        } else if (fd && fd->type == PROTOBUF_C_TYPE_STRING && f.len && memchr(f.data, 0, f.len)) {
            return sx_fail(err, SX_INVALID, "%s.%s has a NUL in it (at byte %zu)", desc->short_name,
                           fd->name, at);
        }
    }
    return SX_OK;
}

/* --- without the weights ------------------------------------------------------------------------
 */

struct raw {
    const unsigned char *data;
    size_t len;
};

static void put_varint(struct sx_sbuf *s, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        sx_sbuf_putc(s, (char)(v | 0x80));
    sx_sbuf_putc(s, (char)v);
}

static void put_message(struct sx_sbuf *s, uint32_t number, const struct sx_sbuf *body)
{
    put_varint(s, (uint64_t)number << 3 | 2);
    put_varint(s, body->len);
    sx_sbuf_add(s, body->data, body->len);
    if (body->failed)
        s->failed = true;
}

static void copy_field(struct sx_sbuf *s, const struct field *f, const struct wire *w)
{
    sx_sbuf_add(s, f->begin, (size_t)(w->at - f->begin));
}

/* The walks below are over bytes that scan() has accepted, so get_field cannot fail. */

static void lean_tensor(struct sx_sbuf *s, struct wire w, struct raw *raw)
{
    struct field f = {0};
    while (w.at < w.end && get_field(&w, &f)) {
        if (f.number == TENSOR_RAW_DATA && f.type == 2)
            *raw = (struct raw){f.data, f.len};
        else
            copy_field(s, &f, &w);
    }
}

static void lean_graph(struct sx_sbuf *s, struct wire w, struct sx_sbuf *raws)
{
    struct sx_sbuf tensor = {0};
    struct field f;
    while (w.at < w.end && get_field(&w, &f)) {
        if (f.number != GRAPH_INITIALIZER || f.type != 2) {
            copy_field(s, &f, &w);
            continue;
        }
        struct raw raw = {0};
        sx_sbuf_clear(&tensor);
        lean_tensor(&tensor, (struct wire){f.data, f.data + f.len}, &raw);
        put_message(s, GRAPH_INITIALIZER, &tensor);
        sx_sbuf_add(raws, &raw, sizeof(raw));
    }
    sx_sbuf_free(&tensor);
}

static void *allocate(void *failed, size_t size)
{
    void *block = malloc(size);
    if (!block && size)
        *(bool *)failed = true;
    return block;
}

static void release(void *failed, void *block)
{
    (void)failed;
    free(block);
}

ProtobufCAllocator sx_onnx_allocator(bool *failed)
{
    *failed = false;
    return (ProtobufCAllocator){allocate, release, failed};
}

enum sx_rc sx_onnx_unpack(const void *data, size_t size, Onnx__ModelProto **ret_proto,
                          struct sx_err *err)
{
    const unsigned char *bytes = data;
    struct wire w = {bytes, bytes + size};
    struct sx_sbuf lean = {0}, graph = {0}, raws = {0};
    Onnx__ModelProto *proto = NULL;
    unsigned n_graphs = 0;
    struct field f;

    enum sx_rc rc = scan(&onnx__model_proto__descriptor, w, bytes, 0, err);
    if (rc)
        return rc;
    while (w.at < w.end && get_field(&w, &f)) {
        if (f.number != MODEL_GRAPH || f.type != 2) {
            copy_field(&lean, &f, &w);
            continue;
        }
        if (++n_graphs > 1) /* legal protobuf (they merge), but nobody writes it */
            break;
        lean_graph(&graph, (struct wire){f.data, f.data + f.len}, &raws);
        put_message(&lean, MODEL_GRAPH, &graph);
    }
    sx_sbuf_free(&graph);
    if (n_graphs != 1) {
        rc = sx_fail(err, SX_INVALID, "the file has %s graph, so it is not an ONNX model",
                     n_graphs ? "more than one" : "no");
        goto out;
    }
    bool short_of_memory = lean.failed || raws.failed;
    if (!short_of_memory) {
        ProtobufCAllocator allocator = sx_onnx_allocator(&short_of_memory);
        proto = onnx__model_proto__unpack(&allocator, lean.len, (const uint8_t *)lean.data);
    }
    if (short_of_memory) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory to read the model");
        goto out;
    }
    if (!proto || proto->graph->n_initializer * sizeof(struct raw) != raws.len) {
        rc = sx_fail(err, SX_INVALID, "the file is not an ONNX model: its fields have other types");
        goto out;
    }
    for (size_t i = 0; i < proto->graph->n_initializer; i++) {
        Onnx__TensorProto *t = proto->graph->initializer[i];
        struct raw raw;
        memcpy(&raw, raws.data + i * sizeof(raw), sizeof(raw));
        if (raw.data) {
            t->has_raw_data = 1;
            t->raw_data.data = (uint8_t *)raw.data;
            t->raw_data.len = raw.len;
        }
    }
    *ret_proto = proto;
    proto = NULL;
out:
    if (proto)
        onnx__model_proto__free_unpacked(proto, NULL);
    sx_sbuf_free(&lean);
    sx_sbuf_free(&raws);
    return rc;
}

void sx_onnx_unpack_free(Onnx__ModelProto *proto)
{
    for (size_t i = 0; proto && i < proto->graph->n_initializer; i++) {
        Onnx__TensorProto *t = proto->graph->initializer[i];
        t->has_raw_data = 0;
        t->raw_data = (ProtobufCBinaryData){0};
    }
    if (proto)
        onnx__model_proto__free_unpacked(proto, NULL);
}
