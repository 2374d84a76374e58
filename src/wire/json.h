/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * json.h - read JSON in one pass, in place, without allocating.
 *
 * A tree of a number array takes sixteen times its text; this reader hands out slices of the text
 * instead and lets the caller turn them into tensor elements on the spot.  It is a cursor: each
 * call consumes one token or value and leaves the cursor after it.
 *
 *     for (bool more = sx_json_array(j); more; more = sx_json_more(j, ']')) { one value }
 *     if (j->error) ...
 *
 * Strict (RFC 8259), with one extension that Triton's clients use: the numbers NaN, Infinity and
 * -Infinity.  The first error sticks, and all later calls return false.  Nesting is bounded by the
 * caller's own loops, and by SX_JSON_MAX_DEPTH in sx_json_skip.
 */
#ifndef SX_WIRE_JSON_H
#define SX_WIRE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/sbuf.h"

#define SX_JSON_MAX_DEPTH 64

struct sx_json {
    const char *p, *end, *start;
    const char *error; /* NULL, or what is wrong at p: "expected ':'" */
};

/* A string without its quotes, as the text has it; valid UTF-8 and escapes. */
struct sx_json_string {
    const char *data;
    size_t len;
    bool escaped; /* has a backslash: sx_json_decode before use */
};

void sx_json_init(struct sx_json *j, const char *text, size_t len);
/* The next significant byte, not consumed; 0 at the end. */
char sx_json_peek(struct sx_json *j);
/* Consume '[' or '{'; true when a first element follows, false when it is empty (consumed) or
 * wrong. */
bool sx_json_array(struct sx_json *j);
bool sx_json_object(struct sx_json *j);
/* After a value: consume ',' and return true, or `close` and return false. */
bool sx_json_more(struct sx_json *j, char close);
/* Consume a key and its ':'. */
bool sx_json_key(struct sx_json *j, struct sx_json_string *ret_key);
bool sx_json_get_string(struct sx_json *j, struct sx_json_string *ret_string);
bool sx_json_get_bool(struct sx_json *j, bool *ret_value);
/* The text of a number, checked. */
bool sx_json_get_number(struct sx_json *j, const char **ret_text, size_t *ret_len);
/* Consume one value of any kind. */
bool sx_json_skip(struct sx_json *j);
/* Only space may follow. */
bool sx_json_finish(struct sx_json *j);
bool sx_json_fail(struct sx_json *j, const char *error); /* false */

/* Write the decoded bytes to `to` (at least len bytes; decoding never grows); returns how many. */
size_t sx_json_decode(const struct sx_json_string *s, char *to);
/* Equal to a terminated text, escapes resolved. */
bool sx_json_equal(const struct sx_json_string *s, const char *text);

/* --- numbers ------------------------------------------------------------------------------------
 */

/* From the text of a checked number.  False: has a fraction or exponent, or is out of range. */
bool sx_json_int64(const char *text, size_t len, int64_t *ret_value);
bool sx_json_uint64(const char *text, size_t len, uint64_t *ret_value);
/* Correctly rounded.  False: the number is finite but too large for the type. */
bool sx_json_double(const char *text, size_t len, double *ret_value);
bool sx_json_float(const char *text, size_t len, float *ret_value);

/* Append the shortest text that reads back as the same value; NaN, Infinity, -Infinity. */
void sx_json_put_double(struct sx_sbuf *s, double value);
void sx_json_put_float(struct sx_sbuf *s, float value);
void sx_json_put_int64(struct sx_sbuf *s, int64_t value);
void sx_json_put_uint64(struct sx_sbuf *s, uint64_t value);
/* Append bytes as a string with quotes; false (nothing appended) when they are not UTF-8. */
bool sx_json_put_bytes(struct sx_sbuf *s, const unsigned char *bytes, size_t len);

#endif
