/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * Several devices in virtual time: a fake model that can be cut, a fast core and a slow one.
 */
#include <glob.h>
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

#include "base/file.h"
#include "base/log.h"
#include "base/rng.h"
#include "cost/profile.h"
#include "serve/server_int.h"

#define MS (SX_S / 1000)
#define CHAIN                                                                                      \
    "input x FP32 -1 4\noutput y FP32 -1 4\ntime base_us=0 per_sample_us=72000\nchain 72 "         \
    "bytes=64\n"
#define T_NS 72e6

struct fixture {
    char path[64];
    struct sx_engine *engine;
    struct sx_unit units[4];
    struct sx_device devices[4];
    struct sx_machine machine;
    struct sx_server *server;
    struct sx_model *model;
    unsigned answers, ok, failed;
    uint64_t last_ns, worst_ns, sum_ns;
    struct load *load;
};

/* A closed loop: each answer sends the next request. */
struct load {
    uint64_t until;
    uint64_t timeout_ns;
};

static void set_up(struct fixture *f, unsigned n, const double *slowdown, const char *spec,
                   struct sx_server_config extra)
{
    memset(f, 0, sizeof *f);
    sx_log_set_level(SX_LOG_ERROR);
    strcpy(f->path, "/tmp/sx-fleet-test-XXXXXX.fake");
    int fd = mkstemps(f->path, 5);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(sx_file_write(f->path, spec, strlen(spec), NULL), SX_OK);
    struct sx_err err = {0};
    struct sx_engine_config ec = {.name = "fake", .virtual_time = true};
    assert_int_equal(sx_engine_create(&ec, &f->engine, &err), SX_OK);
    strcpy(f->machine.id, "test");
    f->machine.units = f->units;
    f->machine.devices = f->devices;
    f->machine.n_units = f->machine.n_devices = n;
    for (unsigned u = 0; u < n; u++) {
        f->units[u].cpu = (int)u;
        f->devices[u] = (struct sx_device){
            .kind = "cpu", .first_unit = u, .n_units = 1, .slowdown = slowdown[u]};
        snprintf(f->devices[u].name, sizeof f->devices[u].name, "cpu:%u@%g", u, slowdown[u]);
    }
    extra.engine = f->engine;
    extra.machine = &f->machine;
    extra.exec = SX_EXEC_VIRTUAL;
    extra.trace_spans = 4096;
    assert_int_equal(sx_server_create(&extra, &f->server, &err), SX_OK);
    struct sx_config config;
    sx_config_init(&config);
    if (sx_server_load(f->server, "m", 1, f->path, &config, &err) != SX_OK)
        fail_msg("%s", err.message);
    sx_config_fini(&config);
    assert_int_equal(sx_server_find(f->server, "m", 1, 0, &f->model, &err), SX_OK);
    assert_true(sx_server_settled(f->server));
}

static void tear_down(struct fixture *f)
{
    sx_model_unref(&f->model);
    sx_server_destroy(f->server);
    sx_engine_destroy(f->engine);
    unlink(f->path);
}

static uint64_t now_of(struct fixture *f)
{
    return sx_clock_now(sx_exec_clock(sx_server_exec(f->server)));
}

static void run_until_idle(struct fixture *f)
{
    sx_exec_advance(sx_server_exec(f->server), SX_NEVER);
}

static enum sx_rc submit(struct fixture *f, float value, uint64_t timeout_ns,
                         struct sx_request **ret_request);

static void on_done(struct sx_request *r)
{
    struct fixture *f = r->user;
    f->answers++;
    if (r->rc) {
        f->failed++;
        assert_true(*r->err.message != '\0');
    } else {
        float x, y;
        memcpy(&x, r->inputs[0].data, sizeof x);
        memcpy(&y, r->outputs[0].data, sizeof y);
        assert_int_equal(r->outputs[0].nbytes, 4 * sizeof(float));
        assert_true(y == 2 * x + 1); /* what the whole model answers */
        f->ok++;
    }
    f->last_ns = now_of(f);
    uint64_t latency = f->last_ns - r->arrival_ns;
    f->sum_ns += latency;
    f->worst_ns = latency > f->worst_ns ? latency : f->worst_ns;
    sx_request_release(r);
    if (f->load && now_of(f) < f->load->until)
        submit(f, (float)f->answers, f->load->timeout_ns, NULL);
}

