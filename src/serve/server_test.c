/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole life of requests in virtual time: fake engine, virtual executor, no threads, so every
 * interleaving here is exact and repeatable.
 */
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
#include "serve/server_int.h"

#define DEADLINE_NONE 0

struct fixture {
    char path[64];
    struct sx_engine *engine;
    struct sx_unit units[8];
    struct sx_machine machine;
    struct sx_server *server;
    struct sx_model *model;
    uint64_t way_ns; /* of requests */
};

static void set_up(struct fixture *f, unsigned units, const char *spec, const char *config_text,
                   struct sx_server_config extra)
{
    memset(f, 0, sizeof *f);
    sx_log_set_level(SX_LOG_ERROR);
    strcpy(f->path, "/tmp/sx-server-test-XXXXXX.fake");
    int fd = mkstemps(f->path, 5);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(sx_file_write(f->path, spec, strlen(spec), NULL), SX_OK);
    struct sx_err err = {0};
    struct sx_engine_config ec = {.name = "fake", .virtual_time = true};
    assert_int_equal(sx_engine_create(&ec, &f->engine, &err), SX_OK);
    f->machine.units = f->units;
    f->machine.n_units = units;
    for (unsigned u = 0; u < units; u++)
        f->units[u].cpu = (int)u;
    extra.engine = f->engine;
    extra.machine = &f->machine;
    extra.exec = SX_EXEC_VIRTUAL;
    assert_int_equal(sx_server_create(&extra, &f->server, &err), SX_OK);
    struct sx_config config;
    sx_config_init(&config);
    if (config_text &&
        sx_config_parse(config_text, strlen(config_text), "test", &config, &err) != SX_OK)
        fail_msg("%s", err.message);
    if (sx_server_load(f->server, "m", 1, f->path, &config, &err) != SX_OK)
        fail_msg("%s", err.message);
    sx_config_fini(&config);
    assert_int_equal(sx_server_find(f->server, "m", 1, 0, &f->model, &err), SX_OK);
    sx_exec_advance(sx_server_exec(f->server), SX_NEVER); /* profiling */
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

static void advance(struct fixture *f, uint64_t by)
{
    sx_exec_advance(sx_server_exec(f->server), now_of(f) + by);
}

/* What became of one request. */
struct slot {
    struct fixture *f;
    struct sx_request *request;
    float value;
    int answers;
    enum sx_rc rc;
    uint64_t arrival, latency;
    unsigned batch, width;
};

static void on_done(struct sx_request *r)
{
    struct slot *slot = r->user;
    slot->answers++;
    slot->rc = r->rc;
    slot->latency = now_of(slot->f) - slot->arrival;
    slot->batch = r->batch;
    slot->width = r->width;
    if (!r->rc) { /* the fake engine answers 2x + 1: rows must not be mixed up */
        assert_int_equal(r->outputs[0].nbytes % sizeof(float), 0);
        for (size_t i = 0; i < r->outputs[0].nbytes / sizeof(float); i++) {
            float y;
            memcpy(&y, r->outputs[0].data + i * sizeof y, sizeof y);
            assert_true(y == 2 * slot->value + 1);
        }
    }
    slot->request = NULL;
    sx_request_release(r);
}

static enum sx_rc submit(struct fixture *f, struct slot *slot, float value, int64_t samples,
                         uint64_t timeout_ns, uint32_t priority, struct sx_err *err)
{
    memset(slot, 0, sizeof *slot);
    slot->f = f;
    slot->value = value;
    slot->arrival = now_of(f);
    struct sx_request *r;
    assert_int_equal(sx_request_create(f->model, &r), SX_OK);
    int64_t dims[] = {samples, 4};
    assert_int_equal(sx_tensor_alloc(&r->inputs[0], sx_server_pool(f->server), SX_FP32, dims, 2),
                     SX_OK);
    for (int64_t i = 0; i < 4 * samples; i++)
        memcpy(r->inputs[0].data + i * (int64_t)sizeof value, &value, sizeof value);
    r->timeout_ns = timeout_ns;
    r->way_ns = f->way_ns;
    r->priority = priority;
    r->done = on_done;
    r->user = slot;
    slot->request = r;
    enum sx_rc rc = sx_server_infer(f->server, r, err);
    if (rc) {
        slot->request = NULL;
        slot->rc = rc;
        sx_request_release(r);
    }
    return rc;
}

/* 10 ms for a sample alone; each further one 2 ms; two cores are 1.6 times as fast as one. */
#define SPEC                                                                                       \
    "input x FP32 -1 4\noutput y FP32 -1 4\ntime base_us=8000 per_sample_us=2000 serial=0.25\n"
#define BATCH8 "max_batch_size: 8 dynamic_batching { }"

/* Weights that are read from the disk in the model's first run are not what it costs. */
static void the_first_run_of_all_is_not_measured(void **unused)
{
    (void)unused;
    struct fixture f;
    set_up(&f, 2, "input x FP32 -1 4\noutput y FP32 -1 4\ntime base_us=44000 cold=15\n", BATCH8,
           (struct sx_server_config){0});
    struct sx_cost_cell cells[64];
    size_t n = sx_model_costs(f.model, cells, 64);
    assert_true(n > 1);
    for (size_t i = 0; i < n; i++)
        assert_true(cells[i].ns < 45e6);
    tear_down(&f);
}

static void a_lone_request_takes_all_cores(void **unused)
{
    (void)unused;
    struct fixture f;
    set_up(&f, 2, SPEC, BATCH8, (struct sx_server_config){0});
    struct slot s;
    assert_int_equal(submit(&f, &s, 3, 1, DEADLINE_NONE, 0, NULL), SX_OK);
    assert_int_equal(s.answers, 0);
    advance(&f, 100 * SX_MS);
    assert_int_equal(s.answers, 1);
    assert_int_equal(s.rc, SX_OK);
    assert_int_equal(s.width, 2);
    assert_int_equal(s.latency, 6250 * SX_US);
    tear_down(&f);
}

static void many_requests_share_batches_on_one_core_each(void **unused)
{
    (void)unused;
    struct fixture f;
    enum { N = 64 };
    set_up(&f, 2, SPEC, BATCH8, (struct sx_server_config){0});
    struct slot s[N];
    for (int i = 0; i < N; i++)
        assert_int_equal(submit(&f, &s[i], (float)i, 1, DEADLINE_NONE, 0, NULL), SX_OK);
    sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
    unsigned full = 0;
    for (int i = 0; i < N; i++) {
        assert_int_equal(s[i].answers, 1);
        assert_int_equal(s[i].rc, SX_OK);
        full += s[i].batch == 8 && s[i].width == 1;
    }
    assert_true(full >= 40);
    struct sx_model_stats *st = malloc(sizeof *st);
    sx_model_get_stats(f.model, st);
    assert_int_equal(st->success, N);
    assert_int_equal(st->samples, N);
    assert_true(st->executions < N / 4);
    free(st);
    tear_down(&f);
}

static void requests_of_several_samples_stay_whole(void **unused)
{
    (void)unused;
    struct fixture f;
    enum { N = 40 };
    set_up(&f, 2, SPEC, BATCH8, (struct sx_server_config){0});
    struct slot s[N];
    for (int i = 0; i < N; i++)
        assert_int_equal(submit(&f, &s[i], (float)i, 1 + i % 8, DEADLINE_NONE, 0, NULL), SX_OK);
    sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
    for (int i = 0; i < N; i++) {
        assert_int_equal(s[i].answers, 1);
        assert_int_equal(s[i].rc, SX_OK);
        assert_true(s[i].batch >= (unsigned)(1 + i % 8) && s[i].batch <= 8);
    }
    tear_down(&f);
}

static void a_full_queue_refuses(void **unused)
{
    (void)unused;
    struct fixture f;
    set_up(&f, 1, SPEC,
           "max_batch_size: 1 parameters { key: \"max_queue_size\" value { string_value: \"3\" } }",
           (struct sx_server_config){0});
    struct slot s[10];
    struct sx_err err;
    int refused = 0;
    for (int i = 0; i < 10; i++) {
        if (submit(&f, &s[i], 1, 1, DEADLINE_NONE, 0, &err) == SX_UNAVAILABLE) {
            refused++;
            assert_non_null(strstr(err.message, "Exceeds maximum queue size"));
        }
    }
    assert_int_equal(refused, 6); /* one runs, three wait */
    sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
    for (int i = 0; i < 10; i++)
        assert_int_equal(s[i].answers, s[i].rc == SX_OK);
    tear_down(&f);
}

static void what_would_be_late_is_refused_at_the_door(void **unused)
{
    (void)unused;
    struct fixture f;
    set_up(&f, 1, SPEC, "max_batch_size: 1", (struct sx_server_config){0});
    struct slot s[10];
    struct sx_err err;
    int ok = 0;
    for (int i = 0; i < 10; i++)
        ok += submit(&f, &s[i], 1, 1, 35 * SX_MS, 0, &err) == SX_OK;
    assert_int_equal(ok, 3); /* 10, 20, 30 ms; the fourth would take 40 */
    assert_non_null(strstr(err.message, "Request timeout expired"));
    sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
    for (int i = 0; i < ok; i++)
        assert_true(s[i].answers == 1 && s[i].rc == SX_OK && s[i].latency <= 35 * SX_MS);
    tear_down(&f);
}

/* 46 ms on one core, 30 on two, 45 to be in time: at this load a lone request would run on one. */
static void a_lone_request_gets_the_cores_that_its_deadline_needs(void **unused)
{
    (void)unused;
    struct fixture f;
    enum { N = 500 };
    set_up(&f, 2, "input x FP32 -1 4\noutput y FP32 -1 4\ntime base_us=46000 serial=0.3043\n",
           "max_batch_size: 1 parameters { key: \"objective_ms\" value { string_value: \"50\" } }",
           (struct sx_server_config){0});
    struct slot *s = calloc(N, sizeof *s);
    struct sx_rng rng;
    sx_rng_init(&rng, 9);
    for (int i = 0; i < N; i++) {
        submit(&f, &s[i], (float)i, 1, DEADLINE_NONE, 0, NULL);
        advance(&f, (uint64_t)sx_rng_exponential(&rng, 46e6 / 2 / 0.4));
    }
    sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
    int good = 0, expired = 0;
    for (int i = 0; i < N; i++) {
        good += s[i].rc == SX_OK && s[i].latency <= 50 * SX_MS;
        expired += s[i].rc == SX_DEADLINE;
    }
    print_message("# %d of %d in time, %d expired\n", good, N, expired);
    assert_int_equal(expired, 0);
    assert_true(good > N / 2);
    free(s);
    tear_down(&f);
}

/* Run times vary, and in doubt a request gives its place to another: but there is none. */
static void what_was_admitted_runs_if_nothing_else_waits(void **unused)
{
    (void)unused;
    struct fixture f;
    struct slot s;
    set_up(&f, 1,
           "input x FP32 -1 4\noutput y FP32 -1 4\ntime base_us=40000 slow=1.2 slow_over=1000\n",
           "max_batch_size: 1", (struct sx_server_config){0});
    for (int i = 0; i < 40; i++) {
        assert_int_equal(submit(&f, &s, i % 2 ? 2000.0f : 0, 1, DEADLINE_NONE, 0, NULL), SX_OK);
        advance(&f, 100 * SX_MS);
    }
    double mean = sx_cost_ns(&f.model->cost, 1, 0),
           spread = sx_cost_spread_ns(&f.model->cost, 1, 0);
    assert_true(spread > 1e6);
    uint64_t timeout = (uint64_t)((mean + spread / 2) / 0.9); /* less the reserve */
    assert_int_equal(submit(&f, &s, 0, 1, timeout, 0, NULL), SX_OK);
    advance(&f, 100 * SX_MS);
    assert_int_equal(s.rc, SX_OK);
    tear_down(&f);
}

/* Where answers wait for a core before they are sent, runs must end earlier: by twice as much, as
 * requests wait as well, but by a fifth of the time at most. */
static void slow_ways_leave_less_time(void **unused)
{
    (void)unused;
    /* Two in a row take 16 ms: which timeout has room for them? */
    static const struct {
        uint64_t way_us, timeout_us;
    } cases[] = {{0, 17778}, {500, 17778}, {1000, 18000}, {1500, 19000}, {50000, 20000}};
    struct fixture f;
    struct slot first, second;
    set_up(&f, 1, "input x FP32 -1 4\noutput y FP32 -1 4\ntime base_us=8000\n", "max_batch_size: 1",
           (struct sx_server_config){0});
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        uint64_t timeout = cases[i / 2].timeout_us * SX_US;
        f.way_ns = cases[i / 2].way_us * SX_US;
        timeout = i % 2 ? timeout + 50 * SX_US : timeout - 50 * SX_US;
        assert_int_equal(submit(&f, &first, 1, 1, DEADLINE_NONE, 0, NULL), SX_OK);
        assert_int_equal(submit(&f, &second, 1, 1, timeout, 0, NULL),
                         i % 2 ? SX_OK : SX_UNAVAILABLE);
        advance(&f, 100 * SX_MS);
    }
    tear_down(&f);
}

