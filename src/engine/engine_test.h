/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_test.h - what the tests of the engines share: a directory with models, an engine under
 * test, tensors.  Only tests include it, after cmocka.h.
 */
#ifndef SX_ENGINE_ENGINE_TEST_H
#define SX_ENGINE_ENGINE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/engine.h"
#include "graph/model_test.h"

static char dir[] = "/tmp/sx-engine-XXXXXX";
static const char *which; /* the engine under test */
static struct sx_engine *engine;
static struct sx_pool *pool;

static inline const char *path_of(const char *name)
{
    static char path[2][128];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s.%s", dir, name,
             !strcmp(which, "ort") ? "onnx" : "fake");
    return path[turn];
}

static inline void put_fake(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s.fake", dir, name);
    mk_put(path, text, strlen(text));
}

static inline void put_onnx(struct mk *mk, const char *name)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s.onnx", dir, name);
    mk_write(mk, path);
    mk_end(mk);
}

static inline struct sx_engine *engine_with(const char *name, const char *cache, bool virtual_time)
{
    struct sx_engine_config config = {
        .name = name, .cache_dir = cache, .machine_id = "test", .virtual_time = virtual_time};
    struct sx_engine *e = NULL;
    struct sx_err err = {0};
    if (sx_engine_create(&config, &e, &err))
        fail_msg("%s", err.message);
    return e;
}

static inline int setup_engine(const char *name)
{
    which = name;
    engine = engine_with(name, NULL, false);
    return 0;
}

static inline int setup_ort(void **state)
{
    (void)state;
    return setup_engine("ort");
}

static inline int setup_fake(void **state)
{
    (void)state;
    return setup_engine("fake");
}

static inline int drop_engine(void **state)
{
    (void)state;
    sx_engine_destroy(engine);
    engine = NULL;
    return 0;
}

static inline struct sx_engine_model *open_at(struct sx_engine *e, const char *path)
{
    struct sx_engine_model *m = NULL;
    struct sx_err err = {0};
    if (sx_engine_open_model(e, path, &m, &err))
        fail_msg("%s", err.message);
    return m;
}

static inline struct sx_session *session_of(struct sx_engine_model *m, unsigned width)
{
    struct sx_session *s = NULL;
    struct sx_err err = {0};
    if (sx_session_create(m, width, NULL, &s, &err))
        fail_msg("%s", err.message);
    assert_non_null(s);
    return s;
}

static inline struct sx_tensor floats(const int64_t *dims, int rank, float first)
{
    struct sx_tensor t = {0};
    assert_int_equal(sx_tensor_alloc(&t, pool, SX_FP32, dims, rank), SX_OK);
    for (size_t i = 0; i < t.nbytes / 4; i++)
        ((float *)t.data)[i] = first + (float)i;
    return t;
}

static inline void run_ok(struct sx_session *s, const struct sx_tensor *in, struct sx_tensor *out)
{
    struct sx_err err = {0};
    if (sx_session_run(s, in, out, NULL, &err))
        fail_msg("%s", err.message);
}

static inline void open_refused(const char *path, enum sx_rc rc, const char *words)
{
    struct sx_engine_model *m = NULL;
    struct sx_err err = {0};
    enum sx_rc got = sx_engine_open_model(engine, path, &m, &err);
    if (got != rc || !strstr(err.message, words))
        fail_msg("expected %d '%s', got %d '%s'", rc, words, got, err.message);
    assert_null(m);
}

static inline int make_dir(void)
{
    return !mkdtemp(dir) || sx_pool_create(&pool);
}

static inline int drop_dir(void **state)
{
    (void)state;
    sx_pool_destroy(pool);
    return (int)sx_dir_remove(dir, NULL);
}

#define ORT(f)  {"ort: " #f, f, setup_ort, drop_engine, NULL}
#define FAKE(f) {"fake: " #f, f, setup_fake, drop_engine, NULL}
#define BOTH(f) ORT(f), FAKE(f)

#endif
