/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * v2_data.c - tensor elements between JSON arrays and memory.
 *
 * On the way in an array is flat, or nested exactly as the shape says; each element is stored as
 * it is read, in one pass.  On the way out it is flat.
 */
#include <stdio.h>
#include <string.h>

#include "wire/v2_int.h"

struct target {
    struct sx_json *j;
    const char *name;
    struct sx_tensor *t;
    unsigned char *to; /* where the next element goes */
    uint64_t at;       /* its index */
    int depth;         /* levels of arrays */
    struct sx_err *err;
};

static enum sx_rc bad_element(struct target *g, const char *text, size_t len, const char *expected)
{
    return sx_fail(g->err, SX_INVALID, "input '%s': element %llu is %.*s, expected %s", g->name,
                   (unsigned long long)g->at, (int)(len < 40 ? len : 40), text, expected);
}

#define STORE(g, type, value)                                                                      \
    do {                                                                                           \
        type v_ = (type)(value);                                                                   \
        memcpy((g)->to, &v_, sizeof(v_));                                                          \
        (g)->to += sizeof(v_);                                                                     \
    } while (0)

static enum sx_rc read_int(struct target *g, int64_t min, int64_t max)
{
    const char *text;
    size_t len;
    int64_t v;
    if (!sx_json_get_number(g->j, &text, &len))
        return SX_INVALID;
    if (!sx_json_int64(text, len, &v) || v < min || v > max) {
        char expected[64];
        snprintf(expected, sizeof(expected), "a whole number that fits %s",
                 sx_dtype_name(g->t->dtype));
        return bad_element(g, text, len, expected);
    }
    switch (sx_dtype_size(g->t->dtype)) {
    case 1:
        STORE(g, int8_t, v);
        break;
    case 2:
        STORE(g, int16_t, v);
        break;
    case 4:
        STORE(g, int32_t, v);
        break;
    default:
        STORE(g, int64_t, v);
    }
    return SX_OK;
}

static enum sx_rc read_uint64(struct target *g)
{
    const char *text;
    size_t len;
    uint64_t v;
    if (!sx_json_get_number(g->j, &text, &len))
        return SX_INVALID;
    if (!sx_json_uint64(text, len, &v))
        return bad_element(g, text, len, "a whole number that fits UINT64");
    STORE(g, uint64_t, v);
    return SX_OK;
}

static enum sx_rc read_float(struct target *g)
{
    const char *text;
    size_t len;
    if (!sx_json_get_number(g->j, &text, &len))
        return SX_INVALID;
    if (g->t->dtype == SX_FP32) {
        float v;
        if (!sx_json_float(text, len, &v))
            return bad_element(g, text, len, "a number that fits FP32");
        STORE(g, float, v);
    } else {
        double v;
        if (!sx_json_double(text, len, &v))
            return bad_element(g, text, len, "a number that fits FP64");
        STORE(g, double, v);
    }
    return SX_OK;
}

static enum sx_rc read_bool(struct target *g)
{
    bool v;
    char c = sx_json_peek(g->j);
    if (c == '0' || c == '1') {
        const char *text;
        size_t len;
        if (!sx_json_get_number(g->j, &text, &len))
            return SX_INVALID;
        if (len != 1)
            return bad_element(g, text, len, "true or false");
        v = c == '1';
    } else if (!sx_json_get_bool(g->j, &v)) {
        return SX_INVALID;
    }
    STORE(g, unsigned char, v);
    return SX_OK;
}

static enum sx_rc read_string(struct target *g)
{
    struct sx_json_string s;
    if (!sx_json_get_string(g->j, &s))
        return SX_INVALID;
    uint32_t n = (uint32_t)sx_json_decode(&s, (char *)g->to + 4);
    memcpy(g->to, &n, 4);
    g->to += 4 + n;
    return SX_OK;
}

