/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/npy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/rng.h"
#include "graph/tensorproto.h"

static struct sx_pool *pool;

/* The file that sx_npy_write makes of `t`; free it. */
static char *written(const struct sx_tensor *t, size_t *ret_size)
{
    char path[] = "/tmp/sx-npy-XXXXXX", *data;
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(sx_npy_write(path, t, NULL), SX_OK);
    assert_int_equal(sx_file_read(path, 0, &data, ret_size, NULL), SX_OK);
    unlink(path);
    return data;
}

static void what_is_written_is_read(void **unused)
{
    (void)unused;
    for (int type = SX_BOOL; type < SX_DTYPE_COUNT; type++) {
        for (int rank = 0; rank < 4; rank++) {
            struct sx_tensor t = {0}, back = {0};
            unsigned char strings[] = "\1\0\0\0a\3\0\0\0xyz";
            size_t size;
            if (type == SX_BF16)
                continue; /* NumPy has none */
            if (type == SX_BYTES)
                t = (struct sx_tensor){.data = strings,
                                       .nbytes = 12,
                                       .dtype = SX_BYTES,
                                       .rank = rank ? rank : 1,
                                       .dims = {2, 1, 1}};
            else
                assert_int_equal(
                    sx_tensor_alloc(&t, pool, (enum sx_dtype)type, (int64_t[]){2, 3, 1}, rank),
                    SX_OK);
            for (size_t i = 0; type != SX_BYTES && i < t.nbytes; i++)
                t.data[i] = (unsigned char)(i & 1);
            char *file = written(&t, &size);
            assert_int_equal(sx_npy_parse(file, size, "test", pool, &back, NULL), SX_OK);
            assert_true(sx_tensor_equal(&t, &back));
            free(file);
            sx_tensor_unref(&back);
            if (type != SX_BYTES)
                sx_tensor_unref(&t);
        }
    }
}

typedef enum sx_rc parse_fn(const void *, size_t, const char *, struct sx_pool *,
                            struct sx_tensor *, struct sx_err *);

/* Cut at every length and damage at random: an answer, never a crash; the copies are exact, so a
 * sanitizer sees each read past the end. */
static void damage(parse_fn *parse, const char *file, size_t size, bool cut_is_error)
{
    struct sx_rng rng;

    sx_rng_init(&rng, 5);
    for (size_t n = 0; n < size + 4000; n++) {
        size_t len = n < size ? n : size;
        char *copy = malloc(len ? len : 1);
        struct sx_tensor t = {0};
        struct sx_err err = {0};
        memcpy(copy, file, len);
        for (int k = 0; n >= size && k < 3; k++)
            copy[sx_rng_below(&rng, len)] = (char)sx_rng_u64(&rng);
        enum sx_rc rc = parse(copy, len, "test", pool, &t, &err);
        if (n < size && cut_is_error)
            assert_int_not_equal(rc, SX_OK);
        assert_int_equal(err.rc, rc);
        sx_tensor_unref(&t);
        free(copy);
    }
}

static void damaged_files_are_refused(void **unused)
{
    (void)unused;
    /* dims 2, 1; FLOAT; raw_data of 8 bytes */
    static const char proto[] = "\x08\x02\x08\x01\x10\x01\x4a\x08"
                                "abcdefgh";
    struct sx_tensor t = {0};
    size_t size;

    assert_int_equal(sx_tensor_alloc(&t, pool, SX_FP32, (int64_t[]){2, 2}, 2), SX_OK);
    memset(t.data, 1, t.nbytes);
    char *file = written(&t, &size);
    damage(sx_npy_parse, file, size, true);
    free(file);
    sx_tensor_unref(&t);

    assert_int_equal(sx_tensorproto_parse(proto, sizeof proto - 1, "test", pool, &t, NULL), SX_OK);
    assert_memory_equal(t.data, "abcdefgh", 8);
    assert_int_equal(t.rank, 2);
    sx_tensor_unref(&t);
    damage(sx_tensorproto_parse, proto, sizeof proto - 1, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(damaged_files_are_refused),
    };

    if (sx_pool_create(&pool) != SX_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sx_pool_destroy(pool);
    return failed;
}