static void a_lone_request_does_not_wait_itself_late(void **unused)
{
    (void)unused;
    struct fixture f;
    struct slot s;
    set_up(&f, 1, SPEC,
           "max_batch_size: 8 dynamic_batching { preferred_batch_size: [ 2 ] "
           "max_queue_delay_microseconds: 20000 } parameters { key: \"objective_ms\" value { "
           "string_value: \"25\" } }",
           (struct sx_server_config){0});
    for (int i = 0; i < 10; i++) {
        assert_int_equal(submit(&f, &s, 1, 1, DEADLINE_NONE, 0, NULL), SX_OK);
        advance(&f, 200 * SX_MS);
        assert_int_equal(s.rc, SX_OK);
        assert_in_range(s.latency, 15 * SX_MS, 25 * SX_MS);
    }
    tear_down(&f);
    /* and not for company that it cannot share a run with */
    set_up(&f, 1, SPEC,
           "max_batch_size: 0 dynamic_batching { preferred_batch_size: [ 4 ] "
           "max_queue_delay_microseconds: 20000 }",
           (struct sx_server_config){0});
    assert_int_equal(submit(&f, &s, 1, 1, DEADLINE_NONE, 0, NULL), SX_OK);
    advance(&f, 200 * SX_MS);
    assert_int_equal(s.rc, SX_OK);
    assert_int_equal(s.latency, 10 * SX_MS);
    tear_down(&f);
}

