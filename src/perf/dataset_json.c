/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * dataset_json.c - a dataset in perf_analyzer's JSON.
 *
 * A sample's tensor may be given with or without its batch dimension: what counts is the number of
 * elements, which must be that of one sample, or of the whole batch.
 */
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "base/sbuf.h"
#include "perf/dataset_int.h"

#define ADD(type, value)                                                                           \
    {                                                                                              \
        type x = (type)(value);                                                                    \
        sx_sbuf_add(out, &x, sizeof(x));                                                           \
        return true;                                                                               \
    }

static bool add_scalar(struct sx_sbuf *out, enum sx_dtype dtype, yyjson_val *v)
{
    if (dtype == SX_BYTES) {
        uint32_t len = (uint32_t)yyjson_get_len(v);
        if (!yyjson_is_str(v))
            return false;
        sx_sbuf_add(out, &len, 4);
        sx_sbuf_add(out, yyjson_get_str(v), len);
        return true;
    }
    if (dtype == SX_BOOL && yyjson_is_bool(v))
        ADD(unsigned char, yyjson_get_bool(v))
    if (!yyjson_is_num(v))
        return false;
    int64_t i = yyjson_is_real(v) ? (int64_t)yyjson_get_real(v) : yyjson_get_sint(v);
    switch (dtype) {
    case SX_BOOL:
        ADD(unsigned char, i != 0)
    case SX_UINT8:
    case SX_INT8:
        ADD(uint8_t, i)
    case SX_UINT16:
    case SX_INT16:
        ADD(uint16_t, i)
    case SX_UINT32:
    case SX_INT32:
        ADD(uint32_t, i)
    case SX_UINT64:
    case SX_INT64:
        ADD(uint64_t, yyjson_is_uint(v) ? yyjson_get_uint(v) : (uint64_t)i)
    case SX_FP32:
        ADD(float, yyjson_get_num(v))
    case SX_FP64:
        ADD(double, yyjson_get_num(v))
    default:
        return false; // FP16, BF16: b64 only
    }
}

/* Elements of nested lists, in order; counts them. */
static bool add_list(struct sx_sbuf *out, enum sx_dtype dtype, yyjson_val *v, uint64_t *count,
                     int depth)
{
    if (!yyjson_is_arr(v)) {
        ++*count;
        return add_scalar(out, dtype, v);
    }
    size_t i, n;
    yyjson_val *x;
    yyjson_arr_foreach(v, i, n, x)
    {
        if (depth > SX_MAX_RANK + 1 || !add_list(out, dtype, x, count, depth + 1))
            return false;
    }
    return true;
}

static bool add_base64(struct sx_sbuf *out, const char *text)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    int n = 0;
    for (; *text && *text != '='; text++) {
        const char *at = strchr(digits, *text);
        if (!at)
            return false;
        bits = bits << 6 | (uint32_t)(at - digits);
        n += 6;
        if (n >= 8) {
            n -= 8;
            sx_sbuf_putc(out, (char)(bits >> n));
        }
    }
    return true;
}

/* Append one sample's data of one input; *ret_count elements (by bytes for b64). */
static enum sx_rc add_value(struct sx_sbuf *out, const struct sx_input_info *in, yyjson_val *v,
                            uint64_t *ret_count, struct sx_err *err)
{
    size_t before = out->len;
    *ret_count = 0;
    yyjson_val *b64 = yyjson_obj_get(v, "b64"), *content = yyjson_obj_get(v, "content");
    if (yyjson_is_str(b64)) {
        size_t width = sx_dtype_size(in->dtype);
        if (!add_base64(out, yyjson_get_str(b64)))
            return sx_fail(err, SX_INVALID, "input '%s': not base64", in->name);
        if (width == 0) { // BYTES: one element, which gets its length
            uint32_t len = (uint32_t)(out->len - before);
            struct sx_sbuf whole = {0};
            sx_sbuf_add(&whole, &len, 4);
            sx_sbuf_add(&whole, out->data + before, len);
            out->len = before;
            sx_sbuf_add(out, whole.data, whole.len);
            out->failed |= whole.failed;
            sx_sbuf_free(&whole);
        }
        *ret_count = width ? (out->len - before) / width : 1;
        return SX_OK;
    }
    if (!add_list(out, in->dtype, content ? content : v, ret_count, 0))
        return sx_fail(err, SX_INVALID, "input '%s': values must be %s", in->name,
                       in->dtype == SX_BYTES ? "strings" : "numbers (b64 for FP16 and BF16)");
    return SX_OK;
}

/* Fill the tensor with `batch` samples of the file, from `first` on. */
static enum sx_rc fill(struct sx_tensor *t, const struct sx_input_info *in, yyjson_val *samples,
                       size_t first, int64_t batch, struct sx_err *err)
{
    struct sx_sbuf data = {0};
    uint64_t want, have = 0;
    enum sx_rc rc = SX_OK;
    if (!sx_shape_count(in->dims, in->rank, &want))
        return sx_fail(err, SX_TOO_LARGE, "input '%s' is too large", in->name);
    for (int64_t b = 0; b < batch && !rc && (b == 0 || have < want); b++) {
        yyjson_val *s = yyjson_arr_get(samples, (first + (size_t)b) % yyjson_arr_size(samples));
        yyjson_val *v = yyjson_obj_get(s, in->name);
        uint64_t n = 0;
        rc = v ? add_value(&data, in, v, &n, err)
               : sx_fail(err, SX_INVALID, "sample %zu has no '%s'", first + (size_t)b, in->name);
        have += n;
    }
    if (!rc && have != want)
        rc = sx_fail(err, SX_INVALID, "sample %zu: '%s' has %llu elements, the model takes %llu",
                     first, in->name, (unsigned long long)have, (unsigned long long)want);
    if (!rc && (data.failed || !sx_sbuf_reserve(&data, 1)))
        rc = sx_fail(err, SX_NO_MEMORY, "out of memory");
    if (rc) {
        sx_sbuf_free(&data);
        return rc;
    }
    t->data = (unsigned char *)data.data;
    t->nbytes = data.len;
    return SX_OK;
}

enum sx_rc sx_dataset_json(struct sx_dataset *d, const struct sx_model_info *m, const char *json,
                           size_t len, int64_t batch, struct sx_err *err)
{
    yyjson_read_err why;
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)json, len, 0, NULL, &why);
    if (!doc)
        return sx_fail(err, SX_INVALID, "not JSON: %s at byte %zu", why.msg, why.pos);
    yyjson_val *samples = yyjson_obj_get(yyjson_doc_get_root(doc), "data");
    if (yyjson_is_arr(yyjson_arr_get_first(samples)))
        samples = yyjson_arr_get_first(samples); // a list of streams: the first one
    size_t n = yyjson_arr_size(samples);
    enum sx_rc rc =
        n ? sx_dataset_alloc(d, m, n, err) : sx_fail(err, SX_INVALID, "no samples in \"data\"");
    if (rc) {
        yyjson_doc_free(doc);
        return rc;
    }
    for (size_t i = 0; i < n * (size_t)m->n_inputs && !rc; i++) {
        size_t s = i / (size_t)m->n_inputs, k = i % (size_t)m->n_inputs;
        rc = fill(&d->tensor[i], &m->input[k], samples, s * (size_t)batch, batch, err);
    }
    yyjson_doc_free(doc);
    if (rc)
        sx_dataset_fini(d);
    return rc;
}
