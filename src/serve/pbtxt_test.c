/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * pbtxt_test.c - the text format: trees, errors with positions, and broken input.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/sbuf.h"
#include "serve/pbtxt.h"

/* The tree in one canonical line. */
static void print(struct sx_sbuf *s, const struct sx_pbtxt *t, const struct sx_pbtxt_node *m)
{
    for (const struct sx_pbtxt_node *n = sx_pbtxt_first(t, m); n; n = sx_pbtxt_next(t, n)) {
        if (n->kind == SX_PBTXT_MESSAGE) {
            sx_sbuf_printf(s, "%s{", n->name);
            print(s, t, n);
            sx_sbuf_puts(s, "}");
        } else {
            const char *q = n->kind == SX_PBTXT_STRING ? "'" : "";
            sx_sbuf_printf(s, "%s=%s%s%s ", n->name, q, n->value, q);
        }
    }
}

static void expect(const char *text, const char *tree)
{
    struct sx_pbtxt t;
    struct sx_err err = {0};
    struct sx_sbuf s = {0};
    if (sx_pbtxt_parse(&t, text, strlen(text), "f", &err))
        sx_sbuf_puts(&s, err.message);
    else
        print(&s, &t, &t.nodes[0]);
    assert_string_equal(s.data ? s.data : "", tree);
    sx_sbuf_free(&s);
    sx_pbtxt_fini(&t);
}

static void test_trees(void **state)
{
    (void)state;
    expect("", "");
    expect("# only a comment", "");
    expect("a: 1 b: -2.5e-3, c: TYPE_X; d: \"x\"", "a=1 b=-2.5e-3 c=TYPE_X d='x' ");
    expect("a { b: { c < d: 1 > } }", "a{b{c{d=1 }}}");
    expect("a: [1, 2,3] b: []", "a=1 a=2 a=3 ");
    expect("a [ { b: 1 }, { b: 2 } ]", "a{b=1 }a{b=2 }");
    expect("a: 'it' \"'s\" # joined\n b: - 4", "a='it's' b=-4 ");
    expect("a: \"\\x41\\102\\n\\\"\"", "a='AB\n\"' ");
}

static void test_errors(void **state)
{
    (void)state;
    expect("a: 1\n b: }", "f:2:5: expected a value, got '}'");
    expect("a {", "f:1:4: expected '}', but the file ends");
    expect("a 1", "f:1:3: expected ':' or '{' after the field's name, got '1'");
    expect("a: \"x\ny\"", "f:1:6: the string is not closed on its line");
    expect("a: [1 2]", "f:1:7: expected ',' or ']' in a list, got '2'");
    expect("}", "f:1:1: expected a field's name, got '}'");
    expect("a: \"\\q\"", "f:1:7: unknown escape in a string");
    expect("\x01", "f:1:1: expected a field's name, got byte 0x01");
}

static void test_limits(void **state)
{
    (void)state;
    struct sx_pbtxt t;
    struct sx_err err;
    struct sx_sbuf s = {0};
    for (int i = 0; i < 100000; i++)
        sx_sbuf_puts(&s, "a{");
    assert_int_equal(sx_pbtxt_parse(&t, s.data, s.len, "f", &err), SX_INVALID);
    assert_non_null(strstr(err.message, "deeper"));
    sx_pbtxt_fini(&t);
    sx_sbuf_clear(&s);
    for (int i = 0; i < 100000; i++)
        sx_sbuf_puts(&s, "a:[");
    assert_int_equal(sx_pbtxt_parse(&t, s.data, s.len, "f", &err), SX_INVALID);
    sx_pbtxt_fini(&t);
    sx_sbuf_clear(&s);
    for (unsigned i = 0; i <= SX_PBTXT_MAX_BYTES; i++)
        sx_sbuf_putc(&s, ' ');
    assert_int_equal(sx_pbtxt_parse(&t, s.data, s.len, "f", &err), SX_TOO_LARGE);
    sx_pbtxt_fini(&t);
    sx_sbuf_free(&s);
}

static void test_scalars(void **state)
{
    (void)state;
    struct sx_pbtxt t;
    int64_t v = 0;
    bool b = false;
    static const char text[] = "a: 9223372036854775807 b: 9223372036854775808 c: true d: '1'";
    assert_int_equal(sx_pbtxt_parse(&t, text, strlen(text), "f", NULL), SX_OK);
    const struct sx_pbtxt_node *n = sx_pbtxt_first(&t, &t.nodes[0]);
    assert_true(sx_pbtxt_int(n, &v) && v == INT64_MAX);
    n = sx_pbtxt_next(&t, n);
    assert_false(sx_pbtxt_int(n, &v));
    n = sx_pbtxt_next(&t, n);
    assert_true(sx_pbtxt_bool(n, &b) && b);
    assert_false(sx_pbtxt_int(n, &v));
    n = sx_pbtxt_next(&t, n);
    assert_false(sx_pbtxt_int(n, &v));
    sx_pbtxt_fini(&t);
}

/* Whatever the bytes are, parsing ends, stays in bounds, and frees what it took. */
static void test_broken(void **state)
{
    (void)state;
    static const char seed[] =
        "name: \"x\" max_batch_size: 8 input [ { name: 'a' data_type: TYPE_FP32 dims: [ 3, -1 ] } ]"
        " dynamic_batching { preferred_batch_size: [4, 8] } parameters { key: \"k\" value "
        "{ string_value: \"\\x41\\n\" } } # end\n";
    static const char bytes[] = "{}[]<>:,;\"'\\#\n- x9.e";
    struct sx_rng r;
    sx_rng_init(&r, 7);
    for (int round = 0; round < 20000; round++) {
        size_t len = sx_rng_below(&r, sizeof(seed));
        char *text = malloc(len + 1); /* exact, so that ASan sees an over-read */
        memcpy(text, seed, len);
        for (uint64_t k = sx_rng_below(&r, 6); len > 0 && k > 0; k--)
            text[sx_rng_below(&r, len)] =
                k & 1 ? bytes[sx_rng_below(&r, sizeof(bytes))] : (char)sx_rng_u64(&r);
        char *exact = realloc(text, len ? len : 1);
        struct sx_pbtxt t;
        struct sx_err err = {0};
        enum sx_rc rc = sx_pbtxt_parse(&t, exact, len, "f", &err);
        assert_true(rc == SX_OK || (rc == SX_INVALID && *err.message));
        sx_pbtxt_fini(&t);
        free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trees),  cmocka_unit_test(test_errors),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_scalars),
        cmocka_unit_test(test_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
