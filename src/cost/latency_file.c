/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "cost/latency_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "base/file.h"
#include "cost/fields.h"

#define FILE_MAX ((size_t)4 << 20)
#define NS       1e6 /* of a millisecond */

static const char shape[] =
    "a table is {\"name\": \"x\", \"units\": [1, 2], \"batches\": [1, 8], \"ms\": [[10, 6], [70, "
    "null]]}: a row for each batch, a time for each number of units";

static enum sx_rc wrong(struct sx_err *err, const char *where, const char *what)
{
    sx_fail(err, SX_INVALID, "%s: %s", where, what);
    sx_hint(err, "%s", shape);
    return SX_INVALID;
}

static enum sx_rc read_grid(yyjson_val *object, const char *where, const char *name, unsigned cap,
                            unsigned *ret, unsigned *ret_n, struct sx_err *err)
{
    yyjson_val *list = yyjson_obj_get(object, name), *v;
    char what[128];
    size_t i, n;

    if (!yyjson_is_arr(list) || !yyjson_arr_size(list) || yyjson_arr_size(list) > cap) {
        snprintf(what, sizeof what, "\"%s\" must be a list of 1 to %u whole numbers", name, cap);
        return wrong(err, where, what);
    }
    yyjson_arr_foreach(list, i, n, v)
    {
        if (!yyjson_is_uint(v) || !yyjson_get_uint(v) || yyjson_get_uint(v) > SX_LATENCY_MAX) {
            snprintf(what, sizeof what, "\"%s\"[%zu] must be a whole number from 1 to %u", name, i,
                     SX_LATENCY_MAX);
            return wrong(err, where, what);
        }
        ret[i] = (unsigned)yyjson_get_uint(v);
        if (i && ret[i] <= ret[i - 1]) {
            snprintf(what, sizeof what, "\"%s\" must go up, but %u follows %u", name, ret[i],
                     ret[i - 1]);
            return wrong(err, where, what);
        }
    }
    *ret_n = (unsigned)yyjson_arr_size(list);
    return SX_OK;
}

static enum sx_rc read_row(yyjson_val *row, const char *where, unsigned b, struct sx_latency *l,
                           struct sx_err *err)
{
    yyjson_val *v;
    char what[160];
    size_t u, n;

    if (!yyjson_is_arr(row) || yyjson_arr_size(row) != l->n_units) {
        snprintf(what, sizeof what,
                 "\"ms\"[%u], the row of batch %u, must be a list of %u times, one for each of "
                 "\"units\"",
                 b, l->batches[b], l->n_units);
        return wrong(err, where, what);
    }
    yyjson_arr_foreach(row, u, n, v)
    {
        double ns = yyjson_is_num(v) ? yyjson_get_num(v) * NS : 0;
        if (!yyjson_is_null(v) && !(ns >= SX_LATENCY_MIN_NS && ns <= SX_LATENCY_MAX_NS)) {
            snprintf(what, sizeof what,
                     "\"ms\"[%u][%zu], batch %u on %u units, must be milliseconds above 0, or null",
                     b, u, l->batches[b], l->units[u]);
            return wrong(err, where, what);
        }
        l->ns[u][b] = ns;
    }
    return SX_OK;
}

enum sx_rc sx_latency_read(struct yyjson_val *object, const char *where,
                           struct sx_latency *ret_latency, char ret_name[SX_LATENCY_NAME],
                           struct sx_err *err)
{
    struct sx_latency l = {0};
    yyjson_val *name = yyjson_obj_get(object, "name"), *rows, *v;
    char what[128];
    size_t b, n;
    enum sx_rc rc;