static void priority_goes_first_and_the_deadline_is_kept(void **unused)
{
    (void)unused;
    struct fixture f;
    set_up(&f, 1, SPEC, "max_batch_size: 1", (struct sx_server_config){0});
    struct slot first, low, high;
    submit(&f, &first, 1, 1, DEADLINE_NONE, 0, NULL);
    submit(&f, &low, 1, 1, DEADLINE_NONE, 0, NULL);
    submit(&f, &high, 1, 1, DEADLINE_NONE, 1, NULL);
    sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
    assert_int_equal(high.latency, 20 * SX_MS);
    assert_int_equal(low.latency, 30 * SX_MS);
    /* admitted, then overtaken: it is told as soon as it is clear that it cannot end in time */
    submit(&f, &first, 1, 1, DEADLINE_NONE, 0, NULL);
    assert_int_equal(submit(&f, &low, 1, 1, 25 * SX_MS, 0, NULL), SX_OK);
    submit(&f, &high, 1, 1, DEADLINE_NONE, 1, NULL);
    advance(&f, 24 * SX_MS);
    assert_int_equal(low.answers, 1);
    assert_int_equal(low.rc, SX_DEADLINE);
    sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
    assert_int_equal(low.answers, 1);
    tear_down(&f);
}

static void levels_of_priority_are_the_configs(void **unused)
{
    (void)unused;
    struct fixture f;
    set_up(&f, 1, SPEC,
           "max_batch_size: 1 dynamic_batching { priority_levels: 3 default_priority_level: 2 }",
           (struct sx_server_config){0});
    struct slot first, s[4];
    static const uint32_t priority[] = {3, 0, 9, 1};
    static const uint64_t latency[] = {50, 30, 40, 20};
    submit(&f, &first, 1, 1, DEADLINE_NONE, 0, NULL);
    for (int i = 0; i < 4; i++)
        submit(&f, &s[i], 1, 1, DEADLINE_NONE, priority[i], NULL);
    sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
    for (int i = 0; i < 4; i++)
        assert_int_equal(s[i].latency, latency[i] * SX_MS);
    tear_down(&f);
}

