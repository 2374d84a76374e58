/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "perf/dataset.h"

static void copy_text(char *to, size_t size, yyjson_val *from)
{
    snprintf(to, size, "%s", yyjson_is_str(from) ? yyjson_get_str(from) : "");
}

static enum sx_rc read_input(struct sx_input_info *in, yyjson_val *v, struct sx_err *err)
{
    copy_text(in->name, sizeof(in->name), yyjson_obj_get(v, "name"));
    yyjson_val *type = yyjson_obj_get(v, "datatype"), *shape = yyjson_obj_get(v, "shape");
    if (!in->name[0] || !yyjson_is_str(type) || !yyjson_is_arr(shape))
        return sx_fail(err, SX_INVALID, "an input without name, datatype or shape");
    in->dtype = sx_dtype_from_name(yyjson_get_str(type), yyjson_get_len(type));
    if (in->dtype == SX_DTYPE_NONE)
        return sx_fail(err, SX_UNSUPPORTED, "input '%s': unknown datatype '%s'", in->name,
                       yyjson_get_str(type));
    if (yyjson_arr_size(shape) > SX_MAX_RANK)
        return sx_fail(err, SX_UNSUPPORTED, "input '%s': more than %d dimensions", in->name,
                       SX_MAX_RANK);
    size_t i, n;
    yyjson_val *d;
    in->rank = 0;
    yyjson_arr_foreach(shape, i, n, d)
    {
        if (!yyjson_is_int(d))
            return sx_fail(err, SX_INVALID, "input '%s': a dimension is not a number", in->name);
        int64_t dim = yyjson_get_sint(d);
        in->dims[in->rank++] = dim < 0 ? -1 : dim;
    }
    return SX_OK;
}

static enum sx_rc read_model(struct sx_model_info *m, yyjson_val *root, struct sx_err *err)
{
    yyjson_val *inputs = yyjson_obj_get(root, "inputs"), *v;
    yyjson_val *versions = yyjson_obj_get(root, "versions");
    copy_text(m->name, sizeof(m->name), yyjson_obj_get(root, "name"));
    copy_text(m->platform, sizeof(m->platform), yyjson_obj_get(root, "platform"));
    copy_text(m->version, sizeof(m->version), yyjson_arr_get_last(versions));
    if (!yyjson_is_arr(inputs))
        return sx_fail(err, SX_INVALID, "no list of inputs");
    if (yyjson_arr_size(inputs) > SX_INPUTS_MAX)
        return sx_fail(err, SX_UNSUPPORTED, "more than %d inputs", SX_INPUTS_MAX);
    size_t i, n;
    m->batches = yyjson_arr_size(inputs) > 0;
    yyjson_arr_foreach(inputs, i, n, v)
    {
        struct sx_input_info *in = &m->input[m->n_inputs++];
        enum sx_rc rc = read_input(in, v, err);
        if (rc)
            return rc;
        m->batches = m->batches && in->rank > 0 && in->dims[0] == -1;
    }
    return SX_OK;
}

enum sx_rc sx_model_info_parse(struct sx_model_info *m, const char *json, size_t len,
                               struct sx_err *err)
{
    memset(m, 0, sizeof(*m));
    struct sx_err why = {0};
    yyjson_doc *doc = yyjson_read(json, len, 0);
    enum sx_rc rc =
        doc ? read_model(m, yyjson_doc_get_root(doc), &why) : sx_fail(&why, SX_INVALID, "not JSON");
    yyjson_doc_free(doc);
    return rc ? sx_fail(err, rc, "the model's metadata: %s", why.message) : SX_OK;
}

enum sx_rc sx_model_info_shape(struct sx_model_info *m, const char *text, struct sx_err *err)
{
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text)
        return sx_fail(err, SX_INVALID, "shape '%s' is not NAME:D,D,...", text);
    size_t name_len = (size_t)(colon - text);
    struct sx_input_info *in = NULL;
    for (int i = 0; i < m->n_inputs && !in; i++) {
        if (strlen(m->input[i].name) == name_len && !memcmp(m->input[i].name, text, name_len))
            in = &m->input[i];
    }
    if (!in)
        return sx_fail(err, SX_NOT_FOUND, "shape '%s': the model has no such input", text);
    int64_t dims[SX_MAX_RANK];
    int rank = 0;
    for (const char *p = colon + 1; *p;) {
        char *end;
        errno = 0;
        long long d = strtoll(p, &end, 10);
        if (end == p || d < 0 || errno || (*end && *end != ',') || rank == SX_MAX_RANK)
            return sx_fail(err, SX_INVALID, "shape '%s': not a list of dimensions", text);
        dims[rank++] = d;
        p = end + (*end == ',');
    }
    int skip = m->batches && rank == in->rank - 1;
    if (rank + skip != in->rank)
        return sx_fail(err, SX_INVALID, "shape '%s': %d dimensions, the model has %d", text, rank,
                       in->rank);
    for (int i = 0; i < rank; i++) {
        int64_t *d = &in->dims[i + skip];
        if (*d != -1 && *d != dims[i])
            return sx_fail(err, SX_INVALID, "shape '%s': dimension %d is fixed at %lld", text,
                           i + skip, (long long)*d);
        *d = dims[i];
    }
    return SX_OK;
}

enum sx_rc sx_model_info_fix(struct sx_model_info *m, int64_t batch, struct sx_err *err)
{
    if (batch > 1 && !m->batches)
        return sx_fail(err, SX_INVALID, "model '%s' has no free batch dimension: -b must be 1",
                       m->name);
    for (int i = 0; i < m->n_inputs; i++) {
        struct sx_input_info *in = &m->input[i];
        char shape[256];
        if (m->batches && in->dims[0] == -1)
            in->dims[0] = batch;
        for (int d = 0; d < in->rank; d++) {
            if (in->dims[d] == -1) {
                sx_fail(err, SX_INVALID, "input '%s' has the shape %s", in->name,
                        sx_shape_text(in->dims, in->rank, shape, sizeof(shape)));
                sx_hint(err, "give the free dimensions: --shape %s:D,D,...", in->name);
                return SX_INVALID;
            }
        }
    }
    return SX_OK;
}
