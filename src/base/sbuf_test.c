/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * sbuf_test.c - appending, escaping, and running out of memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/sbuf.h"

static void test_random_appends(void **state)
{
    (void)state;
    enum { MAX = 1 << 16 };
    char *model = malloc(MAX);
    assert_non_null(model);
    struct sx_rng rng;
    sx_rng_init(&rng, 2);
    struct sx_sbuf s = {0};
    for (int round = 0; round < 20; round++) {
        size_t len = 0;
        while (len < MAX / 2) {
            char piece[600];
            size_t n = (size_t)sx_rng_below(&rng, sizeof piece);
            for (size_t i = 0; i < n; i++)
                piece[i] = (char)('a' + sx_rng_below(&rng, 26));
            piece[n] = '\0';
            switch (sx_rng_below(&rng, 4)) {
            case 0:
                sx_sbuf_add(&s, piece, n);
                break;
            case 1:
                sx_sbuf_puts(&s, piece);
                break;
            case 2:
                sx_sbuf_printf(&s, "%s", piece);
                break;
            default:
                for (size_t i = 0; i < n; i++)
                    sx_sbuf_putc(&s, piece[i]);
            }
            memcpy(model + len, piece, n);
            len += n;
            assert_int_equal(s.len, len);
            assert_true(s.len < s.cap);
            assert_int_equal(s.data ? s.data[s.len] : 0, '\0');
        }
        assert_memory_equal(s.data, model, len);
        assert_false(s.failed);
        size_t cap = s.cap;
        sx_sbuf_clear(&s);
        assert_int_equal(s.len, 0);
        assert_int_equal(s.cap, cap);
        assert_string_equal(s.data, "");
    }
    sx_sbuf_free(&s);
    assert_null(s.data);
    sx_sbuf_free(&s);
    free(model);
}

static void test_failure(void **state)
{
    (void)state;
    struct sx_sbuf s = {0};
    sx_sbuf_puts(&s, "kept");
    assert_false(sx_sbuf_reserve(&s, SIZE_MAX));
    assert_true(s.failed);
    sx_sbuf_puts(&s, "dropped");
    sx_sbuf_printf(&s, "%d", 1);
    sx_sbuf_json(&s, "x");
    assert_string_equal(s.data, "kept");
    sx_sbuf_clear(&s);
    assert_false(s.failed);
    sx_sbuf_puts(&s, "new");
    assert_string_equal(s.data, "new");
    sx_sbuf_free(&s);
}

static void test_empty_append_terminates(void **state)
{
    (void)state;
    struct sx_sbuf s = {0};
    sx_sbuf_puts(&s, "");
    assert_string_equal(s.data, "");
    sx_sbuf_free(&s);
}

#define FFFD "\xef\xbf\xbd"

static void test_json(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", "\"\""},
        {"plain", "\"plain\""},
        {"a\"b\\c/", "\"a\\\"b\\\\c/\""},
        {"\n\r\t\b\x1f\x7f", "\"\\n\\r\\t\\u0008\\u001f\x7f\""},
        {"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\""},
        {"\x80"
         "a",
         "\"" FFFD "a\""},
        {"\xc3", "\"" FFFD "\""},                            // ends early
        {"\xc3\"", "\"" FFFD "\\\"\""},                      // the quote is not swallowed
        {"\xc0\xaf", "\"" FFFD FFFD "\""},                   // overlong
        {"\xe0\x80\x80", "\"" FFFD FFFD FFFD "\""},          // overlong
        {"\xed\xa0\x80", "\"" FFFD FFFD FFFD "\""},          // surrogate
        {"\xf4\x90\x80\x80", "\"" FFFD FFFD FFFD FFFD "\""}, // above U+10FFFF
        {"\xf0\x9f\x98"
         "a",
         "\"" FFFD "a\""}, // one for the longest part
        {"\xf5\xff", "\"" FFFD FFFD "\""},
        {"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf",
         "\"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sx_sbuf s = {0};
        sx_sbuf_json(&s, cases[i].text);
        assert_string_equal(s.data, cases[i].want);
        sx_sbuf_free(&s);
    }
}

/* Whatever the bytes, the result is one JSON string of well-formed UTF-8: written a second time
 * without its escapes it does not change. */
static void test_json_random(void **state)
{
    (void)state;
    static const unsigned char odd[] = {'"',  '\\', 1,    'a',  0x80, 0xbf, 0xc3, 0xe0,
                                        0xed, 0xa0, 0xf0, 0x90, 0xf4, 0x8f, 0xff};
    struct sx_rng rng;
    sx_rng_init(&rng, 3);
    for (int round = 0; round < 20000; round++) {
        char text[16] = "";
        size_t n = (size_t)sx_rng_below(&rng, 12);
        for (size_t i = 0; i < n; i++)
            text[i] = (char)odd[sx_rng_below(&rng, sizeof odd)];
        text[n] = '\0';
        struct sx_sbuf once = {0}, plain = {0}, twice = {0};
        sx_sbuf_json(&once, text);
        assert_int_equal(once.data[0], '"');
        assert_int_equal(once.data[once.len - 1], '"');
        for (size_t i = 1; i < once.len - 1; i++) {
            unsigned char c = (unsigned char)once.data[i];
            assert_true(c >= 0x20 && c != '"');
            if (c == '\\' && once.data[i + 1] == 'u') {
                sx_sbuf_putc(&plain, 1);
                i += 5;
            } else if (c == '\\') {
                sx_sbuf_putc(&plain, once.data[++i]);
            } else {
                sx_sbuf_putc(&plain, (char)c);
            }
        }
        sx_sbuf_json(&twice, plain.data ? plain.data : "");
        assert_string_equal(once.data, twice.data);
        sx_sbuf_free(&once);
        sx_sbuf_free(&plain);
        sx_sbuf_free(&twice);
    }
}

static void test_html(void **state)
{
    (void)state;
    struct sx_sbuf s = {0};
    sx_sbuf_html(&s, "<a href=\"x\">'&'</a> plain");
    assert_string_equal(s.data, "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt; plain");
    sx_sbuf_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_appends),
        cmocka_unit_test(test_failure),
        cmocka_unit_test(test_empty_append_terminates),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_json_random),
        cmocka_unit_test(test_html),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
