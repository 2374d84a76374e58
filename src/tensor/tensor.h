/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * tensor.h - reference-counted views on byte buffers.
 *
 * A `struct sx_buffer` is counted memory: from a pool (returns there when the count hits zero) or
 * borrowed from elsewhere (a release callback runs then).  A `struct sx_tensor` is a small value:
 * type, shape and a pointer into a buffer on which it holds one reference.  Copying the struct
 * does not take a reference; sx_tensor_ref does.
 *
 *     get/wrap -> write by the one owner -> share (ref) -> read only -> unref -> pool
 *
 * Elements are little-endian, row-major, without padding.  A BYTES tensor holds, for each
 * element, a 4-byte little-endian length and then that many bytes: the protocol's binary form.
 *
 * Threads: counts are atomic; a tensor value has one owner; bytes may be read by many threads
 * once nobody writes them.
 */
#ifndef SX_TENSOR_TENSOR_H
#define SX_TENSOR_TENSOR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rc.h"
#include "tensor/dtype.h"

#define SX_MAX_RANK  16
#define SX_BUF_ALIGN 64

struct sx_pool;

struct sx_buffer {
    unsigned char *data; /* pooled ones are aligned to SX_BUF_ALIGN */
    size_t size;         /* usable bytes */
    atomic_uint refs;
    void (*release)(struct sx_buffer *buffer); /* runs once, when refs reaches zero */
    void *owner;                               /* for `release` */
    struct sx_buffer *next;                    /* link of the pool's free list */
};

/* --- pools: size classes with free lists; any thread ------------------------------------------ */

/* A pool lives until sx_pool_destroy and the return of its last buffer, whichever is later. */
enum sx_rc sx_pool_create(struct sx_pool **ret_pool);
void sx_pool_destroy(struct sx_pool *pool);
/* A buffer of at least `size` bytes (0 is fine) with one reference; NULL when memory is short.
 * Classes are a quarter of a power of two apart, so at most 25 % is lost to rounding. */
struct sx_buffer *sx_pool_get(struct sx_pool *pool, size_t size);
/* From now on the pool holds at most so many bytes, in use and free: beyond, sx_pool_get fails as
 * if there were no memory.  0: no limit (as at first). */
void sx_pool_set_limit(struct sx_pool *pool, size_t bytes);
size_t sx_pool_limit(struct sx_pool *pool);
/* Bytes held by the pool, in use and free. */
size_t sx_pool_bytes(struct sx_pool *pool);
/* Give the free buffers back to the system. */
void sx_pool_trim(struct sx_pool *pool);

/* Set up a buffer whose memory belongs to someone else; `release(buffer)` gives both back. */
void sx_buffer_wrap(struct sx_buffer *buffer, void *data, size_t size,
                    void (*release)(struct sx_buffer *), void *owner);
struct sx_buffer *sx_buffer_ref(struct sx_buffer *buffer);
/* Drops a reference and clears the pointer; NULL is fine. */
void sx_buffer_unref(struct sx_buffer **buffer);

/* --- tensors ------------------------------------------------------------------------------------
 */

struct sx_tensor {
    struct sx_buffer
        *buffer; /* one reference; NULL: no data yet, or memory the caller keeps alive */
    unsigned char *data;
    size_t nbytes;
    enum sx_dtype dtype;
    int rank;
    int64_t dims[SX_MAX_RANK];
};

/* Number of elements of a shape; 1 for rank 0.  False on a negative dimension or overflow. */
bool sx_shape_count(const int64_t *dims, int rank, uint64_t *ret_count);
/* Bytes of a shape of fixed-size elements; false also for BYTES and NONE. */
bool sx_shape_bytes(enum sx_dtype dtype, const int64_t *dims, int rank, size_t *ret_bytes);
/* Writes "[1,3,-1]" into buf (always terminated); returns buf. */
const char *sx_shape_text(const int64_t *dims, int rank, char *buf, size_t size);

/* A new tensor from the pool, contents undefined; fixed-size types only. */
enum sx_rc sx_tensor_alloc(struct sx_tensor *t, struct sx_pool *pool, enum sx_dtype dtype,
                           const int64_t *dims, int rank);
/* `to` becomes a view of the same data with its own reference. */
void sx_tensor_ref(struct sx_tensor *to, const struct sx_tensor *from);
/* `to` takes over; `from` is cleared. */
void sx_tensor_move(struct sx_tensor *to, struct sx_tensor *from);
/* Drops the reference and zeroes the struct; a zeroed tensor is fine. */
void sx_tensor_unref(struct sx_tensor *t);

/* `to` becomes a view of rows [first, first+count) of the first dimension, with its own
 * reference.  SX_INVALID when out of range or rank 0; for BYTES the data is scanned. */
enum sx_rc sx_tensor_slice(struct sx_tensor *to, const struct sx_tensor *from, int64_t first,
                           int64_t count);
/* Check that a BYTES tensor's data parses into exactly the elements of its shape. */
bool sx_tensor_bytes_valid(const struct sx_tensor *t);
/* Same type, shape and bytes. */
bool sx_tensor_equal(const struct sx_tensor *a, const struct sx_tensor *b);

#endif
