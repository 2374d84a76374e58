/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_test.c - size classes, lifetime, threads, and memory that runs out.
 *
 * The pool is compiled into this program with an allocator that fails on demand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

static atomic_int fail_after = -1; // allocations that still succeed; below 0: all of them

static int test_memalign(void **ret, size_t alignment, size_t size)
{
    int left = atomic_load_explicit(&fail_after, memory_order_relaxed);
    if (left == 0)
        return ENOMEM;
    if (left > 0)
        atomic_store_explicit(&fail_after, left - 1, memory_order_relaxed);
    return posix_memalign(ret, alignment, size);
}

#define posix_memalign test_memalign
#include "tensor/pool.c"
#undef posix_memalign

static void fail_allocations_after(int n)
{
    atomic_store_explicit(&fail_after, n, memory_order_relaxed);
}

static struct sx_pool *new_pool(void)
{
    struct sx_pool *pool = NULL;
    assert_int_equal(sx_pool_create(&pool), SX_OK);
    return pool;
}

static void check_class(size_t size)
{
    size_t got = 0, again = 0;
    unsigned c = class_of(size, &got);
    assert_true(c < CLASSES);
    assert_true(got >= size);
    if (size > 64)
        assert_true(got - size <= size / 4);
    assert_int_equal(class_of(got, &again), c); // a class contains its own size
    assert_int_equal(again, got);
    assert_int_equal(class_of(got + 1, &again), c + 1);
}

static void test_classes(void **state)
{
    (void)state;
    for (size_t size = 0; size < 5000; size++)
        check_class(size);
    struct sx_rng rng;
    sx_rng_init(&rng, 4);
    for (int i = 0; i < 20000; i++)
        check_class((size_t)(sx_rng_u64(&rng) >> (17 + sx_rng_below(&rng, 40))));
    size_t size;
    assert_int_equal(class_of((size_t)1 << MAX_BITS, &size), CLASSES - 1);
    assert_int_equal(class_of(((size_t)1 << MAX_BITS) + 1, &size), CLASSES);
    assert_int_equal(class_of(SIZE_MAX, &size), CLASSES);
}

static void test_reuse(void **state)
{
    (void)state;
    struct sx_pool *pool = new_pool();
    static const size_t sizes[] = {0, 1, 64, 65, 1000, 4096, 1 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct sx_buffer *b = sx_pool_get(pool, sizes[i]);
        assert_non_null(b);
        assert_int_equal((uintptr_t)b->data % SX_BUF_ALIGN, 0);
        assert_true(b->size >= sizes[i]);
        memset(b->data, 1, b->size);
        size_t held = sx_pool_bytes(pool);
        struct sx_buffer *first = b, *extra = sx_buffer_ref(b);
        sx_buffer_unref(&b);
        assert_null(b);
        struct sx_buffer *other = sx_pool_get(pool, sizes[i]);
        assert_ptr_not_equal(other, first); // still in use
        sx_buffer_unref(&extra);
        b = sx_pool_get(pool, sizes[i]);
        assert_ptr_equal(b, first);
        assert_int_equal(sx_pool_bytes(pool), held + other->size);
        sx_buffer_unref(&b);
        sx_buffer_unref(&other);
        sx_pool_trim(pool); // the next size may be of the same class
        assert_int_equal(sx_pool_bytes(pool), 0);
    }
    struct sx_buffer *none = NULL;
    sx_buffer_unref(&none);
    sx_pool_destroy(pool);
    sx_pool_destroy(NULL);
}

/* What a burst of large buffers needed goes back, small ones and the first large ones stay. */
static void test_burst(void **state)
{
    (void)state;
    enum { N = 12 };
    struct sx_pool *pool = new_pool();
    struct sx_buffer *large[N], *small = sx_pool_get(pool, 100);
    for (int i = 0; i < N; i++)
        assert_non_null(large[i] = sx_pool_get(pool, 64 << 20)); // untouched: no memory is used
    size_t peak = sx_pool_bytes(pool);
    assert_true(peak > KEEP_MOST);
    for (int i = 0; i < N; i++)
        sx_buffer_unref(&large[i]);
    assert_true(sx_pool_bytes(pool) <= KEEP_MOST);
    assert_true(sx_pool_bytes(pool) >= KEEP_MOST / 2);
    size_t held = sx_pool_bytes(pool);
    sx_buffer_unref(&small);
    assert_int_equal(sx_pool_bytes(pool), held);
    sx_pool_destroy(pool);
}

static void test_limit(void **state)
{
    (void)state;
    struct sx_pool *pool = new_pool();
    sx_pool_set_limit(pool, 1 << 20);
    assert_null(sx_pool_get(pool, 2 << 20));
    struct sx_buffer *a = sx_pool_get(pool, 600 << 10);
    assert_non_null(a);
    assert_null(sx_pool_get(pool, 600 << 10));
    assert_int_equal(sx_pool_bytes(pool), a->size); // what failed is not counted
    struct sx_buffer *b = sx_pool_get(pool, 1000);
    sx_buffer_unref(&b);
    sx_buffer_unref(&a); // both are free now, and make room for another class
    b = sx_pool_get(pool, 900 << 10);
    assert_non_null(b);
    assert_int_equal(sx_pool_bytes(pool), b->size);
    sx_buffer_unref(&b);
    sx_pool_destroy(pool);
}

