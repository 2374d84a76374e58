/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "plan/plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/dir_test.h"
#include "base/file.h"
#include "base/rng.h"

static char path[96];

static int setup(void **state)
{
    (void)state;
    return make_dir(path, sizeof path, "p.plan");
}

/* --- a diamond: 0 -> {1, 2} -> 3 -> 4, and 5 beside it ------------------------------------------
 */

#define NODES 6

static struct sx_dag_node nodes[NODES] = {
    {.name = "in", .type = "Conv"},    {.name = "left", .type = "Relu"},
    {.name = "right", .type = "Relu"}, {.name = "join", .type = "Add"},
    {.name = "out", .type = "Gemm"},   {.name = "aside", .type = "Tanh"},
};
static uint32_t uses[] = {0, 5, 1, 2, 3, 3, 4};
static struct sx_dag_tensor tensors[] = {
    {.name = "x", .producer = SX_DAG_NONE, .first_use = 0, .n_uses = 2},
    {.name = "t0", .producer = 0, .first_use = 2, .n_uses = 2},
    {.name = "t1", .producer = 1, .first_use = 4, .n_uses = 1},
    {.name = "t2", .producer = 2, .first_use = 5, .n_uses = 1},
    {.name = "t3", .producer = 3, .first_use = 6, .n_uses = 1},
};
static uint32_t alone[NODES] = {0, 1, 2, 3, 4, 5};
static struct sx_dag dag = {
    .nodes = nodes,
    .tensors = tensors,
    .n_nodes = NODES,
    .n_tensors = 5,
    .uses = uses,
    .group = alone,
};

static const struct sx_profile_key some_key = {
    .model = "0123456789abcdef", .machine = "m1", .engine = "E 1", .n_nodes = NODES};

static struct sx_plan *make(const uint32_t *stage_of, unsigned n_stages)
{
    struct sx_plan *p = calloc(1, sizeof *p);
    assert_non_null(p);
    p->key = some_key;
    p->batch = 2;
    p->n_devices = n_stages;
    p->n_stages = n_stages;
    p->stages = calloc(n_stages, sizeof *p->stages);
    assert_non_null(p->stages);
    snprintf(p->name, sizeof p->name, "a <plan> & more");
    snprintf(p->method, sizeof p->method, "metis");
    p->refined = true;
    p->proposed_ns[0] = 3.5e6;
    p->proposed_ns[1] = 4e6;
    for (unsigned s = 0; s < n_stages; s++) {
        struct sx_plan_stage *stage = &p->stages[s];
        snprintf(p->devices[s], sizeof p->devices[s], s ? "cpu:%u@8" : "cpu:%u", s);
        stage->device = s;
        stage->nodes = calloc(NODES, sizeof *stage->nodes);
        assert_non_null(stage->nodes);
        for (uint32_t v = 0; v < NODES; v++)
            if (stage_of[v] == s)
                stage->nodes[stage->n_nodes++] = v;
        stage->ns = 2e6 + s * 1e6 / 3;
        stage->transfer_ns = s * 1e5;
        stage->in_bytes = s * 4096;
        stage->out_bytes = (n_stages - 1 - s) * 4096;
        stage->weight_bytes = 12345678;
        p->latency_ns += stage->ns + stage->transfer_ns;
        p->slowest_ns = fmax(p->slowest_ns, stage->ns + stage->transfer_ns);
    }
    p->bytes_cut = 4096;
    return p;
}

static struct sx_plan *make_some(void)
{
    return make((const uint32_t[]){0, 0, 1, 1, 1, 0}, 2);
}

