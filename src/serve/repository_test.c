/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * repository_test.c - directories in, calls of sx_server_load out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/sbuf.h"
#include "serve/server.h"

static char root[] = "/tmp/sx-repository-XXXXXX";

/* The server: writes down what it is asked. */
struct sx_server {
    struct sx_sbuf log;
};

enum sx_rc sx_server_load(struct sx_server *server, const char *name, int64_t version,
                          const char *path, const struct sx_config *config, struct sx_err *err)
{
    if (strcmp(name, "broken") == 0)
        return sx_fail(err, SX_INVALID, "truncated file");
    const char *tail = path + sizeof root; /* below the root, whose name is random */
    sx_sbuf_printf(&server->log, "%s/%lld %s %lld; ", name, (long long)version, tail,
                   (long long)config->max_batch_size);
    return SX_OK;
}

void sx_server_note_failure(struct sx_server *server, const char *name, int64_t version,
                            const char *reason); /* of server_int.h, which defines sx_server */
void sx_server_note_failure(struct sx_server *server, const char *name, int64_t version,
                            const char *reason)
{
    sx_sbuf_printf(&server->log, "%s/%lld failed: %.40s; ", name, (long long)version, reason);
}

static void put(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof(full), "%s/%s", root, path);
    *strrchr(full, '/') = '\0';
    assert_int_equal(sx_dir_create(full, NULL), SX_OK);
    snprintf(full, sizeof(full), "%s/%s", root, path);
    assert_int_equal(sx_file_write(full, text, strlen(text), NULL), SX_OK);
}

static int setup(void **state)
{
    (void)state;
    sx_log_set_level(SX_LOG_ERROR);
    put("a/1/model.onnx", "x"); /* highest only */
    put("a/3/model.onnx", "x");
    put("a/03/model.onnx", "x");
    put("a/notes/model.onnx", "x");
    put("all/config.pbtxt", "max_batch_size: 7 version_policy { all { } }");
    put("all/1/model.onnx", "x");
    put("all/2/model.onnx", "x");
    put("broken/1/model.onnx", "x");
    put("config/1/model.onnx", "x");
    put("config/config.pbtxt", "max_batch_size: many");
    put("dir/1/model.onnx/model.onnx", "x");
    put("empty/config.pbtxt", "");
    put("file/config.pbtxt", "default_model_filename: 'other.onnx'");
    put("file/1/other.onnx", "x");
    put("misnamed/config.pbtxt", "name: 'named'");
    put("misnamed/1/model.onnx", "x");
    put("nofile/1/readme", "x");
    put("none/config.pbtxt", "version_policy { specific { versions: 9 } }");
    put("none/1/model.onnx", "x");
    put("README.md", "x");
    put("scripts/x.sh", "x");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return sx_dir_remove(root, NULL) ? -1 : 0;
}

static void test_load(void **state)
{
    (void)state;
    struct sx_server server = {0};
    unsigned loaded = 0, failed = 0;
    assert_int_equal(sx_server_load_repository(&server, root, &loaded, &failed, NULL), SX_OK);
    char *log = server.log.data;
    static const char *const lines[] = {
        "a/3 a/3/model.onnx 0; ",
        "all/2 all/2/model.onnx 7; all/1 all/1/model.onnx 7; ",
        "broken/1 failed: truncated file; ",
        "config/0 failed: ",
        "dir/1 dir/1/model.onnx/model.onnx 0; ",
        "empty/0 failed: there is no version directory in",
        "file/1 file/1/other.onnx 0; ",
        "misnamed/0 failed: ",
        "nofile/1 failed: there is no file",
        "none/0 failed: version_policy selects none of the 1",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
        log = strstr(log, lines[i]);
        if (!log)
            fail_msg("'%s' is not in '%s'", lines[i], server.log.data);
    }
    assert_null(strstr(server.log.data, "a/1 "));
    assert_null(strstr(server.log.data, "scripts"));
    assert_int_equal(loaded, 5);
    assert_int_equal(failed, 6);
    sx_sbuf_free(&server.log);
}

static void test_no_repository(void **state)
{
    (void)state;
    struct sx_server server = {0};
    struct sx_err err;
    unsigned loaded, failed;
    char path[512];
    assert_int_equal(sx_server_load_repository(&server, "/nonexistent", &loaded, &failed, &err),
                     SX_NOT_FOUND);
    assert_string_equal(err.message, "'/nonexistent' is not a directory");
    snprintf(path, sizeof(path), "%s/README.md", root);
    assert_int_equal(sx_server_load_repository(&server, path, &loaded, &failed, &err),
                     SX_NOT_FOUND);
    assert_non_null(strstr(err.hint, "argument"));
    snprintf(path, sizeof(path), "%s/scripts", root);
    assert_int_equal(sx_server_load_repository(&server, path, &loaded, &failed, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "is not a model repository"));
    assert_non_null(strstr(err.hint, "/NAME/1/model.onnx"));
    snprintf(path, sizeof(path), "%s/a", root);
    assert_int_equal(sx_server_load_repository(&server, path, &loaded, &failed, &err), SX_INVALID);
    assert_non_null(strstr(err.hint, "the directory above"));
    sx_sbuf_free(&server.log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_no_repository),
    };
    return mkdtemp(root) ? cmocka_run_group_tests(tests, setup, teardown) : 1;
}
