/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_test.c - a model is configured, loaded and asked while memory is short.
 */
#include "base/memory_test.h"

#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "serve/server.h"

static char model[] = "/tmp/staronnx-memory-XXXXXX.fake";

static int setup(void **state)
{
    static const char spec[] = "input x FP32 -1 4\noutput y FP32 -1 4\ntime base_us=800\n";
    (void)state;
    sx_log_set_level(SX_LOG_ERROR);
    int fd = mkstemps(model, 5);
    if (fd < 0)
        return -1;
    close(fd);
    return sx_file_write(model, spec, sizeof spec - 1, NULL) ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    return unlink(model);
}

static const char config_text[] =
    "name: \"m\"\nbackend: \"onnxruntime\"\nmax_batch_size: 8\n"
    "input [ { name: \"x\" data_type: TYPE_FP32 dims: [ 4 ] } ]\n"
    "output [ { name: \"y\" data_type: TYPE_FP32 dims: [ 4 ] } ]\n"
    "version_policy { specific { versions: [ 1, 2 ] } }\n"
    "dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }\n"
    "parameters { key: \"objective_ms\" value { string_value: \"50\" } }\n";

static enum sx_rc read_config(void)
{
    struct sx_err err = {0};
    struct sx_config config;
    enum sx_rc rc = sx_config_parse(config_text, sizeof config_text - 1, "m", &config, &err);
    sx_config_fini(&config);
    return rc;
}

static unsigned asked, answered;
static enum sx_rc outcome;

static void on_done(struct sx_request *r)
{
    answered++;
    if (r->rc)
        outcome = r->rc;
    sx_request_release(r);
}

static enum sx_rc ask(struct sx_server *server, struct sx_model *m)
{
    static const int64_t dims[] = {1, 4};
    struct sx_err err = {0};
    struct sx_request *r;
    enum sx_rc rc = sx_request_create(m, &r);
    if (rc)
        return rc;
    rc = sx_tensor_alloc(&r->inputs[0], sx_server_pool(server), SX_FP32, dims, 2);
    if (!rc) {
        memset(r->inputs[0].data, 0, r->inputs[0].nbytes);
        r->done = on_done;
        rc = sx_server_infer(server, r, &err);
    }
    if (rc)
        sx_request_release(r);
    else
        asked++;
    return rc;
}

/* Whatever fails, each request that was taken is answered once. */
static enum sx_rc serve_requests(void)
{
    struct sx_err err = {0};
    struct sx_unit units[2] = {{.cpu = 0}, {.cpu = 1}};
    struct sx_machine machine = {.units = units, .n_units = 2};
    struct sx_engine_config ec = {.name = "fake", .virtual_time = true};
    struct sx_server_config sc = {.machine = &machine, .exec = SX_EXEC_VIRTUAL};
    struct sx_server *server = NULL;
    struct sx_model *m = NULL;
    asked = answered = 0;
    outcome = SX_OK;
    enum sx_rc rc = sx_engine_create(&ec, &sc.engine, &err);
    if (rc)
        return rc;
    rc = sx_server_create(&sc, &server, &err);
    if (!rc)
        rc = sx_server_load(server, "m", 1, model, NULL, &err);
    if (!rc)
        rc = sx_server_find(server, "m", 1, 0, &m, &err);
    for (int i = 0; i < 6 && !rc; i++)
        rc = ask(server, m);
    if (server && asked)
        sx_exec_advance(sx_server_exec(server), SX_NEVER);
    assert_int_equal(answered, asked);
    sx_model_unref(&m);
    sx_server_destroy(server);
    sx_engine_destroy(sc.engine);
    return rc ? rc : outcome;
}

int main(void)
{
    const struct CMUnitTest tests[] = {SWEEP(read_config), SWEEP(serve_requests)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