static void check_knows_good_cuts_from_bad(void **state)
{
    (void)state;
    static const struct {
        uint32_t stage_of[NODES];
        unsigned n_stages;
        const char *word; /* NULL: good */
    } cases[] = {
        {{0, 0, 0, 0, 0, 0}, 1, NULL},
        {{0, 0, 1, 1, 1, 0}, 2, NULL},
        {{0, 1, 0, 1, 2, 2}, 3, NULL},
        {{1, 1, 1, 1, 1, 0}, 2, NULL},
        {{0, 1, 0, 0, 0, 0}, 2, "'t1'"}, /* 0 -> 1 -> 0 */
        {{1, 0, 1, 1, 1, 1}, 2, "'t0'"},
        {{0, 0, 0, 0, 0, 9}, 1, "'aside'"}, /* in no stage */
        {{0, 0, 0, 0, 0, 0}, 2, "no operators"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sx_plan *p = make(cases[i].stage_of, cases[i].n_stages);
        struct sx_err err = {0};
        enum sx_rc rc = sx_plan_check(p, &dag, &err);
        assert_int_equal(rc, cases[i].word ? SX_INVALID : SX_OK);
        if (cases[i].word)
            assert_non_null(strstr(err.message, cases[i].word));
        sx_plan_destroy(p);
    }
}

static void check_keeps_groups_and_counts(void **state)
{
    (void)state;
    uint32_t joined[NODES] = {0, 0, 2, 3, 4, 5};
    struct sx_dag other = dag;
    struct sx_err err = {0};
    struct sx_plan *p = make((const uint32_t[]){0, 1, 0, 1, 1, 0}, 2);
    assert_int_equal(sx_plan_check(p, &dag, &err), SX_OK);
    other.group = joined;
    assert_int_equal(sx_plan_check(p, &other, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "'left'"));

    p->stages[1].nodes[0] = 0; /* twice, and node 1 not at all */
    assert_int_equal(sx_plan_check(p, &dag, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "stages 1 and 2"));
    p->stages[1].nodes[0] = 77;
    assert_int_equal(sx_plan_check(p, &dag, &err), SX_INVALID);
    p->stages[1].nodes[0] = 4;
    assert_int_equal(sx_plan_check(p, &dag, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "not in order"));
    p->stages[1].nodes[0] = 1;
    p->stages[1].device = 2;
    assert_int_equal(sx_plan_check(p, &dag, &err), SX_INVALID);
    p->stages[1].device = 1;
    assert_int_equal(sx_plan_check(p, &dag, &err), SX_OK);
    p->batch = 0;
    assert_int_equal(sx_plan_check(p, &dag, &err), SX_INVALID);
    sx_plan_destroy(p);
}

/* The slow twin: reachability decides whether a stage is convex and the stages are in order. */
static void check_agrees_with_reachability(void **state)
{
    (void)state;
    bool reach[NODES][NODES] = {{false}};
    struct sx_rng rng;
    int good = 0, bad = 0;
    for (size_t t = 1; t < 5; t++)
        for (uint32_t u = 0; u < tensors[t].n_uses; u++)
            reach[tensors[t].producer][uses[tensors[t].first_use + u]] = true;
    for (int k = 0; k < NODES; k++)
        for (int i = 0; i < NODES; i++)
            for (int j = 0; j < NODES; j++)
                reach[i][j] |= reach[i][k] && reach[k][j];
    sx_rng_init(&rng, 11);
    for (int round = 0; round < 2000; round++) {
        uint32_t stage_of[NODES];
        bool valid = true, has[3] = {false};
        for (int v = 0; v < NODES; v++)
            has[stage_of[v] = (uint32_t)sx_rng_below(&rng, 3)] = true;
        if (!has[0] || !has[1] || !has[2])
            continue;
        for (int i = 0; i < NODES; i++)
            for (int j = 0; j < NODES; j++)
                valid = valid && !(reach[i][j] && stage_of[i] > stage_of[j]);
        struct sx_plan *p = make(stage_of, 3);
        assert_int_equal(sx_plan_check(p, &dag, NULL), valid ? SX_OK : SX_INVALID);
        good += valid;
        bad += !valid;
        sx_plan_destroy(p);
    }
    assert_in_range(good, 50, 2000);
    assert_in_range(bad, 50, 2000);
}

/* --- files ------------------------------------------------------------------------------------ */

static bool same(const struct sx_plan *a, const struct sx_plan *b)
{
    if (memcmp(&a->key, &b->key, sizeof a->key) || strcmp(a->name, b->name) ||
        a->batch != b->batch || a->n_devices != b->n_devices || a->n_stages != b->n_stages ||
        memcmp(&a->latency_ns, &b->latency_ns, 3 * sizeof(double)) ||
        strcmp(a->method, b->method) || a->refined != b->refined ||
        memcmp(a->proposed_ns, b->proposed_ns, sizeof a->proposed_ns))
        return false;
    for (unsigned d = 0; d < a->n_devices; d++)
        if (strcmp(a->devices[d], b->devices[d]))
            return false;
    for (unsigned s = 0; s < a->n_stages; s++) {
        const struct sx_plan_stage *x = &a->stages[s], *y = &b->stages[s];
        if (x->device != y->device || x->n_nodes != y->n_nodes ||
            memcmp(x->nodes, y->nodes, x->n_nodes * sizeof *x->nodes) ||
            memcmp(&x->ns, &y->ns, 4 * sizeof(double)) || x->weight_bytes != y->weight_bytes)
            return false;
    }
    return true;
}

static void write_text(const char *text, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static void comes_back_bit_for_bit(void **state)
{
    (void)state;
    struct sx_plan *p = make_some(), *q = NULL;
    assert_int_equal(sx_plan_save(p, path, NULL), SX_OK);
    assert_int_equal(sx_plan_load(path, &some_key, &q, NULL), SX_OK);
    assert_true(same(p, q));
    assert_int_equal(sx_plan_check(q, &dag, NULL), SX_OK);
    assert_true(fabs(sx_plan_throughput(q) - 2 / q->slowest_ns * 1e9) < 1e-9);
    sx_plan_destroy(q);
    sx_plan_destroy(p);
}

static void refuses_what_it_was_not_made_for(void **state)
{
    (void)state;
    struct sx_plan *p = make_some(), *q = NULL;
    struct sx_profile_key key = some_key;
    struct sx_err err;
    assert_int_equal(sx_plan_save(p, path, NULL), SX_OK);
    snprintf(key.machine, sizeof key.machine, "m2");
    assert_int_equal(sx_plan_load(path, &key, &q, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "made for machine m1, this is m2"));
    assert_non_null(strstr(err.hint, "staronnx plan"));
    key = some_key;
    snprintf(key.model, sizeof key.model, "beef");
    assert_int_equal(sx_plan_load(path, &key, &q, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "model 0123456789abcdef, this is beef"));
    assert_null(q);
    snprintf(path + strlen(path) - 1, 2, "x");
    assert_int_equal(sx_plan_load(path, NULL, &q, &err), SX_NOT_FOUND);
    sx_plan_destroy(p);
}

static void refuses_bad_fields(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *word;
    } cases[] = {
        {"[0,1],[5,5]", "[0,1],[4,5]", "operators"}, /* 4 is in the other one */
        {"[0,1],[5,5]", "[5,5],[0,1]", "range"},
        {"[0,1],[5,5]", "[0,1],[5,6]", "range"},
        {"[0,1],[5,5]", "[1,0],[5,5]", "range"},
        {"[0,1],[5,5]", "[0,1,5]", "range"},
        {"[0,1],[5,5]", "[0,1]", "operators"},
        {"[0,1],[5,5]", "", "without operators"},
        {"[0,1],[5,5]", "[0,4294967297],[5,5]", "range"},
        {"\"device\":1", "\"device\":2", "device"},
        {"\"device\":1", "\"device\":-1", "device"},
        {"\"batch\":2", "\"batch\":0", "batch"},
        {"\"batch\":2", "\"batch\":2.5", "batch"},
        {"\"cpu:0\"", "\"\"", "devices"},
        {"\"cpu:0\"", "\"cpu:0\\u0000x\"", "devices"},
        {"\"cpu:0\"", "\"a name that is far too long\"", "devices"},
        {"\"refined\":true", "\"refined\":1", "refined"},
        {"\"proposed_ns\":[", "\"proposed_ns\":[1,", "proposed_ns"},
        {"\"nodes\":6", "\"nodes\":7", "operators"},
        {"\"nodes\":6", "\"nodes\":4294967295", "nodes"},
        {"\"latency_ns\":", "\"latency_ns\":-", "latency_ns"},
    };
    struct sx_plan *p = make_some(), *q = NULL;
    char *text;
    size_t size;
    assert_int_equal(sx_plan_save(p, path, NULL), SX_OK);
    assert_int_equal(sx_file_read(path, 0, &text, &size, NULL), SX_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sx_sbuf s = {0};
        struct sx_err err = {0};
        char *at = strstr(text, cases[i].from);
        assert_non_null(at);
        sx_sbuf_add(&s, text, (size_t)(at - text));
        sx_sbuf_puts(&s, cases[i].to);
        sx_sbuf_puts(&s, at + strlen(cases[i].from));
        assert_false(s.failed);
        write_text(s.data, s.len);
        assert_int_equal(sx_plan_load(path, NULL, &q, &err), SX_INVALID);
        if (!strstr(err.message, cases[i].word))
            fail_msg("case %zu: '%s' does not say '%s'", i, err.message, cases[i].word);
        sx_sbuf_free(&s);
    }
    free(text);
    sx_plan_destroy(p);
}

static void cut_off_or_changed_does_no_harm(void **state)
{
    (void)state;
    static const char likely[] = "0123456789-.e,:[]{}\"\\ t";
    struct sx_plan *p = make_some(), *q = NULL;
    struct sx_rng rng;
    char *text;
    size_t size, taken = 0;
    sx_rng_init(&rng, 5);
    assert_int_equal(sx_plan_save(p, path, NULL), SX_OK);
    assert_int_equal(sx_file_read(path, 0, &text, &size, NULL), SX_OK);
    for (size_t n = 0; n < size - 1; n++) {
        write_text(text, n);
        assert_int_equal(sx_plan_load(path, NULL, &q, NULL), SX_INVALID);
    }
    for (int round = 0; round < 20000; round++) {
        size_t at = sx_rng_below(&rng, size);
        char kept = text[at];
        text[at] = sx_rng_below(&rng, 4) ? likely[sx_rng_below(&rng, sizeof likely - 1)]
                                         : (char)sx_rng_u64(&rng);
        write_text(text, size);
        text[at] = kept;
        enum sx_rc rc = sx_plan_load(path, NULL, &q, NULL);
        if (rc) {
            assert_int_equal(rc, SX_INVALID);
            continue;
        }
        taken++;
        rc = q->key.n_nodes == NODES ? sx_plan_check(q, &dag, NULL) : SX_INVALID;
        assert_true(rc == SX_OK || rc == SX_INVALID);
        struct sx_sbuf out = {0};
        sx_plan_gantt(q, 3, NULL, 0, &out);
        assert_false(out.failed);
        sx_sbuf_free(&out);
        sx_plan_destroy(q);
    }
    assert_in_range(taken, 100, 19000);
    free(text);
    sx_plan_destroy(p);
}

/* --- for people ------------------------------------------------------------------------------- */

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, what)); at++)
        n++;
    return n;
}

