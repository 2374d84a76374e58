/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "perf/report.h"

static void add(struct sx_series *s, double rate, double throughput, double ms, uint64_t rejected)
{
    struct sx_point p = {
        .kind = SX_LOAD_RATE,
        .load = rate,
        .per_query = 1,
        .seconds = 10,
        .throughput = throughput,
        .goodput = throughput,
        .within = 0.5,
        .mean_us = ms * 1000,
        .stddev_us = ms * 100,
        .p50_us = ms * 900,
        .p90_us = ms * 1200,
        .p95_us = ms * 1300,
        .p99_us = ms * 2000,
        .p999_us = ms * 30000,
        .met = rejected == 0,
        .stable = true,
        .n_cdf = 2,
        .cdf = {{(float)ms * 900, 0.5f}, {(float)ms * 2000, 1}},
    };
    p.outcome[SX_OUTCOME_OK] = (uint64_t)(throughput * 10);
    p.outcome[SX_OUTCOME_REJECTED] = rejected;
    p.n_moments = 2;
    p.moments = calloc(2, sizeof(*p.moments));
    assert_non_null(p.moments);
    p.moments[0] = (struct sx_moment){5, (float)throughput, 0, 100, 200};
    p.moments[1] = (struct sx_moment){10, (float)throughput, 1, 100, 200};
    assert_int_equal(sx_series_add(s, &p), SX_OK);
}

static void make(struct sx_report *r)
{
    sx_report_init(r);
    snprintf(r->title, sizeof(r->title), "a <title>");
    r->objective_ms = 5;
    struct sx_series *s = sx_report_series(r, "ours & theirs");
    assert_non_null(s);
    snprintf(s->machine, sizeof(s->machine), "a machine");
    snprintf(s->command, sizeof(s->command), "staronnx perf -m \"m\"");
    snprintf(s->example[SX_OUTCOME_REJECTED], sizeof(s->example[0]), "HTTP 503: full");
    add(s, 100, 99.5, 0.5, 0);
    add(s, 2500, 1234.5, 12, 7);
    s->found = (struct sx_found){.done = true,
                                 .what = "congestion threshold",
                                 .kind = SX_LOAD_RATE,
                                 .value = 1500,
                                 .above = 1530,
                                 .trials = 12};
    s->verdict = (struct sx_verdict){.done = true,
                                     .scenario = "Server",
                                     .metric = "highest rate",
                                     .unit = "queries/s",
                                     .value = 1500,
                                     .rules = "the rules",
                                     .reasons = "too short\ntoo few"};
    const struct sx_server_times before = {
        .requests = 10, .samples = 10, .runs = 10, .queue_ns = 5000, .infer_ns = 70000};
    const struct sx_server_times after = {.requests = 20,
                                          .samples = 30,
                                          .runs = 15,
                                          .queue_ns = 55000,
                                          .input_ns = 10000,
                                          .infer_ns = 4070000,
                                          .output_ns = 20000};
    sx_point_add_server(&s->points[1], &before, &after);
}

static void text_is_golden(void **state)
{
    (void)state;
    struct sx_report r;
    struct sx_sbuf s = {0};
    make(&r);
    sx_report_point_text(&s, &r, &r.series[0], &r.series[0].points[1]);
    sx_report_text(&s, &r);
    assert_string_equal(
        s.data,
        "Request rate: 2,500\n"
        "  Client:\n"
        "    Request count: 12352 in 10.0 s\n"
        "    Throughput: 1234.50 infer/sec\n"
        "    Goodput: 1234.50 infer/sec within 5 ms (50.00 % of requests)\n"
        "    Failed: 7 of 12352 (0.06 %)\n"
        "      7 rejected by an overloaded server (HTTP 503: full)\n"
        "    Avg latency: 12000 usec (standard deviation 1200 usec)\n"
        "    p50 latency: 10800 usec\n"
        "    p90 latency: 14400 usec\n"
        "    p95 latency: 15600 usec\n"
        "    p99 latency: 24000 usec\n"
        "    p99.9 latency: 360000 usec\n"
        "  Server:\n    Inference count: 20 in 5 runs\n"
        "    Avg request: queue 5 usec + compute input 1 usec + compute infer 400 usec + compute "
        "output 2 usec\n"
        "  request rate  infer/s      p50      p90      p95      p99    p99.9  failed  objective\n"
        "         100.0     99.5   450 us   600 us   650 us  1.00 ms  15.0 ms       0  met\n"
        "         2,500    1,234  10.8 ms  14.4 ms  15.6 ms  24.0 ms   360 ms       7  missed\n"
        "\nours & theirs: congestion threshold: request rate 1,500 holds, 1,530 does not "
        "(p99 of all requests <= 5 ms; 12 trials)\n"
        "\nMLPerf Server: highest rate 1,500 queries/s\n"
        "  NOT VALID by the rules\n"
        "    - too short\n"
        "    - too few\n");
    sx_sbuf_free(&s);
    sx_report_fini(&r);
}

