/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "cost/latency_file.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/dir_test.h"
#include "base/file.h"
#include "base/rng.h"

static char path[96];

static int setup(void **state)
{
    (void)state;
    return make_dir(path, sizeof path, "sub/lenet.json");
}

static enum sx_rc load(const char *text, size_t size, struct sx_latency *l, char *name,
                       struct sx_err *err)
{
    char sub[80];
    snprintf(sub, sizeof sub, "%s/sub", dir);
    assert_int_equal(sx_dir_create(sub, NULL), SX_OK);
    assert_int_equal(sx_file_write(path, text, size, NULL), SX_OK);
    return sx_latency_load(path, l, name, err);
}

static const char good[] = "{\"name\": \"resnet50\", \"units\": [1, 2, 4], \"batches\": [1, 8],\n"
                           " \"ms\": [[10.3, 5.6, 3.2],\n"
                           "        [70.1, 36.5, null]], \"note\": \"from a colleague\"}\n";

static void reads_what_people_write(void **state)
{
    (void)state;
    struct sx_latency l;
    char name[SX_LATENCY_NAME];
    struct sx_err err = {0};
    assert_int_equal(load(good, sizeof good - 1, &l, name, &err), SX_OK);
    assert_string_equal(name, "resnet50");
    assert_int_equal(l.n_units, 3);
    assert_int_equal(l.n_batches, 2);
    assert_true(fabs(l.ns[1][0] - 5.6e6) < 1 && fabs(l.ns[0][1] - 70.1e6) < 1);
    assert_true(l.ns[2][1] == 0);
    const char nameless[] = "{\"units\":[1],\"batches\":[16],\"ms\":[[7]]}";
    assert_int_equal(load(nameless, sizeof nameless - 1, &l, name, &err), SX_OK);
    assert_string_equal(name, "lenet");
}

static void comes_back(void **state)
{
    (void)state;
    struct sx_rng rng;
    sx_rng_init(&rng, 56);
    for (int round = 0; round < 200; round++) {
        struct sx_latency l = {.n_units = 1 + (unsigned)sx_rng_below(&rng, SX_LATENCY_UNITS),
                               .n_batches = 1 + (unsigned)sx_rng_below(&rng, SX_LATENCY_BATCHES)};
        struct sx_latency back;
        char name[SX_LATENCY_NAME];
        unsigned at = 0;
        for (unsigned u = 0; u < l.n_units; u++)
            l.units[u] = at += 1 + (unsigned)sx_rng_below(&rng, 9);
        at = 0;
        for (unsigned b = 0; b < l.n_batches; b++)
            l.batches[b] = at += 1 + (unsigned)sx_rng_below(&rng, 9);
        for (unsigned u = 0; u < l.n_units; u++)
            for (unsigned b = 0; b < l.n_batches; b++)
                l.ns[u][b] = sx_rng_below(&rng, 4) ? pow(10, 12 * sx_rng_double(&rng)) : 0;
        l.ns[0][0] = 1e6;
        assert_int_equal(sx_latency_save(path, "a \"quoted\" name", &l, NULL), SX_OK);
        assert_int_equal(sx_latency_load(path, &back, name, NULL), SX_OK);
        assert_string_equal(name, "a \"quoted\" name");
        assert_int_equal(back.n_units, l.n_units);
        assert_int_equal(back.n_batches, l.n_batches);
        assert_memory_equal(back.units, l.units, sizeof l.units);
        assert_memory_equal(back.batches, l.batches, sizeof l.batches);
        for (unsigned u = 0; u < l.n_units; u++)
            for (unsigned b = 0; b < l.n_batches; b++)
                assert_true(fabs(back.ns[u][b] - l.ns[u][b]) <= 1e-14 * l.ns[u][b]);
    }
}

