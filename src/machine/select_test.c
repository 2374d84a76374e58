/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/* select_test.c - what `--device` texts make of a machine, and which ones are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "machine/machine_int.h"

#define MOST 4

static struct sx_machine *synthetic(const char *text)
{
    struct sx_machine *m = NULL;
    struct sx_err err = {0};
    if (sx_machine_from_synthetic(text, &m, &err))
        fail_msg("%s", err.message);
    return m;
}

/* "cpu:1@8[1]x8 cpu:0[0]x1": each device with the processors of its units and its slow-down. */
static void describe(const struct sx_machine *m, char *text, size_t size)
{
    size_t n = 0;
    text[0] = 0;
    for (unsigned d = 0; d < m->n_devices; d++) {
        const struct sx_device *dev = &m->devices[d];
        assert_string_equal(dev->kind, "cpu");
        n += (size_t)snprintf(text + n, size - n, "%s%s[", d ? " " : "", dev->name);
        for (unsigned u = 0; u < dev->n_units; u++)
            n += (size_t)snprintf(text + n, size - n, "%s%d", u ? " " : "",
                                  m->units[dev->first_unit + u].cpu);
        n += (size_t)snprintf(text + n, size - n, "]x%g", dev->slowdown);
    }
    assert_true(n < size);
}

/* What `most` units are made of: "cpu:0-4[0 1|2 3]x1". */
static void groups(const char *a, const char *b, unsigned most, const char *expected)
{
    const char *texts[2] = {a, b};
    struct sx_machine *m = synthetic("core:8 pu:1");
    struct sx_err err = {0};
    char got[256] = "";
    int cpus[8];
    size_t n = 0;
    assert_int_equal(sx_machine_select(m, texts, (a != NULL) + (b != NULL), &err), SX_OK);
    enum sx_rc rc = sx_machine_group(m, most, &err);
    if (rc) {
        assert_int_equal(rc, SX_UNSUPPORTED);
        assert_non_null(strstr(err.message, expected));
        assert_int_equal(m->unit_cores, 0);
        sx_machine_destroy(m);
        return;
    }
    assert_true(m->n_units <= most);
    unsigned each = sx_machine_cores(m, 1), units = 0;
    for (unsigned d = 0; d < m->n_devices; d++) {
        const struct sx_device *dev = &m->devices[d];
        assert_int_equal(dev->first_unit, units);
        units += dev->n_units;
        n += (size_t)snprintf(got + n, sizeof got - n, "%s%s %s[", d ? " " : "", dev->name,
                              dev->kind);
        for (unsigned u = dev->first_unit; u < units; u++) {
            sx_machine_cpus(m, u, 1, cpus);
            assert_int_equal(cpus[0], m->units[u].cpu);
            for (unsigned k = 0; k < each; k++)
                n += (size_t)snprintf(got + n, sizeof got - n, "%s%d",
                                      k                     ? " "
                                      : u > dev->first_unit ? "|"
                                                            : "",
                                      cpus[k]);
        }
        n += (size_t)snprintf(got + n, sizeof got - n, "]");
    }
    assert_int_equal(units, m->n_units);
    assert_string_equal(got, expected);
    sx_machine_cpus(m, 0, units, cpus); /* all in one go: the same, one after the other */
    assert_int_equal(cpus[each * units - each], m->units[units - 1].cpu);
    sx_machine_destroy(m);
}

static void test_groups(void **state)
{
    (void)state;
    groups(NULL, NULL, 8, "cpu cpu[0|1|2|3|4|5|6|7]");
    groups(NULL, NULL, 4, "cpu cpu x2[0 1|2 3|4 5|6 7]");
    groups(NULL, NULL, 3, "cpu cpu x3[0 1 2|3 4 5]"); /* two cores are left over */
    groups(NULL, NULL, 1, "cpu cpu x8[0 1 2 3 4 5 6 7]");
    groups("cpu:1-4", "cpu:6,7@2", 3, "cpu:1-4 cpu x2[1 2|3 4] cpu:6,7@2 cpu x2[6 7]");
    groups("cpu:0", "cpu:1-4", 3, "device 'cpu:0' has 1");
}

