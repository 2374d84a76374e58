/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * npy.h - NumPy's .npy files: versions 1 to 3, little-endian, C order.
 *
 * Types: what a tensor has, except BF16 (NumPy has none).  BYTES is read from fixed-width byte
 * ('S') and text ('U') arrays and written as 'S', so trailing zero bytes are lost there.
 * Cold path; all of it blocks.
 */
#ifndef SX_CLI_NPY_H
#define SX_CLI_NPY_H

#include <stdbool.h>

#include "base/rc.h"
#include "tensor/tensor.h"

/* True when the file begins as .npy files do. */
bool sx_npy_is(const void *data, size_t size);
/* Parse a whole file.  `*ret` gets a buffer of its own. `where` names it in errors. */
enum sx_rc sx_npy_parse(const void *data, size_t size, const char *where, struct sx_pool *pool,
                        struct sx_tensor *ret, struct sx_err *err);
/* Write a tensor; replaces the file as a whole. */
enum sx_rc sx_npy_write(const char *path, const struct sx_tensor *t, struct sx_err *err);

#endif
