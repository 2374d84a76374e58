/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * tensor.c - counted buffers and views on them.  Pools are in pool.c.
 */
#include "tensor/tensor.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void sx_buffer_wrap(struct sx_buffer *buffer, void *data, size_t size,
                    void (*release)(struct sx_buffer *), void *owner)
{
    buffer->data = data;
    buffer->size = size;
    atomic_init(&buffer->refs, 1);
    buffer->release = release;
    buffer->owner = owner;
    buffer->next = NULL;
}

struct sx_buffer *sx_buffer_ref(struct sx_buffer *buffer)
{
    unsigned before = atomic_fetch_add_explicit(&buffer->refs, 1, memory_order_relaxed);
    assert(before > 0);
    (void)before;
    return buffer;
}

void sx_buffer_unref(struct sx_buffer **buffer)
{
    struct sx_buffer *b = *buffer;
    *buffer = NULL;
    if (!b)
        return;
    /* Release: our reads and writes are over; acquire: so are everyone's, before the reuse. */
    unsigned before = atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before == 1 && b->release)
        b->release(b);
}

bool sx_shape_count(const int64_t *dims, int rank, uint64_t *ret_count)
{
    if (rank < 0)
        return false;
    bool empty = false;
    for (int i = 0; i < rank; i++) {
        if (dims[i] < 0)
            return false;
        if (dims[i] == 0)
            empty = true;
    }
    uint64_t count = empty ? 0 : 1;
    for (int i = 0; i < rank; i++)
        if (__builtin_mul_overflow(count, (uint64_t)dims[i], &count))
            return false;
    *ret_count = count;
    return true;
}

bool sx_shape_bytes(enum sx_dtype dtype, const int64_t *dims, int rank, size_t *ret_bytes)
{
    size_t element = sx_dtype_size(dtype), bytes;
    uint64_t count;
    if (element == 0 || !sx_shape_count(dims, rank, &count) ||
        __builtin_mul_overflow(count, element, &bytes))
        return false;
    *ret_bytes = bytes;
    return true;
}

const char *sx_shape_text(const int64_t *dims, int rank, char *buf, size_t size)
{
    if (size == 0)
        return buf;
    size_t len = (size_t)snprintf(buf, size, "[");
    for (int i = 0; i < rank && len < size; i++)
        len += (size_t)snprintf(buf + len, size - len, "%s%" PRId64, i > 0 ? "," : "", dims[i]);
    if (len < size)
        snprintf(buf + len, size - len, "]");
    return buf;
}

enum sx_rc sx_tensor_alloc(struct sx_tensor *t, struct sx_pool *pool, enum sx_dtype dtype,
                           const int64_t *dims, int rank)
{
    size_t bytes;
    if (rank > SX_MAX_RANK || !sx_shape_bytes(dtype, dims, rank, &bytes))
        return SX_INVALID;
    struct sx_buffer *b = sx_pool_get(pool, bytes);
    if (!b)
        return SX_NO_MEMORY;
    *t = (struct sx_tensor){
        .buffer = b, .data = b->data, .nbytes = bytes, .dtype = dtype, .rank = rank};
    if (rank > 0)
        memcpy(t->dims, dims, (size_t)rank * sizeof *dims);
    return SX_OK;
}

void sx_tensor_ref(struct sx_tensor *to, const struct sx_tensor *from)
{
    *to = *from;
    if (to->buffer)
        sx_buffer_ref(to->buffer);
}

void sx_tensor_move(struct sx_tensor *to, struct sx_tensor *from)
{
    assert(to != from);
    *to = *from;
    *from = (struct sx_tensor){0};
}

void sx_tensor_unref(struct sx_tensor *t)
{
    sx_buffer_unref(&t->buffer);
    *t = (struct sx_tensor){0};
}

/* Step over `n` elements of a BYTES tensor from byte *at; false when they do not fit. */
static bool skip_elements(const struct sx_tensor *t, uint64_t n, size_t *at)
{
    size_t pos = *at;
    for (; n > 0; n--) {
        if (t->nbytes - pos < 4)
            return false;
        const unsigned char *p = t->data + pos;
        uint32_t len =
            (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        pos += 4;
        if (t->nbytes - pos < len)
            return false;
        pos += len;
    }
    *at = pos;
    return true;
}

enum sx_rc sx_tensor_slice(struct sx_tensor *to, const struct sx_tensor *from, int64_t first,
                           int64_t count)
{
    uint64_t all, row = 0;
    if (from->rank < 1 || first < 0 || count < 0 || first > from->dims[0] ||
        count > from->dims[0] - first || !sx_shape_count(from->dims, from->rank, &all))
        return SX_INVALID;
    if (from->dims[0] > 0)
        row = all / (uint64_t)from->dims[0];

    /* Neither product overflows: both are at most `all`. */
    uint64_t skip = row * (uint64_t)first, keep = row * (uint64_t)count;
    size_t begin = 0, end;
    if (from->dtype == SX_BYTES) {
        if (!skip_elements(from, skip, &begin))
            return SX_INVALID;
        end = begin;
        if (!skip_elements(from, keep, &end))
            return SX_INVALID;
    } else {
        size_t element = sx_dtype_size(from->dtype);
        if (element == 0 || skip + keep > from->nbytes / element)
            return SX_INVALID;
        begin = skip * element;
        end = begin + keep * element;
    }
    sx_tensor_ref(to, from);
    if (to->data)
        to->data += begin;
    to->nbytes = end - begin;
    to->dims[0] = count;
    return SX_OK;
}

bool sx_tensor_bytes_valid(const struct sx_tensor *t)
{
    uint64_t count;
    size_t end = 0;
    return t->dtype == SX_BYTES && sx_shape_count(t->dims, t->rank, &count) &&
           skip_elements(t, count, &end) && end == t->nbytes;
}

bool sx_tensor_equal(const struct sx_tensor *a, const struct sx_tensor *b)
{
    if (a->dtype != b->dtype || a->rank != b->rank || a->nbytes != b->nbytes)
        return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dims[i] != b->dims[i])
            return false;
    return a->nbytes == 0 || memcmp(a->data, b->data, a->nbytes) == 0;
}
