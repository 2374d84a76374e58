/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * json_test.c - the cursor against broken text, numbers against the C library.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "wire/json.h"

static bool valid(const char *text, size_t len)
{
    char *exact = malloc(len ? len : 1); /* so that ASan sees an over-read */
    memcpy(exact, text, len);
    struct sx_json j;
    sx_json_init(&j, exact, len);
    bool ok = sx_json_skip(&j) && sx_json_finish(&j);
    assert_true(ok == (j.error == NULL));
    free(exact);
    return ok;
}

static void test_valid(void **state)
{
    (void)state;
    static const char *const good[] = {
        "{}",
        "[]",
        " { \"a\" : [ 1 , -2.5e+3 , true , false , null , \"x\" ] } ",
        "[[[]],{\"a\":{}}]",
        "[\"\\u00e9\\ud83d\\ude00\\n\\/\"]",
        "[\"\xc3\xa9\xf0\x9f\x98\x80\"]",
        "[NaN,Infinity,-Infinity]",
        "[0,-0,0.0,1E2]"};
    static const char *const bad[] = {"",
                                      "{",
                                      "[",
                                      "[1",
                                      "[1,",
                                      "[1,]",
                                      "{\"a\"}",
                                      "{\"a\":}",
                                      "{\"a\":1,}",
                                      "{a:1}",
                                      "[01]",
                                      "[1.]",
                                      "[.5]",
                                      "[+1]",
                                      "[1e]",
                                      "[0x1]",
                                      "[1a]",
                                      "[tru]",
                                      "[nul]",
                                      "[\"]",
                                      "[\"\\x\"]",
                                      "[\"\\ud800\"]",
                                      "[\"\\udc00\"]",
                                      "[\"\\u12\"]",
                                      "[\"\n\"]",
                                      "[\"\xc0\xaf\"]",
                                      "[\"\xed\xa0\x80\"]",
                                      "[\"\xf5\x80\x80\x80\"]",
                                      "[\"\xe2\x82\"]",
                                      "{} x",
                                      "[1 2]",
                                      "[}",
                                      "1",
                                      "-",
                                      "[--1]",
                                      "[-]",
                                      "[Inf]",
                                      "[nan]",
                                      "[-NaN]",
                                      "\xef\xbb\xbf{}"};
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
        if (!valid(good[i], strlen(good[i])))
            fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        if (valid(bad[i], strlen(bad[i])))
            fail_msg("accepted: %s", bad[i]);
    assert_false(valid("[\0]", 3));
    char deep[2 * (SX_JSON_MAX_DEPTH + 1)];
    size_t n = sizeof(deep) / 2;
    memset(deep, '[', n);
    memset(deep + n, ']', n);
    assert_false(valid(deep, sizeof(deep)));
    assert_true(valid(deep + 1, sizeof(deep) - 2));
}

static void test_strings(void **state)
{
    (void)state;
    static const char text[] = "\"a\\u00e9\\ud83d\\ude00\\t\\\\\" ";
    struct sx_json j;
    struct sx_json_string s;
    char out[64];
    sx_json_init(&j, text, strlen(text));
    assert_true(sx_json_get_string(&j, &s));
    out[sx_json_decode(&s, out)] = '\0';
    assert_string_equal(out, "a\xc3\xa9\xf0\x9f\x98\x80\t\\");
    assert_true(sx_json_equal(&s, out));
    assert_false(sx_json_equal(&s, "a"));
    out[2] = 0;
    assert_false(sx_json_equal(&s, out));
    struct sx_sbuf b = {0};
    assert_true(sx_json_put_bytes(&b, (const unsigned char *)"q\"\\\x01\xc3\xa9", 6));
    assert_string_equal(b.data, "\"q\\\"\\\\\\u0001\xc3\xa9\"");
    assert_false(sx_json_put_bytes(&b, (const unsigned char *)"\xff", 1));
    assert_string_equal(b.data, "\"q\\\"\\\\\\u0001\xc3\xa9\""); /* nothing was added */
    sx_sbuf_free(&b);
}

