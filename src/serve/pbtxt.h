/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * pbtxt.h - protobuf text format, without a schema.
 *
 * A text becomes a tree of fields in file order; a list (`a: [1, 2]`) becomes as many fields of
 * the same name.  What a value means is the reader's business: a scalar keeps its text.
 *
 * Understood: `a: 1`, `a { }`, `a: { }`, `a < >`, lists of scalars and of messages, `#` comments,
 * `,` and `;` between fields, single and double quotes with escapes, adjacent strings.
 * Not: extension names in brackets, Any with a type URL.
 *
 * One allocation for text and nodes each; nodes refer to each other by index.
 */
#ifndef SX_SERVE_PBTXT_H
#define SX_SERVE_PBTXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rc.h"

#define SX_PBTXT_MAX_BYTES (1u << 20)
#define SX_PBTXT_MAX_DEPTH 32

enum sx_pbtxt_kind {
    SX_PBTXT_MESSAGE,
    SX_PBTXT_STRING, /* was quoted */
    SX_PBTXT_WORD,   /* a number, true, false, an enum's name; a minus is part of it */
};

struct sx_pbtxt_node {
    enum sx_pbtxt_kind kind;
    const char *name;  /* terminated; "" for the root */
    const char *value; /* scalars: decoded, terminated (may contain NUL bytes); else NULL */
    size_t value_len;
    unsigned line, col;   /* of the name, from 1 */
    uint32_t first, next; /* first child, next sibling; 0: none (0 is the root) */
};

struct sx_pbtxt {
    struct sx_pbtxt_node *nodes; /* nodes[0] is the root message */
    size_t n, cap;
    char *chars;
    size_t chars_len;
};

/* Parse; `where` begins each error: "where:line:col: ...".  Free with sx_pbtxt_fini, also after
 * failure. */
enum sx_rc sx_pbtxt_parse(struct sx_pbtxt *tree, const char *text, size_t len, const char *where,
                          struct sx_err *err);
void sx_pbtxt_fini(struct sx_pbtxt *tree);

/* Walk the children of `parent`:
 *     for (const struct sx_pbtxt_node *n = sx_pbtxt_first(t, p); n; n = sx_pbtxt_next(t, n)) */
const struct sx_pbtxt_node *sx_pbtxt_first(const struct sx_pbtxt *tree,
                                           const struct sx_pbtxt_node *parent);
const struct sx_pbtxt_node *sx_pbtxt_next(const struct sx_pbtxt *tree,
                                          const struct sx_pbtxt_node *node);

/* Readers of one scalar; false when it is something else. */
bool sx_pbtxt_int(const struct sx_pbtxt_node *node, int64_t *ret_value);
bool sx_pbtxt_bool(const struct sx_pbtxt_node *node, bool *ret_value);

#endif