/* What the file says more narrowly than the model is what requests must have, and tells enough to
 * measure the model while idle. */
static void dims_of_the_config_hold(void **unused)
{
    (void)unused;
    struct fixture f;
    set_up(&f, 1, "input x FP32 -1 -1\noutput y FP32 -1 -1\ntime base_us=1000\n",
           "max_batch_size: 8 input { name: 'x' dims: 4 } output { name: 'y' dims: 4 }",
           (struct sx_server_config){0});
    const struct sx_port *p;
    struct sx_cost_cell cell;
    struct sx_err err;
    struct slot s;
    sx_model_inputs(f.model, &p);
    assert_int_equal(p[0].dims[1], 4);
    sx_model_outputs(f.model, &p);
    assert_int_equal(p[0].dims[1], 4);
    assert_false(f.model->varies);
    assert_true(sx_model_costs(f.model, &cell, 1) > 1);
    assert_int_equal(submit(&f, &s, 1, 2, DEADLINE_NONE, 0, NULL), SX_OK);
    sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
    assert_int_equal(s.rc, SX_OK);
    struct sx_request *r;
    int64_t wrong[] = {1, 5};
    assert_int_equal(sx_request_create(f.model, &r), SX_OK);
    assert_int_equal(sx_tensor_alloc(&r->inputs[0], sx_server_pool(f.server), SX_FP32, wrong, 2),
                     SX_OK);
    assert_int_equal(sx_server_infer(f.server, r, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "got [1,5], expected [-1,4]"));
    sx_request_release(r);
    tear_down(&f);
}

/* Behind others of a higher priority, a deadline still ends the wait. */
static void a_deadline_behind_a_higher_priority_is_kept(void **unused)
{
    (void)unused;
    struct fixture f;
    set_up(&f, 1, SPEC, "max_batch_size: 1", (struct sx_server_config){0});
    struct slot low, high[12];
    submit(&f, &high[0], 1, 1, DEADLINE_NONE, 1, NULL);
    assert_int_equal(submit(&f, &low, 1, 1, 50 * SX_MS, 2, NULL), SX_OK);
    for (int i = 1; i < 12; i++)
        submit(&f, &high[i], 1, 1, DEADLINE_NONE, 1, NULL);
    advance(&f, 50 * SX_MS);
    assert_int_equal(low.answers, 1);
    assert_int_equal(low.rc, SX_DEADLINE);
    assert_true(low.latency <= 50 * SX_MS);
    sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
    for (int i = 0; i < 12; i++)
        assert_int_equal(high[i].rc, SX_OK);
    tear_down(&f);
}

static void cancelled_requests_cost_nothing_and_are_answered_once(void **unused)
{
    (void)unused;
    struct fixture f;
    set_up(&f, 1, SPEC, "max_batch_size: 1", (struct sx_server_config){0});
    struct slot a, b, c;
    submit(&f, &a, 1, 1, DEADLINE_NONE, 0, NULL);
    submit(&f, &b, 2, 1, DEADLINE_NONE, 0, NULL);
    submit(&f, &c, 3, 1, DEADLINE_NONE, 0, NULL);
    sx_server_cancel(f.server, b.request); /* waits */
    assert_int_equal(b.answers, 1);
    assert_int_equal(b.rc, SX_CANCELLED);
    sx_server_cancel(f.server, a.request); /* runs */
    assert_int_equal(a.answers, 0);
    sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
    assert_int_equal(a.answers, 1);
    assert_int_equal(a.rc, SX_CANCELLED);
    assert_int_equal(c.rc, SX_OK);
    assert_int_equal(c.latency, 20 * SX_MS); /* b took no time */
    tear_down(&f);
}

