/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * dtype.c - element types and their names.
 */
#include "tensor/dtype.h"

#include <string.h>

struct row {
    const char *name, *config_name;
    size_t size;
    int onnx;
};

static const struct row rows[SX_DTYPE_COUNT] = {[SX_DTYPE_NONE] = {"NONE", "TYPE_INVALID", 0, 0},
#define SX_DTYPE_ROW(name, oip, config, bytes, onnx) [SX_##name] = {oip, config, bytes, onnx},
                                                SX_DTYPE_TABLE(SX_DTYPE_ROW)
#undef SX_DTYPE_ROW
};

static const struct row *row_of(enum sx_dtype t)
{
    return &rows[(unsigned)t < SX_DTYPE_COUNT ? t : SX_DTYPE_NONE];
}

size_t sx_dtype_size(enum sx_dtype t)
{
    return row_of(t)->size;
}

const char *sx_dtype_name(enum sx_dtype t)
{
    return row_of(t)->name;
}

const char *sx_dtype_config_name(enum sx_dtype t)
{
    return row_of(t)->config_name;
}

static int same(const char *ours, const char *name, size_t len)
{
    return strlen(ours) == len && memcmp(ours, name, len) == 0;
}

enum sx_dtype sx_dtype_from_name(const char *name, size_t len)
{
    for (int t = SX_DTYPE_NONE + 1; t < SX_DTYPE_COUNT; t++)
        if (same(rows[t].name, name, len))
            return (enum sx_dtype)t;
    return SX_DTYPE_NONE;
}

enum sx_dtype sx_dtype_from_config_name(const char *name, size_t len)
{
    for (int t = SX_DTYPE_NONE + 1; t < SX_DTYPE_COUNT; t++)
        if (same(rows[t].config_name, name, len))
            return (enum sx_dtype)t;
    return SX_DTYPE_NONE;
}

enum sx_dtype sx_dtype_from_onnx(int elem_type)
{
    for (int t = SX_DTYPE_NONE + 1; t < SX_DTYPE_COUNT; t++)
        if (rows[t].onnx == elem_type)
            return (enum sx_dtype)t;
    return SX_DTYPE_NONE;
}

int sx_dtype_to_onnx(enum sx_dtype t)
{
    return row_of(t)->onnx;
}
