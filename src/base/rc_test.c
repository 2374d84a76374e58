/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * rc_test.c - codes, and errors that explain themselves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "base/rc.h"

static void test_table(void **state)
{
    (void)state;
    for (int rc = 0; rc < SX_RC_COUNT; rc++) {
        assert_non_null(sx_rc_text((enum sx_rc)rc));
        assert_in_range(sx_rc_http((enum sx_rc)rc), 200, 599);
        assert_in_range(sx_rc_grpc((enum sx_rc)rc), 0, 16);
    }
    assert_int_equal(sx_rc_http(SX_OK), 200);
    assert_int_equal(sx_rc_grpc(SX_NOT_FOUND), 5);
    assert_string_equal(sx_rc_text(SX_DEADLINE), "deadline exceeded");
    assert_string_equal(sx_rc_text((enum sx_rc)99), sx_rc_text(SX_INTERNAL));
    assert_int_equal(sx_rc_http((enum sx_rc)99), 500);
}

static void test_fail_and_hint(void **state)
{
    (void)state;
    struct sx_err err = {.hint = "old"};
    assert_int_equal(sx_fail(&err, SX_INVALID, "rank %d, expected %d", 3, 4), SX_INVALID);
    assert_int_equal(err.rc, SX_INVALID);
    assert_string_equal(err.message, "rank 3, expected 4");
    assert_string_equal(err.hint, "");
    sx_hint(&err, "give %s", "four");
    assert_string_equal(err.hint, "give four");
    assert_string_equal(err.message, "rank 3, expected 4");
    /* A new failure made of the old one. */
    sx_fail(&err, SX_IO, "again: %s", err.message);
    assert_string_equal(err.message, "again: rank 3, expected 4");
}

static void test_while(void **state)
{
    (void)state;
    struct sx_err err;
    sx_fail(&err, SX_NOT_FOUND, "no input");
    sx_hint(&err, "look");
    assert_int_equal(sx_while(&err, "model '%s'", "x"), SX_NOT_FOUND);
    assert_string_equal(err.message, "model 'x': no input");
    sx_while(&err, "load: ");
    assert_string_equal(err.message, "load: model 'x': no input");
    assert_string_equal(err.hint, "look");
}

static void test_null(void **state)
{
    (void)state;
    assert_int_equal(sx_fail(NULL, SX_IO, "x"), SX_IO);
    sx_hint(NULL, "x");
    assert_int_equal(sx_while(NULL, "x"), SX_INTERNAL);
}

static void test_cut(void **state)
{
    (void)state;
    char text[2000];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct sx_err err;
    sx_fail(&err, SX_IO, "%s", text);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    sx_hint(&err, "%s", text);
    assert_int_equal(strlen(err.hint), sizeof err.hint - 1);
    sx_while(&err, "b");
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    assert_memory_equal(err.message, "b: aaa", 6);
    sx_while(&err, "%s", text);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table), cmocka_unit_test(test_fail_and_hint),
        cmocka_unit_test(test_while), cmocka_unit_test(test_null),
        cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
