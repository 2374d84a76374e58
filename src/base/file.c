/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * file.c - whole files and directories.
 */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum sx_rc sx_file_fail(struct sx_err *err, const char *what, const char *path)
{
    int e = errno;
    enum sx_rc rc = SX_IO;
    if (e == ENOENT || e == ENOTDIR)
        rc = SX_NOT_FOUND;
    else if (e == ENOMEM)
        rc = SX_NO_MEMORY;
    else if (e == ENAMETOOLONG)
        rc = SX_INVALID;
    errno = e;
    return sx_fail(err, rc, "cannot %s '%s': %m", what, path);
}

/* Open a regular file for reading. */
static enum sx_rc open_regular(const char *path, int *ret_fd, size_t *ret_size, struct sx_err *err)
{
    /* O_NONBLOCK: opening a FIFO must not wait for a writer; regular files ignore it. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return sx_file_fail(err, "open", path);
    struct stat st;
    if (fstat(fd, &st) < 0) {
        enum sx_rc rc = sx_file_fail(err, "examine", path);
        close(fd);
        return rc;
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return sx_fail(err, SX_INVALID, "'%s' is not a regular file", path);
    }
    *ret_fd = fd;
    *ret_size = (size_t)st.st_size;
    return SX_OK;
}

static enum sx_rc fail_too_large(struct sx_err *err, const char *path, size_t limit)
{
    return sx_fail(err, SX_TOO_LARGE, "file '%s' is larger than the limit of %zu bytes", path,
                   limit);
}

enum sx_rc sx_file_read(const char *path, size_t limit, char **ret_data, size_t *ret_size,
                        struct sx_err *err)
{
    int fd;
    size_t size;
    enum sx_rc rc = open_regular(path, &fd, &size, err);
    if (rc)
        return rc;

    char *data = NULL;
    if (limit > 0 && size > limit) {
        rc = fail_too_large(err, path, limit);
        goto out;
    }
    /* Read up to the end rather than up to `size`: files in /proc say 0, and others may grow
     * meanwhile.  One byte more than expected sees the end without a second allocation. */
    size_t cap = size + 1, len = 0;
    data = malloc(cap);
    if (!data) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for file '%s' of %zu bytes", path, size);
        goto out;
    }
    for (;;) {
        if (len == cap) {
            size_t more = cap < 4096 ? 4096 : cap + cap / 2;
            char *grown = realloc(data, more);
            if (!grown) {
                rc = sx_fail(err, SX_NO_MEMORY, "no memory for file '%s'", path);
                goto out;
            }
            data = grown;
            cap = more;
        }
        ssize_t n = read(fd, data + len, cap - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            rc = sx_file_fail(err, "read", path);
            goto out;
        }
        if (n == 0)
            break;
        len += (size_t)n;
        if (limit > 0 && len > limit) {
            rc = fail_too_large(err, path, limit);
            goto out;
        }
    }
    data[len] = '\0'; // len < cap: the read that saw the end had room
    *ret_data = data;
    *ret_size = len;
    data = NULL;
out:
    free(data);
    close(fd);
    return rc;
}

static bool write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        data += n;
        size -= (size_t)n;
    }
    return true;
}

/* Create a file that did not exist, beside `path`; hidden, so that sx_dir_names skips it. */
static int create_beside(const char *path, char *temp, size_t temp_size)
{
    static atomic_uint serial;
    const char *slash = strrchr(path, '/');
    int dir_len = slash ? (int)(slash + 1 - path) : 0;
    for (;;) {
        unsigned n = atomic_fetch_add_explicit(&serial, 1, memory_order_relaxed);
        int len =
            snprintf(temp, temp_size, "%.*s.staronnx-%ld-%u.tmp", dir_len, path, (long)getpid(), n);
        if (len < 0 || (size_t)len >= temp_size) {
            errno = ENAMETOOLONG;
            return -1;
        }
        /* Not mkstemp: 0666 lets the umask decide, as for any file a program writes. */
        int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
}

/* Devices and pipes hold no old contents to protect, and a rename would replace them. */
static enum sx_rc write_special(const char *path, const void *data, size_t size, struct sx_err *err)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return sx_file_fail(err, "open", path);
    enum sx_rc rc = SX_OK;
    if (!write_all(fd, data, size))
        rc = sx_file_fail(err, "write", path);
    close(fd);
    return rc;
}

enum sx_rc sx_file_write(const char *path, const void *data, size_t size, struct sx_err *err)
{
    char real[PATH_MAX], temp[PATH_MAX];
    struct stat st;
    bool exists = lstat(path, &st) == 0;
    if (exists && S_ISLNK(st.st_mode)) { // write where it points, keep the link
        if (!realpath(path, real) || stat(path, &st) < 0) {
            if (errno != ENOENT)
                return sx_file_fail(err, "write", path);
            return sx_fail(err, SX_NOT_FOUND, "cannot write '%s': the link points nowhere", path);
        }
        if (S_ISREG(st.st_mode))
            path = real;
    }
    if (exists && S_ISDIR(st.st_mode)) {
        errno = EISDIR;
        return sx_file_fail(err, "write", path);
    }
    if (exists && !S_ISREG(st.st_mode))
        return write_special(path, data, size, err);

    int fd = create_beside(path, temp, sizeof temp);
    if (fd < 0)
        return sx_file_fail(err, "write", path);
    /* Without the fsync a crash could leave the new name on an empty file. */
    bool ok = (!exists || fchmod(fd, st.st_mode & 0777) == 0) && write_all(fd, data, size) &&
              fsync(fd) == 0;
    int saved = errno;
    if (close(fd) < 0 && ok) {
        ok = false;
        saved = errno;
    }
    if (ok && rename(temp, path) < 0) {
        ok = false;
        saved = errno;
    }
    if (ok)
        return SX_OK;
    unlink(temp);
    errno = saved;
    return sx_file_fail(err, "write", path);
}