static void test_integers(void **state)
{
    (void)state;
    int64_t i;
    uint64_t u;
    assert_true(sx_json_int64("-9223372036854775808", 20, &i) && i == INT64_MIN);
    assert_true(sx_json_int64("9223372036854775807", 19, &i) && i == INT64_MAX);
    assert_false(sx_json_int64("9223372036854775808", 19, &i));
    assert_false(sx_json_int64("-9223372036854775809", 20, &i));
    assert_true(sx_json_uint64("18446744073709551615", 20, &u) && u == UINT64_MAX);
    assert_false(sx_json_uint64("18446744073709551616", 20, &u));
    assert_false(sx_json_uint64("-1", 2, &u));
    assert_true(sx_json_uint64("-0", 2, &u) && u == 0);
    assert_false(sx_json_int64("1.0", 3, &i));
    struct sx_sbuf s = {0};
    sx_json_put_int64(&s, INT64_MIN);
    sx_sbuf_putc(&s, ' ');
    sx_json_put_uint64(&s, UINT64_MAX);
    assert_string_equal(s.data, "-9223372036854775808 18446744073709551615");
    sx_sbuf_free(&s);
}

/* The fewest digits that read back, the obvious way. */
static int shortest_float(float v)
{
    char text[64];
    for (int p = 1; p < 9; p++) {
        snprintf(text, sizeof(text), "%.*e", p - 1, (double)v);
        if (strtof(text, NULL) == v)
            return p;
    }
    return 9;
}

static int digits(const char *text)
{
    int n = 0, zeros = 0;
    for (; *text && *text != 'e'; text++) {
        if (*text < '0' || *text > '9' || (n == 0 && *text == '0'))
            continue;
        zeros = *text == '0' ? zeros + 1 : 0;
        n++;
    }
    return n - zeros;
}

static void check_float(struct sx_sbuf *s, float v)
{
    float back;
    sx_sbuf_clear(s);
    sx_json_put_float(s, v);
    assert_true(strtof(s->data, NULL) == v);
    assert_true(sx_json_float(s->data, s->len, &back));
    assert_memory_equal(&back, &v, sizeof(v));
    if (digits(s->data) > shortest_float(v))
        fail_msg("%s is longer than %d digits", s->data, shortest_float(v));
}

static void test_floats(void **state)
{
    (void)state;
    struct sx_sbuf s = {0};
    struct sx_rng r;
    sx_rng_init(&r, 11);
    static const float some[] = {0.1f,          1.0f,   -2.5f,      1e10f,
                                 3.4028235e38f, 1e-45f, 1.17e-38f,  9.999999e9f,
                                 16777216.f,    1e-5f,  123456.78f, 9.5367431640625e-07f};
    for (size_t i = 0; i < sizeof(some) / sizeof(*some); i++)
        check_float(&s, some[i]);
    for (int i = 0; i < 300000; i++) {
        uint32_t bits = (uint32_t)sx_rng_u64(&r);
        float v;
        if (i & 1)
            v = (float)(sx_rng_double(&r) * 2 - 1);
        else
            memcpy(&v, &bits, 4);
        if (isfinite(v) && v != 0)
            check_float(&s, v);
    }
    sx_sbuf_clear(&s);
    sx_json_put_float(&s, 0.5f);
    sx_sbuf_putc(&s, ' ');
    sx_json_put_float(&s, -3.f);
    sx_sbuf_putc(&s, ' ');
    sx_json_put_float(&s, 1e20f);
    sx_sbuf_putc(&s, ' ');
    sx_json_put_float(&s, -0.f);
    sx_sbuf_putc(&s, ' ');
    sx_json_put_float(&s, NAN);
    sx_sbuf_putc(&s, ' ');
    sx_json_put_double(&s, -INFINITY);
    sx_sbuf_putc(&s, ' ');
    sx_json_put_double(&s, 0.1);
    sx_sbuf_putc(&s, ' ');
    sx_json_put_double(&s, 5e-324);
    assert_string_equal(s.data, "0.5 -3.0 1e20 -0.0 NaN -Infinity 0.1 4.94065645841247e-324");
    sx_sbuf_free(&s);
}

