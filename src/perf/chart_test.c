/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "perf/chart.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static unsigned count(const char *text, const char *word)
{
    unsigned n = 0;
    for (const char *at = text; (at = strstr(at, word)); at++)
        n++;
    return n;
}

/* Two curves with names, and a labelled point on the first. */
static struct sx_chart example(void)
{
    static const double x[] = {1, 2, 4, 32}, y[] = {8000, 4000, 2500, 2400}, z[] = {90, 50, 40, 40};
    struct sx_chart c = {.title = "a <chart>",
                         .x_label = "cores",
                         .y_label = "time",
                         .y_log = true,
                         .y_time_us = true,
                         .x_ticks = x,
                         .n_x_ticks = 4,
                         .n_lines = 3};
    c.line[0] = (struct sx_chart_line){.name = "one", .x = x, .y = y, .n = 4};
    c.line[1] =
        (struct sx_chart_line){.name = "two", .colour = 1, .dashed = true, .x = x, .y = z, .n = 4};
    c.line[2] = (struct sx_chart_line){.name = "one",
                                       .loose = true,
                                       .markers = true,
                                       .label = "knee 4",
                                       .x = x + 2,
                                       .y = y + 2,
                                       .n = 1};
    return c;
}

static void a_file_needs_no_style(void **state)
{
    (void)state;
    struct sx_sbuf s = {0};
    struct sx_chart c = example();
    sx_chart_file(&s, &c);
    assert_false(s.failed);
    assert_null(strstr(s.data, "class="));
    assert_null(strstr(s.data, "<style"));
    assert_non_null(strstr(s.data, "a &lt;chart&gt;"));
    assert_int_equal(count(s.data, ">knee 4</text>"), 2); /* with its rim */
    assert_int_equal(count(s.data, ">one</text>"), 1);    /* the legend has lines, not points */
    assert_int_equal(count(s.data, ">two</text>"), 1);
    assert_int_equal(count(s.data, "<circle "), 1);
    assert_int_equal(count(s.data, "<svg "), count(s.data, "</svg>"));
    assert_int_equal(count(s.data, "<text "), count(s.data, "</text>"));
    /* ticks where they were asked for; those too near to another have no number */
    assert_int_equal(count(s.data, ">32</text>"), 1);
    assert_int_equal(count(s.data, ">2</text>"), 0);
    sx_sbuf_free(&s);
}

static void inline_charts_are_coloured_by_the_page(void **state)
{
    (void)state;
    struct sx_sbuf s = {0};
    struct sx_chart c = example();
    c.n_x_ticks = 0;
    sx_chart_svg(&s, &c);
    assert_false(s.failed);
    assert_null(strstr(s.data, "stroke="));
    assert_null(strstr(s.data, "xmlns"));
    assert_non_null(strstr(s.data, "class=\"line c1 dash\""));
    assert_int_equal(count(s.data, ">two</text>"), 0);
    sx_sbuf_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_needs_no_style),
        cmocka_unit_test(inline_charts_are_coloured_by_the_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
