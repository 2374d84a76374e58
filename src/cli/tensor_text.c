/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/tensor_text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits. */
static double from_half(uint16_t h)
{
    int exponent = h >> 10 & 31;
    double fraction = h & 1023, value;

    if (exponent == 31)
        value = fraction != 0 ? NAN : INFINITY;
    else if (exponent == 0)
        value = ldexp(fraction, -24);
    else
        value = ldexp(fraction + 1024, exponent - 25);
    return h >> 15 ? -value : value;
}

static uint16_t to_half(double value) /* truncates; for |value| in 2^-14 .. 65504 or 0 */
{
    int exponent;
    double fraction = frexp(fabs(value), &exponent);
    unsigned sign = value < 0 ? 0x8000u : 0;

    if (value == 0 || exponent < -13)
        return (uint16_t)sign;
    return (uint16_t)(sign | (unsigned)(exponent + 14) << 10 |
                      ((unsigned)ldexp(fraction, 11) & 1023));
}

double sx_element(const struct sx_tensor *t, uint64_t i)
{
    const unsigned char *p = t->data + i * sx_dtype_size(t->dtype);

#define AS(type)                                                                                   \
    {                                                                                              \
        type x;                                                                                    \
        memcpy(&x, p, sizeof x);                                                                   \
        return (double)x;                                                                          \
    }
    switch (t->dtype) {
    case SX_BOOL:
        return *p != 0;
    case SX_UINT8:
        AS(uint8_t)
    case SX_UINT16:
        AS(uint16_t)
    case SX_UINT32:
        AS(uint32_t)
    case SX_UINT64:
        AS(uint64_t)
    case SX_INT8:
        AS(int8_t)
    case SX_INT16:
        AS(int16_t)
    case SX_INT32:
        AS(int32_t)
    case SX_INT64:
        AS(int64_t)
    case SX_FP32:
        AS(float)
    case SX_FP64:
        AS(double)
    case SX_FP16:
    case SX_BF16: {
        uint16_t bits;
        memcpy(&bits, p, sizeof bits);
        if (t->dtype == SX_FP16)
            return from_half(bits);
        uint32_t wide = (uint32_t)bits << 16;
        float x;
        memcpy(&x, &wide, sizeof x);
        return (double)x;
    }
    default:
        return 0;
    }
#undef AS
}

void sx_tensor_summarise(const struct sx_tensor *t, struct sx_tensor_summary *ret)
{
    struct sx_tensor_summary s = {0};
    double sum = 0;
    uint64_t used = 0;

    sx_shape_count(t->dims, t->rank, &s.count);
    for (uint64_t i = 0; t->dtype != SX_BYTES && i < s.count; i++) {
        double x = sx_element(t, i);
        if (!isfinite(x)) {
            s.not_finite++;
            continue;
        }
        s.min = used == 0 || x < s.min ? x : s.min;
        s.max = used == 0 || x > s.max ? x : s.max;
        sum += x;
        used++;
    }
    s.mean = used ? sum / (double)used : 0;
    *ret = s;
}

static void add_string(struct sx_sbuf *s, const unsigned char *data, uint32_t len)
{
    char *text = malloc((size_t)len + 1); /* ends at a zero byte: good enough to read */

    if (text) {
        memcpy(text, data, len);
        text[len] = 0;
        sx_sbuf_json(s, text);
    } else {
        s->failed = true;
    }
    free(text);
}

uint64_t sx_tensor_add_values(struct sx_sbuf *s, const struct sx_tensor *t, uint64_t max, bool json)
{
    uint64_t count = 0, i;
    size_t at = 0;

    sx_shape_count(t->dims, t->rank, &count);
    for (i = 0; i < count && i < max; i++) {
        if (i)
            sx_sbuf_puts(s, json ? "," : " ");
        if (t->dtype == SX_BYTES) {
            uint32_t len;
            if (at + 4 > t->nbytes)
                break;
            memcpy(&len, t->data + at, 4);
            if (len > t->nbytes - at - 4)
                break;
            add_string(s, t->data + at + 4, len);
            at += 4 + (size_t)len;
        } else if (t->dtype == SX_INT64 || t->dtype == SX_UINT64) {
            uint64_t x;
            memcpy(&x, t->data + 8 * i, 8);
            if (t->dtype == SX_INT64)
                sx_sbuf_printf(s, "%" PRId64, (int64_t)x);
            else
                sx_sbuf_printf(s, "%" PRIu64, x);
        } else if (t->dtype == SX_BOOL) {
            sx_sbuf_puts(s, t->data[i] ? "true" : "false");
        } else {
            double x = sx_element(t, i);
            if (!isfinite(x)) /* JSON has no numbers for these */
                sx_sbuf_printf(s, json ? "\"%s\"" : "%s",
                               isnan(x) ? "NaN"
                               : x < 0  ? "-Infinity"
                                        : "Infinity");
            else
                sx_sbuf_printf(s, t->dtype == SX_FP64 ? "%.17g" : "%.9g", x);
        }
    }
    return i;
}

static void put_random(struct sx_tensor *t, uint64_t i, struct sx_rng *rng)
{
    size_t size = sx_dtype_size(t->dtype);
    unsigned char *p = t->data + i * size;
    double x = sx_rng_normal(rng);
    float f = (float)x;
    uint64_t small = sx_rng_below(rng, t->dtype == SX_BOOL ? 2 : 10); /* little-endian */

    switch (t->dtype) {
    case SX_FP64:
        memcpy(p, &x, 8);
        break;
    case SX_FP32:
        memcpy(p, &f, 4);
        break;
    case SX_BF16:
        memcpy(p, (const unsigned char *)&f + 2, 2);
        break;
    case SX_FP16: {
        uint16_t h = to_half(x);
        memcpy(p, &h, 2);
        break;
    }
    default:
        memcpy(p, &small, size);
    }
}

enum sx_rc sx_tensor_random(struct sx_tensor *t, struct sx_pool *pool, struct sx_rng *rng,
                            struct sx_err *err)
{
    struct sx_tensor made = {0};
    uint64_t count;

    if (!sx_shape_count(t->dims, t->rank, &count) || count > UINT64_C(1) << 40)
        return sx_fail(err, SX_INVALID, "the shape is too large");
    if (t->dtype == SX_BYTES) {
        made = *t;
        made.nbytes = 8 * count;
        made.buffer = sx_pool_get(pool, made.nbytes);
        if (!made.buffer)
            return sx_fail(err, SX_NO_MEMORY, "no memory for a random input");
        made.data = made.buffer->data;
        for (uint64_t i = 0; i < count; i++) {
            memcpy(made.data + 8 * i, "\4\0\0\0", 4);
            for (int k = 4; k < 8; k++)
                made.data[8 * i + (uint64_t)k] = (unsigned char)('a' + sx_rng_below(rng, 26));
        }
    } else {
        if (sx_tensor_alloc(&made, pool, t->dtype, t->dims, t->rank) != SX_OK)
            return sx_fail(err, SX_NO_MEMORY, "no memory for a random input");
        for (uint64_t i = 0; i < count; i++)
            put_random(&made, i, rng);
    }
    *t = made;
    return SX_OK;
}
