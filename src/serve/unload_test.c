/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * A model that leaves while it is asked: runs end, the queue is answered, memory is given back.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "serve/mix_fixture.h"
#include "serve/server_int.h"

#define TIME "base_us=8000 per_sample_us=2000 serial=0.25"

static void what_runs_ends_and_what_waits_is_told(void **unused)
{
    (void)unused;
    struct mix mix;
    enum { N = 40 };
    struct mix_slot s[N], other, after;
    struct sx_model *held, *found;
    struct sx_err err;
    mix_open(&mix, 2, NULL);
    mix_load(&mix, 0, TIME, 0, NULL);
    mix_load(&mix, 1, TIME, 0, NULL);
    mix_settle(&mix);
    for (int i = 0; i < N; i++)
        assert_int_equal(mix_submit(&mix, 0, &s[i], (float)i, 1, 0), SX_OK);
    mix_submit(&mix, 1, &other, 3, 1, 0);
    assert_int_equal(sx_server_find(mix.server, "m0", 2, 0, &held, &err), SX_OK);
    mix_advance(&mix, 1 * SX_MS);
    assert_int_equal(sx_server_unload(mix.server, "m0", 0, &err), SX_OK);
    int told = 0;
    for (int i = 0; i < N; i++) {
        told += s[i].answers;
        if (s[i].answers) {
            assert_int_equal(s[i].rc, SX_UNAVAILABLE);
            assert_non_null(strstr(s[i].message, "unloaded"));
        }
    }
    assert_true(told > 0 && told < N); /* some run */
    assert_int_equal(sx_server_find(mix.server, "m0", 2, 0, &found, &err), SX_NOT_FOUND);
    assert_int_equal(mix_submit(&mix, 0, &after, 1, 1, 0), SX_UNAVAILABLE);
    assert_non_null(strstr(after.message, "unloaded"));
    mix_finish(&mix);
    for (int i = 0; i < N; i++) {
        assert_int_equal(s[i].answers, 1);
        assert_true(s[i].rc == SX_OK || s[i].rc == SX_UNAVAILABLE);
    }
    assert_int_equal(other.rc, SX_OK);
    /* we still hold it: its name can be asked, its memory is there */
    assert_string_equal(sx_model_name(held), "m0");
    sx_model_unref(&mix.model[0]);
    assert_true(sx_list_empty(&mix.server->retired));
    sx_model_unref(&held);
    assert_false(sx_list_empty(&mix.server->retired));
    mix_finish(&mix);
    assert_true(sx_list_empty(&mix.server->retired));
    unlink(mix.path[0]);
    mix_load(&mix, 0, TIME, 0, NULL); /* the name is free again */
    assert_int_equal(mix_submit(&mix, 0, &after, 1, 1, 0), SX_OK);
    mix_finish(&mix);
    assert_int_equal(after.rc, SX_OK);
    mix_close(&mix);
}

static void what_is_not_there_cannot_be_unloaded(void **unused)
{
    (void)unused;
    struct mix mix;
    struct sx_err err;
    mix_open(&mix, 1, NULL);
    mix_load(&mix, 0, TIME, 0, NULL);
    assert_int_equal(sx_server_unload(mix.server, "x", 0, &err), SX_NOT_FOUND);
    assert_non_null(strstr(err.message, "'x'"));
    assert_int_equal(sx_server_unload(mix.server, "m0", 2, &err), SX_NOT_FOUND);
    assert_non_null(strstr(err.message, "version 2"));
    mix_close(&mix);
}

/* It is being measured, and nobody holds it. */
static void a_model_leaves_while_it_is_profiled(void **unused)
{
    (void)unused;
    struct mix mix;
    mix_open(&mix, 2, NULL);
    for (int round = 0; round < 5; round++) {
        mix_load(&mix, 0, TIME, 0, NULL);
        mix_load(&mix, 1, TIME, 0, NULL);
        mix_advance(&mix, 3 * SX_MS);
        mix_unload(&mix, (unsigned)round % 2);
        /* m0 is being measured: its run holds it */
        assert_true(sx_list_empty(&mix.server->retired) == (round % 2 == 0));
        mix_unload(&mix, 1 - (unsigned)round % 2);
        mix_finish(&mix);
        assert_true(sx_list_empty(&mix.server->retired));
    }
    mix_close(&mix);
}

