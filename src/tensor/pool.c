/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.c - size classes of reusable buffers.
 *
 * Words.   class: all buffers of one size.  in use: handed out and not yet back.
 *
 * A buffer is one block of memory: the struct in the first SX_BUF_ALIGN bytes, then the data.
 *
 * Always true
 *   P1  pool->refs = 1 for the creator until sx_pool_destroy, + 1 for each buffer in use.
 *   P2  a buffer is in use or in its class's free list, never both.
 *   P3  pool->bytes = the data bytes of both kinds.
 *   P4  after `closed` is set, nothing enters a free list once destroy has emptied it.
 *
 * Threads  any.  Each class has its own mutex, a leaf: nothing is called under it.  `closed` is
 *          read under the mutex that destroy takes after writing it, which gives P4.
 */
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "tensor/tensor.h"

enum {
    MIN_BITS = 6, // the smallest class: 64 bytes
    MAX_BITS = 48,
    CLASSES = (MAX_BITS - MIN_BITS) * 4 + 1,
};

_Static_assert(sizeof(struct sx_buffer) <= SX_BUF_ALIGN, "the struct lies before the data");

struct pool_class {
    _Alignas(64) pthread_mutex_t lock; // of its own cache line: neighbours are hot together
    struct sx_buffer *free;            // guard: lock; linked by sx_buffer.next
};

struct sx_pool {
    struct pool_class classes[CLASSES];
    atomic_size_t refs;
    atomic_size_t bytes;
    atomic_size_t limit; /* of bytes; 0: none */
    atomic_bool closed;
};

/* The class for `size` and the size of its buffers; CLASSES when there is none. */
static unsigned class_of(size_t size, size_t *ret_size)
{
    if (size <= (size_t)1 << MIN_BITS) {
        *ret_size = (size_t)1 << MIN_BITS;
        return 0;
    }
    size_t last = size - 1;
    unsigned e = 63u - (unsigned)__builtin_clzll(last);
    if (e >= MAX_BITS)
        return CLASSES;
    size_t quarter = last >> (e - 2); // 4..7
    *ret_size = (quarter + 1) << (e - 2);
    return (e - MIN_BITS) * 4 + (unsigned)(quarter - 4) + 1;
}

static void pool_free(struct sx_pool *pool)
{
    sx_pool_trim(pool);
    assert(atomic_load_explicit(&pool->bytes, memory_order_relaxed) == 0);
    for (unsigned i = 0; i < CLASSES; i++)
        pthread_mutex_destroy(&pool->classes[i].lock);
    free(pool);
}

static void pool_unref(struct sx_pool *pool)
{
    if (atomic_fetch_sub_explicit(&pool->refs, 1, memory_order_acq_rel) == 1)
        pool_free(pool);
}

static void buffer_free(struct sx_pool *pool, struct sx_buffer *b)
{
    atomic_fetch_sub_explicit(&pool->bytes, b->size, memory_order_relaxed);
    free(b);
}

/* Large buffers are kept while the pool is no larger than this: what a burst needed goes back. */
#define LARGE     ((size_t)1 << 20)
#define KEEP_MOST ((size_t)256 << 20)

static bool worth_keeping(struct sx_pool *pool, const struct sx_buffer *b)
{
    return !atomic_load_explicit(&pool->closed, memory_order_relaxed) &&
           (b->size <= LARGE ||
            atomic_load_explicit(&pool->bytes, memory_order_relaxed) <= KEEP_MOST);
}

/* sx_buffer.release of pooled buffers. */
static void buffer_return(struct sx_buffer *b)
{
    struct sx_pool *pool = b->owner;
    size_t size;
    struct pool_class *c = &pool->classes[class_of(b->size, &size)];
    assert(size == b->size);

    pthread_mutex_lock(&c->lock);
    bool keep = worth_keeping(pool, b);
    if (keep) {
        b->next = c->free;
        c->free = b;
    }
    pthread_mutex_unlock(&c->lock);
    if (!keep)
        buffer_free(pool, b);
    pool_unref(pool);
}

