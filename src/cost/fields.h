/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * fields.h - reading our own JSON files, which anything may have happened to.
 *
 * A reader remembers its first failure; after that each call returns something harmless, so that
 * code reads all fields in a row and looks at `rc` once.  Messages name the file and the field.
 */
#ifndef SX_COST_FIELDS_H
#define SX_COST_FIELDS_H

#include <stddef.h>
#include <stdint.h>
#include <yyjson.h>

#include "base/rc.h"
#include "base/sbuf.h"
#include "cost/profile.h"

#define SX_FIELDS_MAX_NODES (UINT32_C(1) << 22)
#define SX_FIELDS_MAX_NS    1e18 /* thirty years */

struct sx_fields {
    const char *what, *path; /* "profile", its file */
    const char *hint;        /* how to make a new one */
    enum sx_rc rc;
    struct sx_err *err;
    yyjson_doc *doc;
};

/* Read a file whose root is an object with this "format"; its root, or NULL.  Free with
 * sx_fields_close in both cases. */
yyjson_val *sx_fields_open(struct sx_fields *f, unsigned format);
void sx_fields_close(struct sx_fields *f);
/* Remember a failure, SX_INVALID: "profile 'x' is damaged: " + text. */
void sx_fields_damaged(struct sx_fields *f, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

double sx_fields_number(struct sx_fields *f, yyjson_val *object, const char *name, double lo,
                        double hi);
uint64_t sx_fields_uint(struct sx_fields *f, yyjson_val *object, const char *name, uint64_t lo,
                        uint64_t hi);
bool sx_fields_bool(struct sx_fields *f, yyjson_val *object, const char *name);
/* Not empty unless `empty`, without NUL inside, shorter than `size`. */
void sx_fields_text(struct sx_fields *f, yyjson_val *object, const char *name, bool empty,
                    char *buf, size_t size);
/* An array of numbers of exactly n elements in [lo, hi], into ret. */
void sx_fields_numbers(struct sx_fields *f, yyjson_val *object, const char *name, double lo,
                       double hi, double *ret, size_t n);
/* An array of at most `most` objects (or what not: the caller looks); NULL after a failure. */
yyjson_val *sx_fields_array(struct sx_fields *f, yyjson_val *object, const char *name, size_t most);

/* The field "key" of both kinds of file. */
void sx_fields_key(struct sx_fields *f, yyjson_val *root, struct sx_profile_key *ret_key);
/* Fail when `made` (in the file) is not `here`; NULL matches all. */
void sx_fields_compare(struct sx_fields *f, const struct sx_profile_key *made,
                       const struct sx_profile_key *here);

/* --- writing ---------------------------------------------------------------------------------- */

/* The shortest decimal number that reads back the same. */
void sx_fields_put_number(struct sx_sbuf *s, double value);
void sx_fields_put_numbers(struct sx_sbuf *s, const double *value, size_t n);
/* "key":{...} */
void sx_fields_put_key(struct sx_sbuf *s, const struct sx_profile_key *key);
/* Write `s` to `path`, whose directory is made; frees it. */
enum sx_rc sx_fields_save(struct sx_sbuf *s, const char *path, struct sx_err *err);

#endif
