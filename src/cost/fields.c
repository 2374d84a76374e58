/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "cost/fields.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define FILE_MAX ((size_t)256 << 20)

void sx_fields_damaged(struct sx_fields *f, const char *format, ...)
{
    char text[192];
    va_list args;

    if (f->rc)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    f->rc = sx_fail(f->err, SX_INVALID, "%s '%s' is damaged: %s", f->what, f->path, text);
    sx_hint(f->err, "%s", f->hint);
}

yyjson_val *sx_fields_open(struct sx_fields *f, unsigned format)
{
    char *text = NULL;
    size_t size;
    yyjson_read_err why;

    f->rc = sx_file_read(f->path, FILE_MAX, &text, &size, f->err);
    if (f->rc)
        return NULL;
    f->doc = yyjson_read_opts(text, size, 0, NULL, &why);
    free(text);
    if (!f->doc && why.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION) {
        f->rc = sx_fail(f->err, SX_NO_MEMORY, "no memory for '%s'", f->path);
        return NULL;
    }
    if (!f->doc) {
        sx_fields_damaged(f, "%s at byte %zu of %zu", why.msg, why.pos, size);
        return NULL;
    }
    yyjson_val *root = yyjson_doc_get_root(f->doc), *made = yyjson_obj_get(root, "format");
    if (!yyjson_is_uint(made)) {
        sx_fields_damaged(f, "no \"format\" in it");
        return NULL;
    }
    if (yyjson_get_uint(made) != format) {
        f->rc = sx_fail(f->err, SX_INVALID, "%s '%s' has format %llu, this program reads %u",
                        f->what, f->path, (unsigned long long)yyjson_get_uint(made), format);
        sx_hint(f->err, "%s", f->hint);
        return NULL;
    }
    return root;
}

void sx_fields_close(struct sx_fields *f)
{
    yyjson_doc_free(f->doc);
    f->doc = NULL;
}

static bool in_range(yyjson_val *v, double lo, double hi, double *ret)
{
    double x = yyjson_is_num(v) ? yyjson_get_num(v) : (double)NAN;

    *ret = x;
    return x >= lo && x <= hi; /* false for NaN */
}

double sx_fields_number(struct sx_fields *f, yyjson_val *object, const char *name, double lo,
                        double hi)
{
    double x;

    if (f->rc)
        return lo;
    if (in_range(yyjson_obj_get(object, name), lo, hi, &x))
        return x;
    sx_fields_damaged(f, "\"%s\" must be a number from %g to %g", name, lo, hi);
    return lo;
}

uint64_t sx_fields_uint(struct sx_fields *f, yyjson_val *object, const char *name, uint64_t lo,
                        uint64_t hi)
{
    yyjson_val *v = f->rc ? NULL : yyjson_obj_get(object, name);

    if (f->rc)
        return lo;
    if (yyjson_is_uint(v) && yyjson_get_uint(v) >= lo && yyjson_get_uint(v) <= hi)
        return yyjson_get_uint(v);
    sx_fields_damaged(f, "\"%s\" must be a whole number from %llu to %llu", name,
                      (unsigned long long)lo, (unsigned long long)hi);
    return lo;
}

bool sx_fields_bool(struct sx_fields *f, yyjson_val *object, const char *name)
{
    yyjson_val *v = f->rc ? NULL : yyjson_obj_get(object, name);

    if (!f->rc && !yyjson_is_bool(v))
        sx_fields_damaged(f, "\"%s\" must be true or false", name);
    return yyjson_is_true(v);
}

/* A text of the file in a buffer of fixed size. */
static bool copy_text(yyjson_val *v, bool empty, char *buf, size_t size)
{
    size_t len = yyjson_get_len(v);

    if (!yyjson_is_str(v) || len >= size || (len == 0 && !empty) ||
        memchr(yyjson_get_str(v), '\0', len))
        return false;
    memcpy(buf, yyjson_get_str(v), len + 1);
    return true;
}

void sx_fields_text(struct sx_fields *f, yyjson_val *object, const char *name, bool empty,
                    char *buf, size_t size)
{
    buf[0] = '\0';
    if (!f->rc && !copy_text(yyjson_obj_get(object, name), empty, buf, size))
        sx_fields_damaged(f, "\"%s\" must be a text of %d to %zu bytes", name, !empty, size - 1);
}

