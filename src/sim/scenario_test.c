/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario_test.c - scenario files, right and wrong; reports.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yyjson.h>

#include <cmocka.h>

#include "base/file.h"
#include "sim/report.h"

static char dir[] = "/tmp/sx-scenario-XXXXXX";

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    return sx_dir_remove(dir, NULL) ? -1 : 0;
}

static const char *write_file(const char *name, const char *text)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(sx_file_write(path, text, strlen(text), NULL), SX_OK);
    return path;
}

static enum sx_rc load(struct sx_sim_scenario *s, const char *text, struct sx_err *err)
{
    assert_int_equal(sx_sim_scenario_init(s, err), SX_OK);
    return sx_sim_scenario_load(s, write_file("s.json", text), err);
}

#define TABLE "{\"units\": [1, 2], \"batches\": [1, 4], \"ms\": [[10, 6], [36, 20]]}"

/* What sim-vs-real needs: two units, aligned, three tables, Poisson rates, objectives, noise, fixed
 * costs. */
static const char whole[] =
    "{\"format\": 1, \"what\": \"three on two cores\", \"units\": 2, \"fit\": \"aligned\",\n"
    " \"seconds\": 10, \"warm_seconds\": 1, \"seed\": 7, \"policy\": [\"fair\", \"fixed\"],\n"
    " \"half_rule\": false, \"margin_ms\": 1, \"replan_seconds\": 0.5,\n"
    " \"models\": [\n"
    "  {\"name\": \"a\", \"table\": \"a.json\", \"objective_ms\": 50, \"weight\": 2,\n"
    "   \"priority\": -1, \"max_batch\": 4, \"load\": {\"rate\": 30}, \"noise\": 0.05,\n"
    "   \"run_ms\": 0.1, \"request_ms\": 0.2, \"way_ms\": 0.3},\n"
    "  {\"name\": \"b\", \"table\": " TABLE ", \"objective_ms\": 100,\n"
    "   \"load\": {\"kind\": \"gamma\", \"rate\": 10, \"cv\": 2}},\n"
    "  {\"name\": \"c\", \"table\": " TABLE ", \"objective_ms\": 200,\n"
    "   \"load\": {\"kind\": \"counts\", \"file\": \"c.txt\", \"unit_seconds\": 5}},\n"
    "]}\n";

static void a_file_says_it_all(void **state)
{
    (void)state;
    struct sx_sim_scenario s;
    struct sx_err err = {0};
    write_file("a.json", TABLE);
    write_file("c.txt", "20\n30\n");
    if (load(&s, whole, &err))
        fail_msg("%s", err.message);
    const struct sx_sim_config *c = &s.config;
    assert_int_equal(c->n_units, 2);
    assert_int_equal(c->fit, SX_SHARE_ALIGNED);
    assert_int_equal(c->n_models, 3);
    assert_int_equal(c->seed, 7);
    assert_true(s.policies[SX_SHARE_FAIR] && s.policies[SX_SHARE_FIXED] &&
                !s.policies[SX_SHARE_EDF]);
    assert_false(c->half_rule);
    const struct sx_sim_model *a = &c->models[0];
    assert_string_equal(a->name, "a");
    assert_int_equal(a->priority, -1);
    assert_int_equal(a->max_batch, 4);
    assert_true(a->weight == 2 && a->noise == 0.05 && fabs(a->run_ns - 1e5) < 1e-3);
    assert_true(fabs(a->objective_ns - 50e6) < 1e-3);
    assert_true(fabs(sx_latency_ns(a->latency, 2, 4) - 20e6) < 1);
    assert_int_equal(c->models[2].load->kind, SX_ARRIVAL_TIMES);

    /* The same with all reports. */
    struct sx_sim_report report = {
        .scenario = &s, .policies = {SX_SHARE_FAIR, SX_SHARE_TEMPORAL}, .n = 2};
    s.config.max_spans = 100;
    s.config.span_end = 0.3;
    for (unsigned i = 0; i < 2; i++) {
        struct sx_sim_config config = *c;
        config.policy = report.policies[i];
        assert_int_equal(sx_sim_run(&config, &report.results[i], &err), SX_OK);
    }
    assert_true(report.results[0].n_spans > 2);
    struct sx_sbuf text = {0}, json = {0}, svg = {0};
    sx_sim_report_text(&report, &text);
    sx_sim_report_json(&report, &json);
    sx_sim_picture(&s, &report.results[0], SX_SHARE_FAIR, &svg);
    assert_false(text.failed || json.failed || svg.failed);
    assert_non_null(strstr(text.data, "imulated"));
    assert_non_null(strstr(text.data, "p99 ms"));
    assert_non_null(strstr(svg.data, "</svg>"));
    assert_null(strstr(svg.data, "class="));
    yyjson_doc *doc = yyjson_read(json.data, json.len, 0);
    assert_non_null(doc);
    yyjson_val *results = yyjson_obj_get(yyjson_doc_get_root(doc), "results");
    assert_int_equal(yyjson_arr_size(results), 2);
    yyjson_val *first =
        yyjson_arr_get_first(yyjson_obj_get(yyjson_arr_get_first(results), "models"));
    assert_true(fabs(yyjson_get_num(yyjson_obj_get(first, "p99_ms")) -
                     report.results[0].models[0].p99_ns * 1e-6) < 1e-6);
    assert_true(fabs(yyjson_get_num(yyjson_obj_get(first, "goodput")) -
                     report.results[0].models[0].goodput) < 1e-6);
    yyjson_doc_free(doc);
    sx_sbuf_free(&text);
    sx_sbuf_free(&json);
    sx_sbuf_free(&svg);
    sx_sim_result_fini(&report.results[0]);
    sx_sim_result_fini(&report.results[1]);
    sx_sim_scenario_fini(&s);
}