static void table_names_what_matters(void **state)
{
    (void)state;
    struct sx_plan *p = make_some();
    struct sx_sbuf out = {0};
    const double measured[2] = {2.2e6, 0};
    sx_plan_text(p, &dag, measured, &out);
    assert_false(out.failed);
    static const char *const words[] = {
        "a <plan> & more, batch 2",
        "metis, refined",
        "metis 3.50 ms, topological 4.00 ms",
        "cpu:1@8",
        "emulation",
        "+10.0%",
        "12 MiB",
        "Conv 1, Relu 1",
        "Tanh 1",
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strstr(out.data, words[i]))
            fail_msg("'%s' is not in\n%s", words[i], out.data);
    assert_null(strstr(out.data, "exhaustive"));
    sx_sbuf_free(&out);
    sx_plan_text(p, NULL, NULL, &out);
    assert_null(strstr(out.data, "measured"));
    sx_sbuf_free(&out);
    sx_plan_destroy(p);
}

/* Positions of the blocks in a lane, read back from the picture: they may not overlap, and each
 * job passes its stages in order. */
static void picture_shows_a_possible_pipeline(void **state)
{
    (void)state;
    struct sx_plan *p = make((const uint32_t[]){0, 0, 1, 1, 2, 2}, 3);
    double end[3] = {0}, done[8] = {0};
    struct sx_sbuf out = {0};
    unsigned blocks = 0, job, stage;
    double x, width;
    int y;
    sx_plan_gantt(p, 8, NULL, 0, &out);
    assert_false(out.failed);
    assert_int_equal(count(out.data, "class=\"lane\""), 3);
    assert_null(strstr(out.data, "measured"));
    assert_non_null(strstr(out.data, "a &lt;plan&gt; &amp; more"));
    for (const char *at = out.data; (at = strstr(at, "<title>job ")); at++) {
        assert_int_equal(sscanf(at, "<title>job %u, stage %u", &job, &stage), 2);
        const char *rect = strstr(at, "<rect");
        assert_int_equal(sscanf(rect, "<rect x=\"%lf\" y=\"%d\" width=\"%lf\"", &x, &y, &width), 3);
        assert_true(x >= end[stage - 1] - 0.02 && x >= done[job - 1] - 0.02);
        if (stage == 3 && job > 1) /* saturated: the slowest stage never waits again */
            assert_true(x <= end[2] + 0.02);
        end[stage - 1] = done[job - 1] = x + width;
        blocks++;
    }
    assert_int_equal(blocks, 24);
    sx_sbuf_free(&out);
    sx_plan_destroy(p);
}

