/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * draw.c - Graphviz text to a picture, by Graphviz's own program.
 *
 * The program reads and writes files in memory, so that no pipe can fill up or break, and the
 * picture appears under its name only when it is whole.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/cli.h"

enum { IN, OUT, LOG, FILES };

static bool ends_with(const char *path, const char *end)
{
    size_t n = strlen(path), m = strlen(end);
    return n > m && !strcmp(path + n - m, end);
}

bool sx_can_draw(const char *path)
{
    return ends_with(path, ".dot") || ends_with(path, ".svg");
}

static bool write_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno != EINTR)
            return false;
        data += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return lseek(fd, 0, SEEK_SET) == 0;
}

/* Run `dot -Tsvg` with the three files as its standard streams; 0, its exit code, or -1. */
static int run_dot(const int fd[FILES], int *ret_errno)
{
    static char name[] = "dot", format[] = "-Tsvg";
    char *argv[] = {name, format, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status;

    *ret_errno = posix_spawn_file_actions_init(&actions);
    for (int i = 0; i < FILES && !*ret_errno; i++)
        *ret_errno = posix_spawn_file_actions_adddup2(&actions, fd[i], i);
    if (!*ret_errno)
        *ret_errno = posix_spawnp(&pid, name, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (*ret_errno)
        return -1;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) {
            *ret_errno = errno;
            return -1;
        }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static enum sx_rc draw_svg(const char *text, const char *path, struct sx_err *err)
{
    int fd[FILES] = {-1, -1, -1}, error;
    struct stat st;
    enum sx_rc rc = SX_OK;
    bool ok = true;

    for (int i = 0; i < FILES && ok; i++) {
        /* above the standard streams: one may be closed, and dup2 onto itself keeps O_CLOEXEC */
        int low = memfd_create("dot", MFD_CLOEXEC);
        fd[i] = low < 0 ? -1 : fcntl(low, F_DUPFD_CLOEXEC, 3);
        ok = fd[i] >= 0;
        if (low >= 0)
            close(low);
    }
    if (!ok || !write_all(fd[IN], text, strlen(text))) {
        rc = sx_fail(err, SX_IO, "cannot hand the graph over to 'dot': %s", strerror(errno));
        goto out;
    }
    int code = run_dot(fd, &error);
    if (code < 0) {
        rc = sx_fail(err, SX_UNAVAILABLE, "cannot run the program 'dot', which draws graphs: %s",
                     strerror(error));
        sx_hint(err, "install Graphviz, or name a file that ends in .dot");
        goto out;
    }
    if (code || fstat(fd[OUT], &st) || !st.st_size) {
        char said[160] = "";
        ssize_t n = pread(fd[LOG], said, sizeof(said) - 1, 0);
        said[n > 0 ? n : 0] = '\0';
        said[strcspn(said, "\n")] = '\0';
        rc = sx_fail(err, SX_UNAVAILABLE, "the program 'dot' failed with %d%s%s", code,
                     *said ? ": " : "", said);
        sx_hint(err, "name a file that ends in .dot and draw it yourself");
        goto out;
    }
    void *svg = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd[OUT], 0);
    if (svg == MAP_FAILED) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for the picture");
        goto out;
    }
    rc = sx_file_write(path, svg, (size_t)st.st_size, err);
    munmap(svg, (size_t)st.st_size);
out:
    for (int i = 0; i < FILES; i++)
        if (fd[i] >= 0)
            close(fd[i]);
    return rc;
}

enum sx_rc sx_draw(const char *text, const char *path, struct sx_err *err)
{
    return ends_with(path, ".svg") ? draw_svg(text, path, err)
                                   : sx_file_write(path, text, strlen(text), err);
}
