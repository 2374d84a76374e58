/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_test.h - what becomes of a call when memory is short, one allocation after another.
 *
 *     static enum sx_rc read_it(void)   ... gives everything back, tells how it went
 *     ... struct CMUnitTest tests[] = {SWEEP(read_it), ...
 *
 * The call is repeated with its first, second, ... allocation failing, in our code or in a
 * library's, until it needs no more of them.  Each time it must end, say SX_NO_MEMORY unless it
 * could do without, and leave nothing allocated.
 *
 * Including this replaces malloc and its kin in a test program.  Sanitizers bring their own: there
 * SX_SANITIZED is defined, and the tests are skipped.
 */
#ifndef SX_BASE_MEMORY_TEST_H
#define SX_BASE_MEMORY_TEST_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rc.h"

struct sweep {
    const char *name;
    enum sx_rc (*call)(void);
};
#define SWEEP(call)                                                                                \
    {                                                                                              \
        #call, sweep, NULL, NULL, &(struct sweep)                                                  \
        {                                                                                          \
            #call, call                                                                            \
        }                                                                                          \
    }

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SX_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SX_SANITIZED 1
#endif

#ifndef SX_SANITIZED
static atomic_long memory_calls;     /* so far, of all that allocate */
static atomic_long memory_live;      /* blocks */
static atomic_long memory_left = -1; /* that succeed before one fails; negative: all do */
static atomic_bool memory_failed;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *block);

static inline bool memory_is_short(void)
{
    atomic_fetch_add(&memory_calls, 1);
    if (atomic_load(&memory_left) < 0 || atomic_fetch_sub(&memory_left, 1) > 0)
        return false;
    atomic_store(&memory_failed, true);
    errno = ENOMEM;
    return true;
}

static inline void *memory_count(void *block)
{
    if (block)
        atomic_fetch_add(&memory_live, 1);
    return block;
}

void *malloc(size_t size)
{
    return memory_is_short() ? NULL : memory_count(__libc_malloc(size));
}

void *calloc(size_t n, size_t size)
{
    return memory_is_short() ? NULL : memory_count(__libc_calloc(n, size));
}

void *realloc(void *old, size_t size)
{
    if (memory_is_short())
        return NULL;
    void *block = __libc_realloc(old, size);
    return old ? block : memory_count(block);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memory_is_short() ? NULL : memory_count(__libc_memalign(alignment, size));
}

int posix_memalign(void **ret, size_t alignment, size_t size)
{
    *ret = aligned_alloc(alignment, size);
    return *ret ? 0 : ENOMEM;
}

void free(void *block)
{
    if (block)
        atomic_fetch_sub(&memory_live, 1);
    __libc_free(block);
}

static inline void sweep(void **state)
{
    const struct sweep *s = *state;
    atomic_store(&memory_left, -1);
    assert_int_equal(s->call(), SX_OK); /* whatever a library keeps after its first use is there */
    for (long n = 0;; n++) {
        long before = atomic_load(&memory_live);
        atomic_store(&memory_failed, false);
        atomic_store(&memory_left, n);
        enum sx_rc rc = s->call();
        atomic_store(&memory_left, -1);
        bool failed = atomic_load(&memory_failed);
        if (atomic_load(&memory_live) != before || (rc && (!failed || rc != SX_NO_MEMORY)))
            fail_msg("%s without allocation %ld: status %d, %ld blocks left", s->name, n + 1,
                     (int)rc, atomic_load(&memory_live) - before);
        if (!failed) {
            print_message("# %s: %ld allocations\n", s->name, n);
            assert_true(n > 0);
            return;
        }
    }
}
#else
static inline void sweep(void **state)
{
    (void)state;
    skip();
}
#endif

#endif
