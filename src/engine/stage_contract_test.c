/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * stage_contract_test.c - what engine.h promises of models in stages, for every engine.
 *
 * `row` is a chain for both engines.  What only ONNX Runtime can do is in ort_stage_test.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <sched.h>

#include "engine/stage_test.h"
#include "machine/machine.h"

/* --- the contract -------------------------------------------------------------------- */

static void test_row(void **state)
{
    (void)state;
    struct sx_engine_model *m = open_at(engine, path_of("row"));
    const struct sx_dag *dag = graph_of(m), *again = graph_of(m);
    assert_ptr_equal(dag, again);
    assert_int_equal(dag->n_nodes, 6);
    assert_int_equal(dag->tensors[0].producer, SX_DAG_NONE);
    assert_string_equal(dag->tensors[0].name, "x");
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(dag->group[i], i);
        assert_int_equal(dag->nodes[i].n_in, 1);
        const struct sx_dag_tensor *t = &dag->tensors[dag->ins[dag->nodes[i].first_in]];
        assert_int_equal(t->producer, i ? i - 1 : SX_DAG_NONE);
        assert_true(t->typed && t->sized);
        assert_int_equal(t->onnx_type, MK_FLOAT);
        assert_int_equal(t->rank, 2);
        assert_int_equal(t->dims[0], -1);
        assert_int_equal(t->dims[1], 8);
        assert_true(t->fixed_bytes == 0 && t->sample_bytes == 32);
        assert_true(sx_dag_bytes(dag, (uint32_t)(t - dag->tensors), 3) == 96);
    }
    assert_true(tensor(dag, "y")->output);
    assert_true(tensor(dag, "s")->output);
    for (int64_t batch = 1; batch < 4; batch++)
        assert_int_equal(check_prefixes(m, batch, 1), 6);
    check_prefixes(m, 2, 2);
    const uint32_t each[] = {0, 1, 2, 3, 4, 5}, three[] = {0, 0, 1, 2, 2, 2};
    check_cut(m, each, 6, 5, 1);
    check_cut(m, three, 3, 5, 2);
    sx_engine_close_model(m);
}

static void test_bad_stages(void **state)
{
    (void)state;
    const struct sx_dag *dag = NULL;
    const uint32_t hole[] = {0, 2}, twice[] = {1, 1}, beyond[] = {5, 6}, back[] = {2, 1};
    struct sx_engine_model *m = open_at(engine, path_of("row"));
    stage_refused(m, hole, 2, SX_INVALID, "");
    stage_refused(m, twice, 2, SX_INVALID, "");
    stage_refused(m, beyond, 2, SX_INVALID, "");
    stage_refused(m, hole, 0, SX_INVALID, "");
    struct sx_engine_model *s = stage_of(m, back, 2); /* in any order */
    struct sx_err err = {0};
    assert_int_equal(sx_engine_graph(s, &dag, &err), SX_UNSUPPORTED);
    assert_non_null(strstr(err.message, "cannot be cut again"));
    stage_refused(s, back, 1, SX_UNSUPPORTED, "cannot be cut again");
    sx_engine_close_model(s);
    sx_engine_close_model(m);
}

/* A stage checks what it is given like any model. */
static void test_stage_inputs(void **state)
{
    (void)state;
    const uint32_t nodes[] = {2, 3};
    const int64_t wide[] = {2, 9}, good[] = {2, 8};
    struct sx_engine_model *m = open_at(engine, path_of("row")), *s = stage_of(m, nodes, 2);
    struct sx_session *run = session_of(s, 1);
    struct sx_tensor x = floats(wide, 2, 0), y = {0}, prepared = floats(good, 2, 0);
    struct sx_err err = {0};
    assert_int_equal(sx_session_run(run, &x, &y, NULL, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "has shape [2,9], expected [-1,8]"));
    assert_null(y.data);
    sx_tensor_unref(&x);
    x = floats(good, 2, 0);
    run_ok(run, &x, &y);
    run_ok(run, &x, &prepared);
    assert_true(sx_tensor_equal(&y, &prepared));
    sx_tensor_unref(&x);
    sx_tensor_unref(&y);
    sx_tensor_unref(&prepared);
    sx_session_destroy(run);
    sx_engine_close_model(s);
    sx_engine_close_model(m);
}

struct ticks {
    unsigned calls, stop_at;
    double last;
    bool back;
};

static bool tick(void *user, double done)
{
    struct ticks *t = user;
    t->back = t->back || done < t->last || done > 1;
    t->last = done;
    return ++t->calls != t->stop_at;
}

