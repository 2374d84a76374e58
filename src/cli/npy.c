/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * npy.c - the format as NumPy documents it (numpy.lib.format): the magic "\x93NUMPY", a version,
 * the length of the header, a Python dictionary as text, the elements.
 */
#include "cli/npy.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/sbuf.h"

static const char magic[6] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};

static const struct {
    const char *descr; /* without the byte order */
    enum sx_dtype dtype;
} types[] = {
    {"b1", SX_BOOL},   {"u1", SX_UINT8}, {"u2", SX_UINT16}, {"u4", SX_UINT32},
    {"u8", SX_UINT64}, {"i1", SX_INT8},  {"i2", SX_INT16},  {"i4", SX_INT32},
    {"i8", SX_INT64},  {"f2", SX_FP16},  {"f4", SX_FP32},   {"f8", SX_FP64},
};
enum { N_TYPES = sizeof types / sizeof types[0] };

struct header {
    char descr[32];
    bool fortran;
    int rank;
    int64_t dims[SX_MAX_RANK];
};

bool sx_npy_is(const void *data, size_t size)
{
    return size >= sizeof magic && memcmp(data, magic, sizeof magic) == 0;
}

/* --- reading ---------------------------------------------------------------------------------- */

/* What follows `'key':` in the dictionary; NULL when the key is not there. */
static const char *lookup(const char *text, const char *key)
{
    char quoted[32];

    snprintf(quoted, sizeof quoted, "'%s'", key);
    const char *p = strstr(text, quoted);
    if (!p)
        return NULL;
    p += strlen(quoted);
    p += strspn(p, " ");
    if (*p != ':')
        return NULL;
    return p + 1 + strspn(p + 1, " ");
}

static bool parse_header(const char *text, struct header *h)
{
    const char *p = lookup(text, "descr");
    size_t len;

    if (!p || *p != '\'')
        return false;
    len = strcspn(++p, "'");
    if (len >= sizeof h->descr || p[len] != '\'')
        return false;
    memcpy(h->descr, p, len);
    h->descr[len] = 0;
    p = lookup(text, "fortran_order");
    if (!p || (strncmp(p, "True", 4) && strncmp(p, "False", 5)))
        return false;
    h->fortran = *p == 'T';
    p = lookup(text, "shape");
    if (!p || *p++ != '(')
        return false;
    for (h->rank = 0; *(p += strspn(p, " ,")) != ')'; h->rank++) {
        char *end;
        if (*p < '0' || *p > '9' || h->rank == SX_MAX_RANK)
            return false;
        h->dims[h->rank] = strtoll(p, &end, 10);
        p = end;
    }
    return true;
}

static enum sx_rc own(struct sx_tensor *t, struct sx_pool *pool, const struct header *h,
                      enum sx_dtype dtype, const void *data, size_t size)
{
    struct sx_buffer *buffer = sx_pool_get(pool, size);

    if (!buffer)
        return SX_NO_MEMORY;
    if (size)
        memcpy(buffer->data, data, size);
    *t = (struct sx_tensor){
        .buffer = buffer, .data = buffer->data, .nbytes = size, .dtype = dtype, .rank = h->rank};
    memcpy(t->dims, h->dims, sizeof t->dims);
    return SX_OK;
}

static void add_utf8(struct sx_sbuf *s, uint32_t c)
{
    if (c < 0x80) {
        sx_sbuf_putc(s, (char)c);
    } else if (c < 0x800) {
        sx_sbuf_putc(s, (char)(0xc0 | c >> 6));
        sx_sbuf_putc(s, (char)(0x80 | (c & 63)));
    } else if (c < 0x10000) {
        sx_sbuf_putc(s, (char)(0xe0 | c >> 12));
        sx_sbuf_putc(s, (char)(0x80 | (c >> 6 & 63)));
        sx_sbuf_putc(s, (char)(0x80 | (c & 63)));
    } else {
        sx_sbuf_putc(s, (char)(0xf0 | (c >> 18 & 7)));
        sx_sbuf_putc(s, (char)(0x80 | (c >> 12 & 63)));
        sx_sbuf_putc(s, (char)(0x80 | (c >> 6 & 63)));
        sx_sbuf_putc(s, (char)(0x80 | (c & 63)));
    }
}