/* Copy `path` without the slashes at its end. */
static bool copy_path(char *buf, size_t size, const char *path)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    if (len == 0 || len >= size) {
        errno = len == 0 ? ENOENT : ENAMETOOLONG;
        return false;
    }
    memcpy(buf, path, len);
    buf[len] = '\0';
    return true;
}

enum sx_rc sx_dir_create(const char *path, struct sx_err *err)
{
    char buf[PATH_MAX];
    if (!copy_path(buf, sizeof buf, path))
        return sx_file_fail(err, "create directory", path);
    for (char *p = buf + 1;; p++) {
        char c = *p;
        if (c != '/' && c != '\0')
            continue;
        *p = '\0';
        if (mkdir(buf, 0700) < 0 && !sx_path_is_dir(buf)) {
            if (errno == EEXIST || errno == ENOTDIR)
                return sx_fail(err, SX_INVALID,
                               "cannot create directory '%s': '%s' is not a directory", path, buf);
            return sx_file_fail(err, "create directory", path);
        }
        if (c == '\0')
            return SX_OK;
        *p = c;
    }
}

/* Remove `name` in the directory `parent`, whatever it is; false with errno. */
static bool remove_at(int parent, const char *name)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return true;
    if (errno != EISDIR)
        return false;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return false;
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return false;
    }
    bool ok = true;
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(dir);
        if (!e) {
            ok = errno == 0;
            break;
        }
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        ok = remove_at(fd, e->d_name);
        if (!ok)
            break;
    }
    int saved = errno;
    closedir(dir);
    errno = saved;
    return ok && unlinkat(parent, name, AT_REMOVEDIR) == 0;
}

enum sx_rc sx_dir_remove(const char *path, struct sx_err *err)
{
    char buf[PATH_MAX];
    struct stat st;
    /* "link/" would be followed, "link" is not. */
    if (!copy_path(buf, sizeof buf, path) || lstat(buf, &st) < 0)
        return sx_file_fail(err, "remove", path);
    if (!S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode))
        return sx_fail(err, SX_INVALID, "cannot remove '%s': it is not a directory", path);
    if (!remove_at(AT_FDCWD, buf))
        return sx_file_fail(err, "remove", path);
    return SX_OK;
}

bool sx_path_is_dir(const char *path)
{
    int saved = errno;
    struct stat st;
    bool is = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    errno = saved;
    return is;
}

bool sx_path_is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

void sx_path_stem(const char *path, const char *ending, char *buf, size_t size)
{
    const char *slash = strrchr(path, '/');
    size_t len, end = strlen(ending);
    snprintf(buf, size, "%s", slash ? slash + 1 : path);
    len = strlen(buf);
    if (len > end && strcmp(buf + len - end, ending) == 0)
        buf[len - end] = '\0';
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

enum sx_rc sx_dir_names(const char *path, char ***ret_names, size_t *ret_count, struct sx_err *err)
{
    DIR *dir = opendir(path);
    if (!dir)
        return sx_file_fail(err, "list", path);
    enum sx_rc rc = SX_OK;
    char **names = NULL;
    size_t count = 0, cap = 0;
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(dir);
        if (!e) {
            if (errno)
                rc = sx_file_fail(err, "list", path);
            break;
        }
        if (e->d_name[0] == '.')
            continue;
        if (count == cap) {
            size_t more = cap ? cap * 2 : 16;
            char **grown = realloc(names, more * sizeof *names);
            if (!grown) {
                rc = sx_fail(err, SX_NO_MEMORY, "no memory to list '%s'", path);
                break;
            }
            names = grown;
            cap = more;
        }
        names[count] = strdup(e->d_name);
        if (!names[count]) {
            rc = sx_fail(err, SX_NO_MEMORY, "no memory to list '%s'", path);
            break;
        }
        count++;
    }
    closedir(dir);
    if (rc) {
        sx_names_free(names, count);
        return rc;
    }
    if (count > 1)
        qsort(names, count, sizeof *names, compare_names);
    *ret_names = names;
    *ret_count = count;
    return SX_OK;
}

void sx_names_free(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

enum sx_rc sx_file_map(const char *path, const void **ret_data, size_t *ret_size,
                       struct sx_err *err)
{
    int fd;
    size_t size;
    enum sx_rc rc = open_regular(path, &fd, &size, err);
    if (rc)
        return rc;
    void *data = NULL;
    if (size > 0) {
        data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            rc = sx_file_fail(err, "map", path);
    }
    close(fd);
    if (rc)
        return rc;
    *ret_data = data;
    *ret_size = size;
    return SX_OK;
}

void sx_file_unmap(const void *data, size_t size)
{
    if (size > 0)
        munmap((void *)(uintptr_t)data, size); // munmap wants it without the const
}

enum sx_rc sx_cache_dir(char *buf, size_t size)
{
    static const struct {
        const char *variable, *below;
    } places[] = {
        {"STARONNX_CACHE", ""}, {"XDG_CACHE_HOME", "/staronnx"}, {"HOME", "/.cache/staronnx"}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *base = getenv(places[i].variable);
        if (!base || !*base)
            continue;
        if (strlen(base) + strlen(places[i].below) >= size)
            return SX_TOO_LARGE;
        snprintf(buf, size, "%s%s", base, places[i].below);
        return SX_OK;
    }
    return SX_NOT_FOUND;
}