enum sx_rc sx_pool_create(struct sx_pool **ret_pool)
{
    void *memory;
    if (posix_memalign(&memory, _Alignof(struct sx_pool), sizeof(struct sx_pool)))
        return SX_NO_MEMORY;
    struct sx_pool *pool = memory;
    for (unsigned i = 0; i < CLASSES; i++) {
        pthread_mutex_init(&pool->classes[i].lock, NULL);
        pool->classes[i].free = NULL;
    }
    atomic_init(&pool->refs, 1);
    atomic_init(&pool->bytes, 0);
    atomic_init(&pool->limit, 0);
    atomic_init(&pool->closed, false);
    *ret_pool = pool;
    return SX_OK;
}

void sx_pool_destroy(struct sx_pool *pool)
{
    if (!pool)
        return;
    atomic_store_explicit(&pool->closed, true, memory_order_relaxed);
    sx_pool_trim(pool);
    pool_unref(pool);
}

void sx_pool_set_limit(struct sx_pool *pool, size_t bytes)
{
    atomic_store_explicit(&pool->limit, bytes, memory_order_relaxed);
}

size_t sx_pool_limit(struct sx_pool *pool)
{
    return atomic_load_explicit(&pool->limit, memory_order_relaxed);
}

/* Count `size` more bytes, unless that is over the limit. */
static bool reserve(struct sx_pool *pool, size_t size)
{
    size_t limit = sx_pool_limit(pool);
    size_t was = atomic_fetch_add_explicit(&pool->bytes, size, memory_order_relaxed);
    if (!limit || (size <= limit && was <= limit - size))
        return true;
    atomic_fetch_sub_explicit(&pool->bytes, size, memory_order_relaxed);
    return false;
}

/* A new block; NULL: there is no memory, or it would be over the limit. */
static void *allocate(struct sx_pool *pool, size_t size)
{
    void *memory;
    if (!reserve(pool, size))
        return NULL;
    if (!posix_memalign(&memory, SX_BUF_ALIGN, SX_BUF_ALIGN + size))
        return memory;
    atomic_fetch_sub_explicit(&pool->bytes, size, memory_order_relaxed);
    return NULL;
}

struct sx_buffer *sx_pool_get(struct sx_pool *pool, size_t size)
{
    size_t class_size;
    unsigned i = class_of(size, &class_size);
    if (i == CLASSES)
        return NULL;
    struct pool_class *c = &pool->classes[i];
    pthread_mutex_lock(&c->lock);
    struct sx_buffer *b = c->free;
    if (b)
        c->free = b->next;
    pthread_mutex_unlock(&c->lock);

    if (!b) {
        void *memory = allocate(pool, class_size);
        if (!memory) {
            sx_pool_trim(pool); // other classes may sit on what we need
            memory = allocate(pool, class_size);
        }
        if (!memory)
            return NULL;
        b = memory;
        sx_buffer_wrap(b, (unsigned char *)memory + SX_BUF_ALIGN, class_size, buffer_return, pool);
    }
    b->next = NULL;
    atomic_store_explicit(&b->refs, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&pool->refs, 1, memory_order_relaxed);
    return b;
}

size_t sx_pool_bytes(struct sx_pool *pool)
{
    return atomic_load_explicit(&pool->bytes, memory_order_relaxed);
}

void sx_pool_trim(struct sx_pool *pool)
{
    for (unsigned i = 0; i < CLASSES; i++) {
        struct pool_class *c = &pool->classes[i];
        pthread_mutex_lock(&c->lock);
        struct sx_buffer *b = c->free;
        c->free = NULL;
        pthread_mutex_unlock(&c->lock);
        while (b) {
            struct sx_buffer *next = b->next;
            buffer_free(pool, b);
            b = next;
        }
    }
}