/* Fixed-width strings to the protocol's form; padding zeros at the end are not part of them. */
static void pack_strings(struct sx_sbuf *s, const unsigned char *data, uint64_t count, size_t width,
                         bool text)
{
    for (uint64_t i = 0; i < count; i++, data += width) {
        size_t at = s->len, len = width;
        uint32_t size;

        sx_sbuf_add(s, "\0\0\0\0", 4);
        if (text) {
            for (size_t k = 0; k + 4 <= width; k += 4) {
                uint32_t c;
                memcpy(&c, data + k, 4);
                if (c == 0)
                    break;
                add_utf8(s, c);
            }
        } else {
            while (len && data[len - 1] == 0)
                len--;
            sx_sbuf_add(s, data, len);
        }
        if (s->failed)
            return;
        size = (uint32_t)(s->len - at - 4);
        memcpy(s->data + at, &size, 4);
    }
}

static enum sx_rc parse_strings(const unsigned char *data, size_t size, const struct header *h,
                                const char *where, struct sx_pool *pool, struct sx_tensor *ret,
                                struct sx_err *err)
{
    bool text = strchr(h->descr, 'U') != NULL;
    size_t width = strtoul(h->descr + strcspn(h->descr, "SU") + 1, NULL, 10) * (text ? 4 : 1);
    struct sx_sbuf s = {0};
    uint64_t count;
    enum sx_rc rc = SX_NO_MEMORY;

    if (!sx_shape_count(h->dims, h->rank, &count) || width > UINT32_MAX ||
        (width && count > size / width) || count * width != size)
        return sx_fail(err, SX_INVALID, "%s: its size does not fit its shape", where);
    if (!width && count > 1u << 20)
        return sx_fail(err, SX_INVALID, "%s: too many empty strings", where);
    pack_strings(&s, data, count, width, text);
    if (!s.failed)
        rc = own(ret, pool, h, SX_BYTES, s.data, s.len);
    sx_sbuf_free(&s);
    return rc == SX_OK ? rc : sx_fail(err, rc, "%s: out of memory", where);
}

enum sx_rc sx_npy_parse(const void *data, size_t size, const char *where, struct sx_pool *pool,
                        struct sx_tensor *ret, struct sx_err *err)
{
    const unsigned char *p = data;
    struct header h = {0};
    size_t start, len, need;
    char *text;
    bool ok;

    if (!sx_npy_is(data, size) || size < 10 || p[6] < 1 || p[6] > 3 || (p[6] > 1 && size < 12))
        return sx_fail(err, SX_INVALID, "%s: not a .npy file of version 1 to 3", where);
    start = p[6] == 1 ? 10 : 12;
    len = p[8] | (size_t)p[9] << 8;
    if (p[6] > 1)
        len |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
    if (len > size - start)
        return sx_fail(err, SX_INVALID, "%s: the header is cut off", where);
    text = malloc(len + 1);
    if (!text)
        return sx_fail(err, SX_NO_MEMORY, "%s: out of memory", where);
    memcpy(text, p + start, len);
    text[len] = 0;
    ok = parse_header(text, &h);
    free(text);
    if (!ok)
        return sx_fail(err, SX_INVALID, "%s: cannot understand the .npy header", where);
    if (h.fortran && h.rank > 1) {
        sx_fail(err, SX_UNSUPPORTED, "%s: stored in Fortran order", where);
        sx_hint(err, "save numpy.ascontiguousarray(x)");
        return SX_UNSUPPORTED;
    }
    p += start + len;
    size -= start + len;
    if (h.descr[0] == '>') {
        sx_fail(err, SX_UNSUPPORTED, "%s: stored big-endian ('%s')", where, h.descr);
        sx_hint(err, "save x.astype(x.dtype.newbyteorder('<'))");
        return SX_UNSUPPORTED;
    }
    const char *name = h.descr + (strchr("<|=", h.descr[0]) && h.descr[0]);
    if (*name == 'S' || *name == 'U')
        return parse_strings(p, size, &h, where, pool, ret, err);
    for (int i = 0; i < N_TYPES; i++) {
        if (strcmp(types[i].descr, name))
            continue;
        if (!sx_shape_bytes(types[i].dtype, h.dims, h.rank, &need) || need != size)
            return sx_fail(err, SX_INVALID, "%s: its size does not fit its shape", where);
        if (own(ret, pool, &h, types[i].dtype, p, size) != SX_OK)
            return sx_fail(err, SX_NO_MEMORY, "%s: out of memory", where);
        return SX_OK;
    }
    return sx_fail(err, SX_UNSUPPORTED, "%s: elements of type '%s' are not supported", where,
                   h.descr);
}

