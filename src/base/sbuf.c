/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * sbuf.c - a growing byte string.
 */
#include "base/sbuf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

void sx_sbuf_free(struct sx_sbuf *s)
{
    free(s->data);
    *s = (struct sx_sbuf){0};
}

void sx_sbuf_clear(struct sx_sbuf *s)
{
    s->len = 0;
    s->failed = false;
    if (s->data)
        s->data[0] = '\0';
}

bool sx_sbuf_reserve(struct sx_sbuf *s, size_t n)
{
    if (s->failed)
        return false;
    if (s->data && n < s->cap - s->len) // strictly: the NUL needs a place, too
        return true;
    if (n > PTRDIFF_MAX - 1 - s->len) {
        s->failed = true;
        return false;
    }
    size_t need = s->len + n + 1;
    size_t cap = s->cap < 64 ? 64 : s->cap;
    while (cap < need)
        cap = cap > PTRDIFF_MAX / 2 ? need : cap * 2;
    char *data = realloc(s->data, cap);
    if (!data) {
        s->failed = true;
        return false;
    }
    s->data = data;
    s->cap = cap;
    s->data[s->len] = '\0';
    return true;
}

void sx_sbuf_add(struct sx_sbuf *s, const void *bytes, size_t n)
{
    if (!sx_sbuf_reserve(s, n))
        return;
    if (n > 0)
        memcpy(s->data + s->len, bytes, n);
    s->len += n;
    s->data[s->len] = '\0';
}

void sx_sbuf_puts(struct sx_sbuf *s, const char *text)
{
    sx_sbuf_add(s, text, strlen(text));
}

void sx_sbuf_putc(struct sx_sbuf *s, char c)
{
    sx_sbuf_add(s, &c, 1);
}

void sx_sbuf_printf(struct sx_sbuf *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    sx_sbuf_vprintf(s, format, args);
    va_end(args);
}

void sx_sbuf_vprintf(struct sx_sbuf *s, const char *format, va_list args)
{
    if (!sx_sbuf_reserve(s, 0))
        return;
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(s->data + s->len, s->cap - s->len, format, args);
    if (n < 0) {
        s->data[s->len] = '\0';
        s->failed = true;
    } else if ((size_t)n < s->cap - s->len) {
        s->len += (size_t)n;
    } else {
        s->data[s->len] = '\0'; // drop the part that fitted: reserve may fail
        if (sx_sbuf_reserve(s, (size_t)n)) {
            vsnprintf(s->data + s->len, (size_t)n + 1, format, again);
            s->len += (size_t)n;
        }
    }
    va_end(again);
}

void sx_sbuf_json(struct sx_sbuf *s, const char *text)
{
    static const char replacement[] = "\xef\xbf\xbd";
    const unsigned char *p = (const unsigned char *)text;
    const unsigned char *plain = p; // start of what is copied as it is

    sx_sbuf_putc(s, '"');
    while (*p) {
        size_t skip, n = sx_utf8_length(p, NULL, &skip);
        if (n > 0 && *p >= 0x20 && *p != '"' && *p != '\\') {
            p += n;
            continue;
        }
        sx_sbuf_add(s, plain, (size_t)(p - plain));
        if (n == 0)
            sx_sbuf_puts(s, replacement);
        else if (*p == '"')
            sx_sbuf_puts(s, "\\\"");
        else if (*p == '\\')
            sx_sbuf_puts(s, "\\\\");
        else if (*p == '\n')
            sx_sbuf_puts(s, "\\n");
        else if (*p == '\r')
            sx_sbuf_puts(s, "\\r");
        else if (*p == '\t')
            sx_sbuf_puts(s, "\\t");
        else
            sx_sbuf_printf(s, "\\u%04x", *p);
        p += n > 0 ? n : skip;
        plain = p;
    }
    sx_sbuf_add(s, plain, (size_t)(p - plain));
    sx_sbuf_putc(s, '"');
}

void sx_sbuf_html(struct sx_sbuf *s, const char *text)
{
    for (;;) {
        size_t n = strcspn(text, "&<>\"'");
        sx_sbuf_add(s, text, n);
        text += n;
        switch (*text++) {
        case '&':
            sx_sbuf_puts(s, "&amp;");
            break;
        case '<':
            sx_sbuf_puts(s, "&lt;");
            break;
        case '>':
            sx_sbuf_puts(s, "&gt;");
            break;
        case '"':
            sx_sbuf_puts(s, "&quot;");
            break;
        case '\'':
            sx_sbuf_puts(s, "&#39;");
            break;
        default:
            return;
        }
    }
}