static void wrong_inputs_are_named(void **unused)
{
    (void)unused;
    struct fixture f;
    set_up(&f, 1, SPEC, BATCH8, (struct sx_server_config){0});
    struct sx_request *r;
    struct sx_err err;
    assert_int_equal(sx_request_create(f.model, &r), SX_OK);
    assert_int_equal(sx_server_infer(f.server, r, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "missing input 'x'"));
    int64_t wrong[] = {1, 5}, many[] = {9, 4}, none[] = {0, 4};
    struct sx_pool *pool = sx_server_pool(f.server);
    sx_tensor_alloc(&r->inputs[0], pool, SX_FP32, wrong, 2);
    assert_int_equal(sx_server_infer(f.server, r, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "[1,5]"));
    sx_tensor_unref(&r->inputs[0]);
    sx_tensor_alloc(&r->inputs[0], pool, SX_FP32, many, 2);
    assert_int_equal(sx_server_infer(f.server, r, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "batch size 9"));
    sx_tensor_unref(&r->inputs[0]);
    sx_tensor_alloc(&r->inputs[0], pool, SX_FP32, none, 2);
    assert_int_equal(sx_server_infer(f.server, r, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "a batch of 0 samples"));
    sx_tensor_unref(&r->inputs[0]);
    sx_tensor_alloc(&r->inputs[0], pool, SX_INT32, many, 2);
    assert_int_equal(sx_server_infer(f.server, r, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "INT32"));
    sx_request_release(r);
    tear_down(&f);
}

static void a_failing_run_fails_its_batch_alone(void **unused)
{
    (void)unused;
    struct fixture f;
    set_up(&f, 1, SPEC "fail nth=2\n", "max_batch_size: 1",
           (struct sx_server_config){.no_profiling = true});
    struct slot s[3];
    /* a failed run is tried once more without given outputs, so the second request succeeds
     * after all only if the engine does; nth=2 fails once */
    for (int i = 0; i < 3; i++)
        submit(&f, &s[i], (float)i, 1, DEADLINE_NONE, 0, NULL);
    sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
    for (int i = 0; i < 3; i++)
        assert_int_equal(s[i].answers, 1);
    assert_int_equal(s[0].rc, SX_OK);
    assert_int_equal(s[2].rc, SX_OK);
    tear_down(&f);

    set_up(&f, 1, SPEC "fail value=7\n", BATCH8, (struct sx_server_config){.no_profiling = true});
    submit(&f, &s[0], 7, 1, DEADLINE_NONE, 0, NULL);
    submit(&f, &s[1], 1, 1, DEADLINE_NONE, 0, NULL);
    sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
    assert_int_equal(s[0].rc, SX_ENGINE);
    assert_int_equal(s[1].rc, SX_OK);
    tear_down(&f);
}

/* One unit: a request that keeps it until 10 ms, then five that share a batch, which fails after
 * another 18 ms as the second of them has the value 7. */
static void start_a_failing_batch(struct fixture *f, struct slot *s)
{
    set_up(f, 1, SPEC "fail value=7\n", BATCH8, (struct sx_server_config){0});
    for (int i = 0; i < 6; i++) {
        uint64_t timeout = i == 4 ? 40 * SX_MS : DEADLINE_NONE;
        assert_int_equal(submit(f, &s[i], i == 2 ? 7 : (float)i, 1, timeout, 0, NULL), SX_OK);
    }
    advance(f, 20 * SX_MS);
    assert_int_equal(s[0].answers, 1);
    assert_int_equal(s[1].answers + s[2].answers + s[3].answers + s[4].answers + s[5].answers, 0);
}

static void a_bad_value_fails_its_own_request_alone(void **unused)
{
    (void)unused;
    struct fixture f;
    struct slot s[6], more[2];
    start_a_failing_batch(&f, s);
    sx_server_cancel(f.server, s[3].request); /* it runs */
    sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
    static const enum sx_rc expected[] = {SX_OK,        SX_OK,       SX_ENGINE,
                                          SX_CANCELLED, SX_DEADLINE, SX_OK};
    for (int i = 0; i < 6; i++) {
        assert_int_equal(s[i].answers, 1);
        assert_int_equal(s[i].rc, expected[i]);
        if (s[i].rc == SX_OK)
            assert_int_equal(s[i].batch, 1);
    }
    struct sx_model_stats *st = malloc(sizeof *st);
    sx_model_get_stats(f.model, st);
    assert_int_equal(st->success, 3);
    assert_int_equal(st->failed, 1);
    assert_int_equal(st->cancelled, 1);
    assert_int_equal(st->expired, 1);
    assert_int_equal(st->pending + st->running, 0);
    assert_int_equal(st->executions, 1 + 1 + 3);
    free(st);
    /* the next ones share batches again */
    submit(&f, &s[0], 0, 1, DEADLINE_NONE, 0, NULL);
    submit(&f, &more[0], 1, 1, DEADLINE_NONE, 0, NULL);
    submit(&f, &more[1], 2, 1, DEADLINE_NONE, 0, NULL);
    sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
    assert_true(more[0].rc == SX_OK && more[0].batch == 2);
    tear_down(&f);
}

static void a_failed_batch_of_an_unloaded_model_is_answered(void **unused)
{
    (void)unused;
    struct fixture f;
    struct slot s[6];
    start_a_failing_batch(&f, s);
    assert_int_equal(sx_server_unload(f.server, "m", 0, NULL), SX_OK);
    sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
    for (int i = 1; i < 6; i++)
        assert_true(s[i].answers == 1 && s[i].rc == SX_UNAVAILABLE);
    assert_int_equal(sx_server_drain(f.server, SX_NEVER), SX_OK);
    tear_down(&f);
}

/* Looks like a batch, but without the optional input the second output has no row. */
#define LOOSE                                                                                      \
    "input x FP32 -1 4\ninput k FP32 -1 4 optional\noutput y FP32 -1 4\noutput z FP32 -1 4\n"      \
    "time base_us=8000 per_sample_us=2000\n"