static void mistakes_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *word;
    } cases[] = {
        {"", "line 1"},
        {"{\"units\": [1],\n\"batches\": [1],\n\"ms\" [[1]]}", "line 3"},
        {"[1]", "object"},
        {"7", "object"},
        {"{\"batches\":[1],\"ms\":[[1]]}", "\"units\""},
        {"{\"units\":[],\"batches\":[1],\"ms\":[[]]}", "\"units\""},
        {"{\"units\":[0],\"batches\":[1],\"ms\":[[1]]}", "\"units\"[0]"},
        {"{\"units\":[1,1],\"batches\":[1],\"ms\":[[1,1]]}", "1 follows 1"},
        {"{\"units\":[1,2.5],\"batches\":[1],\"ms\":[[1,1]]}", "\"units\"[1]"},
        {"{\"units\":[1],\"batches\":\"1\",\"ms\":[[1]]}", "\"batches\""},
        {"{\"units\":[1],\"batches\":[4,2],\"ms\":[[1],[1]]}", "2 follows 4"},
        {"{\"units\":[1],\"batches\":[99999999],\"ms\":[[1]]}", "\"batches\"[0]"},
        {"{\"units\":[1],\"batches\":[1]}", "\"ms\""},
        {"{\"units\":[1],\"batches\":[1,2],\"ms\":[[1]]}", "2 rows"},
        {"{\"units\":[1,2],\"batches\":[1],\"ms\":[[1]]}", "2 times"},
        {"{\"units\":[1,2],\"batches\":[1],\"ms\":[5]}", "\"ms\"[0]"},
        {"{\"units\":[1,2],\"batches\":[1,4],\"ms\":[[1,2],[3,-4]]}", "\"ms\"[1][1], batch 4 on 2"},
        {"{\"units\":[1,2],\"batches\":[1],\"ms\":[[1,0]]}", "\"ms\"[0][1]"},
        {"{\"units\":[1,2],\"batches\":[1],\"ms\":[[1,1e300]]}", "\"ms\"[0][1]"},
        {"{\"units\":[1,2],\"batches\":[1],\"ms\":[[1,\"2\"]]}", "\"ms\"[0][1]"},
        {"{\"units\":[1,2],\"batches\":[1],\"ms\":[[1,NaN]]}", "line 1"},
        {"{\"units\":[1,2],\"batches\":[1],\"ms\":[[null,null]]}", "single time"},
        {"{\"name\":3,\"units\":[1],\"batches\":[1],\"ms\":[[1]]}", "\"name\""},
        {"{\"name\":\"\",\"units\":[1],\"batches\":[1],\"ms\":[[1]]}", "\"name\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sx_latency l = {.n_units = 77};
        char name[SX_LATENCY_NAME] = "untouched";
        struct sx_err err = {0};
        assert_int_equal(load(cases[i].text, strlen(cases[i].text), &l, name, &err), SX_INVALID);
        if (!strstr(err.message, cases[i].word) || !strstr(err.message, "lenet.json"))
            fail_msg("'%s' does not say '%s'", err.message, cases[i].word);
        assert_true(err.hint[0]);
        assert_int_equal(l.n_units, 77);
        assert_string_equal(name, "untouched");
    }
    struct sx_latency l;
    char name[SX_LATENCY_NAME];
    assert_int_equal(sx_latency_load("/nowhere/at/all.json", &l, name, NULL), SX_NOT_FOUND);
}

/* Whatever happened to a file: it is refused, or what is read is a table. */
static void changed_anywhere_does_no_harm(void **state)
{
    (void)state;
    struct sx_rng rng;
    unsigned taken = 0, rounds = 5000;
    static const char likely[] = "0123456789-+.eE,[]{}\"nul ";
    sx_rng_init(&rng, 57);
    for (unsigned round = 0; round < rounds; round++) {
        char text[sizeof good], name[SX_LATENCY_NAME];
        struct sx_latency l;
        size_t size = sizeof good - 1 - (round % 3 ? 0 : sx_rng_below(&rng, sizeof good - 1));
        memcpy(text, good, sizeof good);
        for (uint64_t n = sx_rng_below(&rng, 3) + (round % 3 > 0); n; n--)
            text[sx_rng_below(&rng, sizeof good - 1)] =
                sx_rng_below(&rng, 4) ? likely[sx_rng_below(&rng, sizeof likely - 1)]
                                      : (char)sx_rng_u64(&rng);
        if (load(text, size, &l, name, NULL) == SX_OK) {
            assert_int_equal(sx_latency_check(&l, NULL), SX_OK);
            sx_latency_prepare(&l);
            assert_true(sx_latency_ns(&l, 3, 5) > 0);
            taken++;
        }
    }
    print_message("# %u of %u changed files are still tables\n", taken, rounds);
    assert_in_range(taken, rounds / 50, rounds * 9 / 10); /* the test does see both */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads_what_people_write, setup, remove_dir),
        cmocka_unit_test_setup_teardown(comes_back, setup, remove_dir),
        cmocka_unit_test_setup_teardown(mistakes_are_named, setup, remove_dir),
        cmocka_unit_test_setup_teardown(changed_anywhere_does_no_harm, setup, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