/* --- with threads -------------------------------------------------------------------------------
 */

struct crowd {
    struct sx_server *server;
    atomic_bool stop;
    atomic_uint asked, refused, done, ok;
};

static void on_done(struct sx_request *r)
{
    struct crowd *c = r->user;
    unsigned ok = r->rc == SX_OK;
    sx_request_release(r);
    atomic_fetch_add(&c->ok, ok);
    atomic_fetch_add(&c->done, 1);
}

static void *ask(void *arg)
{
    struct crowd *c = arg;
    const int64_t dims[] = {1, 4};
    for (unsigned i = 0; !atomic_load(&c->stop); i++) {
        const char *name = i % 3 ? "stays" : "comes";
        struct sx_model *model;
        struct sx_request *r;
        if (sx_server_find(c->server, name, strlen(name), 0, &model, NULL))
            continue;
        if (sx_request_create(model, &r)) {
            sx_model_unref(&model);
            continue;
        }
        sx_model_unref(&model); /* the request holds it */
        if (!sx_tensor_alloc(&r->inputs[0], sx_server_pool(c->server), SX_FP32, dims, 2))
            memset(r->inputs[0].data, 0, r->inputs[0].nbytes);
        r->done = on_done;
        r->user = c;
        atomic_fetch_add(&c->asked, 1);
        if (sx_server_infer(c->server, r, NULL)) {
            atomic_fetch_add(&c->refused, 1);
            sx_request_release(r);
        }
        while (atomic_load(&c->asked) > atomic_load(&c->done) + atomic_load(&c->refused) + 64) {
            if (atomic_load(&c->stop))
                break;
            sched_yield();
        }
    }
    return NULL;
}

/* Loaded and unloaded again and again on StarPU's threads, while others ask for it. */
static void models_come_and_go_under_load(void **unused)
{
    (void)unused;
    static const char spec[] =
        "input x FP32 -1 4\noutput y FP32 -1 4\ntime base_us=200 per_sample_us=20 serial=0.25\n";
    char path[] = "/tmp/sx-unload-test-XXXXXX.fake";
    close(mkstemps(path, 5));
    assert_int_equal(sx_file_write(path, spec, sizeof spec - 1, NULL), SX_OK);
    sx_log_set_level(SX_LOG_ERROR);
    struct sx_machine *machine;
    struct sx_engine_config ec = {.name = "fake"};
    struct sx_server_config sc = {.exec = SX_EXEC_STARPU};
    struct crowd c = {0};
    pthread_t thread[2];
    assert_int_equal(sx_machine_detect(&machine, NULL), SX_OK);
    if (machine->n_units > 2)
        machine->n_units = 2;
    sc.machine = machine;
    assert_int_equal(sx_engine_create(&ec, &sc.engine, NULL), SX_OK);
    assert_int_equal(sx_server_create(&sc, &c.server, NULL), SX_OK);
    assert_int_equal(sx_server_load(c.server, "stays", 1, path, NULL, NULL), SX_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, ask, &c), 0);
    for (int round = 0; round < 40; round++) {
        assert_int_equal(sx_server_load(c.server, "comes", 1, path, NULL, NULL), SX_OK);
        unsigned until = atomic_load(&c.done) + 50;
        while (atomic_load(&c.done) < until)
            sched_yield();
        assert_int_equal(sx_server_unload(c.server, "comes", 1, NULL), SX_OK);
    }
    atomic_store(&c.stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(sx_server_drain(c.server, SX_NEVER), SX_OK);
    while (atomic_load(&c.done) + atomic_load(&c.refused) < atomic_load(&c.asked))
        sched_yield(); /* the last `done` may still be on its way */
    print_message("# %u asked while a model came and went 40 times: %u answered, %u refused\n",
                  atomic_load(&c.asked), atomic_load(&c.ok), atomic_load(&c.refused));
    sx_server_destroy(c.server);
    assert_int_equal(atomic_load(&c.done) + atomic_load(&c.refused), atomic_load(&c.asked));
    sx_engine_destroy(sc.engine);
    sx_machine_destroy(machine);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_runs_ends_and_what_waits_is_told),
        cmocka_unit_test(what_is_not_there_cannot_be_unloaded),
        cmocka_unit_test(a_model_leaves_while_it_is_profiled),
        cmocka_unit_test(models_come_and_go_under_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
