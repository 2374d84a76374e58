/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * trace_test.c - made-up traces in the Azure Functions formats, and traces with errors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "sim/trace.h"

#define HEAD_2019 "HashOwner,HashApp,HashFunction,Trigger,1,2,3\n"
#define HEAD_2021 "app,func,end_timestamp,duration\n"

static void parse(const char *text, const struct sx_trace_options *o, unsigned n,
                  struct sx_arrival *loads)
{
    struct sx_err err = {0};
    if (sx_trace_parse("t.csv", text, o, n, loads, &err))
        fail_msg("%s", err.message);
}

/* How many come in [from, to) seconds; the process is at `from` before and at `to` after. */
static unsigned count_until(struct sx_arrival *a, uint64_t *next, double to)
{
    unsigned n = 0;
    for (; *next < (uint64_t)(to * 1e9); *next = sx_arrival_next(a))
        n++;
    return n;
}

static void functions_go_to_models_in_turn_minute_by_minute(void **state)
{
    (void)state;
    struct sx_arrival loads[2];
    parse(HEAD_2019 "o,a,f,http,5,0,2\no,a,g,timer,1,1,1\r\no,a,h,queue,0,10,0\n",
          &(struct sx_trace_options){.seed = 3}, 2, loads);
    static const unsigned want[2][3] = {{5, 10, 2}, {1, 1, 1}};
    for (unsigned m = 0; m < 2; m++) {
        uint64_t next = sx_arrival_next(&loads[m]);
        for (unsigned minute = 0; minute < 3; minute++)
            assert_int_equal(count_until(&loads[m], &next, 60.0 * (minute + 1)), want[m][minute]);
        assert_true(next == SX_NEVER);
        sx_arrival_fini(&loads[m]);
    }
}

static void a_part_is_taken_and_scaled(void **state)
{
    (void)state;
    struct sx_arrival load;
    parse(HEAD_2019 "o,a,f,http,100,1000,3\n",
          &(struct sx_trace_options){.scale = 2.5, .begin = 60, .seconds = 60, .seed = 1}, 1,
          &load);
    uint64_t next = sx_arrival_next(&load);
    assert_int_equal(count_until(&load, &next, 60), 2500);
    assert_true(next == SX_NEVER);
    sx_arrival_fini(&load);
}

static void the_same_seed_gives_the_same_times(void **state)
{
    (void)state;
    struct sx_arrival a[2];
    for (int i = 0; i < 2; i++)
        parse(HEAD_2019 "o,a,f,http,50,70,90\n",
              &(struct sx_trace_options){.cv = 4, .scale = 1.3, .seed = 8}, 1, &a[i]);
    for (int i = 0; i < 250; i++)
        assert_true(sx_arrival_next(&a[0]) == sx_arrival_next(&a[1]));
    sx_arrival_fini(&a[0]);
    sx_arrival_fini(&a[1]);
}

/* Calls begin `duration` before they end, and are sorted by that. */
static void calls_begin_when_they_ended_less_what_they_took(void **state)
{
    (void)state;
    struct sx_arrival loads[3];
    parse(HEAD_2021 "a,f,10.5,0.5\nb,g,11,4\na,f,12.25,0.25\nc,h,13,1e0\na,f,20,0\n",
          &(struct sx_trace_options){.seed = 1}, 2, loads);
    assert_int_equal(sx_arrival_next(&loads[0]), 10 * SX_S);
    assert_int_equal(sx_arrival_next(&loads[0]), 12 * SX_S); /* two at once: f and h */
    assert_int_equal(sx_arrival_next(&loads[0]), 12 * SX_S);
    assert_int_equal(sx_arrival_next(&loads[0]), 20 * SX_S);
    assert_true(sx_arrival_next(&loads[0]) == SX_NEVER);
    assert_int_equal(sx_arrival_next(&loads[1]), 7 * SX_S);
    sx_arrival_fini(&loads[0]);
    sx_arrival_fini(&loads[1]);

    parse(HEAD_2021 "a,f,1,0\n", &(struct sx_trace_options){.scale = 3}, 3, loads);
    uint64_t next = sx_arrival_next(&loads[0]);
    assert_int_equal(count_until(&loads[0], &next, 2.001), 3);
    assert_true(sx_arrival_next(&loads[1]) == SX_NEVER); /* it has no function */
    for (int i = 0; i < 3; i++)
        sx_arrival_fini(&loads[i]);
}