static enum sx_rc submit(struct fixture *f, float value, uint64_t timeout_ns,
                         struct sx_request **ret_request)
{
    struct sx_request *r;
    struct sx_err err = {0};
    int64_t dims[2] = {1, 4};
    assert_int_equal(sx_request_create(f->model, &r), SX_OK);
    assert_int_equal(sx_tensor_alloc(&r->inputs[0], sx_server_pool(f->server), SX_FP32, dims, 2),
                     SX_OK);
    for (unsigned i = 0; i < 4; i++)
        memcpy(r->inputs[0].data + i * sizeof value, &value, sizeof value);
    r->timeout_ns = timeout_ns;
    r->done = on_done;
    r->user = f;
    if (ret_request)
        *ret_request = r;
    enum sx_rc rc = sx_server_infer(f->server, r, &err);
    if (rc)
        sx_request_release(r);
    return rc;
}

/* Requests per second with `clients` that each wait for their answer. */
static double saturate(struct fixture *f, unsigned clients, double seconds)
{
    struct load load = {.until = now_of(f) + (uint64_t)(seconds * SX_S), .timeout_ns = 60 * SX_S};
    uint64_t begin = now_of(f);
    unsigned before = f->ok;
    f->load = &load;
    for (unsigned i = 0; i < clients; i++)
        assert_int_equal(submit(f, (float)i, load.timeout_ns, NULL), SX_OK);
    run_until_idle(f);
    f->load = NULL;
    return (f->ok - before) / ((double)(f->last_ns - begin) * 1e-9);
}

static void variants_are_planned(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 2, (double[]){1, 4}, CHAIN, (struct sx_server_config){0});
    struct sx_variant_info v[16];
    size_t n = sx_model_variants(f.model, v, 16);
    unsigned whole = 0, cut = 0;
    double best = 0;
    for (size_t i = 0; i < n; i++) {
        whole += v[i].n_stages == 1;
        if (v[i].n_stages == 1)
            continue;
        cut++;
        double slowest = 0;
        for (unsigned k = 0; k < v[i].n_stages; k++)
            slowest = v[i].predicted_ns[k] > slowest ? v[i].predicted_ns[k] : slowest;
        best = 1 / slowest > best ? 1 / slowest : best;
    }
    assert_int_equal(whole, 2);
    assert_true(cut >= 1);
    print_message("best cut %.3f of the ideal 1.25 times the fast device\n", best * T_NS);
    assert_true(best * T_NS > 1.15);
    tear_down(&f);
}

static void saturation_uses_all(void **state)
{
    (void)state;
    for (unsigned k = 2; k <= 8; k *= 2) {
        struct fixture f;
        set_up(&f, 2, (double[]){1, k}, CHAIN, (struct sx_server_config){0});
        double rate = saturate(&f, 16, 60), ideal = (1 + 1.0 / k) * 1e9 / T_NS;
        print_message("k = %u: %.2f/s, %.3f of the ideal\n", k, rate, rate / ideal);
        assert_true(rate >= 0.97 * ideal);
        assert_int_equal(f.failed, 0);
        tear_down(&f);
    }
}

static void alone_it_is_as_fast_as_the_fast_device(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 2, (double[]){1, 4}, CHAIN, (struct sx_server_config){0});
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(submit(&f, (float)i, 0, NULL), SX_OK);
        run_until_idle(&f);
    }
    assert_int_equal(f.ok, 20);
    assert_true((double)f.worst_ns <= 1.001 * T_NS);
    tear_down(&f);
}

static void slow_device_keeps_objectives(void **state)
{
    (void)state;
    struct fixture f;
    /* Whole on the slow device it can never be in time: nothing may be lost there. */
    set_up(&f, 2, (double[]){1, 8}, CHAIN, (struct sx_server_config){.whole_only = true});
    unsigned admitted = 0;
    for (unsigned i = 0; i < 6; i++)
        admitted += submit(&f, (float)i, 300 * MS, NULL) == SX_OK;
    run_until_idle(&f);
    assert_int_equal(admitted, 4); /* what the fast device can do in 300 ms */
    assert_int_equal(f.ok, admitted);
    assert_true(f.worst_ns <= 300 * MS);
    tear_down(&f);
    /* The greedy policy does not ask. */
    set_up(&f, 2, (double[]){1, 8}, CHAIN,
           (struct sx_server_config){.whole_only = true, .greedy = true});
    for (unsigned i = 0; i < 2; i++)
        submit(&f, (float)i, 0, NULL);
    run_until_idle(&f);
    assert_true((double)f.worst_ns >= 7.9 * T_NS);
    tear_down(&f);
}

/* Runs of five times their time made a device too slow for the objective; now it is well again, but
 * nothing has run there since. */
