/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * ort_value.c - tensors to ONNX Runtime's values and back.
 *
 * Fixed-size types are never copied: an input value points at our memory, an output tensor's
 * buffer holds the value and releases it with the last reference.  Strings are objects on their
 * side and length-prefixed bytes on ours, so they are copied both ways.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/ort_int.h"

/* A buffer over a value of ONNX Runtime's.  It needs the api alone, which outlives every engine. */
struct value_buffer {
    struct sx_buffer base;
    const OrtApi *api;
    OrtValue *value;
};

static void release_value(struct sx_buffer *buffer)
{
    struct value_buffer *b = (struct value_buffer *)buffer;
    if (b->value)
        b->api->ReleaseValue(b->value);
    free(b);
}

static enum sx_rc strings_in(const struct ort_lib *lib, const struct sx_tensor *t,
                             OrtValue **ret_value, struct sx_err *err)
{
    const OrtApi *api = lib->api;
    OrtValue *value = NULL;
    enum sx_rc rc =
        sx_ort_check(lib,
                     api->CreateTensorAsOrtValue(lib->allocator, t->dims, (size_t)t->rank,
                                                 ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING, &value),
                     err);
    uint64_t count;
    sx_shape_count(t->dims, t->rank, &count); /* checked by sx_session_run */
    const unsigned char *p = t->data;
    for (uint64_t i = 0; !rc && i < count; i++) {
        uint32_t len;
        char *to;
        memcpy(&len, p, 4);
        rc = sx_ort_check(lib, api->GetResizedStringTensorElementBuffer(value, i, len, &to), err);
        if (!rc && len)
            memcpy(to, p + 4, len);
        p += 4 + (size_t)len;
    }
    if (rc)
        api->ReleaseValue(value);
    else
        *ret_value = value;
    return rc;
}

enum sx_rc sx_ort_value_in(const struct ort_lib *lib, const struct sx_tensor *t,
                           OrtValue **ret_value, struct sx_err *err)
{
    static unsigned char nothing[SX_BUF_ALIGN]; /* an empty tensor still needs an address */

    if (t->dtype == SX_BYTES)
        return strings_in(lib, t, ret_value, err);
    OrtStatus *status = lib->api->CreateTensorWithDataAsOrtValue(
        lib->cpu, t->data ? t->data : nothing, t->nbytes, t->dims, (size_t)t->rank,
        (ONNXTensorElementDataType)sx_dtype_to_onnx(t->dtype), ret_value);
    return status ? sx_ort_check(lib, status, err) : SX_OK;
}

static enum sx_rc strings_out(const struct ort_lib *lib, OrtValue *value, uint64_t count,
                              struct sx_tensor *t, struct sx_err *err)
{
    const OrtApi *api = lib->api;
    size_t total = 0;
    struct value_buffer *b = NULL;
    char *text = NULL;
    size_t *offsets = NULL;
    enum sx_rc rc = SX_OK;

    if (count)
        rc = sx_ort_check(lib, api->GetStringTensorDataLength(value, &total), err);
    if (rc)
        return rc;
    size_t nbytes = total + 4 * count;
    b = calloc(1, sizeof(*b) + nbytes + 1);
    text = malloc(total + 1);
    offsets = malloc((count + 1) * sizeof(*offsets));
    if (!b || !text || !offsets) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for the output's strings");
        goto out;
    }
    if (count)
        rc =
            sx_ort_check(lib, api->GetStringTensorContent(value, text, total, offsets, count), err);
    if (rc)
        goto out;
    offsets[count] = total;
    unsigned char *p = (unsigned char *)(b + 1);
    for (uint64_t i = 0; i < count; i++) {
        size_t len = offsets[i + 1] - offsets[i];
        uint32_t prefix = (uint32_t)len;
        if (len > UINT32_MAX) {
            rc = sx_fail(err, SX_TOO_LARGE, "a string of the output is over 4 GiB");
            goto out;
        }
        memcpy(p, &prefix, 4);
        memcpy(p + 4, text + offsets[i], len);
        p += 4 + len;
    }
    b->api = api;
    sx_buffer_wrap(&b->base, b + 1, nbytes, release_value, NULL);
    t->buffer = &b->base;
    t->data = b->base.data;
    t->nbytes = nbytes;
    b = NULL;
    api->ReleaseValue(value);
out:
    free(b);
    free(text);
    free(offsets);
    return rc;
}

/* An output that is one of the inputs comes back as the caller's own memory. */
static bool points_into(const void *data, const struct sx_tensor *inputs, size_t n_inputs)
{
    for (size_t i = 0; i < n_inputs; i++)
        if (inputs[i].nbytes && (const unsigned char *)data >= inputs[i].data &&
            (const unsigned char *)data < inputs[i].data + inputs[i].nbytes)
            return true;
    return false;
}

enum sx_rc sx_ort_value_out(const struct ort_lib *lib, OrtValue *value,
                            const struct sx_tensor *inputs, size_t n_inputs, struct sx_tensor *t,
                            struct sx_err *err)
{
    const OrtApi *api = lib->api;
    OrtTensorTypeAndShapeInfo *info = NULL;
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    struct sx_tensor made = {0};
    size_t rank = 0;

    enum sx_rc rc = sx_ort_check(lib, api->GetTensorTypeAndShape(value, &info), err);
    if (!rc)
        rc = sx_ort_check(lib, api->GetTensorElementType(info, &type), err);
    if (!rc)
        rc = sx_ort_check(lib, api->GetDimensionsCount(info, &rank), err);
    if (!rc && rank > SX_MAX_RANK)
        rc = sx_fail(err, SX_UNSUPPORTED, "an output has %zu dimensions", rank);
    if (!rc)
        rc = sx_ort_check(lib, api->GetDimensions(info, made.dims, rank), err);
    if (info)
        api->ReleaseTensorTypeAndShapeInfo(info);
    if (rc)
        return rc;
    made.dtype = sx_dtype_from_onnx((int)type);
    made.rank = (int)rank;

    if (made.dtype == SX_BYTES) {
        uint64_t count;
        if (!sx_shape_count(made.dims, made.rank, &count))
            return sx_fail(err, SX_ENGINE, "an output has an impossible shape");
        rc = strings_out(lib, value, count, &made, err);
        if (!rc)
            *t = made;
        return rc;
    }

    void *data = NULL;
    if (!sx_shape_bytes(made.dtype, made.dims, made.rank, &made.nbytes))
        return sx_fail(err, SX_ENGINE, "an output has an impossible type or shape");
    rc = sx_ort_check(lib, api->GetTensorMutableData(value, &data), err);
    if (rc)
        return rc;
    bool copy = made.nbytes && points_into(data, inputs, n_inputs);
    struct value_buffer *b = malloc(sizeof(*b) + (copy ? made.nbytes : 0));
    if (!b)
        return sx_fail(err, SX_NO_MEMORY, "no memory for an output");
    b->api = api;
    b->value = copy ? NULL : value;
    if (copy) {
        memcpy(b + 1, data, made.nbytes);
        data = b + 1;
        api->ReleaseValue(value);
    }
    sx_buffer_wrap(&b->base, data, made.nbytes, release_value, NULL);
    made.buffer = &b->base;
    made.data = data;
    *t = made;
    return SX_OK;
}
