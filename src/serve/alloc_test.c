/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * After warm-up a request allocates nothing: not on arrival, not in a batch, not on its way out.
 *
 * This program counts every call of malloc and its kin, in itself and in the libraries.  Sanitizers
 * bring their own, so there is nothing to count under them: skipped.
 */
#include "base/memory_test.h"

#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "serve/server.h"

#ifndef SX_SANITIZED
static unsigned answered;

static void on_done(struct sx_request *r)
{
    answered += r->rc == SX_OK;
    sx_request_release(r);
}

static void ask(struct sx_server *server, struct sx_model *model)
{
    struct sx_request *r;
    const int64_t dims[] = {1, 4};
    assert_int_equal(sx_request_create(model, &r), SX_OK);
    assert_int_equal(sx_tensor_alloc(&r->inputs[0], sx_server_pool(server), SX_FP32, dims, 2),
                     SX_OK);
    memset(r->inputs[0].data, 0, r->inputs[0].nbytes);
    r->done = on_done;
    assert_int_equal(sx_server_infer(server, r, NULL), SX_OK);
}

static void round_of(struct sx_server *server, struct sx_model **models, int n)
{
    for (int i = 0; i < 50; i++)
        ask(server, models[i % n]);
    sx_exec_advance(sx_server_exec(server), SX_NEVER);
}

/* With several models the share decides, and plans anew as the rates are learnt. */
static void warm_requests_allocate_nothing(int n)
{
    static const char spec[] = "input x FP32 -1 4\noutput y FP32 -1 4\ntime base_us=800\n";
    char path[] = "/tmp/sx-alloc-test-XXXXXX.fake";
    close(mkstemps(path, 5));
    assert_int_equal(sx_file_write(path, spec, sizeof spec - 1, NULL), SX_OK);
    sx_log_set_level(SX_LOG_ERROR);
    struct sx_unit units[2] = {{.cpu = 0}, {.cpu = 1}};
    struct sx_machine machine = {.units = units, .n_units = 2};
    struct sx_engine_config ec = {.name = "fake", .virtual_time = true};
    struct sx_server_config sc = {.machine = &machine, .exec = SX_EXEC_VIRTUAL};
    struct sx_server *server;
    struct sx_model *models[3];
    assert_int_equal(sx_engine_create(&ec, &sc.engine, NULL), SX_OK);
    assert_int_equal(sx_server_create(&sc, &server, NULL), SX_OK);
    for (int i = 0; i < n; i++) {
        const char name[] = {(char)('a' + i), 0};
        assert_int_equal(sx_server_load(server, name, 1, path, NULL, NULL), SX_OK);
        assert_int_equal(sx_server_find(server, name, 1, 0, &models[i], NULL), SX_OK);
    }
    for (int i = 0; i < 25; i++) /* each model has been in as many jobs as it will be */
        round_of(server, models, n);
    answered = 0;
    long before = atomic_load(&memory_calls);
    for (int i = 0; i < 20; i++)
        round_of(server, models, n);
    assert_int_equal(answered, 1000);
    assert_int_equal(atomic_load(&memory_calls) - before, 0);
    for (int i = 0; i < n; i++)
        sx_model_unref(&models[i]);
    sx_server_destroy(server);
    sx_engine_destroy(sc.engine);
    unlink(path);
}

static void a_warm_request_allocates_nothing(void **state)
{
    (void)state;
    warm_requests_allocate_nothing(1);
}

static void nor_with_several_models(void **state)
{
    (void)state;
    warm_requests_allocate_nothing(3);
}
#else
static void a_warm_request_allocates_nothing(void **state)
{
    (void)state;
    skip();
}

static void nor_with_several_models(void **state)
{
    (void)state;
    skip();
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_warm_request_allocates_nothing),
                                       cmocka_unit_test(nor_with_several_models)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