void sx_fields_numbers(struct sx_fields *f, yyjson_val *object, const char *name, double lo,
                       double hi, double *ret, size_t n)
{
    yyjson_val *array = f->rc ? NULL : yyjson_obj_get(object, name), *v;
    size_t i, len;

    if (f->rc)
        return;
    if (!yyjson_is_arr(array) || yyjson_arr_size(array) != n) {
        sx_fields_damaged(f, "\"%s\" must be a list of %zu numbers", name, n);
        return;
    }
    yyjson_arr_foreach(array, i, len, v)
    {
        if (!in_range(v, lo, hi, &ret[i])) {
            sx_fields_damaged(f, "\"%s\"[%zu] must be a number from %g to %g", name, i, lo, hi);
            return;
        }
    }
}

yyjson_val *sx_fields_array(struct sx_fields *f, yyjson_val *object, const char *name, size_t most)
{
    yyjson_val *array = f->rc ? NULL : yyjson_obj_get(object, name);

    if (!f->rc && (!yyjson_is_arr(array) || yyjson_arr_size(array) > most))
        sx_fields_damaged(f, "\"%s\" must be a list of at most %zu", name, most);
    return f->rc ? NULL : array;
}

/* --- keys ------------------------------------------------------------------------------------- */

void sx_fields_key(struct sx_fields *f, yyjson_val *root, struct sx_profile_key *ret_key)
{
    yyjson_val *key = yyjson_obj_get(root, "key");

    memset(ret_key, 0, sizeof *ret_key);
    sx_fields_text(f, key, "model", false, ret_key->model, sizeof ret_key->model);
    sx_fields_text(f, key, "machine", false, ret_key->machine, sizeof ret_key->machine);
    sx_fields_text(f, key, "engine", false, ret_key->engine, sizeof ret_key->engine);
    ret_key->n_nodes = (uint32_t)sx_fields_uint(f, key, "nodes", 0, SX_FIELDS_MAX_NODES);
}

static void compare_text(struct sx_fields *f, const char *what, const char *made, const char *here)
{
    if (f->rc || !strcmp(made, here))
        return;
    f->rc = sx_fail(f->err, SX_INVALID, "%s '%s' was made for %s %s, this is %s", f->what, f->path,
                    what, made, here);
    sx_hint(f->err, "%s", f->hint);
}

void sx_fields_compare(struct sx_fields *f, const struct sx_profile_key *made,
                       const struct sx_profile_key *here)
{
    if (!here)
        return;
    compare_text(f, "machine", made->machine, here->machine);
    compare_text(f, "engine", made->engine, here->engine);
    compare_text(f, "model", made->model, here->model);
    if (f->rc || made->n_nodes == here->n_nodes)
        return;
    f->rc =
        sx_fail(f->err, SX_INVALID, "%s '%s' was made for a graph of %u operators, this one has %u",
                f->what, f->path, made->n_nodes, here->n_nodes);
    sx_hint(f->err, "%s", f->hint);
}

/* --- writing ---------------------------------------------------------------------------------- */

void sx_fields_put_number(struct sx_sbuf *s, double value)
{
    char text[32];

    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        double back = strtod(text, NULL);
        if (!memcmp(&back, &value, sizeof back))
            break;
    }
    sx_sbuf_puts(s, text);
}

void sx_fields_put_numbers(struct sx_sbuf *s, const double *value, size_t n)
{
    sx_sbuf_putc(s, '[');
    for (size_t i = 0; i < n; i++) {
        if (i)
            sx_sbuf_putc(s, ',');
        sx_fields_put_number(s, value[i]);
    }
    sx_sbuf_putc(s, ']');
}

void sx_fields_put_key(struct sx_sbuf *s, const struct sx_profile_key *key)
{
    sx_sbuf_puts(s, "\"key\":{\"model\":");
    sx_sbuf_json(s, key->model);
    sx_sbuf_puts(s, ",\"machine\":");
    sx_sbuf_json(s, key->machine);
    sx_sbuf_puts(s, ",\"engine\":");
    sx_sbuf_json(s, key->engine);
    sx_sbuf_printf(s, ",\"nodes\":%u}", key->n_nodes);
}

enum sx_rc sx_fields_save(struct sx_sbuf *s, const char *path, struct sx_err *err)
{
    const char *slash = strrchr(path, '/');
    enum sx_rc rc = SX_OK;

    if (s->failed)
        rc = sx_fail(err, SX_NO_MEMORY, "no memory to write '%s'", path);
    if (!rc && slash && slash > path) {
        char *dir = strndup(path, (size_t)(slash - path));
        rc = dir ? sx_dir_create(dir, err) : sx_fail(err, SX_NO_MEMORY, "no memory for a path");
        free(dir);
    }
    if (!rc)
        rc = sx_file_write(path, s->data, s->len, err);
    sx_sbuf_free(s);
    return rc;
}