static void csv_is_golden(void **state)
{
    (void)state;
    struct sx_report r;
    struct sx_sbuf s = {0};
    make(&r);
    sx_report_csv(&s, &r);
    assert_string_equal(
        s.data,
        "Request Rate,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,"
        "Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,"
        "p50 latency,p90 latency,p95 latency,p99 latency,p99.9 latency,Avg latency,Goodput,Failed,"
        "Late Percent,Series\n"
        "100,99.50,,500,,,,,,450,600,650,1000,15000,500,99.50,0,0.00,\"ours & theirs\"\n"
        "2500,1234.50,,11592,5,1,400,2,,10800,14400,15600,24000,360000,12000,1234.50,7,0.00,"
        "\"ours & theirs\"\n");
    sx_sbuf_free(&s);
    sx_report_fini(&r);
}

static void json_comes_back_as_it_was(void **state)
{
    (void)state;
    struct sx_report r, back;
    struct sx_sbuf a = {0}, b = {0};
    make(&r);
    sx_report_json(&a, &r);
    sx_report_init(&back);
    assert_int_equal(sx_report_read(&back, a.data, a.len, NULL, NULL), SX_OK);
    sx_report_json(&b, &back);
    assert_string_equal(a.data, b.data);
    assert_int_equal(sx_report_read(&back, a.data, a.len, "again", NULL), SX_OK);
    assert_int_equal(back.n_series, 2);
    assert_string_equal(back.series[1].name, "again");
    struct sx_err other = {0};
    r.objective_ms = 75; // judged by another objective: nothing to compare
    sx_sbuf_clear(&b);
    sx_report_json(&b, &r);
    assert_int_equal(sx_report_read(&back, b.data, b.len, NULL, &other), SX_INVALID);
    assert_non_null(strstr(other.message, "75 ms"));
    assert_int_equal(back.n_series, 2);
    sx_report_fini(&back);

    sx_report_init(&back); // cut anywhere, it is refused
    for (size_t n = 0; n + 2 < a.len; n += 7)
        assert_int_equal(sx_report_read(&back, a.data, n, NULL, NULL), SX_INVALID);
    struct sx_err err = {0};
    assert_int_equal(sx_report_read(&back, "{\"series\":[]}", 13, NULL, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "staronnx perf --json"));
    const char *odd =
        "{\"staronnx_perf\":1,\"series\":[1,{\"points\":[3,{\"cdf\":5}],\"found\":7}]}";
    assert_int_equal(sx_report_read(&back, odd, strlen(odd), NULL, NULL), SX_OK);
    sx_sbuf_clear(&b);
    sx_report_html(&b, &back); // whatever was read can be drawn
    sx_report_fini(&back);
    sx_sbuf_free(&a);
    sx_sbuf_free(&b);
    sx_report_fini(&r);
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (; (text = strstr(text, what)); text += strlen(what))
        n++;
    return n;
}

static void the_page_is_whole_and_alone(void **state)
{
    (void)state;
    struct sx_report r;
    struct sx_sbuf s = {0};
    make(&r);
    struct sx_series *t = sx_report_series(&r, "second");
    assert_non_null(t);
    add(t, 100, 99, 1, 0);
    add(t, 200, 150, 3, 0);
    sx_report_html(&s, &r);
    assert_non_null(strstr(s.data, "a &lt;title&gt;"));
    assert_non_null(strstr(s.data, "ours &amp; theirs"));
    assert_null(strstr(s.data, "ours & theirs"));
    assert_null(strstr(s.data, "src="));
    assert_null(strstr(s.data, "href="));
    assert_null(strstr(s.data, "@import"));
    assert_null(strstr(s.data, "nan"));
    assert_null(strstr(s.data, "inf\""));
    assert_int_equal(count(s.data, "<figure>"), 4);
    assert_int_equal(count(s.data, "<svg"), count(s.data, "</svg>"));
    assert_int_equal(count(s.data, "<div"), count(s.data, "</div>"));
    sx_sbuf_free(&s);
    sx_report_fini(&r);

    sx_report_init(&r); // nothing measured
    sx_report_html(&s, &r);
    sx_report_text(&s, &r);
    assert_false(s.failed);
    sx_sbuf_free(&s);
    sx_report_fini(&r);
}

static void numbers_are_for_people(void **state)
{
    (void)state;
    char n[32], t[24];
    assert_string_equal(sx_text_number(n, 1234567), "1,234,567");
    assert_string_equal(sx_text_number(n, -12345), "-12,345");
    assert_string_equal(sx_text_number(n, 999), "999.0");
    assert_string_equal(sx_text_number(n, 3.14159), "3.14");
    assert_string_equal(sx_text_us(t, 12.34), "12.3 us");
    assert_string_equal(sx_text_us(t, 1234), "1.23 ms");
    assert_string_equal(sx_text_us(t, 123456), "123 ms");
    assert_string_equal(sx_text_us(t, 2.5e6), "2.50 s");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_golden),
        cmocka_unit_test(csv_is_golden),
        cmocka_unit_test(json_comes_back_as_it_was),
        cmocka_unit_test(the_page_is_whole_and_alone),
        cmocka_unit_test(numbers_are_for_people),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
