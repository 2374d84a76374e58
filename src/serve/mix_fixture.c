/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "serve/mix_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

void mix_open(struct mix *mix, unsigned units, const char *policy)
{
    memset(mix, 0, sizeof *mix);
    sx_log_set_level(SX_LOG_ERROR);
    struct sx_err err = {0};
    struct sx_engine_config ec = {.name = "fake", .virtual_time = true};
    assert_int_equal(sx_engine_create(&ec, &mix->engine, &err), SX_OK);
    mix->machine.units = mix->units;
    mix->machine.n_units = units;
    for (unsigned u = 0; u < units; u++)
        mix->units[u].cpu = (int)u;
    struct sx_server_config config = {
        .engine = mix->engine, .machine = &mix->machine, .exec = SX_EXEC_VIRTUAL, .policy = policy};
    if (sx_server_create(&config, &mix->server, &err))
        fail_msg("%s", err.message);
}

void mix_load(struct mix *mix, unsigned i, const char *time, double objective_ms, const char *more)
{
    char spec[512], text[1024], name[8];
    struct sx_err err = {0};
    struct sx_config config;
    snprintf(spec, sizeof spec, "input x FP32 -1 4\noutput y FP32 -1 4\ntime %s\n", time);
    strcpy(mix->path[i], "/tmp/sx-mix-test-XXXXXX.fake");
    int fd = mkstemps(mix->path[i], 5);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(sx_file_write(mix->path[i], spec, strlen(spec), NULL), SX_OK);
    int n = snprintf(text, sizeof text, "max_batch_size: 8 dynamic_batching { }\n%s\n",
                     more ? more : "");
    if (objective_ms > 0)
        snprintf(text + n, sizeof text - (size_t)n,
                 "parameters { key: \"objective_ms\" value { string_value: \"%g\" } }\n",
                 objective_ms);
    if (sx_config_parse(text, strlen(text), "test", &config, &err))
        fail_msg("%s", err.message);
    snprintf(name, sizeof name, "m%u", i);
    if (sx_server_load(mix->server, name, 1, mix->path[i], &config, &err))
        fail_msg("%s", err.message);
    sx_config_fini(&config);
    assert_int_equal(sx_server_find(mix->server, name, strlen(name), 0, &mix->model[i], &err),
                     SX_OK);
}

void mix_unload(struct mix *mix, unsigned i)
{
    char name[8];
    struct sx_err err;
    snprintf(name, sizeof name, "m%u", i);
    if (sx_server_unload(mix->server, name, 1, &err))
        fail_msg("%s", err.message);
    sx_model_unref(&mix->model[i]);
    unlink(mix->path[i]);
}

void mix_settle(struct mix *mix)
{
    mix_finish(mix);
    assert_true(sx_server_settled(mix->server));
}

void mix_close(struct mix *mix)
{
    for (unsigned i = 0; i < MIX_MODELS; i++) {
        if (!mix->model[i])
            continue;
        sx_model_unref(&mix->model[i]);
        unlink(mix->path[i]);
    }
    sx_server_destroy(mix->server);
    sx_engine_destroy(mix->engine);
}

uint64_t mix_now(struct mix *mix)
{
    return sx_clock_now(sx_exec_clock(sx_server_exec(mix->server)));
}

void mix_advance(struct mix *mix, uint64_t by)
{
    sx_exec_advance(sx_server_exec(mix->server), mix_now(mix) + by);
}

void mix_finish(struct mix *mix)
{
    sx_exec_advance(sx_server_exec(mix->server), SX_NEVER);
}

static void on_done(struct sx_request *r)
{
    struct mix_slot *slot = r->user;
    slot->answers++;
    slot->rc = r->rc;
    slot->start = r->start_ns;
    slot->end = mix_now(slot->mix);
    slot->batch = r->batch;
    slot->width = r->width;
    if (r->rc)
        snprintf(slot->message, sizeof slot->message, "%s", r->err.message);
    for (size_t i = 0; !r->rc && i < r->outputs[0].nbytes / sizeof(float); i++) {
        float y;
        memcpy(&y, r->outputs[0].data + i * sizeof y, sizeof y);
        assert_true(y == 2 * slot->value + 1);
    }
    slot->request = NULL;
    sx_request_release(r);
}

enum sx_rc mix_submit(struct mix *mix, unsigned i, struct mix_slot *slot, float value,
                      int64_t samples, uint64_t timeout_ns)
{
    struct sx_request *r;
    struct sx_err err = {0};
    memset(slot, 0, sizeof *slot);
    slot->mix = mix;
    slot->value = value;
    slot->samples = (unsigned)samples;
    slot->arrival = mix_now(mix);
    assert_int_equal(sx_request_create(mix->model[i], &r), SX_OK);
    int64_t dims[] = {samples, 4};
    assert_int_equal(sx_tensor_alloc(&r->inputs[0], sx_server_pool(mix->server), SX_FP32, dims, 2),
                     SX_OK);
    for (int64_t k = 0; k < 4 * samples; k++)
        memcpy(r->inputs[0].data + k * (int64_t)sizeof value, &value, sizeof value);
    r->timeout_ns = timeout_ns;
    r->done = on_done;
    r->user = slot;
    slot->request = r;
    enum sx_rc rc = sx_server_infer(mix->server, r, &err);
    if (rc) {
        slot->request = NULL;
        slot->rc = rc;
        snprintf(slot->message, sizeof slot->message, "%s", err.message);
        sx_request_release(r);
    }
    return rc;
}
