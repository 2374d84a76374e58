/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * log_test.c - the shape of a line, levels, and lines that never mix.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

static int saved_stderr, capture_fd;

/* A file takes what a pipe would block on. */
static void capture_begin(void)
{
    char name[] = "/tmp/sx-log-test-XXXXXX";
    capture_fd = mkostemp(name, O_APPEND | O_CLOEXEC);
    assert_true(capture_fd >= 0);
    unlink(name);
    saved_stderr = dup(STDERR_FILENO);
    assert_true(dup2(capture_fd, STDERR_FILENO) >= 0);
}

static char *capture_end(void)
{
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    off_t size = lseek(capture_fd, 0, SEEK_END);
    char *text = calloc(1, (size_t)size + 1);
    assert_non_null(text);
    assert_int_equal(pread(capture_fd, text, (size_t)size, 0), size);
    close(capture_fd);
    return text;
}

static void assert_matches(const char *text, const char *pattern)
{
    regex_t re;
    assert_int_equal(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
    if (regexec(&re, text, 0, NULL, 0) != 0)
        fail_msg("'%s' does not match '%s'", text, pattern);
    regfree(&re);
}

#define HEAD(letter)                                                                               \
    "^" letter "[01][0-9][0-3][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6} [0-9]+ "                 \
    "log_test\\.c:[0-9]+\\] "

static void test_shape(void **state)
{
    (void)state;
    capture_begin();
    sx_info("model '%s' is ready", "x");
    char *text = capture_end();
    assert_matches(text, HEAD("I") "\"model 'x' is ready\"\n$");
    free(text);

    capture_begin();
    errno = ENOENT;
    sx_error("%m");
    assert_int_equal(errno, ENOENT);
    text = capture_end();
    assert_matches(text, HEAD("E") "\"No such file or directory\"\n$");
    free(text);
}

static void test_escapes(void **state)
{
    (void)state;
    capture_begin();
    sx_warning("a\nb\"c\\d\x1b"
               "e\xc3\xa9");
    char *text = capture_end();
    const char *message = strchr(text, ']');
    assert_non_null(message);
    assert_string_equal(message, "] \"a\\nb\\\"c\\\\d\\u001be\xc3\xa9\"\n");
    assert_int_equal(text[0], 'W');
    free(text);
}

static void test_cut(void **state)
{
    (void)state;
    char message[10000];
    for (int c = 0; c < 2; c++) {
        memset(message, c ? '\n' : 'a', sizeof message - 1); // newlines grow on the way
        message[sizeof message - 1] = '\0';
        capture_begin();
        sx_error("%s", message);
        char *text = capture_end();
        size_t len = strlen(text);
        assert_in_range(len, 2000, 4096);
        assert_string_equal(text + len - 5, "...\"\n");
        assert_ptr_equal(strchr(text, '\n'), text + len - 1);
        free(text);
    }
}

static void test_levels(void **state)
{
    (void)state;
    assert_int_equal(sx_log_get_level(), SX_LOG_INFO);
    for (int level = SX_LOG_ERROR; level <= SX_LOG_VERBOSE; level++) {
        sx_log_set_level((enum sx_log_level)level);
        assert_int_equal(sx_log_get_level(), level);
        capture_begin();
        sx_error("0");
        sx_warning("1");
        sx_info("2");
        sx_verbose("3");
        char *text = capture_end();
        int lines = 0;
        for (const char *p = text; *p; p++)
            lines += *p == '\n';
        assert_int_equal(lines, level + 1);
        free(text);
    }
    sx_log_set_level(SX_LOG_INFO);
}

enum { THREADS = 4, LINES = 200 };

static void *log_lines(void *arg)
{
    for (int i = 0; i < LINES; i++)
        sx_info("thread %d line %d %s", *(int *)arg, i, "abcdefghijklmnopqrstuvwxyz.");
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    int ids[THREADS];
    capture_begin();
    for (int i = 0; i < THREADS; i++) {
        ids[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, log_lines, &ids[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    char *text = capture_end(), *rest = text;
    int lines = 0;
    for (char *line; (line = strsep(&rest, "\n")) && *line; lines++)
        assert_matches(line, HEAD("I") "\"thread [0-3] line [0-9]+ abc[a-z]*\\.\"$");
    assert_int_equal(lines, THREADS * LINES);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shape),  cmocka_unit_test(test_escapes), cmocka_unit_test(test_cut),
        cmocka_unit_test(test_levels), cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
