/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * tensor_test.c - shapes, references, and slices against naive copies.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "tensor/tensor.h"

#define DIMS(...)                                                                                  \
    (const int64_t[]){__VA_ARGS__}, (int)(sizeof(int64_t[]){__VA_ARGS__} / sizeof(int64_t))

static void test_shape_count(void **state)
{
    (void)state;
    uint64_t n = 99;
    assert_true(sx_shape_count(NULL, 0, &n));
    assert_int_equal(n, 1);
    assert_true(sx_shape_count(DIMS(2, 3, 4), &n));
    assert_int_equal(n, 24);
    assert_true(sx_shape_count(DIMS(INT64_MAX, INT64_MAX, 0), &n)); // empty, in any order
    assert_int_equal(n, 0);
    n = 99;
    assert_false(sx_shape_count(DIMS(0, -1), &n));
    assert_false(sx_shape_count(DIMS(INT64_MAX, 3), &n));
    assert_false(sx_shape_count(NULL, -1, &n));
    assert_int_equal(n, 99);
}

static void test_shape_bytes(void **state)
{
    (void)state;
    size_t n = 99;
    assert_true(sx_shape_bytes(SX_FP32, DIMS(2, 3), &n));
    assert_int_equal(n, 24);
    n = 99;
    assert_false(sx_shape_bytes(SX_BYTES, DIMS(2, 3), &n));
    assert_false(sx_shape_bytes(SX_DTYPE_NONE, DIMS(2, 3), &n));
    assert_false(sx_shape_bytes(SX_FP64, DIMS(INT64_MAX / 2), &n));
    assert_int_equal(n, 99);
}

static void test_shape_text(void **state)
{
    (void)state;
    char buf[32];
    assert_string_equal(sx_shape_text(DIMS(1, 3, -1), buf, sizeof buf), "[1,3,-1]");
    assert_string_equal(sx_shape_text(NULL, 0, buf, sizeof buf), "[]");
    for (size_t size = 1; size <= 9; size++) { // cut, but always terminated
        memset(buf, 'x', sizeof buf);
        sx_shape_text(DIMS(1, 3, -1), buf, size);
        assert_int_equal(strlen(buf), size - 1);
        assert_memory_equal(buf, "[1,3,-1]", size - 1);
        assert_int_equal(buf[size], 'x');
    }
    assert_ptr_equal(sx_shape_text(NULL, 0, buf, 0), buf);
}

static int released;

static void count_release(struct sx_buffer *b)
{
    assert_ptr_equal(b->owner, &released);
    released++;
}

static void test_references(void **state)
{
    (void)state;
    unsigned char bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct sx_buffer buffer;
    sx_buffer_wrap(&buffer, bytes, sizeof bytes, count_release, &released);
    released = 0;
    struct sx_tensor a = {
        .buffer = &buffer, .data = bytes, .nbytes = 8, .dtype = SX_UINT8, .rank = 1, .dims = {8}};
    struct sx_tensor b, c, d;
    sx_tensor_ref(&b, &a);
    assert_true(sx_tensor_equal(&a, &b));
    sx_tensor_move(&c, &a);
    assert_null(a.buffer);
    assert_int_equal(a.rank, 0);
    assert_int_equal(sx_tensor_slice(&d, &c, 2, 3), SX_OK);
    sx_tensor_unref(&a); // cleared: no effect
    sx_tensor_unref(&b);
    sx_tensor_unref(&c);
    assert_int_equal(released, 0);
    assert_memory_equal(d.data, bytes + 2, 3); // the slice keeps the buffer
    sx_tensor_unref(&d);
    assert_int_equal(released, 1);
    sx_tensor_unref(&d);
    assert_int_equal(released, 1);

    /* Memory that the caller keeps alive: no buffer, nothing to count. */
    struct sx_tensor loose = {
        .data = bytes, .nbytes = 8, .dtype = SX_UINT8, .rank = 1, .dims = {8}};
    sx_tensor_ref(&b, &loose);
    assert_true(sx_tensor_equal(&b, &loose));
    sx_tensor_unref(&b);
}

