/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * file.h - whole files and directories.  Cold paths: all of these block.
 */
#ifndef SX_BASE_FILE_H
#define SX_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rc.h"

/* Turn errno into an error: "cannot read 'x': No such file or directory". */
enum sx_rc sx_file_fail(struct sx_err *err, const char *what, const char *path);

/* Read a regular file into malloc'ed memory with a NUL after the last byte (not counted).  The
 * caller frees *ret_data.  A file over `limit` bytes is SX_TOO_LARGE; 0 means no limit. */
enum sx_rc sx_file_read(const char *path, size_t limit, char **ret_data, size_t *ret_size,
                        struct sx_err *err);
/* Write so that a reader sees the old file or the whole new one, never a part. */
enum sx_rc sx_file_write(const char *path, const void *data, size_t size, struct sx_err *err);
/* mkdir -p, mode 0700 for what it creates. */
enum sx_rc sx_dir_create(const char *path, struct sx_err *err);
/* Remove a directory with everything in it; symbolic links are removed, not followed. */
enum sx_rc sx_dir_remove(const char *path, struct sx_err *err);

bool sx_path_is_dir(const char *path);
bool sx_path_is_file(const char *path);
/* What a file is called for people: the last part of its path without `ending`, cut to fit. */
void sx_path_stem(const char *path, const char *ending, char *buf, size_t size);
/* The sorted names in a directory, without those that begin with a dot; free with sx_names_free. */
enum sx_rc sx_dir_names(const char *path, char ***ret_names, size_t *ret_count, struct sx_err *err);
void sx_names_free(char **names, size_t count);

/* Read-only map of a whole file.  Unmap with sx_file_unmap; an empty file maps to NULL, 0. */
enum sx_rc sx_file_map(const char *path, const void **ret_data, size_t *ret_size,
                       struct sx_err *err);
void sx_file_unmap(const void *data, size_t size);

/* Where caches go: $STARONNX_CACHE, else $XDG_CACHE_HOME/staronnx, else ~/.cache/staronnx.
 * Writes the path into `buf`; returns SX_NOT_FOUND when none of them is set. */
enum sx_rc sx_cache_dir(char *buf, size_t size);

#endif