static enum sx_rc read_element(struct target *g)
{
    switch (g->t->dtype) {
    case SX_FP32:
    case SX_FP64:
        return read_float(g);
    case SX_INT8:
        return read_int(g, INT8_MIN, INT8_MAX);
    case SX_INT16:
        return read_int(g, INT16_MIN, INT16_MAX);
    case SX_INT32:
        return read_int(g, INT32_MIN, INT32_MAX);
    case SX_INT64:
        return read_int(g, INT64_MIN, INT64_MAX);
    case SX_UINT8:
        return read_int(g, 0, UINT8_MAX);
    case SX_UINT16:
        return read_int(g, 0, UINT16_MAX);
    case SX_UINT32:
        return read_int(g, 0, UINT32_MAX);
    case SX_UINT64:
        return read_uint64(g);
    case SX_BOOL:
        return read_bool(g);
    case SX_BYTES:
        return read_string(g);
    default:
        return sx_fail(g->err, SX_INVALID,
                       "input '%s': %s has no form in JSON, send it as binary data", g->name,
                       sx_dtype_name(g->t->dtype));
    }
}

/* One level of arrays; recursion is bounded by the rank. */
static enum sx_rc read_level(struct target *g, int level, uint64_t want)
{
    uint64_t n = 0;
    char shape[128];
    bool leaf = level + 1 == g->depth;
    for (bool more = sx_json_array(g->j); more; more = sx_json_more(g->j, ']')) {
        if (n == want) {
            sx_shape_text(g->t->dims, g->t->rank, shape, sizeof(shape));
            return sx_fail(g->err, SX_INVALID,
                           "input '%s': 'data' has more elements than the %llu of its shape %s%s",
                           g->name, (unsigned long long)want, shape,
                           g->depth > 1 ? " in a nested array" : "");
        }
        enum sx_rc rc;
        if (!leaf) {
            rc = read_level(g, level + 1, (uint64_t)g->t->dims[level + 1]);
        } else if (sx_json_peek(g->j) == '[') {
            rc = sx_fail(g->err, SX_INVALID, "input '%s': 'data' nests deeper than its shape %s",
                         g->name, sx_shape_text(g->t->dims, g->t->rank, shape, sizeof(shape)));
        } else {
            rc = read_element(g);
            g->at++;
        }
        if (rc)
            return rc;
        n++;
    }
    if (g->j->error)
        return SX_INVALID;
    if (n == want)
        return SX_OK;
    return sx_fail(
        g->err, SX_INVALID, "input '%s': 'data' has %llu elements%s where its shape %s needs %llu",
        g->name, (unsigned long long)n, g->depth > 1 ? " in a nested array" : "",
        sx_shape_text(g->t->dims, g->t->rank, shape, sizeof(shape)), (unsigned long long)want);
}

/* Memory for the elements.  A shape that promises more elements than the text can hold is caught
 * before it costs anything: each takes two bytes of text at least. */
static enum sx_rc allocate(struct target *g, struct sx_pool *pool, uint64_t count)
{
    struct sx_tensor *t = g->t;
    size_t left = (size_t)(g->j->end - g->j->p);
    if (count > left / 2 + 1) {
        char shape[128];
        return sx_fail(g->err, SX_INVALID,
                       "input '%s': 'data' has less than the %llu elements of "
                       "its shape %s",
                       g->name, (unsigned long long)count,
                       sx_shape_text(t->dims, t->rank, shape, sizeof(shape)));
    }
    size_t bytes = count * sx_dtype_size(t->dtype);
    if (t->dtype == SX_BYTES) {
        struct sx_json skip = *g->j;
        if (!sx_json_skip(&skip)) {
            *g->j = skip;
            return SX_INVALID;
        }
        bytes = (size_t)(skip.p - g->j->p) + 4 * count;
    }
    t->buffer = sx_pool_get(pool, bytes);
    if (!t->buffer)
        return sx_fail(g->err, SX_NO_MEMORY, "no memory for input '%s'", g->name);
    t->data = g->to = t->buffer->data;
    return SX_OK;
}