static void test_profile(void **state)
{
    (void)state;
    struct sx_engine_model *m = open_at(engine, path_of("row"));
    double ns[6] = {0}, spread[6] = {0}, whole[2] = {0}, sum = 0;
    struct ticks t = {0};
    struct sx_err err = {0};
    if (sx_engine_profile(m, 2, 1, NULL, 9, tick, &t, ns, spread, whole, &err))
        fail_msg("%s", err.message);
    for (int i = 0; i < 6; i++) {
        assert_true(ns[i] > 0 && spread[i] >= 0);
        sum += ns[i];
    }
    assert_true(fabs(sum - whole[0]) < 1e-6 * sum);
    assert_true(whole[1] >= 0);
    assert_true(t.calls >= 9 && !t.back);

    unsigned calls = t.calls;
    t = (struct ticks){.stop_at = calls / 2};
    assert_int_equal(sx_engine_profile(m, 2, 2, NULL, 9, tick, &t, ns, spread, whole, &err),
                     SX_CANCELLED);
    assert_int_equal(t.calls, calls / 2);
    assert_int_equal(sx_engine_profile(m, 0, 1, NULL, 1, NULL, NULL, ns, spread, whole, &err),
                     SX_INVALID);
    assert_int_equal(sx_engine_profile(m, 1, 0, NULL, 1, NULL, NULL, ns, spread, whole, &err),
                     SX_INVALID);
    assert_int_equal(sx_engine_profile(m, 1, 1, NULL, 0, NULL, NULL, ns, spread, whole, &err),
                     SX_INVALID);
    assert_int_equal(sx_engine_profile(m, 1, 2, NULL, 1, NULL, NULL, ns, spread, whole, &err),
                     SX_OK);
    sx_engine_close_model(m);
}

static void test_profile_table(void **state)
{
    (void)state;
    struct sx_engine_model *m = open_at(engine, path_of("row"));
    struct sx_unit units[2] = {{.cpu = 0}, {.cpu = 0}};
    struct sx_device device = {.name = "cpu", .kind = "cpu", .n_units = 2};
    const struct sx_machine machine = {
        .units = units, .n_units = 2, .devices = &device, .n_devices = 1};
    struct sx_profile p = {0};
    struct sx_err err = {0};
    cpu_set_t cores;
    assert_int_equal(sched_getaffinity(0, sizeof cores, &cores), 0);
    assert_int_equal(sx_engine_profile_key(m, "here", &p.key, NULL), SX_OK);
    for (unsigned n = 1; n <= 2; n++)
        if (sx_engine_profile_table(m, &machine, &device, n, 3, 2, NULL, NULL, &p, &err))
            fail_msg("%s", err.message);
    assert_int_equal(p.n_tables, 2);
    for (unsigned n = 1; n <= 2; n++) {
        const struct sx_profile_table *t = sx_profile_get(&p, "cpu", n, 3);
        assert_non_null(t);
        assert_true(t->runs == 2 && t->whole_ns > 0 && t->node_ns[0] > 0);
    }
    assert_int_equal(sx_engine_profile_table(m, &machine, &device, 3, 3, 2, NULL, NULL, &p, &err),
                     SX_INVALID);
    assert_int_equal(sx_engine_profile_table(m, &machine, &device, 0, 3, 2, NULL, NULL, &p, &err),
                     SX_INVALID);
    assert_int_equal(sx_engine_profile_table(m, &machine, &device, 1, 0, 2, NULL, NULL, &p, &err),
                     SX_INVALID);
    p.key.n_nodes++; /* of another model */
    assert_int_equal(sx_engine_profile_table(m, &machine, &device, 1, 3, 2, NULL, NULL, &p, &err),
                     SX_INVALID);
    p.key.n_nodes--;
    assert_int_equal(p.n_tables, 2);
    sx_profile_fini(&p);
    sx_engine_close_model(m);
    sched_setaffinity(0, sizeof cores, &cores);
}

/* --- the fake only ------------------------------------------------------------------- */