static void every_kind_of_load_is_read(void **state)
{
    (void)state;
    static const char *const loads[] = {
        "{\"kind\":\"endless\"}",
        "{\"kind\":\"poisson\",\"rate\":3}",
        "{\"kind\":\"constant\",\"rate\":3}",
        "{\"kind\":\"gamma\",\"rate\":3,\"cv\":0.5}",
        "{\"kind\":\"bursts\",\"rate\":9,\"off_rate\":1,\"on_seconds\":2,\"off_seconds\":3}",
        "{\"kind\":\"step\",\"rate\":0,\"to_rate\":5,\"at_seconds\":2}",
        "{\"kind\":\"wave\",\"rate\":9,\"amplitude\":1,\"period_seconds\":10}",
        "{\"kind\":\"times\",\"file\":\"c.txt\"}",
        "{\"kind\":\"gaps\",\"file\":\"c.txt\",\"loop\":true}",
    };
    write_file("c.txt", "20\n30\n");
    for (size_t i = 0; i < sizeof loads / sizeof *loads; i++) {
        struct sx_sim_scenario s;
        struct sx_err err = {0};
        char text[512];
        snprintf(text, sizeof text,
                 "{\"units\":2,\"models\":[{\"name\":\"a\",\"table\":%s,\"objective_ms\":9,"
                 "\"load\":%s}]}",
                 TABLE, loads[i]);
        if (load(&s, text, &err))
            fail_msg("%s: %s", loads[i], err.message);
        assert_int_equal(s.models[0].load != NULL, i != 0);
        sx_sim_scenario_fini(&s);
    }
}

