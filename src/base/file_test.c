/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * file_test.c - files and directories, in a directory of the test's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static char root[64];

static int set_up(void **state)
{
    (void)state;
    strcpy(root, "/tmp/sx-file-test-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return sx_dir_remove(root, NULL) == SX_OK ? 0 : -1;
}

/* `name` below the root, in one of four places that are used in turn. */
static const char *at(const char *name)
{
    static char paths[4][256];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", root, name);
    return path;
}

static void put(const char *path, const char *text)
{
    assert_int_equal(sx_file_write(path, text, strlen(text), NULL), SX_OK);
}

static void assert_content(const char *path, const char *want)
{
    char *data;
    size_t size;
    assert_int_equal(sx_file_read(path, 0, &data, &size, NULL), SX_OK);
    assert_int_equal(size, strlen(want));
    assert_string_equal(data, want); // the NUL is there
    free(data);
}

static size_t entries(const char *path)
{
    char command[300], line[32] = "";
    snprintf(command, sizeof command, "ls -A '%s' | wc -l", path);
    FILE *f = popen(command, "re");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    pclose(f);
    return (size_t)atol(line);
}

static void test_read(void **state)
{
    (void)state;
    char *data = (char *)1;
    size_t size = 7;
    struct sx_err err = {0};
    assert_int_equal(sx_file_read(at("none"), 0, &data, &size, &err), SX_NOT_FOUND);
    assert_int_equal(err.rc, SX_NOT_FOUND);
    assert_non_null(strstr(err.message, "none': No such file"));
    assert_int_equal(sx_file_read(root, 0, &data, &size, &err), SX_INVALID);
    assert_int_equal(mkfifo(at("fifo"), 0600), 0);
    assert_int_equal(sx_file_read(at("fifo"), 0, &data, &size, &err), SX_INVALID);

    put(at("five"), "12345");
    assert_int_equal(sx_file_read(at("five"), 4, &data, &size, &err), SX_TOO_LARGE);
    assert_ptr_equal(data, (char *)1); // untouched by failures
    assert_int_equal(size, 7);
    assert_int_equal(sx_file_read(at("five"), 5, &data, &size, &err), SX_OK);
    assert_string_equal(data, "12345");
    free(data);
    put(at("empty"), "");
    assert_content(at("empty"), "");
}

/* A file whose size is said to be 0. */
static void test_read_proc(void **state)
{
    (void)state;
    char *data;
    size_t size;
    assert_int_equal(sx_file_read("/proc/self/status", 0, &data, &size, NULL), SX_OK);
    assert_true(size > 100);
    assert_int_equal(strlen(data), size);
    free(data);
    assert_int_equal(sx_file_read("/proc/self/status", 100, &data, &size, NULL), SX_TOO_LARGE);
}

static void test_write(void **state)
{
    (void)state;
    struct stat st;
    put(at("f"), "one");
    assert_int_equal(chmod(at("f"), 0640), 0);
    put(at("f"), "two, longer");
    assert_content(at("f"), "two, longer");
    assert_int_equal(stat(at("f"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(entries(root), 1); // nothing left over

    struct sx_err err;
    assert_int_equal(sx_file_write(at("no/f"), "x", 1, &err), SX_NOT_FOUND);
    assert_int_equal(sx_file_write(root, "x", 1, &err), SX_IO);
    assert_int_equal(entries(root), 1);
    assert_int_equal(sx_file_write("/dev/null", "x", 1, &err), SX_OK);
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));

    char name[256];
    memset(name, 'n', 255);
    name[255] = '\0';
    char path[400];
    snprintf(path, sizeof path, "%s/%s", root, name);
    put(path, "the longest name"); // the file beside it needs a name of its own
    assert_content(path, "the longest name");
}

static void test_write_keeps_link(void **state)
{
    (void)state;
    struct stat st;
    put(at("target"), "old");
    assert_int_equal(symlink("target", at("link")), 0);
    put(at("link"), "new");
    assert_int_equal(lstat(at("link"), &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_content(at("target"), "new");
    assert_int_equal(symlink("nowhere", at("dangling")), 0);
    assert_int_equal(sx_file_write(at("dangling"), "x", 1, NULL), SX_NOT_FOUND);
}

/* --- a reader sees one whole version ---------------------------------------------------------- */

enum { BIG = 100000 };

static atomic_bool writing;

static void *write_versions(void *path)
{
    static char data[2][BIG];
    memset(data[0], 'a', BIG);
    memset(data[1], 'b', BIG);
    for (int i = 0; i < 60; i++)
        if (sx_file_write(path, data[i % 2], i % 2 ? BIG : BIG / 2, NULL) != SX_OK)
            abort();
    atomic_store_explicit(&writing, false, memory_order_release);
    return NULL;
}

static void test_write_is_atomic(void **state)
{
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s/versions", root);
    put(path, "");
    atomic_store_explicit(&writing, true, memory_order_release);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_versions, path), 0);
    while (atomic_load_explicit(&writing, memory_order_acquire)) {
        char *data;
        size_t size;
        assert_int_equal(sx_file_read(path, 0, &data, &size, NULL), SX_OK);
        assert_true(size == 0 || size == BIG || size == BIG / 2);
        for (size_t i = 0; i < size; i++)
            if (data[i] != (size == BIG ? 'b' : 'a'))
                fail_msg("a mixture at %zu", i);
        free(data);
    }
    pthread_join(thread, NULL);
    assert_int_equal(entries(root), 1);
}

static void test_dir_create(void **state)
{
    (void)state;
    struct stat st;
    assert_int_equal(sx_dir_create(at("a/b//c/"), NULL), SX_OK);
    assert_true(sx_path_is_dir(at("a/b/c")));
    assert_int_equal(stat(at("a/b"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(sx_dir_create(at("a/b/c"), NULL), SX_OK);
    put(at("a/file"), "");
    struct sx_err err;
    assert_int_equal(sx_dir_create(at("a/file"), &err), SX_INVALID);
    assert_int_equal(sx_dir_create(at("a/file/below"), &err), SX_INVALID);
    assert_true(sx_path_is_file(at("a/file")));
    assert_false(sx_path_is_file(at("a")));
    assert_false(sx_path_is_dir(at("a/file")));
    assert_int_equal(symlink("a", at("link")), 0);
    assert_int_equal(sx_dir_create(at("link/d"), &err), SX_OK);
    assert_true(sx_path_is_dir(at("a/d")));
    assert_int_equal(sx_dir_create("", &err), SX_NOT_FOUND);
}

static void test_dir_remove(void **state)
{
    (void)state;
    sx_dir_create(at("keep/sub"), NULL);
    put(at("keep/sub/file"), "kept");
    put(at("outside"), "kept");
    sx_dir_create(at("gone/x/y/z"), NULL);
    put(at("gone/.hidden"), "");
    put(at("gone/x/y/file"), "");
    assert_int_equal(symlink("../keep", at("gone/dir_link")), 0);
    assert_int_equal(symlink("../../outside", at("gone/x/file_link")), 0);
    assert_int_equal(symlink("nowhere", at("gone/x/y/dangling")), 0);
    assert_int_equal(symlink("..", at("gone/x/up")), 0);
    assert_int_equal(sx_dir_remove(at("gone/"), NULL), SX_OK);
    assert_int_equal(access(at("gone"), F_OK), -1);
    assert_content(at("keep/sub/file"), "kept");
    assert_content(at("outside"), "kept");

    /* A link to a directory goes, the directory stays; with and without a slash. */
    for (int slash = 0; slash < 2; slash++) {
        assert_int_equal(symlink("keep", at("link")), 0);
        assert_int_equal(sx_dir_remove(at(slash ? "link/" : "link"), NULL), SX_OK);
        struct stat st;
        assert_int_equal(lstat(at("link"), &st), -1);
        assert_content(at("keep/sub/file"), "kept");
    }
    struct sx_err err;
    assert_int_equal(sx_dir_remove(at("none"), &err), SX_NOT_FOUND);
    assert_int_equal(sx_dir_remove(at("outside"), &err), SX_INVALID);
    assert_content(at("outside"), "kept");
}

static void test_dir_names(void **state)
{
    (void)state;
    char **names;
    size_t count;
    assert_int_equal(sx_dir_names(root, &names, &count, NULL), SX_OK);
    assert_int_equal(count, 0);
    sx_names_free(names, count);

    for (int i = 99; i >= 0; i--) {
        char name[16];
        snprintf(name, sizeof name, "%sn%02d", i % 3 ? "" : ".", i);
        put(at(name), "");
    }
    assert_int_equal(sx_dir_names(root, &names, &count, NULL), SX_OK);
    assert_int_equal(count, 66);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(names[i][0], 'n');
        if (i > 0)
            assert_true(strcmp(names[i - 1], names[i]) < 0);
    }
    sx_names_free(names, count);
    assert_int_equal(sx_dir_names(at("none"), &names, &count, NULL), SX_NOT_FOUND);
}

static void test_map(void **state)
{
    (void)state;
    const void *data;
    size_t size;
    put(at("f"), "mapped");
    assert_int_equal(sx_file_map(at("f"), &data, &size, NULL), SX_OK);
    assert_int_equal(size, 6);
    assert_memory_equal(data, "mapped", 6);
    sx_file_unmap(data, size);
    put(at("e"), "");
    assert_int_equal(sx_file_map(at("e"), &data, &size, NULL), SX_OK);
    assert_null(data);
    assert_int_equal(size, 0);
    sx_file_unmap(data, size);
    assert_int_equal(sx_file_map(at("none"), &data, &size, NULL), SX_NOT_FOUND);
    assert_int_equal(sx_file_map(root, &data, &size, NULL), SX_INVALID);
}

static void test_cache_dir(void **state)
{
    (void)state;
    char buf[64] = "untouched";
    unsetenv("STARONNX_CACHE");
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    assert_int_equal(sx_cache_dir(buf, sizeof buf), SX_NOT_FOUND);
    assert_string_equal(buf, "untouched");
    setenv("HOME", "/h", 1);
    setenv("XDG_CACHE_HOME", "", 1);
    assert_int_equal(sx_cache_dir(buf, sizeof buf), SX_OK);
    assert_string_equal(buf, "/h/.cache/staronnx");
    setenv("XDG_CACHE_HOME", "/x", 1);
    assert_int_equal(sx_cache_dir(buf, sizeof buf), SX_OK);
    assert_string_equal(buf, "/x/staronnx");
    setenv("STARONNX_CACHE", "/s", 1);
    assert_int_equal(sx_cache_dir(buf, sizeof buf), SX_OK);
    assert_string_equal(buf, "/s");
    assert_int_equal(sx_cache_dir(buf, 2), SX_TOO_LARGE);
    assert_int_equal(sx_cache_dir(buf, 3), SX_OK);
}

int main(void)
{
#define IN_ROOT(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        IN_ROOT(test_read),
        IN_ROOT(test_read_proc),
        IN_ROOT(test_write),
        IN_ROOT(test_write_keeps_link),
        IN_ROOT(test_write_is_atomic),
        IN_ROOT(test_dir_create),
        IN_ROOT(test_dir_remove),
        IN_ROOT(test_dir_names),
        IN_ROOT(test_map),
        cmocka_unit_test(test_cache_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
