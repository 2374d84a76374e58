/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * v2_fields.c - the fields of JSON objects: known, misspelt, unknown, missing.
 */
#include <stdio.h>
#include <string.h>

#include "wire/v2_int.h"

enum sx_rc sx_v2_syntax(struct sx_v2_reader *r)
{
    return sx_fail(r->err, SX_INVALID, "failed to parse the request JSON at byte %zu%s%s%s: %s",
                   (size_t)(r->j.p - r->j.start), r->field ? ", field '" : "",
                   r->field ? r->field : "", r->field ? "'" : "", r->j.error);
}

/* --- fields -------------------------------------------------------------------------------------
 */

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Insertions, deletions and replacements from `key` to `word` (Levenshtein), for short words. */
static size_t distance(const struct sx_json_string *key, const char *word)
{
    size_t row[24], n = strlen(word);
    for (size_t i = 0; i <= n; i++)
        row[i] = i;
    for (size_t k = 0; k < key->len; k++) {
        size_t diagonal = row[0];
        row[0] = k + 1;
        for (size_t i = 1; i <= n; i++) {
            size_t up = row[i];
            row[i] = min3(up + 1, row[i - 1] + 1, diagonal + (key->data[k] != word[i - 1]));
            diagonal = up;
        }
    }
    return row[n];
}

int sx_v2_next_field(struct sx_v2_reader *r, const char *const *names, int n, enum sx_rc *ret_rc)
{
    struct sx_json_string key;
    if (!sx_json_key(&r->j, &key)) {
        *ret_rc = sx_v2_syntax(r);
        return -2;
    }
    for (int i = 0; i < n; i++) {
        if (sx_json_equal(&key, names[i])) {
            r->field = names[i];
            return i;
        }
    }
    for (int i = 0; i < n && key.len < 24; i++) {
        if (distance(&key, names[i]) <= strlen(names[i]) / 3) {
            *ret_rc = sx_fail(r->err, SX_INVALID, "unknown field '%.*s', did you mean '%s'?",
                              (int)key.len, key.data, names[i]);
            return -2;
        }
    }
    if (!r->unknown.data)
        r->unknown = key;
    if (!sx_json_skip(&r->j)) {
        *ret_rc = sx_v2_syntax(r);
        return -2;
    }
    return -1;
}

enum sx_rc sx_v2_missing(struct sx_v2_reader *r, const char *what, const char *name,
                         const char *field)
{
    sx_fail(r->err, SX_INVALID, "%s%s%s%s has no '%s'", what, *name ? " '" : "", name,
            *name ? "'" : "", field);
    if (r->unknown.data)
        sx_hint(r->err, "the unknown field '%.*s' was ignored",
                (int)(r->unknown.len < 40 ? r->unknown.len : 40), r->unknown.data);
    return SX_INVALID;
}

bool sx_v2_get_int(struct sx_v2_reader *r, int64_t max, int64_t *ret_value)
{
    const char *text;
    size_t len;
    if (!sx_json_get_number(&r->j, &text, &len))
        return false;
    if (!sx_json_int64(text, len, ret_value))
        return sx_json_fail(&r->j, "expected a whole number");
    return (*ret_value >= 0 && *ret_value <= max) ||
           sx_json_fail(&r->j, "the number is out of range");
}

void sx_v2_hint_ports(struct sx_err *err, const char *what, const struct sx_port *ports, size_t n)
{
    char names[200] = "";
    size_t len = 0, i = 0;
    for (; i < n; i++) {
        size_t left = sizeof(names) - len;
        size_t more = (size_t)snprintf(names + len, left, "%s'%s'", i ? ", " : "", ports[i].name);
        if (more >= left)
            break;
        len += more;
    }
    names[len] = '\0'; /* the one that did not fit */
    if (i)
        sx_hint(err, "its %s%s %s%s", what, n == 1 ? " is" : "s are", names, i < n ? ", ..." : "");
}

int sx_v2_find_port(const struct sx_port *ports, size_t n, const struct sx_json_string *name)
{
    for (size_t i = 0; i < n; i++)
        if (sx_json_equal(name, ports[i].name))
            return (int)i;
    return -1;
}