static void gives(const char *a, const char *b, const char *c, const char *expected)
{
    const char *texts[3] = {a, b, c};
    size_t n = c ? 3 : b ? 2 : a ? 1 : 0;
    struct sx_machine *m = synthetic("core:8 pu:1");
    struct sx_err err = {0};
    char got[256];
    if (sx_machine_select(m, texts, n, &err))
        fail_msg("%s", err.message);
    describe(m, got, sizeof got);
    assert_string_equal(got, expected);
    sx_machine_destroy(m);
}

static void test_one(void **state)
{
    (void)state;
    gives(NULL, NULL, NULL, "cpu[0 1 2 3 4 5 6 7]x1");
    gives("cpu", NULL, NULL, "cpu[0 1 2 3 4 5 6 7]x1");
    gives("cpu:2", NULL, NULL, "cpu:2[2]x1");
    gives("cpu:0-2", NULL, NULL, "cpu:0-2[0 1 2]x1");
    gives("cpu:3,1", NULL, NULL, "cpu:3,1[1 3]x1");
    gives("cpu:0,2-3", NULL, NULL, "cpu:0,2-3[0 2 3]x1");
    gives("cpu:1,0-2,1", NULL, NULL, "cpu:1,0-2,1[0 1 2]x1"); /* twice in one device */
    gives("cpu@4", NULL, NULL, "cpu@4[0 1 2 3 4 5 6 7]x4");
    gives("cpu:1@2.5", NULL, NULL, "cpu:1@2.5[1]x2.5");
    gives("cpu:1@1", NULL, NULL, "cpu:1@1[1]x1");
    gives("cpu:1@1000", NULL, NULL, "cpu:1@1000[1]x1000");
    gives("cpu:7,6,5,4,3,2,1,0,1,2,3", NULL, NULL, "cpu:0,..[0 1 2 3 4 5 6 7]x1");
    gives("cpu:7,6,5,4,3,2,1,1,2,3@12.5", NULL, NULL, "cpu:1,..@12.5[1 2 3 4 5 6 7]x12.5");
}

static void test_several(void **state)
{
    (void)state;
    gives("cpu:0", "cpu:1@8", NULL, "cpu:0[0]x1 cpu:1@8[1]x8");
    gives("cpu:1@8", "cpu:0", NULL, "cpu:1@8[1]x8 cpu:0[0]x1");
    gives("cpu:0,2", "cpu:1,3@2", "cpu:7", "cpu:0,2[0 2]x1 cpu:1,3@2[1 3]x2 cpu:7[7]x1");
}