/* Six at once: the largest batch in which one was answered, and how many were answered with `rc`.
 * Until the first run is over, nobody looks whether it was a batch. */
static int six(struct fixture *f, enum sx_rc rc, bool assumed, unsigned *ret_batch)
{
    struct slot s[6];
    int answered = 0;
    *ret_batch = 0;
    f->model->config.batching_assumed = false;
    for (int i = 0; i < 6; i++)
        submit(f, &s[i], (float)i, 1, DEADLINE_NONE, 0, NULL);
    advance(f, 11 * SX_MS);
    assert_int_equal(s[0].answers, 1);
    f->model->config.batching_assumed = assumed;
    sx_exec_advance(sx_server_exec(f->server), SX_NEVER);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(s[i].answers, 1);
        answered += s[i].rc == rc;
        *ret_batch = s[i].batch > *ret_batch ? s[i].batch : *ret_batch;
    }
    return answered;
}

static void a_batch_that_was_only_assumed_is_given_up(void **unused)
{
    (void)unused;
    struct fixture f;
    struct slot s;
    unsigned batch;
    struct sx_model_stats *st = malloc(sizeof *st);
    /* found by a run of one request */
    set_up(&f, 1, LOOSE, NULL, (struct sx_server_config){.no_profiling = true});
    submit(&f, &s, 0, 4, DEADLINE_NONE, 0, NULL); /* of one client, whole: it has what it asked */
    sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
    assert_true(s.rc == SX_OK && s.batch == 4);
    assert_int_equal(f.model->sched.max_batch, 1);
    assert_int_equal(six(&f, SX_OK, true, &batch), 6);
    assert_int_equal(batch, 1);
    tear_down(&f);
    /* found while idle: no batch has ever run for requests */
    set_up(&f, 1, LOOSE, NULL, (struct sx_server_config){0});
    assert_int_equal(six(&f, SX_OK, true, &batch), 6);
    sx_model_get_stats(f.model, st);
    assert_int_equal(st->n_batches, 1);
    assert_int_equal(st->batches[0].batch, 1);
    tear_down(&f);
    /* found by a batch of several requests: each is run again */
    set_up(&f, 1, LOOSE, BATCH8, (struct sx_server_config){0}); /* it knows that batches pay */
    assert_int_equal(six(&f, SX_OK, true, &batch), 6);
    sx_model_get_stats(f.model, st);
    assert_true(st->n_batches == 2 && st->batches[1].batch > 1);
    assert_int_equal(batch, 1);
    tear_down(&f);
    /* said: the author is told */
    set_up(&f, 1, LOOSE, BATCH8, (struct sx_server_config){0});
    assert_int_equal(six(&f, SX_ENGINE, false, &batch), 5);
    tear_down(&f);
    free(st);
}

/* A failed run is tried again where the outputs' shapes were declared, as they may be wrong; not
 * where nothing was declared. */
static void only_declared_outputs_excuse_a_failed_run(void **unused)
{
    (void)unused;
    static const struct {
        const char *spec;
        enum sx_rc rc;
    } cases[] = {{"input x FP32 -1 4\noutput y FP32 -1 4\nfail nth=1\n", SX_OK},
                 {"input x FP32 -1 4\noutput y FP32 -1 -1\nfail nth=1\n", SX_ENGINE}};
    for (int i = 0; i < 2; i++) {
        struct fixture f;
        struct slot s;
        set_up(&f, 1, cases[i].spec, BATCH8, (struct sx_server_config){.no_profiling = true});
        submit(&f, &s, 1, 1, DEADLINE_NONE, 0, NULL);
        sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
        assert_int_equal(s.rc, cases[i].rc);
        tear_down(&f);
    }
}

static void a_stopping_server_answers_what_it_took(void **unused)
{
    (void)unused;
    struct fixture f;
    set_up(&f, 2, SPEC, BATCH8, (struct sx_server_config){0});
    struct slot s[20], late;
    for (int i = 0; i < 20; i++)
        assert_int_equal(submit(&f, &s[i], (float)i, 1, DEADLINE_NONE, 0, NULL), SX_OK);
    assert_int_equal(sx_server_drain(f.server, SX_NEVER), SX_OK);
    for (int i = 0; i < 20; i++)
        assert_true(s[i].answers == 1 && s[i].rc == SX_OK);
    assert_int_equal(submit(&f, &late, 1, 1, DEADLINE_NONE, 0, NULL), SX_UNAVAILABLE);
    assert_false(sx_server_ready(f.server));
    tear_down(&f);
}