/* --- writing ---------------------------------------------------------------------------------- */

static void write_header(struct sx_sbuf *s, const char *descr, const struct sx_tensor *t)
{
    struct sx_sbuf dict = {0};

    sx_sbuf_printf(&dict, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
    for (int d = 0; d < t->rank; d++)
        sx_sbuf_printf(&dict, "%" PRId64 "%s", t->dims[d],
                       t->rank == 1      ? ","
                       : d + 1 < t->rank ? ", "
                                         : "");
    sx_sbuf_puts(&dict, "), }");
    while ((10 + dict.len + 1) % 64 && !dict.failed)
        sx_sbuf_putc(&dict, ' ');
    sx_sbuf_putc(&dict, '\n');
    sx_sbuf_add(s, magic, sizeof magic);
    sx_sbuf_add(s, (char[]){1, 0, (char)(dict.len & 255), (char)(dict.len >> 8)}, 4);
    sx_sbuf_add(s, dict.data, dict.len);
    s->failed |= dict.failed;
    sx_sbuf_free(&dict);
}

static void write_strings(struct sx_sbuf *s, const struct sx_tensor *t)
{
    size_t width = 1;
    char descr[32];

    for (int pass = 0; pass < 2; pass++) {
        uint32_t len;
        for (size_t at = 0; at + 4 <= t->nbytes; at += 4 + (size_t)len) {
            memcpy(&len, t->data + at, 4);
            if (len > t->nbytes - at - 4)
                return;
            if (pass == 0) {
                width = len > width ? len : width;
                continue;
            }
            sx_sbuf_add(s, t->data + at + 4, len);
            for (size_t k = len; k < width && !s->failed; k++)
                sx_sbuf_putc(s, 0);
        }
        if (pass == 0) {
            snprintf(descr, sizeof descr, "|S%zu", width);
            write_header(s, descr, t);
        }
    }
}

enum sx_rc sx_npy_write(const char *path, const struct sx_tensor *t, struct sx_err *err)
{
    struct sx_sbuf s = {0};
    char descr[8] = "";
    enum sx_rc rc;

    if (t->dtype == SX_BYTES) {
        write_strings(&s, t);
    } else {
        for (int i = 0; i < N_TYPES; i++)
            if (types[i].dtype == t->dtype)
                snprintf(descr, sizeof descr, "%c%s", types[i].descr[1] == '1' ? '|' : '<',
                         types[i].descr);
        if (!*descr)
            return sx_fail(err, SX_UNSUPPORTED, "%s: NumPy has no type for %s", path,
                           sx_dtype_name(t->dtype));
        write_header(&s, descr, t);
        sx_sbuf_add(&s, t->data, t->nbytes);
    }
    if (s.failed)
        rc = sx_fail(err, SX_NO_MEMORY, "%s: out of memory", path);
    else
        rc = sx_file_write(path, s.data, s.len, err);
    sx_sbuf_free(&s);
    return rc;
}