    if (!yyjson_is_obj(object))
        return wrong(err, where, "it must be an object");
    if (name &&
        (!yyjson_is_str(name) || !yyjson_get_len(name) || yyjson_get_len(name) >= SX_LATENCY_NAME ||
         strlen(yyjson_get_str(name)) != yyjson_get_len(name))) {
        snprintf(what, sizeof what, "\"name\" must be a text of 1 to %d bytes",
                 SX_LATENCY_NAME - 1);
        return wrong(err, where, what);
    }
    rc = read_grid(object, where, "units", SX_LATENCY_UNITS, l.units, &l.n_units, err);
    if (!rc)
        rc = read_grid(object, where, "batches", SX_LATENCY_BATCHES, l.batches, &l.n_batches, err);
    if (rc)
        return rc;
    rows = yyjson_obj_get(object, "ms");
    if (!yyjson_is_arr(rows) || yyjson_arr_size(rows) != l.n_batches) {
        snprintf(what, sizeof what, "\"ms\" must be a list of %u rows, one for each of \"batches\"",
                 l.n_batches);
        return wrong(err, where, what);
    }
    yyjson_arr_foreach(rows, b, n, v)
    {
        rc = read_row(v, where, (unsigned)b, &l, err);
        if (rc)
            return rc;
    }
    rc = sx_latency_check(&l, err); /* what is left: no time at all */
    if (rc) {
        sx_while(err, "%s", where);
        return rc;
    }
    *ret_latency = l;
    if (name && ret_name)
        snprintf(ret_name, SX_LATENCY_NAME, "%s", yyjson_get_str(name));
    return SX_OK;
}

enum sx_rc sx_latency_load(const char *path, struct sx_latency *ret_latency,
                           char ret_name[SX_LATENCY_NAME], struct sx_err *err)
{
    char *text = NULL, where[256], name[SX_LATENCY_NAME];
    yyjson_read_err why;
    yyjson_doc *doc = NULL;
    size_t size, line = 1;
    enum sx_rc rc = sx_file_read(path, FILE_MAX, &text, &size, err);

    if (rc)
        return rc;
    snprintf(where, sizeof where, "table '%.200s'", path);
    doc = yyjson_read_opts(text, size, 0, NULL, &why);
    if (!doc && why.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for '%s'", path);
        goto out;
    }
    if (!doc) {
        for (size_t i = 0; i < why.pos && i < size; i++)
            line += text[i] == '\n';
        rc = sx_fail(err, SX_INVALID, "%s, line %zu: %s", where, line, why.msg);
        sx_hint(err, "%s", shape);
        goto out;
    }
    sx_path_stem(path, ".json", name, sizeof name);
    rc = sx_latency_read(yyjson_doc_get_root(doc), where, ret_latency, name, err);
    if (!rc)
        memcpy(ret_name, name, sizeof name);
out:
    yyjson_doc_free(doc);
    free(text);
    return rc;
}

/* --- writing ---------------------------------------------------------------------------------- */

static void put_list(struct sx_sbuf *out, const char *name, const unsigned *list, unsigned n)
{
    sx_sbuf_printf(out, ",\"%s\":[", name);
    for (unsigned i = 0; i < n; i++)
        sx_sbuf_printf(out, "%s%u", i ? "," : "", list[i]);
    sx_sbuf_putc(out, ']');
}

void sx_latency_put(struct sx_sbuf *out, const char *name, const struct sx_latency *latency)
{
    sx_sbuf_puts(out, "{\"name\":");
    sx_sbuf_json(out, name);
    put_list(out, "units", latency->units, latency->n_units);
    put_list(out, "batches", latency->batches, latency->n_batches);
    sx_sbuf_puts(out, ",\"ms\":[");
    for (unsigned b = 0; b < latency->n_batches; b++) {
        sx_sbuf_puts(out, b ? ",\n[" : "\n[");
        for (unsigned u = 0; u < latency->n_units; u++) {
            sx_sbuf_puts(out, u ? "," : "");
            if (latency->ns[u][b] > 0)
                sx_sbuf_printf(out, "%.15g", latency->ns[u][b] / NS);
            else
                sx_sbuf_puts(out, "null");
        }
        sx_sbuf_putc(out, ']');
    }
    sx_sbuf_puts(out, "]}");
}

enum sx_rc sx_latency_save(const char *path, const char *name, const struct sx_latency *latency,
                           struct sx_err *err)
{
    struct sx_sbuf s = {0};

    sx_latency_put(&s, name, latency);
    sx_sbuf_putc(&s, '\n');
    return sx_fields_save(&s, path, err);
}