/* Three times the capacity: goodput stays at the capacity and nothing answered is late. */
static void overload_keeps_the_objective(void **unused)
{
    (void)unused;
    struct fixture f;
    set_up(&f, 2, SPEC,
           "max_batch_size: 8 dynamic_batching { } parameters { key: \"objective_ms\" value { "
           "string_value: \"100\" } }",
           (struct sx_server_config){0});
    enum { N = 6000 };
    double capacity = 2 * 8 / 0.024; /* two cores, eight samples in 24 ms */
    struct slot *s = calloc(N, sizeof *s);
    struct sx_rng rng;
    sx_rng_init(&rng, 5);
    uint64_t began = now_of(&f);
    for (int i = 0; i < N; i++) {
        submit(&f, &s[i], (float)i, 1, DEADLINE_NONE, 0, NULL);
        advance(&f, (uint64_t)sx_rng_exponential(&rng, 1e9 / (3 * capacity)));
    }
    double seconds = (double)(now_of(&f) - began) * 1e-9;
    sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
    int good = 0, late = 0, lost = 0;
    for (int i = 0; i < N; i++) {
        lost += s[i].rc == SX_OK && s[i].answers != 1;
        good += s[i].rc == SX_OK && s[i].latency <= 100 * SX_MS;
        late += s[i].rc == SX_OK && s[i].latency > 100 * SX_MS;
    }
    print_message("# goodput %.3f of capacity, %d late, %d lost\n", good / seconds / capacity, late,
                  lost);
    assert_int_equal(lost, 0);
    assert_int_equal(late, 0);
    assert_true(good / seconds > 0.95 * capacity);
    free(s);
    tear_down(&f);
}

/* Random submits, cancels and time: each request is answered exactly once, whatever happens. */
static void exactly_once_whatever_happens(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct fixture f;
        struct sx_rng rng;
        sx_rng_init(&rng, seed);
        set_up(&f, 1 + (unsigned)sx_rng_below(&rng, 4), SPEC "fail value=13\n",
               seed % 2
                   ? BATCH8
                   : "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 3000 }",
               (struct sx_server_config){.default_max_queue = 20});
        enum { N = 400 };
        struct slot *s = calloc(N, sizeof *s);
        int expected = 0;
        for (int i = 0; i < N; i++) {
            uint64_t timeout = sx_rng_below(&rng, 3) ? 0 : sx_rng_below(&rng, 60) * SX_MS;
            submit(&f, &s[i], (float)sx_rng_below(&rng, 40), 1 + (int64_t)sx_rng_below(&rng, 3),
                   timeout, (uint32_t)sx_rng_below(&rng, 3), NULL);
            if (!sx_rng_below(&rng, 10)) {
                int victim = (int)sx_rng_below(&rng, (uint64_t)i + 1);
                if (s[victim].request)
                    sx_server_cancel(f.server, s[victim].request);
            }
            if (sx_rng_below(&rng, 4))
                advance(&f, sx_rng_below(&rng, 8 * SX_MS));
        }
        assert_int_equal(sx_server_drain(f.server, SX_NEVER), SX_OK);
        struct sx_model_stats *st = malloc(sizeof *st);
        sx_model_get_stats(f.model, st);
        for (int i = 0; i < N; i++) {
            assert_null(s[i].request);
            assert_true(s[i].answers <= 1);
            expected += s[i].answers;
        }
        assert_int_equal(st->pending, 0);
        assert_int_equal(st->running, 0);
        assert_int_equal(st->success + st->expired + st->cancelled + st->failed, expected);
        assert_int_equal(st->rejected + st->invalid + (uint64_t)expected, N);
        free(st);
        free(s);
        tear_down(&f);
    }
}

/* A request of [1, rows, columns]; it is checked. */
static struct sx_request *shaped(struct fixture *f, int64_t rows, int64_t columns)
{
    struct sx_request *r;
    int64_t dims[] = {1, rows, columns};
    assert_int_equal(sx_request_create(f->model, &r), SX_OK);
    assert_int_equal(sx_tensor_alloc(&r->inputs[0], sx_server_pool(f->server), SX_FP32, dims, 3),
                     SX_OK);
    assert_int_equal(sx_request_check(r, NULL), SX_OK);
    return r;
}

/* Whoever knows the hash of shapes can make one that collides: an empty tensor's last dimension
 * can be anything. */
static void shapes_that_collide_do_not_share_a_batch(void **unused)
{
    (void)unused;
    struct fixture f;
    set_up(&f, 1, "input x FP32 -1 -1 -1\noutput y FP32 -1 -1 -1\ntime base_us=1000\n", BATCH8,
           (struct sx_server_config){0});
    const uint64_t factor = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t inverse = factor; /* Newton: each step doubles the bits that are right */
    for (int i = 0; i < 6; i++)
        inverse *= 2 - factor * inverse;
    struct sx_request *empty = shaped(&f, 0, 1), *victim = NULL, *twin = NULL;
    uint64_t before = (UINT64_C(5) * factor) * factor; /* of rank 3 and no rows */
    before ^= UINT64_C(5) * factor >> 29;
    int collisions = 0;
    for (int64_t columns = 1; columns <= 64; columns++) {
        sx_request_release(victim);
        victim = shaped(&f, 2, columns);
        uint64_t last = before ^ ((victim->shape_class ^ (before >> 29)) * inverse);
        if (last > INT64_MAX)
            continue;
        sx_request_release(twin);
        twin = shaped(&f, 0, (int64_t)last);
        if (twin->shape_class != victim->shape_class)
            fail_msg("the hash is another one now: mend the attack");
        collisions++;
        assert_false(sx_request_same_shape(twin, victim));
        assert_false(sx_request_same_shape(twin, empty));
        struct sx_request *same = shaped(&f, 2, columns);
        assert_true(sx_request_same_shape(same, victim));
        sx_request_release(same);
    }
    assert_true(collisions > 10);
    sx_request_release(empty);
    sx_request_release(victim);
    sx_request_release(twin);
    tear_down(&f);
}