static void test_fake_chain(void **state)
{
    (void)state;
    struct sx_engine_model *m = open_at(engine, path_of("row"));
    const uint32_t thirds[] = {0, 0, 1, 1, 2, 2}, tail[] = {0, 1, 1, 1, 1, 1};
    double ns[6], spread[6], whole[2];
    assert_null(sx_engine_graph_onnx(m));
    assert_int_equal(check_cut(m, thirds, 3, 4, 1), 840000);
    assert_int_equal(check_cut(m, tail, 2, 4, 1), 840000);
    assert_int_equal(sx_engine_profile(m, 4, 1, NULL, 3, NULL, NULL, ns, spread, whole, NULL),
                     SX_OK);
    assert_true(whole[0] == 840000 && whole[1] == 0);
    for (int i = 0; i < 6; i++)
        assert_true(ns[i] == 140000 && spread[i] == 0);
    assert_true(tensor(graph_of(m), "s")->sample_bytes == 16);
    sx_engine_close_model(m);

    put_fake("cheap", "input x UINT8 1000\noutput y FP32 4\nchain 3 bytes=7\n");
    m = open_at(engine, path_of("cheap"));
    const struct sx_dag *dag = graph_of(m);
    assert_true(sx_dag_bytes(dag, 0, 4) == 1000);
    assert_true(sx_dag_bytes(dag, 1, 4) == 28);
    assert_true(sx_dag_bytes(dag, 3, 4) == 16);
    const uint32_t parts[] = {0, 1, 2};
    check_cut(m, parts, 3, 1, 1);
    sx_engine_close_model(m);

    put_fake("plain", "input x FP32 -1\noutput y FP32 -1\n");
    m = open_at(engine, path_of("plain"));
    graph_refused(m, "it has no line 'chain'");
    stage_refused(m, parts, 1, SX_UNSUPPORTED, "it has no line 'chain'");
    sx_engine_close_model(m);
}

static void test_fake_bad_chains(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "input x FP32\noutput y FP32\nchain",
        "input x FP32\noutput y FP32\nchain 0",
        "input x FP32\noutput y FP32\nchain 1.5",
        "input x FP32\noutput y FP32\nchain 1000001",
        "input x FP32\noutput y FP32\nchain bytes=1",
        "input x FP32\noutput y FP32\nchain 3 bytes=-1",
        "input x FP32\noutput y FP32\nchain 3 bytes=",
        "input x FP32\ninput z FP32\noutput y FP32\nchain 3",
        "input x BYTES -1\noutput y BYTES -1\nchain 3",
        "input x FP32 optional\noutput y FP32\nchain 3",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        put_fake("bad", bad[i]);
        open_refused(path_of("bad"), SX_INVALID, "bad.fake");
    }
}

static void test_fake_stage_failures(void **state)
{
    (void)state;
    const uint32_t nodes[] = {0, 1};
    const int64_t dims[] = {1, 4};
    struct sx_err err = {0};
    put_fake("fails", "input x FP32 -1 4\noutput y FP32 -1 4\nchain 2\nfail nth=2 value=13\n");
    struct sx_engine_model *m = open_at(engine, path_of("fails"));
    struct sx_engine_model *stage[] = {stage_of(m, nodes, 1), stage_of(m, nodes + 1, 1)};
    struct sx_session *s[] = {session_of(stage[0], 1), session_of(stage[1], 1)};
    struct sx_tensor x = floats(dims, 2, 0), t = {0}, y = {0};
    for (int i = 0; i < 3; i++) { /* the last operator counts */
        run_ok(s[0], &x, &t);
        assert_true(sx_tensor_equal(&x, &t));
        assert_int_equal(sx_session_run(s[1], &t, &y, NULL, &err), i == 1 ? SX_ENGINE : SX_OK);
        sx_tensor_unref(&t);
        sx_tensor_unref(&y);
    }
    ((float *)x.data)[1] = 13; /* the first one looks */
    assert_int_equal(sx_session_run(s[0], &x, &t, NULL, &err), SX_ENGINE);
    assert_null(t.data);
    run_ok(s[1], &x, &y);
    sx_tensor_unref(&y);
    sx_tensor_unref(&x);
    for (int i = 0; i < 2; i++) {
        sx_session_destroy(s[i]);
        sx_engine_close_model(stage[i]);
    }
    sx_engine_close_model(m);
}

static int setup(void **state)
{
    (void)state;
    if (make_cache())
        return 1;
    make_row();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CBOTH(test_row),        CBOTH(test_bad_stages),      CBOTH(test_stage_inputs),
        CBOTH(test_profile),    FAKE(test_profile),          CBOTH(test_profile_table),
        CFAKE(test_fake_chain), CFAKE(test_fake_bad_chains), CFAKE(test_fake_stage_failures),
    };
    return cmocka_run_group_tests(tests, setup, drop_dir);
}
