/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * sbuf.h - a growing byte string.
 *
 * Zero-initialise it, append, read `data`/`len`, free.  `data` is NUL-terminated whenever it is
 * not NULL.  A failed allocation sets `failed`, drops the append and all later ones; check once
 * at the end.  Clearing keeps the memory, so a reused buffer stops allocating.
 */
#ifndef SX_BASE_SBUF_H
#define SX_BASE_SBUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct sx_sbuf {
    char *data;
    size_t len, cap;
    bool failed;
};

void sx_sbuf_free(struct sx_sbuf *s);
void sx_sbuf_clear(struct sx_sbuf *s);
/* Room for `n` more bytes; false if memory ran out. */
bool sx_sbuf_reserve(struct sx_sbuf *s, size_t n);
void sx_sbuf_add(struct sx_sbuf *s, const void *bytes, size_t n);
void sx_sbuf_puts(struct sx_sbuf *s, const char *text);
void sx_sbuf_putc(struct sx_sbuf *s, char c);
void sx_sbuf_printf(struct sx_sbuf *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void sx_sbuf_vprintf(struct sx_sbuf *s, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));
/* Append `text` as a JSON string, quotes included; invalid UTF-8 becomes U+FFFD. */
void sx_sbuf_json(struct sx_sbuf *s, const char *text);
/* Append `text` with the five characters that HTML and SVG reserve escaped. */
void sx_sbuf_html(struct sx_sbuf *s, const char *text);

#endif