static void test_alloc(void **state)
{
    (void)state;
    struct sx_pool *pool;
    assert_int_equal(sx_pool_create(&pool), SX_OK);
    struct sx_tensor t = {.rank = 5};
    assert_int_equal(sx_tensor_alloc(&t, pool, SX_BYTES, DIMS(1)), SX_INVALID);
    assert_int_equal(sx_tensor_alloc(&t, pool, SX_FP32, DIMS(-1)), SX_INVALID);
    int64_t many[SX_MAX_RANK + 1] = {0};
    assert_int_equal(sx_tensor_alloc(&t, pool, SX_FP32, many, SX_MAX_RANK + 1), SX_INVALID);
    assert_int_equal(sx_tensor_alloc(&t, pool, SX_FP32, DIMS(INT64_C(1) << 50)), SX_NO_MEMORY);
    assert_int_equal(t.rank, 5);
    assert_int_equal(sx_tensor_alloc(&t, pool, SX_FP32, DIMS(2, 5)), SX_OK);
    assert_int_equal(t.nbytes, 40);
    assert_int_equal(t.rank, 2);
    assert_int_equal(t.dims[1], 5);
    assert_int_equal((uintptr_t)t.data % SX_BUF_ALIGN, 0);
    sx_tensor_unref(&t);
    assert_int_equal(sx_tensor_alloc(&t, pool, SX_FP64, NULL, 0), SX_OK);
    assert_int_equal(t.nbytes, 8);
    sx_tensor_unref(&t);
    assert_int_equal(sx_tensor_alloc(&t, pool, SX_FP64, DIMS(0, 7)), SX_OK);
    assert_int_equal(t.nbytes, 0);
    sx_tensor_unref(&t);
    sx_pool_destroy(pool);
}

/* Random tensor of random shape; for BYTES with its element borders in `at` (elements + 1). */
static void make(struct sx_rng *rng, enum sx_dtype dtype, struct sx_tensor *t, size_t *at)
{
    *t = (struct sx_tensor){.dtype = dtype, .rank = 1 + (int)sx_rng_below(rng, 3)};
    uint64_t n;
    for (int i = 0; i < t->rank; i++)
        t->dims[i] = (int64_t)sx_rng_below(rng, 6);
    assert_true(sx_shape_count(t->dims, t->rank, &n));
    size_t len = 0;
    for (uint64_t i = 0; i < n; i++) {
        at[i] = len;
        len += dtype == SX_BYTES ? 4 + (size_t)sx_rng_below(rng, 20) : sx_dtype_size(dtype);
    }
    at[n] = len;
    t->nbytes = len;
    t->data = malloc(len + 1); // exactly as large as the sanitizer should see, but never 0
    assert_non_null(t->data);
    for (size_t i = 0; i < len; i++)
        t->data[i] = (unsigned char)sx_rng_u64(rng);
    for (uint64_t i = 0; dtype == SX_BYTES && i < n; i++) {
        memset(t->data + at[i], 0, 4);
        t->data[at[i]] = (unsigned char)(at[i + 1] - at[i] - 4);
    }
}

static void test_slice(void **state)
{
    (void)state;
    static const enum sx_dtype types[] = {SX_BOOL, SX_FP16, SX_FP32, SX_INT64, SX_BYTES};
    struct sx_rng rng;
    sx_rng_init(&rng, 5);
    for (int round = 0; round < 1000; round++) {
        struct sx_tensor t, s = {.rank = 9};
        size_t at[6 * 6 * 6 + 1];
        make(&rng, types[sx_rng_below(&rng, 5)], &t, at);
        uint64_t row;
        assert_true(sx_shape_count(t.dims + 1, t.rank - 1, &row));
        for (int64_t first = -1; first <= t.dims[0] + 1; first++) {
            for (int64_t count = -1; count <= t.dims[0] + 1; count++) {
                bool fits = first >= 0 && count >= 0 && first + count <= t.dims[0];
                enum sx_rc rc = sx_tensor_slice(&s, &t, first, count);
                assert_int_equal(rc, fits ? SX_OK : SX_INVALID);
                if (rc)
                    continue;
                size_t begin = at[row * (uint64_t)first], end = at[row * (uint64_t)(first + count)];
                assert_int_equal(s.nbytes, end - begin);
                assert_ptr_equal(s.data, t.data + begin);
                assert_int_equal(s.dims[0], count);
                assert_int_equal(s.rank, t.rank);
                assert_memory_equal(s.dims + 1, t.dims + 1, (SX_MAX_RANK - 1) * sizeof *t.dims);
                assert_true(t.dtype != SX_BYTES || sx_tensor_bytes_valid(&s));
            }
        }
        free(t.data);
    }
}

