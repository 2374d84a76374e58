/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * v2_int.h - what the files of the V2 protocol share.
 */
#ifndef SX_WIRE_V2_INT_H
#define SX_WIRE_V2_INT_H

#include "wire/json.h"
#include "wire/v2.h"

/* An infer request being read. */
struct sx_v2_reader {
    struct sx_json j;
    struct sx_v2_call *call;
    const struct sx_v2_model *model;
    struct sx_pool *pool;
    const struct sx_v2_body *body;
    size_t binary_at; /* where the next binary tensor begins in the body */
    struct sx_tensor *inputs;
    const char *field;             /* the last known field, for messages */
    struct sx_json_string unknown; /* the first field that was ignored */
    bool binary_output;
    struct sx_err *err;
};

/* Turn j.error into an explained error. */
enum sx_rc sx_v2_syntax(struct sx_v2_reader *r);
/* "WHAT 'NAME' has no 'FIELD'"; `name` may be "". */
enum sx_rc sx_v2_missing(struct sx_v2_reader *r, const char *what, const char *name,
                         const char *field);
/* Which of `names` the next key is; consumes it.  -1: none, its value is skipped.  -2: *ret_rc,
 * also for a key that is a slip of the pen. */
int sx_v2_next_field(struct sx_v2_reader *r, const char *const *names, int n, enum sx_rc *ret_rc);
/* A whole number from 0 to max; else false and j.error. */
bool sx_v2_get_int(struct sx_v2_reader *r, int64_t max, int64_t *ret_value);
/* Name the model's ports, as many as fit, after a wrong name; `what` is "input" or "output". */
void sx_v2_hint_ports(struct sx_err *err, const char *what, const struct sx_port *ports, size_t n);
/* -1: there is none of that name. */
int sx_v2_find_port(const struct sx_port *ports, size_t n, const struct sx_json_string *name);
/* One element of "inputs" into r->inputs. */
enum sx_rc sx_v2_read_input(struct sx_v2_reader *r);
/* The whole body as the model's only input. */
enum sx_rc sx_v2_read_raw(struct sx_v2_reader *r);

/* Read an input's "data" into a tensor whose dtype and shape are set.  Syntax errors are left in
 * j->error (and SX_INVALID returned); others fill `err`. */
enum sx_rc sx_v2_read_data(struct sx_json *j, const char *name, struct sx_pool *pool,
                           struct sx_tensor *t, struct sx_err *err);
/* SX_INVALID with the way out: elements of this type cannot be written as JSON. */
enum sx_rc sx_v2_has_json(const char *name, enum sx_dtype dtype, struct sx_err *err);
/* Append the elements of an output as a flat JSON array. */
enum sx_rc sx_v2_put_data(struct sx_sbuf *s, const char *name, const struct sx_tensor *t,
                          struct sx_err *err);

#endif
