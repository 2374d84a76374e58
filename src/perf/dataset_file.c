/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * dataset_file.c - a dataset from raw and .npy files.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/sbuf.h"
#include "perf/dataset_int.h"

/* Where the data of a .npy file begins; 0 if it is not one that can be sent as it is.  Only the
 * element size and the order are checked: shape and type are the model's. */
static size_t npy_data(const char *file, size_t size, size_t width)
{
    if (size < 12 || memcmp(file, "\x93NUMPY", 6) != 0)
        return 0;
    bool v1 = file[6] == 1;
    const unsigned char *len = (const unsigned char *)file + 8;
    size_t head = len[0] | (size_t)len[1] << 8;
    if (!v1)
        head |= (size_t)len[2] << 16 | (size_t)len[3] << 24;
    size_t begin = (v1 ? 10 : 12) + head;
    if (begin > size)
        return 0;
    char text[512];
    snprintf(text, sizeof(text), "%.*s", (int)(head < 500 ? head : 500), file + (v1 ? 10 : 12));
    const char *descr = strstr(text, "'descr':"), *order = strstr(text, "'fortran_order':");
    const char *quote = descr ? strchr(descr + 8, '\'') : NULL;
    if (!quote || !order || order[16 + strspn(order + 16, " ")] != 'F')
        return 0;
    return quote[1] != '>' && strtoul(quote + 3, NULL, 10) == width ? begin : 0;
}

static enum sx_rc load_input(struct sx_tensor *t, const struct sx_input_info *in, const char *path,
                             struct sx_err *err)
{
    char *file, shape[256];
    size_t size, begin = 0, want;
    enum sx_rc rc = sx_file_read(path, SX_SAMPLE_MAX, &file, &size, err);
    if (rc)
        return rc;
    bool npy = size >= 6 && memcmp(file, "\x93NUMPY", 6) == 0;
    if (npy && !(begin = npy_data(file, size, sx_dtype_size(in->dtype)))) {
        free(file);
        return sx_fail(err, SX_INVALID, "%s: not a C-ordered little-endian array of %s", path,
                       sx_dtype_name(in->dtype));
    }
    if (in->dtype != SX_BYTES &&
        (!sx_shape_bytes(in->dtype, in->dims, in->rank, &want) || want != size - begin)) {
        free(file);
        return sx_fail(err, SX_INVALID, "%s: %zu bytes of data, input '%s' %s %s takes %zu", path,
                       size - begin, in->name, sx_dtype_name(in->dtype),
                       sx_shape_text(in->dims, in->rank, shape, sizeof(shape)), want);
    }
    memmove(file, file + begin, size - begin);
    t->data = (unsigned char *)file;
    t->nbytes = size - begin;
    if (in->dtype == SX_BYTES && !sx_tensor_bytes_valid(t))
        return sx_fail(err, SX_INVALID, "%s: not BYTES of input '%s' (4-byte lengths, then bytes)",
                       path, in->name);
    return SX_OK;
}

static enum sx_rc load_named(struct sx_tensor *t, const struct sx_input_info *in, const char *dir,
                             struct sx_err *err)
{
    static const char *const ends[] = {"", ".npy", ".bin", ".raw"};
    struct sx_sbuf path = {0};
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        sx_sbuf_clear(&path);
        sx_sbuf_printf(&path, "%s/%s%s", dir, in->name, ends[i]);
        if (!path.failed && sx_path_is_file(path.data)) {
            enum sx_rc rc = load_input(t, in, path.data, err);
            sx_sbuf_free(&path);
            return rc;
        }
    }
    sx_sbuf_free(&path);
    return sx_fail(err, SX_NOT_FOUND, "%s: no file %s, %s.npy or %s.bin", dir, in->name, in->name,
                   in->name);
}

enum sx_rc sx_dataset_load(struct sx_dataset *d, const struct sx_model_info *m, const char *path,
                           int64_t batch, struct sx_err *err)
{
    size_t len = strlen(path);
    enum sx_rc rc;
    if (len > 5 && strcmp(path + len - 5, ".json") == 0) {
        char *json;
        size_t size;
        rc = sx_file_read(path, SX_SAMPLE_MAX, &json, &size, err);
        if (rc)
            return rc;
        rc = sx_dataset_json(d, m, json, size, batch, err);
        free(json);
        if (rc && err)
            sx_while(err, "%s: ", path);
        return rc;
    }
    bool dir = sx_path_is_dir(path);
    if (!dir && m->n_inputs != 1)
        return sx_fail(err, SX_INVALID, "%s: the model has %d inputs: give a directory or JSON",
                       path, m->n_inputs);
    rc = sx_dataset_alloc(d, m, 1, err);
    for (int i = 0; i < m->n_inputs && !rc; i++)
        rc = dir ? load_named(&d->tensor[i], &m->input[i], path, err)
                 : load_input(&d->tensor[i], &m->input[i], path, err);
    if (rc)
        sx_dataset_fini(d);
    return rc;
}