/* The picture of the queue after a crowd has left. */
static void those_who_left_refuse_nobody(void **unused)
{
    (void)unused;
    struct fixture f;
    enum { N = 40 };
    set_up(&f, 1, SPEC, "max_batch_size: 1", (struct sx_server_config){0});
    struct slot s[N + 1];
    for (int i = 0; i < N; i++)
        assert_int_equal(submit(&f, &s[i], 1, 1, DEADLINE_NONE, 0, NULL), SX_OK);
    struct slot refused;
    assert_int_equal(submit(&f, &refused, 1, 1, 50 * SX_MS, 0, NULL), SX_UNAVAILABLE);
    for (int i = 1; i < N; i++) /* the first one runs */
        sx_server_cancel(f.server, s[i].request);
    assert_int_equal(submit(&f, &s[N], 1, 1, 50 * SX_MS, 0, NULL), SX_OK);
    sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
    assert_int_equal(s[N].rc, SX_OK);
    tear_down(&f);
}

/* Requests whose shapes vary do not share a batch, but wait for each other all the same. */
static void a_queue_of_many_shapes_is_seen_whole(void **unused)
{
    (void)unused;
    struct fixture f;
    set_up(&f, 1, "input x FP32 -1 -1 -1\noutput y FP32 -1 -1 -1\ntime base_us=10000\n", BATCH8,
           (struct sx_server_config){0});
    int admitted = 0;
    struct slot s[64];
    for (int i = 0; i < 64; i++) {
        struct sx_request *r = shaped(&f, 1, i + 1);
        memset(&s[i], 0, sizeof s[i]);
        s[i].f = &f;
        memset(r->inputs[0].data, 0, r->inputs[0].nbytes);
        r->timeout_ns = 200 * SX_MS;
        r->done = on_done;
        r->user = &s[i];
        if (i == 0) { /* it has to be learnt first */
            assert_int_equal(sx_server_infer(f.server, r, NULL), SX_OK);
            sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
        } else if (sx_server_infer(f.server, r, NULL)) {
            sx_request_release(r);
        } else {
            admitted++;
        }
    }
    assert_in_range(admitted, 15, 20); /* 10 ms each, 200 less the reserve */
    sx_exec_advance(sx_server_exec(f.server), SX_NEVER);
    for (int i = 1; i < 64; i++)
        assert_true(!s[i].answers || s[i].rc == SX_OK); /* what was admitted is in time */
    tear_down(&f);
}

static void bytes_must_fit_the_shape(void **unused)
{
    (void)unused;
    struct fixture f;
    set_up(&f, 1, SPEC, BATCH8, (struct sx_server_config){0});
    struct sx_request *r;
    int64_t dims[] = {1, 4};
    struct sx_err err = {0};
    assert_int_equal(sx_request_create(f.model, &r), SX_OK);
    assert_int_equal(sx_tensor_alloc(&r->inputs[0], sx_server_pool(f.server), SX_FP32, dims, 2),
                     SX_OK);
    r->inputs[0].dims[0] = 2;
    assert_int_equal(sx_request_check(r, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "16 bytes, which do not fit shape [2,4]"));
    sx_request_release(r);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_run_of_all_is_not_measured),
        cmocka_unit_test(a_lone_request_takes_all_cores),
        cmocka_unit_test(many_requests_share_batches_on_one_core_each),
        cmocka_unit_test(requests_of_several_samples_stay_whole),
        cmocka_unit_test(a_full_queue_refuses),
        cmocka_unit_test(what_would_be_late_is_refused_at_the_door),
        cmocka_unit_test(a_lone_request_gets_the_cores_that_its_deadline_needs),
        cmocka_unit_test(what_was_admitted_runs_if_nothing_else_waits),
        cmocka_unit_test(slow_ways_leave_less_time),
        cmocka_unit_test(a_lone_request_does_not_wait_itself_late),
        cmocka_unit_test(priority_goes_first_and_the_deadline_is_kept),
        cmocka_unit_test(levels_of_priority_are_the_configs),
        cmocka_unit_test(dims_of_the_config_hold),
        cmocka_unit_test(a_deadline_behind_a_higher_priority_is_kept),
        cmocka_unit_test(cancelled_requests_cost_nothing_and_are_answered_once),
        cmocka_unit_test(wrong_inputs_are_named),
        cmocka_unit_test(a_failing_run_fails_its_batch_alone),
        cmocka_unit_test(a_bad_value_fails_its_own_request_alone),
        cmocka_unit_test(a_failed_batch_of_an_unloaded_model_is_answered),
        cmocka_unit_test(a_batch_that_was_only_assumed_is_given_up),
        cmocka_unit_test(only_declared_outputs_excuse_a_failed_run),
        cmocka_unit_test(a_stopping_server_answers_what_it_took),
        cmocka_unit_test(overload_keeps_the_objective),
        cmocka_unit_test(exactly_once_whatever_happens),
        cmocka_unit_test(shapes_that_collide_do_not_share_a_batch),
        cmocka_unit_test(those_who_left_refuse_nobody),
        cmocka_unit_test(a_queue_of_many_shapes_is_seen_whole),
        cmocka_unit_test(bytes_must_fit_the_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