static void test_slice_refuses(void **state)
{
    (void)state;
    unsigned char data[8] = {0};
    struct sx_tensor to = {.rank = 9}, t = {.data = data, .nbytes = 8, .dtype = SX_FP64};
    assert_int_equal(sx_tensor_slice(&to, &t, 0, 0), SX_INVALID); // rank 0
    t.rank = 1;
    t.dims[0] = 2; // says more than it has
    assert_int_equal(sx_tensor_slice(&to, &t, 0, 2), SX_INVALID);
    assert_int_equal(sx_tensor_slice(&to, &t, 1, INT64_MAX), SX_INVALID);
    assert_int_equal(sx_tensor_slice(&to, &t, INT64_MAX, INT64_MAX), SX_INVALID);
    t.dtype = SX_DTYPE_NONE;
    assert_int_equal(sx_tensor_slice(&to, &t, 0, 1), SX_INVALID);
    t.dtype = SX_BYTES;
    data[4] = 1; // the second element lacks its byte
    assert_int_equal(sx_tensor_slice(&to, &t, 0, 1), SX_OK);
    assert_int_equal(sx_tensor_slice(&to, &t, 1, 1), SX_INVALID);
}

static void test_bytes_valid(void **state)
{
    (void)state;
    struct sx_rng rng;
    sx_rng_init(&rng, 6);
    for (int round = 0; round < 500; round++) {
        struct sx_tensor t;
        size_t at[6 * 6 * 6 + 1];
        make(&rng, SX_BYTES, &t, at);
        assert_true(sx_tensor_bytes_valid(&t));
        t.nbytes++;
        assert_false(sx_tensor_bytes_valid(&t));
        t.nbytes--;
        if (t.nbytes > 0) {
            t.nbytes--;
            assert_false(sx_tensor_bytes_valid(&t));
            t.nbytes++;
            t.data[3] = 0xff; // 4 GiB
            assert_false(sx_tensor_bytes_valid(&t));
            t.data[3] = 0;
            t.dims[0]++;
            assert_false(sx_tensor_bytes_valid(&t));
        }
        t.dtype = SX_UINT8;
        assert_false(sx_tensor_bytes_valid(&t));
        free(t.data);
    }
    /* A shape that promises far more than the data could hold ends at once. */
    unsigned char data[4] = {0};
    struct sx_tensor huge = {
        .data = data, .nbytes = 4, .dtype = SX_BYTES, .rank = 1, .dims = {INT64_MAX}};
    assert_false(sx_tensor_bytes_valid(&huge));
}

static void test_equal(void **state)
{
    (void)state;
    unsigned char x[4] = {1, 2, 3, 4}, y[4] = {1, 2, 3, 4};
    struct sx_tensor a = {.data = x, .nbytes = 4, .dtype = SX_UINT8, .rank = 2, .dims = {2, 2}};
    struct sx_tensor b = a;
    b.data = y;
    b.dims[5] = 7; // beyond the rank
    assert_true(sx_tensor_equal(&a, &b));
    y[3] = 5;
    assert_false(sx_tensor_equal(&a, &b));
    y[3] = 4;
    b.dtype = SX_INT8;
    assert_false(sx_tensor_equal(&a, &b));
    b.dtype = SX_UINT8;
    b.dims[0] = 1;
    b.dims[1] = 4;
    assert_false(sx_tensor_equal(&a, &b));
    b.rank = 1;
    assert_false(sx_tensor_equal(&a, &b));
    assert_true(sx_tensor_equal(&(struct sx_tensor){0}, &(struct sx_tensor){0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shape_count),   cmocka_unit_test(test_shape_bytes),
        cmocka_unit_test(test_shape_text),    cmocka_unit_test(test_references),
        cmocka_unit_test(test_alloc),         cmocka_unit_test(test_slice),
        cmocka_unit_test(test_slice_refuses), cmocka_unit_test(test_bytes_valid),
        cmocka_unit_test(test_equal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