static void a_device_that_was_disturbed_is_used_again(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 2, (double[]){1, 1}, CHAIN, (struct sx_server_config){.whole_only = true});
    struct sx_variant *v = &f.model->variants[1];
    for (unsigned i = 0; i < 60; i++)
        sx_cost_record(&v->stages[0].cost, 1, 1, 5 * (uint64_t)T_NS);
    struct load load = {.until = now_of(&f) + 40 * SX_S, .timeout_ns = 300 * MS};
    f.load = &load;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(submit(&f, (float)i, load.timeout_ns, NULL), SX_OK);
    run_until_idle(&f);
    print_message("%u answers, %u of them from the device that was disturbed\n", f.ok,
                  (unsigned)v->runs);
    assert_true(v->runs > 100);
    assert_int_equal(f.failed, 0);
    tear_down(&f);
}

static void spans_do_not_overlap(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 3, (double[]){1, 2, 4}, CHAIN, (struct sx_server_config){0});
    saturate(&f, 12, 10);
    struct sx_span *spans = calloc(4096, sizeof *spans);
    size_t n = sx_server_trace(f.server, spans, 4096);
    assert_true(n > 100);
    for (size_t i = 0; i < n; i++) {
        assert_true(spans[i].end_ns > spans[i].begin_ns);
        for (size_t j = 0; j < n; j++) {
            if (j == i)
                continue;
            bool apart =
                spans[j].begin_ns >= spans[i].end_ns || spans[i].begin_ns >= spans[j].end_ns;
            if (spans[i].device == spans[j].device)
                assert_true(apart);
            if (spans[i].job == spans[j].job && spans[i].stage < spans[j].stage)
                assert_true(spans[j].begin_ns >= spans[i].end_ns);
        }
    }
    free(spans);
    tear_down(&f);
}

static void failure_is_answered_once(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 2, (double[]){1, 2}, CHAIN "fail value=3\n", (struct sx_server_config){0});
    for (unsigned i = 0; i < 30; i++)
        assert_int_equal(submit(&f, (float)(i % 6), 0, NULL), SX_OK);
    run_until_idle(&f);
    assert_int_equal(f.answers, 30);
    assert_int_equal(f.failed, 5);
    assert_int_equal(f.ok, 25);
    tear_down(&f);
}

static void clients_leave(void **state)
{
    (void)state;
    struct fixture f;
    struct sx_rng rng;
    sx_rng_init(&rng, 7);
    set_up(&f, 2, (double[]){1, 3}, CHAIN, (struct sx_server_config){0});
    for (unsigned round = 0; round < 40; round++) {
        struct sx_request *r[8];
        unsigned answers = f.answers;
        for (unsigned i = 0; i < 8; i++)
            assert_int_equal(submit(&f, (float)i, 0, &r[i]), SX_OK);
        /* nobody was answered yet, so all are still the server's */
        for (unsigned i = 0; i < 8; i++)
            if (sx_rng_below(&rng, 2))
                sx_server_cancel(f.server, r[i]);
        run_until_idle(&f);
        assert_int_equal(f.answers, answers + 8);
    }
    tear_down(&f);
}

static void drain_answers_what_was_admitted(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 2, (double[]){1, 2}, CHAIN, (struct sx_server_config){0});
    for (unsigned i = 0; i < 12; i++)
        assert_int_equal(submit(&f, (float)i, 0, NULL), SX_OK);
    assert_int_equal(sx_server_drain(f.server, SX_NEVER), SX_OK);
    assert_int_equal(f.ok, 12);
    assert_int_equal(submit(&f, 1, 0, NULL), SX_UNAVAILABLE);
    tear_down(&f);
}

static void a_model_without_graph_is_served_whole(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 2, (double[]){1, 2},
           "input x FP32 -1 4\noutput y FP32 -1 4\ntime base_us=0 per_sample_us=10000\n",
           (struct sx_server_config){0});
    struct sx_variant_info v[16];
    assert_int_equal(sx_model_variants(f.model, v, 16), 2);
    double rate = saturate(&f, 8, 20);
    assert_true(rate > 0.97 * 150);
    tear_down(&f);
}

/* It can be planned, but the engine refuses the stages. */
static void a_model_whose_stages_are_refused_is_served_whole(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 2, (double[]){1, 2}, CHAIN "fail stage\n", (struct sx_server_config){0});
    struct sx_variant_info v[16];
    assert_int_equal(sx_model_variants(f.model, v, 16), 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(v[i].n_stages, 1);
        assert_string_equal(v[i].name, i ? "whole on cpu:1@2" : "whole on cpu:0@1");
    }
    double rate = saturate(&f, 8, 20);
    assert_true(rate > 0.97 * 1.5e9 / T_NS);
    assert_int_equal(f.failed, 0);
    tear_down(&f);
}

