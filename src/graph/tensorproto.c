/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "graph/tensorproto.h"

#include <string.h>

#include "graph/onnx_int.h"

static enum sx_rc bad(const char *where, struct sx_err *err)
{
    return sx_fail(err, SX_INVALID, "%s: the tensor's values do not fit its type and shape", where);
}

static enum sx_rc take_strings(const Onnx__TensorProto *p, uint64_t count, const char *where,
                               struct sx_pool *pool, struct sx_tensor *t, struct sx_err *err)
{
    size_t total = 0, at = 0;

    if (p->n_string_data != count)
        return bad(where, err);
    for (size_t i = 0; i < p->n_string_data; i++)
        total += 4 + p->string_data[i].len;
    t->buffer = sx_pool_get(pool, total);
    if (!t->buffer)
        return sx_fail(err, SX_NO_MEMORY, "%s: out of memory", where);
    t->data = t->buffer->data;
    t->nbytes = total;
    for (size_t i = 0; i < p->n_string_data; i++) {
        uint32_t len = (uint32_t)p->string_data[i].len;
        memcpy(t->data + at, &len, 4);
        if (len)
            memcpy(t->data + at + 4, p->string_data[i].data, len);
        at += 4 + (size_t)len;
    }
    return SX_OK;
}

/* The typed lists: narrow types are spread over wider ones, one element each. */
static bool take_typed(const Onnx__TensorProto *p, uint64_t count, size_t size, unsigned char *to)
{
    const void *from = NULL;
    size_t n = 0, wide = 0;

    if (p->n_float_data)
        from = p->float_data, n = p->n_float_data, wide = 4;
    else if (p->n_double_data)
        from = p->double_data, n = p->n_double_data, wide = 8;
    else if (p->n_int64_data)
        from = p->int64_data, n = p->n_int64_data, wide = 8;
    else if (p->n_uint64_data)
        from = p->uint64_data, n = p->n_uint64_data, wide = 8;
    else if (p->n_int32_data)
        from = p->int32_data, n = p->n_int32_data, wide = 4;
    if (n != count || size > wide)
        return count == 0;
    for (size_t i = 0; i < n; i++) /* little-endian: the low bytes come first */
        memcpy(to + i * size, (const unsigned char *)from + i * wide, size);
    return true;
}

enum sx_rc sx_tensorproto_parse(const void *data, size_t size, const char *where,
                                struct sx_pool *pool, struct sx_tensor *ret, struct sx_err *err)
{
    bool short_of_memory;
    ProtobufCAllocator allocator = sx_onnx_allocator(&short_of_memory);
    Onnx__TensorProto *p = onnx__tensor_proto__unpack(&allocator, size, data);
    struct sx_tensor t = {0};
    uint64_t count;
    enum sx_rc rc = SX_OK;

    if (!p)
        return short_of_memory ? sx_fail(err, SX_NO_MEMORY, "%s: out of memory", where)
                               : sx_fail(err, SX_INVALID, "%s: not an ONNX TensorProto", where);
    t.dtype = sx_dtype_from_onnx(p->data_type);
    if (t.dtype == SX_DTYPE_NONE || p->n_dims > SX_MAX_RANK ||
        p->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL || p->segment) {
        rc = sx_fail(
            err, SX_UNSUPPORTED,
            "%s: element type %d, %zu dimensions, external or segmented data: not supported", where,
            p->data_type, p->n_dims);
        goto out;
    }
    t.rank = (int)p->n_dims;
    for (int d = 0; d < t.rank; d++)
        t.dims[d] = p->dims[d];
    if (!sx_shape_count(t.dims, t.rank, &count)) {
        rc = bad(where, err);
        goto out;
    }
    if (t.dtype == SX_BYTES) {
        rc = take_strings(p, count, where, pool, &t, err);
        goto out;
    }
    if (count > size) { /* an element takes a byte at least; do not allocate for a lie */
        rc = bad(where, err);
        goto out;
    }
    rc = sx_tensor_alloc(&t, pool, sx_dtype_from_onnx(p->data_type), p->dims, (int)p->n_dims);
    if (rc != SX_OK)
        rc = sx_fail(err, rc, "%s: out of memory", where);
    else if (p->has_raw_data ? p->raw_data.len != t.nbytes
                             : !take_typed(p, count, sx_dtype_size(t.dtype), t.data))
        rc = bad(where, err);
    else if (p->has_raw_data && t.nbytes) /* of an empty one, `data` is NULL */
        memcpy(t.data, p->raw_data.data, t.nbytes);

out:
    onnx__tensor_proto__free_unpacked(p, NULL);
    if (rc != SX_OK)
        sx_tensor_unref(&t);
    else
        *ret = t;
    return rc;
}