static void test_outlives_its_creator(void **state)
{
    (void)state;
    struct sx_pool *pool = new_pool();
    struct sx_buffer *a = sx_pool_get(pool, 100), *b = sx_pool_get(pool, 100);
    struct sx_buffer *idle = sx_pool_get(pool, 5000);
    sx_buffer_unref(&idle);
    sx_pool_destroy(pool);
    assert_int_equal(sx_pool_bytes(pool), a->size + b->size); // the idle one is gone
    size_t size = a->size;
    sx_buffer_unref(&a);
    assert_int_equal(sx_pool_bytes(pool), size); // and so is a returned one
    memset(b->data, 2, b->size);
    sx_buffer_unref(&b); // frees the pool: the leak checker looks
}

static void test_no_memory(void **state)
{
    (void)state;
    struct sx_pool *pool = (struct sx_pool *)1;
    fail_allocations_after(0);
    assert_int_equal(sx_pool_create(&pool), SX_NO_MEMORY);
    assert_ptr_equal(pool, (struct sx_pool *)1);
    fail_allocations_after(-1);
    pool = new_pool();

    struct sx_buffer *small = sx_pool_get(pool, 64);
    fail_allocations_after(0);
    assert_null(sx_pool_get(pool, 1000));
    assert_int_equal(sx_pool_bytes(pool), 64);
    assert_null(sx_pool_get(pool, SIZE_MAX));
    struct sx_tensor t = {.rank = 3};
    assert_int_equal(sx_tensor_alloc(&t, pool, SX_FP32, (const int64_t[]){1000}, 1), SX_NO_MEMORY);
    assert_int_equal(t.rank, 3); // untouched

    /* What lies idle still serves, and is given up before a request fails. */
    sx_buffer_unref(&small);
    small = sx_pool_get(pool, 64);
    assert_non_null(small);
    sx_buffer_unref(&small);
    assert_null(sx_pool_get(pool, 1000));
    assert_int_equal(sx_pool_bytes(pool), 0);
    fail_allocations_after(-1);
    struct sx_buffer *b = sx_pool_get(pool, 1000);
    assert_non_null(b);
    sx_buffer_unref(&b);
    sx_pool_destroy(pool);
}

/* --- threads: every buffer has one owner at a time, however it travels ---------------------- */

enum { THREADS = 6, STEPS = 20000, SLOTS = 16 };

struct shared {
    struct sx_pool *pool;
    _Atomic(struct sx_buffer *) slots[SLOTS];
};

struct worker {
    struct shared *shared;
    uint64_t seed;
    int errors;
};

/* Mark a buffer, swap it into a slot, and check and drop what was there. */
static void *work(void *arg)
{
    struct worker *w = arg;
    struct sx_rng rng;
    sx_rng_init(&rng, w->seed);
    for (int i = 0; i < STEPS; i++) {
        struct sx_buffer *b = sx_pool_get(w->shared->pool, (size_t)sx_rng_below(&rng, 600));
        unsigned char mark = (unsigned char)sx_rng_u64(&rng);
        memset(b->data, mark, b->size);
        struct sx_buffer *second = sx_buffer_ref(b);
        b = atomic_exchange_explicit(&w->shared->slots[sx_rng_below(&rng, SLOTS)], b,
                                     memory_order_acq_rel);
        if (b && (b->data[0] != b->data[b->size - 1] || b->data[0] != b->data[b->size / 2]))
            w->errors++;
        if (second->data[0] != mark || second->data[second->size - 1] != mark)
            w->errors++;
        sx_buffer_unref(&b);
        sx_buffer_unref(&second);
        if (sx_rng_below(&rng, 500) == 0)
            sx_pool_trim(w->shared->pool);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct shared shared = {.pool = new_pool()};
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.shared = &shared, .seed = (uint64_t)i};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].errors, 0);
    }
    for (int i = 0; i < SLOTS; i++) {
        struct sx_buffer *b = atomic_load_explicit(&shared.slots[i], memory_order_acquire);
        sx_buffer_unref(&b);
    }
    sx_pool_trim(shared.pool);
    assert_int_equal(sx_pool_bytes(shared.pool), 0);
    sx_pool_destroy(shared.pool);
}

static void *drop(void *buffer)
{
    struct sx_buffer *b = buffer;
    sx_buffer_unref(&b);
    return NULL;
}

/* The creator and the last buffers leave at the same moment. */
static void test_destroy_race(void **state)
{
    (void)state;
    for (int round = 0; round < 300; round++) {
        struct sx_pool *pool = new_pool();
        pthread_t threads[2];
        for (int i = 0; i < 2; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, drop, sx_pool_get(pool, 64)), 0);
        sx_pool_destroy(pool);
        for (int i = 0; i < 2; i++)
            pthread_join(threads[i], NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_burst),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_outlives_its_creator),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_destroy_race),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