/* Servers that started from the same wrong profile each put the measured time into it; none takes
 * the others' corrections for its own. */
static void servers_that_share_a_profile_correct_it_once(void **state)
{
    (void)state;
    char dir[] = "/tmp/sx-fleet-cache-XXXXXX", pattern[64];
    assert_non_null(mkdtemp(dir));
    struct sx_server_config config = {.cache_dir = dir};
    struct fixture f[3];
    set_up(&f[0], 2, (double[]){1, 4}, CHAIN, config);
    tear_down(&f[0]);
    glob_t found;
    snprintf(pattern, sizeof pattern, "%s/profiles/*.json", dir);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, 1);
    const char *path = found.gl_pathv[0];
    struct sx_profile profile = {0};
    struct sx_err err = {0};
    if (sx_profile_load(path, NULL, &profile, &err))
        fail_msg("%s", err.message);
    struct sx_profile_table wrong = profile.tables[0];
    double nodes[128];
    assert_in_range(profile.key.n_nodes, 1, 128);
    for (uint32_t n = 0; n < profile.key.n_nodes; n++)
        nodes[n] = 1.5 * wrong.node_ns[n];
    wrong.node_ns = nodes;
    wrong.whole_ns *= 1.5;
    assert_int_equal(sx_profile_put(&profile, &wrong, NULL), SX_OK);
    assert_int_equal(sx_profile_save(&profile, path, NULL), SX_OK);
    sx_profile_fini(&profile);

    for (unsigned i = 0; i < 3; i++)
        set_up(&f[i], 2, (double[]){1, 4}, CHAIN, (config.whole_only = true, config));
    for (unsigned i = 0; i < 3; i++)
        saturate(&f[i], 8, 20);
    for (unsigned i = 0; i < 3; i++) {
        tear_down(&f[i]);
        assert_int_equal(sx_profile_load(path, NULL, &profile, NULL), SX_OK);
        print_message("after server %u: %.1f ms\n", i, profile.tables[0].whole_ns * 1e-6);
        assert_true(fabs(profile.tables[0].whole_ns / T_NS - 1) < 0.03);
        sx_profile_fini(&profile);
    }
    unlink(path);
    globfree(&found);
    snprintf(pattern, sizeof pattern, "%s/profiles", dir);
    rmdir(pattern);
    rmdir(dir);
}

static void too_many_devices_are_refused(void **unused)
{
    (void)unused;
    enum { N = 17 };
    struct sx_unit units[N] = {0};
    struct sx_device devices[N];
    for (unsigned d = 0; d < N; d++)
        devices[d] = (struct sx_device){
            .name = "cpu", .kind = "cpu", .first_unit = d, .n_units = 1, .slowdown = 1};
    struct sx_machine machine = {.units = units, .n_units = N, .devices = devices, .n_devices = N};
    struct sx_server_config config = {.machine = &machine, .exec = SX_EXEC_VIRTUAL};
    struct sx_server *server = NULL;
    struct sx_err err = {0};
    assert_int_equal(sx_server_create(&config, &server, &err), SX_UNSUPPORTED);
    assert_non_null(strstr(err.message, "17 devices, at most 16"));
    assert_non_null(strstr(err.hint, "cpu:0-3"));
    assert_null(server);
    machine.n_units = machine.n_devices = N - 1;
    assert_int_equal(sx_server_create(&config, &server, &err), SX_OK);
    sx_server_destroy(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(variants_are_planned),
        cmocka_unit_test(servers_that_share_a_profile_correct_it_once),
        cmocka_unit_test(saturation_uses_all),
        cmocka_unit_test(alone_it_is_as_fast_as_the_fast_device),
        cmocka_unit_test(slow_device_keeps_objectives),
        cmocka_unit_test(a_device_that_was_disturbed_is_used_again),
        cmocka_unit_test(spans_do_not_overlap),
        cmocka_unit_test(failure_is_answered_once),
        cmocka_unit_test(clients_leave),
        cmocka_unit_test(drain_answers_what_was_admitted),
        cmocka_unit_test(a_model_without_graph_is_served_whole),
        cmocka_unit_test(a_model_whose_stages_are_refused_is_served_whole),
        cmocka_unit_test(too_many_devices_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