static void picture_takes_any_spans(void **state)
{
    (void)state;
    struct sx_plan *p = make_some();
    struct sx_plan_span spans[64];
    struct sx_sbuf out = {0};
    for (unsigned j = 0; j < 10; j++)
        for (unsigned s = 0; s < 2; s++)
            spans[2 * j + s] = (struct sx_plan_span){100 + j, s, 1e9 + j * 3e6 + s * 3e6,
                                                     1e9 + j * 3e6 + s * 3e6 + 2.9e6};
    spans[20] = (struct sx_plan_span){100, 7, 0, 1}; /* no such stage */
    spans[21] = (struct sx_plan_span){100, 1, 5, NAN};
    spans[22] = (struct sx_plan_span){101, 1, 5, 4};
    sx_plan_gantt(p, 6, spans, 23, &out);
    assert_false(out.failed);
    assert_int_equal(count(out.data, "<title>job "), 6 * 2 * 2);
    assert_non_null(strstr(out.data, "measured: 666.7 samples/s")); /* batch 2 every 3 ms */
    assert_int_equal(count(out.data, "nan"), 0);
    sx_sbuf_free(&out);

    p->stages[0].ns = p->stages[1].ns = p->stages[1].transfer_ns = 0; /* nothing known */
    sx_plan_gantt(p, 0, NULL, 0, &out);
    assert_false(out.failed);
    assert_int_equal(count(out.data, "nan"), 0);
    sx_sbuf_free(&out);
    sx_plan_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_knows_good_cuts_from_bad),
        cmocka_unit_test(check_keeps_groups_and_counts),
        cmocka_unit_test(check_agrees_with_reachability),
        cmocka_unit_test_setup_teardown(comes_back_bit_for_bit, setup, remove_dir),
        cmocka_unit_test_setup_teardown(refuses_what_it_was_not_made_for, setup, remove_dir),
        cmocka_unit_test_setup_teardown(refuses_bad_fields, setup, remove_dir),
        cmocka_unit_test_setup_teardown(cut_off_or_changed_does_no_harm, setup, remove_dir),
        cmocka_unit_test(table_names_what_matters),
        cmocka_unit_test(picture_shows_a_possible_pipeline),
        cmocka_unit_test(picture_takes_any_spans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