static void mistakes_are_named(void **state)
{
    (void)state;
#define M(fields) "{\"units\":2,\"models\":[{\"name\":\"a\",\"table\":" TABLE "," fields "}]}"
    static const struct {
        const char *text, *word;
    } cases[] = {
        {"{\"units\":2,\n \"models\": [}", "line 2, column"},
        {"[]", "object"},
        {"{\"units\":2}", "models"},
        {"{\"units\":2,\"models\":[]}", "models"},
        {"{\"units\":2,\"model\":[]}", "no field model"},
        {"{\"units\":0,\"models\":[1]}", "units"},
        {"{\"units\":2,\"models\":[1]}", "models[0]"},
        {"{\"format\":2,\"units\":2,\"models\":[1]}", "format"},
        {"{\"units\":2,\"policy\":\"best\",\"models\":[1]}", "policy"},
        {"{\"units\":2,\"policy\":[],\"models\":[1]}", "policy"},
        {"{\"units\":2,\"fit\":\"tight\",\"models\":[1]}", "fit"},
        {"{\"units\":2,\"router\":\"x\",\"models\":[1]}", "router"},
        {"{\"units\":2,\"models\":[{\"name\":\"a\",\"objective_ms\":9}]}", "models[0].table"},
        {"{\"units\":2,\"models\":[{\"name\":\"a\",\"table\":\"no.json\",\"objective_ms\":9}]}",
         "no.json"},
        {"{\"units\":2,\"models\":[{\"name\":\"a\",\"table\":{\"units\":[2,1],\"batches\":[1],"
         "\"ms\":"
         "[[1,2]]},\"objective_ms\":9}]}",
         "models[0].table"},
        {M("\"weight\":1"), "objective_ms"},
        {M("\"objective_ms\":-1"), "models[0].objective_ms"},
        {M("\"objective_ms\":\"9\""), "models[0].objective_ms"},
        {M("\"objective\":9"), "models[0].objective"},
        {M("\"objective_ms\":9,\"noise\":9"), "models[0].noise"},
        {M("\"objective_ms\":9,\"priority\":0.5"), "models[0].priority"},
        {M("\"objective_ms\":9,\"load\":{\"kind\":\"normal\",\"rate\":1}"), "models[0].load.kind"},
        {M("\"objective_ms\":9,\"load\":{\"kind\":\"poisson\"}"), "models[0].load.rate"},
        {M("\"objective_ms\":9,\"load\":{\"rate\":1,\"cvv\":1}"), "models[0].load.cvv"},
        {M("\"objective_ms\":9,\"load\":{\"kind\":\"times\"}"), "models[0].load.file"},
        {M("\"objective_ms\":9,\"load\":7"), "models[0].load"},
        {"{\"units\":2,\"models\":[{\"table\":\"VGG-19\"},{\"table\":\"VGG-19\"}]}", "VGG-19"},
        {"{\"models\":[{\"table\":\"VGG-19\"}],\"trace\":{}}", "trace.file"},
        {"{\"models\":[{\"table\":\"VGG-19\"}],\"trace\":{\"file\":\"bad.csv\"}}",
         "line 2, column"},
    };
    write_file("bad.csv", "app,func,end_timestamp,duration\na,f\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sx_sim_scenario s;
        struct sx_err err = {0};
        assert_int_not_equal(load(&s, cases[i].text, &err), SX_OK);
        if (!strstr(err.message, cases[i].word))
            fail_msg("case %zu: '%s' is not in: %s", i, cases[i].word, err.message);
        sx_sim_scenario_fini(&s);
    }
    struct sx_sim_scenario s;
    struct sx_err err = {0};
    assert_int_equal(sx_sim_scenario_init(&s, &err), SX_OK);
    assert_int_equal(sx_sim_scenario_load(&s, "/there/is/none.json", &err), SX_NOT_FOUND);
    sx_sim_scenario_fini(&s);
}

/* A value of another kind in any place: taken or refused with a message, nothing else. */
static void damaged_scenarios_are_taken_or_refused(void **state)
{
    (void)state;
    static const char *const values[] = {"-1", "0",  "1e99", "\"x\"",  "null",
                                         "[]", "{}", "true", "[1,[2]]"};
    struct sx_rng rng;
    unsigned taken = 0, refused = 0;
    sx_rng_init(&rng, 4);
    write_file("a.json", TABLE);
    write_file("c.txt", "20\n30\n");
    for (int round = 0; round < 1500; round++) {
        struct sx_sim_scenario s;
        struct sx_err err = {0};
        char text[2048];
        size_t colons = 0, pick;
        for (const char *p = whole; *p; p++)
            colons += *p == ':';
        pick = sx_rng_below(&rng, colons);
        const char *at = whole;
        while (*at != ':' || pick--)
            at++;
        size_t old = strcspn(at + 1, ",}]\n") + 1;
        snprintf(text, sizeof text, "%.*s:%s%s", (int)(at - whole), whole,
                 values[sx_rng_below(&rng, sizeof values / sizeof *values)], at + old);
        if (load(&s, text, &err)) {
            assert_true(strlen(err.message) > 10);
            refused++;
        } else {
            taken++;
        }
        sx_sim_scenario_fini(&s);
    }
    print_message("%u damaged scenarios refused, %u taken\n", refused, taken);
    assert_true(refused > 700 && taken > 50);
}

static void recalled_models_need_no_more_than_a_name(void **state)
{
    (void)state;
    struct sx_sim_scenario s;
    struct sx_err err = {0};
    if (load(&s, "{\"models\":[{\"table\":\"VGG-19\"},{\"table\":\"ResNet-50\"}]}", &err))
        fail_msg("%s", err.message);
    assert_true(s.recalled);
    assert_int_equal(s.config.n_units, 100);
    assert_string_equal(s.models[1].name, "ResNet-50");
    assert_true(s.models[1].objective_ns == 50e6);
    sx_sim_scenario_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_says_it_all),
        cmocka_unit_test(every_kind_of_load_is_read),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(damaged_scenarios_are_taken_or_refused),
        cmocka_unit_test(recalled_models_need_no_more_than_a_name),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
