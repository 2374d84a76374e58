/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * clock_test.c - real and virtual time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include <cmocka.h>

static void test_real(void **state)
{
    (void)state;
    struct sx_clock *clock = sx_clock_real();
    assert_ptr_equal(clock, sx_clock_real());
    uint64_t last = sx_now();
    assert_true(last > 0);
    for (int i = 0; i < 1000; i++) {
        uint64_t now = i % 2 ? sx_clock_now(clock) : sx_now();
        assert_true(now >= last);
        last = now;
    }
}

static void test_sleep(void **state)
{
    (void)state;
    uint64_t at = sx_now() + 2 * SX_MS;
    sx_sleep_until(at);
    assert_true(sx_now() >= at);
    sx_sleep_until(at); /* over: at once */
    sx_sleep_until(0);
}

static void test_virtual(void **state)
{
    (void)state;
    struct sx_clock_virtual v;
    sx_clock_virtual_init(&v, 5);
    assert_int_equal(sx_clock_now(&v.base), 5);
    sx_clock_virtual_advance(&v, 9);
    assert_int_equal(sx_clock_now(&v.base), 9);
    sx_clock_virtual_advance(&v, 8);
    assert_int_equal(sx_clock_now(&v.base), 9);
    sx_clock_virtual_advance(&v, SX_NEVER);
    assert_true(sx_clock_now(&v.base) == SX_NEVER);
}

static void test_time_add(void **state)
{
    (void)state;
    assert_int_equal(sx_time_add(2, 3), 5);
    assert_true(sx_time_add(SX_NEVER, 1) == SX_NEVER);
    assert_true(sx_time_add(1, SX_NEVER) == SX_NEVER);
    assert_true(sx_time_add(SX_NEVER - 1, 1) == SX_NEVER);
    assert_true(sx_time_add(SX_NEVER - 2, 1) == SX_NEVER - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real),
        cmocka_unit_test(test_sleep),
        cmocka_unit_test(test_virtual),
        cmocka_unit_test(test_time_add),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