static void test_quota(void **state)
{
    (void)state;
    static const struct {
        double quota;
        const char *expected;
    } cases[] = {{0, "cpu[0 2 4 6 8 10 12 14]x1"},
                 {0.3, "cpu[0]x1"},
                 {1, "cpu[0]x1"},
                 {2, "cpu[0 2]x1"},
                 {2.5, "cpu[0 2 4]x1"},
                 {7.5, "cpu[0 2 4 6 8 10 12 14]x1"},
                 {64, "cpu[0 2 4 6 8 10 12 14]x1"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sx_machine *m = synthetic("pack:2 [numa] core:4 pu:2");
        char got[256];
        m->quota_cores = cases[i].quota;
        bool fewer = sx_machine_keep_quota(m);
        describe(m, got, sizeof got);
        assert_string_equal(got, cases[i].expected);
        assert_int_equal(fewer, m->n_units < 8);
        sx_machine_destroy(m);
    }
}

static void refused(const char *a, const char *b)
{
    const char *texts[2] = {a, b};
    struct sx_machine *m = synthetic("core:4 pu:1");
    struct sx_err err = {0};
    char got[256];
    assert_int_equal(sx_machine_select(m, texts, b ? 2 : 1, &err), SX_INVALID);
    assert_int_equal(err.rc, SX_INVALID);
    assert_int_not_equal(strlen(err.message), 0);
    assert_int_not_equal(strlen(err.hint), 0);
    describe(m, got, sizeof got);
    assert_string_equal(got, "cpu[0 1 2 3]x1"); /* as it was */
    sx_machine_destroy(m);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",          "gpu",       "cpu:",       "cpu:a",      "cpu:4",    "cpu:2-1",
        "cpu:0-",    "cpu:0,",    "cpu:-1",     "cpu:0x",     "cpu: 1",   "CPU",
        "cpu:0;1",   "cpu,cpu",   "cpu:0-4",    "cpu:0--1",   "cpu:1,,2", "cpu:99999999999",
        "cpux",      "cpu:0@",    "cpu:0@0",    "cpu:0@0.99", "cpu:0@-2", "cpu:0@1000.1",
        "cpu:0@1e3", "cpu:0@nan", "cpu:0@inf",  "cpu:0@0x10", "cpu:0@2x", "cpu:0@2@3",
        "cpu:0@2,1", "cpu@",      "cpu:0@1.2.", "cpu:@2",     "cpu:0@.5", "cpu:0@ 2",
        "@2",        "cpu2",      "cpu:0 @2",   "cpu:0@1001",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        refused(bad[i], NULL);
        refused("cpu:0", bad[i]);
        refused(bad[i], "cpu:3");
    }
    refused("cpu", "cpu:0");
    refused("cpu:0", "cpu");
    refused("cpu:0-2", "cpu:2-3@4");
    refused("cpu:1", "cpu:1@8");
}

/* Random devices against a table of who has which unit. */
static void test_random(void **state)
{
    (void)state;
    struct sx_rng rng;
    sx_rng_init(&rng, 20);
    unsigned refusals = 0;
    for (unsigned round = 0; round < 2000; round++) {
        char text[MOST][64];
        const char *texts[MOST];
        bool has[MOST][8] = {0};
        double slow[MOST];
        unsigned n = 1 + (unsigned)sx_rng_below(&rng, MOST);
        for (unsigned d = 0; d < n; d++) {
            int len = snprintf(text[d], sizeof text[d], "cpu");
            unsigned pieces = 1 + (unsigned)sx_rng_below(&rng, 2);
            for (unsigned i = 0; i < pieces; i++) {
                unsigned a = (unsigned)sx_rng_below(&rng, 8),
                         b = a + (unsigned)sx_rng_below(&rng, 2);
                b = b > 7 ? 7 : b;
                len += snprintf(text[d] + len, sizeof text[d] - (size_t)len, "%c%u-%u",
                                i ? ',' : ':', a, b);
                for (unsigned u = a; u <= b; u++)
                    has[d][u] = true;
            }
            slow[d] = 1 + (double)sx_rng_below(&rng, 20);
            snprintf(text[d] + len, sizeof text[d] - (size_t)len, "@%.0f", slow[d]);
            texts[d] = text[d];
        }
        bool clash = false;
        for (unsigned u = 0; u < 8; u++) {
            unsigned owners = 0;
            for (unsigned d = 0; d < n; d++)
                owners += has[d][u];
            clash |= owners > 1;
        }
        struct sx_machine *m = synthetic("core:8 pu:1");
        enum sx_rc rc = sx_machine_select(m, texts, n, NULL);
        assert_int_equal(rc, clash ? SX_INVALID : SX_OK);
        refusals += clash;
        if (!clash) {
            unsigned k = 0;
            assert_int_equal(m->n_devices, n);
            for (unsigned d = 0; d < n; d++) {
                assert_int_equal(m->devices[d].first_unit, k);
                assert_true(m->devices[d].slowdown == slow[d]);
                for (int u = 0; u < 8; u++)
                    if (has[d][u])
                        assert_int_equal(m->units[k++].cpu, u);
                assert_int_equal(m->devices[d].first_unit + m->devices[d].n_units, k);
            }
            assert_int_equal(m->n_units, k);
        }
        sx_machine_destroy(m);
    }
    assert_in_range(refusals, 100, 1900); /* both happen */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups),  cmocka_unit_test(test_one),
        cmocka_unit_test(test_several), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_quota),   cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