static void test_doubles(void **state)
{
    (void)state;
    struct sx_sbuf s = {0};
    struct sx_rng r;
    sx_rng_init(&r, 12);
    for (int i = 0; i < 200000; i++) {
        uint64_t bits = sx_rng_u64(&r);
        double v, back;
        memcpy(&v, &bits, 8);
        if (i % 3 == 1)
            v = sx_rng_double(&r);
        else if (i % 3 == 2)
            v = (double)(int64_t)sx_rng_below(&r, 100000000) / 1000;
        if (!isfinite(v))
            continue;
        sx_sbuf_clear(&s);
        sx_json_put_double(&s, v);
        assert_true(strtod(s.data, NULL) == v);
        assert_true(sx_json_double(s.data, s.len, &back) && back == v);
        if (i % 3 == 2 && s.len > 13)
            fail_msg("%s is too long", s.data);
    }
    sx_sbuf_free(&s);
}

/* Decimals of many lengths, compared with the C library's correct rounding. */
static void test_reading(void **state)
{
    (void)state;
    struct sx_rng r;
    sx_rng_init(&r, 13);
    for (int i = 0; i < 300000; i++) {
        char text[80];
        int n = snprintf(text, sizeof(text), "%llu.%0*llu",
                         (unsigned long long)(sx_rng_u64(&r) >> sx_rng_below(&r, 64)),
                         (int)sx_rng_below(&r, 20) + 1,
                         (unsigned long long)(sx_rng_u64(&r) >> sx_rng_below(&r, 64)));
        if (i & 1)
            n +=
                snprintf(text + n, sizeof(text) - (size_t)n, "e%d", (int)sx_rng_below(&r, 60) - 40);
        double d;
        float f;
        assert_true(sx_json_double(text, (size_t)n, &d) && d == strtod(text, NULL));
        if (sx_json_float(text, (size_t)n, &f))
            assert_true(f == strtof(text, NULL));
        else
            assert_true(isinf(strtof(text, NULL)));
    }
    /* twenty digits and more whose low 64 bits are 0, alone and with what follows */
    static const char *const wraps[] = {"18446744073709551616",     "18446744073709551616.000000",
                                        "1.8446744073709551616e19", "36893488147419103232",
                                        "184467440737095516160000", "-18446744073709551616e2"};
    for (size_t i = 0; i < sizeof(wraps) / sizeof(*wraps); i++) {
        double d = 0;
        assert_true(sx_json_double(wraps[i], strlen(wraps[i]), &d));
        assert_true(d == strtod(wraps[i], NULL));
    }
    float f;
    double d;
    /* halfway between two floats, and a hair above: rounding twice would lose the hair */
    assert_true(sx_json_float("16777217", 8, &f) && f == 16777216.f);
    assert_true(sx_json_float("16777217.000000001", 18, &f) && f == 16777218.f);
    assert_false(sx_json_float("1e39", 4, &f));
    assert_false(sx_json_double("1e999", 5, &d));
    assert_true(sx_json_double("1e-999", 6, &d) && d == 0);
    assert_true(sx_json_float("-Infinity", 9, &f) && isinf(f) && f < 0);
}

static void test_mutations(void **state)
{
    (void)state;
    static const char seed[] = "{\"a\":[1,-2.5e3,true,null,\"x\\u00e9\\n\"],\"b\":{\"c\":[[],{}]}}";
    static const char bytes[] = "{}[]:,\"\\u0123456789eE+-.tfnNI \n";
    struct sx_rng r;
    sx_rng_init(&r, 5);
    for (int round = 0; round < 50000; round++) {
        char text[sizeof(seed)];
        memcpy(text, seed, sizeof(seed));
        size_t len = sx_rng_below(&r, sizeof(seed));
        for (uint64_t k = sx_rng_below(&r, 5); len && k; k--)
            text[sx_rng_below(&r, len)] =
                k & 1 ? bytes[sx_rng_below(&r, sizeof(bytes))] : (char)sx_rng_u64(&r);
        valid(text, len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),     cmocka_unit_test(test_strings),
        cmocka_unit_test(test_integers),  cmocka_unit_test(test_floats),
        cmocka_unit_test(test_doubles),   cmocka_unit_test(test_reading),
        cmocka_unit_test(test_mutations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