enum sx_rc sx_v2_read_data(struct sx_json *j, const char *name, struct sx_pool *pool,
                           struct sx_tensor *t, struct sx_err *err)
{
    struct target g = {.j = j, .name = name, .t = t, .depth = 1, .err = err};
    uint64_t count = 0;
    sx_shape_count(t->dims, t->rank, &count); /* checked by the caller */
    enum sx_rc rc = allocate(&g, pool, count);
    if (rc)
        return rc;
    uint64_t want = count;
    if (t->rank == 0 && sx_json_peek(j) != '[') {
        rc = read_element(&g);
    } else {
        struct sx_json ahead = *j;
        if (sx_json_array(&ahead) && sx_json_peek(&ahead) == '[' && t->rank > 1) {
            g.depth = t->rank;
            want = (uint64_t)t->dims[0];
        }
        rc = read_level(&g, 0, want);
    }
    t->nbytes = (size_t)(g.to - t->data);
    return rc;
}

/* --- out ----------------------------------------------------------------------------------------
 */

static void put_element(struct sx_sbuf *s, enum sx_dtype dtype, const unsigned char *p)
{
    union {
        int8_t i8;
        int16_t i16;
        int32_t i32;
        int64_t i64;
        uint16_t u16;
        uint32_t u32;
        uint64_t u64;
        float f32;
        double f64;
    } v;
    memcpy(&v, p, sx_dtype_size(dtype));
    switch (dtype) {
    case SX_BOOL:
        sx_sbuf_puts(s, *p ? "true" : "false");
        break;
    case SX_INT8:
        sx_json_put_int64(s, v.i8);
        break;
    case SX_INT16:
        sx_json_put_int64(s, v.i16);
        break;
    case SX_INT32:
        sx_json_put_int64(s, v.i32);
        break;
    case SX_INT64:
        sx_json_put_int64(s, v.i64);
        break;
    case SX_UINT8:
        sx_json_put_uint64(s, *p);
        break;
    case SX_UINT16:
        sx_json_put_uint64(s, v.u16);
        break;
    case SX_UINT32:
        sx_json_put_uint64(s, v.u32);
        break;
    case SX_UINT64:
        sx_json_put_uint64(s, v.u64);
        break;
    case SX_FP64:
        sx_json_put_double(s, v.f64);
        break;
    default:
        sx_json_put_float(s, v.f32);
    }
}

static enum sx_rc put_strings(struct sx_sbuf *s, const char *name, const struct sx_tensor *t,
                              struct sx_err *err)
{
    const unsigned char *p = t->data, *end = p + t->nbytes;
    while (p < end) {
        uint32_t n;
        memcpy(&n, p, 4);
        if (p != t->data)
            sx_sbuf_putc(s, ',');
        if (!sx_json_put_bytes(s, p + 4, n))
            return sx_fail(err, SX_INVALID,
                           "output '%s' is not valid UTF-8, so JSON cannot carry it: ask for it "
                           "with \"binary_data\": true",
                           name);
        p += 4 + (size_t)n;
    }
    return SX_OK;
}

enum sx_rc sx_v2_has_json(const char *name, enum sx_dtype dtype, struct sx_err *err)
{
    if (dtype != SX_FP16 && dtype != SX_BF16)
        return SX_OK;
    return sx_fail(err, SX_INVALID,
                   "output '%s' is %s, which has no form in JSON: ask for it with "
                   "\"binary_data\": true",
                   name, sx_dtype_name(dtype));
}

enum sx_rc sx_v2_put_data(struct sx_sbuf *s, const char *name, const struct sx_tensor *t,
                          struct sx_err *err)
{
    size_t size = sx_dtype_size(t->dtype);
    enum sx_rc rc = sx_v2_has_json(name, t->dtype, err);
    if (rc)
        return rc;
    sx_sbuf_putc(s, '[');
    if (t->dtype == SX_BYTES) {
        rc = put_strings(s, name, t, err);
    } else {
        for (size_t at = 0; at + size <= t->nbytes; at += size) {
            if (at)
                sx_sbuf_putc(s, ',');
            put_element(s, t->dtype, t->data + at);
        }
    }
    sx_sbuf_putc(s, ']');
    return rc;
}