static void errors_say_where_and_what(void **state)
{
    (void)state;
    static const struct {
        const char *text, *where, *expected;
    } cases[] = {
        {"", "line 1, column 1", "HashOwner"},
        {"time,count\n1,2\n", "line 1, column 1", "app,func"},
        {"HashOwner,HashApp,Hash,Trigger,1\n", "line 1, column 19", "HashFunction"},
        {"HashOwner,HashApp,HashFunction,Trigger\n", "line 1, column 39",
         "a column for each minute"},
        {"HashOwner,HashApp,HashFunction,Trigger,1,3\n", "line 1, column 42", "minute 2"},
        {HEAD_2019, "no function", ""},
        {HEAD_2019 "o,a,f,http,1,2\n", "line 2, column 15", "calls in minute 3"},
        {HEAD_2019 "o,a,f,http,1,2,3\no,a,f,http,1,x2,3\n", "line 3, column 14",
         "calls in minute 2"},
        {HEAD_2019 "o,a,f,http,1,2.5,3\n", "line 2, column 14", "whole number"},
        {HEAD_2019 "o,a,f,http,1,-2,3\n", "line 2, column 14", "whole number"},
        {HEAD_2019 "o,a,f,http,1,2,3,4\n", "line 2, column 17", "end of the line"},
        {HEAD_2019 "o,,f,http,1,2,3\n", "line 2, column 3", "a name"},
        {HEAD_2019 "o,a,f,http,1,nan,3\n", "line 2, column 14", "whole number"},
        {HEAD_2021, "no call", ""},
        {HEAD_2021 "a,f,1\n", "line 2, column 6", "duration"},
        {HEAD_2021 "a,f,1,1\na,f,yes,1\n", "line 3, column 5", "end in seconds"},
        {HEAD_2021 "a,f,1,-1\n", "line 2, column 7", "duration in seconds"},
        {HEAD_2021 "a,f,1,1,1\n", "line 2, column 8", "end of the line"},
        {"app,function,end_timestamp,duration\n", "line 1, column 5", "func"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sx_arrival loads[2];
        struct sx_err err = {0};
        assert_int_equal(sx_trace_parse("t.csv", cases[i].text,
                                        &(struct sx_trace_options){.seed = 1}, 2, loads, &err),
                         SX_INVALID);
        if (!strstr(err.message, cases[i].where) || !strstr(err.message, cases[i].expected) ||
            !strstr(err.message, "t.csv"))
            fail_msg("case %zu: %s", i, err.message);
    }
    struct sx_err err = {0};
    struct sx_arrival load;
    assert_int_equal(
        sx_trace_load("/there/is/no.csv", &(struct sx_trace_options){.seed = 1}, 1, &load, &err),
        SX_NOT_FOUND);
}

/* Bytes changed, dropped and doubled at random: taken or refused with a place, nothing else. */
static void damaged_traces_are_taken_or_refused(void **state)
{
    (void)state;
    static const char *const whole[] = {HEAD_2019 "o,a,f,http,1,2,3\no,a,g,timer,0,0,7\n",
                                        HEAD_2021 "a,f,1.5,0.5\na,g,2,1\nb,f,3e0,0\n"};
    static const char bytes[] = ",,\n\r0123456789.-+eExyz \t\"";
    struct sx_rng rng;
    unsigned taken = 0, refused = 0;
    sx_rng_init(&rng, 4);
    for (int round = 0; round < 4000; round++) {
        char text[256];
        struct sx_arrival loads[3];
        struct sx_err err = {0};
        snprintf(text, sizeof text, "%s", whole[round % 2]);
        for (unsigned k = 0; k <= sx_rng_below(&rng, 4); k++) {
            size_t len = strlen(text), at = sx_rng_below(&rng, len);
            char byte = bytes[sx_rng_below(&rng, sizeof bytes - 1)];
            switch (sx_rng_below(&rng, 3)) {
            case 0:
                text[at] = byte;
                break;
            case 1:
                memmove(text + at, text + at + 1, len - at);
                break;
            default:
                memmove(text + at + 1, text + at, len + 1 - at);
                text[at] = byte;
            }
        }
        if (sx_trace_parse("t.csv", text, &(struct sx_trace_options){.seed = 1}, 3, loads, &err)) {
            assert_non_null(strstr(err.message, "t.csv: "));
            refused++;
            continue;
        }
        taken++;
        for (int m = 0; m < 3; m++) {
            uint64_t last = 0;
            for (int i = 0; i < 20; i++) {
                uint64_t at = sx_arrival_next(&loads[m]);
                assert_true(at >= last);
                last = at;
            }
            sx_arrival_fini(&loads[m]);
        }
    }
    print_message("%u damaged traces refused, %u taken\n", refused, taken);
    assert_true(refused > 1000 && taken > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_go_to_models_in_turn_minute_by_minute),
        cmocka_unit_test(a_part_is_taken_and_scaled),
        cmocka_unit_test(the_same_seed_gives_the_same_times),
        cmocka_unit_test(calls_begin_when_they_ended_less_what_they_took),
        cmocka_unit_test(errors_say_where_and_what),
        cmocka_unit_test(damaged_traces_are_taken_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
