/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * pbtxt.c - protobuf text format: a recursive-descent parser with a depth limit.
 *
 * Always true while parsing
 *   I1  chars has room for everything: a token of n source bytes needs at most n + 1, and two
 *       tokens never share a byte.
 *   I2  nodes only grow; they are named by index, as growing moves them.
 */
#include "serve/pbtxt.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct parser {
    struct sx_pbtxt *tree;
    const char *p, *end, *line_start;
    unsigned line;
    unsigned depth;
    const char *where;
    struct sx_err *err;
};

static unsigned column(const struct parser *ps)
{
    return (unsigned)(ps->p - ps->line_start) + 1;
}

#define FAIL(ps, format, ...)                                                                      \
    sx_fail((ps)->err, SX_INVALID, "%s:%u:%u: " format, (ps)->where, (ps)->line,                   \
            column(ps) __VA_OPT__(, ) __VA_ARGS__)

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.';
}

static bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static void skip_space(struct parser *ps)
{
    while (ps->p < ps->end) {
        char c = *ps->p;
        if (c == '\n') {
            ps->line++;
            ps->line_start = ++ps->p;
        } else if (c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v') {
            ps->p++;
        } else if (c == '#') {
            while (ps->p < ps->end && *ps->p != '\n')
                ps->p++;
        } else {
            return;
        }
    }
}

/* The next significant byte, or 0 at the end; a NUL in the text is reported as such. */
static char peek(struct parser *ps)
{
    skip_space(ps);
    return ps->p < ps->end ? *ps->p : '\0';
}

static enum sx_rc unexpected(struct parser *ps, const char *wanted)
{
    if (ps->p >= ps->end)
        return FAIL(ps, "expected %s, but the file ends", wanted);
    unsigned char c = (unsigned char)*ps->p;
    if (c < 0x20 || c > 0x7e)
        return FAIL(ps, "expected %s, got byte 0x%02x", wanted, c);
    return FAIL(ps, "expected %s, got '%c'", wanted, c);
}

static enum sx_rc new_node(struct parser *ps, uint32_t parent, uint32_t *last, const char *name,
                           unsigned line, unsigned col, uint32_t *ret_index)
{
    struct sx_pbtxt *t = ps->tree;
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 64;
        struct sx_pbtxt_node *nodes = realloc(t->nodes, cap * sizeof(*nodes));
        if (!nodes)
            return sx_fail(ps->err, SX_NO_MEMORY, "%s: out of memory", ps->where);
        t->nodes = nodes;
        t->cap = cap;
    }
    uint32_t i = (uint32_t)t->n++;
    t->nodes[i] =
        (struct sx_pbtxt_node){.kind = SX_PBTXT_MESSAGE, .name = name, .line = line, .col = col};
    if (i > 0) {
        if (*last)
            t->nodes[*last].next = i;
        else
            t->nodes[parent].first = i;
        *last = i;
    }
    *ret_index = i;
    return SX_OK;
}

/* Copy a run of name or number characters; terminated. */
static const char *take_word(struct parser *ps, size_t *ret_len)
{
    struct sx_pbtxt *t = ps->tree;
    char *to = t->chars + t->chars_len;
    size_t n = 0;
    /* '+' and '-' only continue a number's exponent */
    while (ps->p < ps->end &&
           (is_word(*ps->p) ||
            ((*ps->p == '-' || *ps->p == '+') && n > 0 && (to[n - 1] | 0x20) == 'e' &&
             (to[0] == '-' || to[0] == '.' || (to[0] >= '0' && to[0] <= '9')))))
        to[n++] = *ps->p++;
    to[n] = '\0';
    t->chars_len += n + 1;
    *ret_len = n;
    return to;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that an escape stands for; p is after the backslash. */
static bool escape(struct parser *ps, char *ret_c)
{
    static const char from[] = "abfnrtv\\'\"?", to[] = "\a\b\f\n\r\t\v\\'\"?";
    if (ps->p >= ps->end)
        return false;
    char c = *ps->p++;
    const char *at = c ? strchr(from, c) : NULL;
    if (at) {
        *ret_c = to[at - from];
        return true;
    }
    if (c == 'x' || c == 'X') {
        int v = 0, n = 0;
        while (n < 2 && ps->p < ps->end && hex_digit(*ps->p) >= 0) {
            v = v * 16 + hex_digit(*ps->p++);
            n++;
        }
        *ret_c = (char)v;
        return n > 0;
    }
    if (c >= '0' && c <= '7') {
        int v = c - '0';
        for (int n = 1; n < 3 && ps->p < ps->end && *ps->p >= '0' && *ps->p <= '7'; n++)
            v = v * 8 + (*ps->p++ - '0');
        *ret_c = (char)v;
        return v < 256;
    }
    return false;
}

static enum sx_rc take_string(struct parser *ps, const char **ret_text, size_t *ret_len)
{
    struct sx_pbtxt *t = ps->tree;
    char *to = t->chars + t->chars_len;
    size_t n = 0;
    for (char quote = peek(ps); quote == '"' || quote == '\''; quote = peek(ps)) {
        ps->p++;
        for (;;) {
            if (ps->p >= ps->end || *ps->p == '\n')
                return FAIL(ps, "the string is not closed on its line");
            char c = *ps->p++;
            if (c == quote)
                break;
            if (c == '\\' && !escape(ps, &c))
                return FAIL(ps, "unknown escape in a string");
            to[n++] = c;
        }
    }
    to[n] = '\0';
    t->chars_len += n + 1;
    *ret_text = to;
    *ret_len = n;
    return SX_OK;
}

static enum sx_rc parse_scalar(struct parser *ps, uint32_t node)
{
    char c = peek(ps);
    const char *text = "";
    size_t len = 0;
    enum sx_pbtxt_kind kind = SX_PBTXT_WORD;
    if (c == '"' || c == '\'') {
        enum sx_rc rc = take_string(ps, &text, &len);
        if (rc)
            return rc;
        kind = SX_PBTXT_STRING;
    } else {
        struct sx_pbtxt *t = ps->tree;
        char *start = t->chars + t->chars_len;
        if (c == '-') {
            ps->p++;
            t->chars[t->chars_len++] = '-';
            c = peek(ps);
        }
        if (ps->p >= ps->end || !is_word(c))
            return unexpected(ps, "a value");
        take_word(ps, &len);
        text = start;
        len = strlen(start);
    }
    ps->tree->nodes[node].kind = kind;
    ps->tree->nodes[node].value = text;
    ps->tree->nodes[node].value_len = len;
    return SX_OK;
}

static enum sx_rc parse_fields(struct parser *ps, uint32_t parent, char close);

static enum sx_rc parse_value(struct parser *ps, uint32_t node, bool colon)
{
    char c = peek(ps);
    if (c == '{' || c == '<') {
        if (++ps->depth > SX_PBTXT_MAX_DEPTH)
            return FAIL(ps, "messages nest deeper than %d", SX_PBTXT_MAX_DEPTH);
        ps->p++;
        enum sx_rc rc = parse_fields(ps, node, c == '{' ? '}' : '>');
        ps->depth--;
        return rc;
    }
    if (!colon)
        return unexpected(ps, "':' or '{' after the field's name");
    return parse_scalar(ps, node);
}

/* After the '[': values of one field, separated by commas. */
static enum sx_rc parse_list(struct parser *ps, uint32_t parent, uint32_t *last, const char *name,
                             unsigned line, unsigned col, bool colon)
{
    if (peek(ps) == ']') {
        ps->p++;
        return SX_OK;
    }
    for (;;) {
        uint32_t node;
        enum sx_rc rc = new_node(ps, parent, last, name, line, col, &node);
        if (!rc)
            rc = parse_value(ps, node, colon);
        if (rc)
            return rc;
        char c = peek(ps);
        if (c != ',' && c != ']')
            return unexpected(ps, "',' or ']' in a list");
        ps->p++;
        if (c == ']')
            return SX_OK;
    }
}

static enum sx_rc parse_fields(struct parser *ps, uint32_t parent, char close)
{
    uint32_t last = 0;
    for (;;) {
        char c = peek(ps);
        if (close && c == close && ps->p < ps->end) {
            ps->p++;
            return SX_OK;
        }
        if (ps->p >= ps->end)
            return close ? FAIL(ps, "expected '%c', but the file ends", close) : SX_OK;
        if (c == ',' || c == ';') {
            ps->p++;
            continue;
        }
        if (!is_name_start(c))
            return unexpected(ps, "a field's name");
        unsigned line = ps->line, col = column(ps);
        size_t len;
        const char *name = take_word(ps, &len);
        bool colon = peek(ps) == ':';
        if (colon)
            ps->p++;
        enum sx_rc rc;
        if (peek(ps) == '[') {
            ps->p++;
            rc = parse_list(ps, parent, &last, name, line, col, colon);
        } else {
            uint32_t node;
            rc = new_node(ps, parent, &last, name, line, col, &node);
            if (!rc)
                rc = parse_value(ps, node, colon);
        }
        if (rc)
            return rc;
    }
}

enum sx_rc sx_pbtxt_parse(struct sx_pbtxt *tree, const char *text, size_t len, const char *where,
                          struct sx_err *err)
{
    *tree = (struct sx_pbtxt){0};
    if (len > SX_PBTXT_MAX_BYTES)
        return sx_fail(err, SX_TOO_LARGE, "%s: %zu bytes, at most %u are read", where, len,
                       SX_PBTXT_MAX_BYTES);
    tree->chars = malloc(2 * len + 2); /* I1 */
    if (!tree->chars)
        return sx_fail(err, SX_NO_MEMORY, "%s: out of memory", where);
    struct parser ps = {.tree = tree,
                        .p = text,
                        .end = text + len,
                        .line_start = text,
                        .line = 1,
                        .where = where,
                        .err = err};
    uint32_t root, last = 0;
    enum sx_rc rc = new_node(&ps, 0, &last, "", 1, 1, &root);
    if (!rc)
        rc = parse_fields(&ps, root, '\0');
    assert(tree->chars_len <= 2 * len + 2);
    return rc;
}

void sx_pbtxt_fini(struct sx_pbtxt *tree)
{
    free(tree->nodes);
    free(tree->chars);
    *tree = (struct sx_pbtxt){0};
}

const struct sx_pbtxt_node *sx_pbtxt_first(const struct sx_pbtxt *tree,
                                           const struct sx_pbtxt_node *parent)
{
    return parent->first ? &tree->nodes[parent->first] : NULL;
}

const struct sx_pbtxt_node *sx_pbtxt_next(const struct sx_pbtxt *tree,
                                          const struct sx_pbtxt_node *node)
{
    return node->next ? &tree->nodes[node->next] : NULL;
}

bool sx_pbtxt_int(const struct sx_pbtxt_node *node, int64_t *ret_value)
{
    if (node->kind != SX_PBTXT_WORD || node->value_len == 0)
        return false;
    char *end;
    errno = 0;
    long long v = strtoll(node->value, &end, 0);
    if (errno || *end)
        return false;
    *ret_value = v;
    return true;
}

bool sx_pbtxt_bool(const struct sx_pbtxt_node *node, bool *ret_value)
{
    static const struct {
        const char *word;
        bool value;
    } words[] = {{"true", true}, {"false", false}, {"True", true}, {"False", false},
                 {"t", true},    {"f", false},     {"1", true},    {"0", false}};
    if (node->kind != SX_PBTXT_WORD)
        return false;
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        if (strcmp(node->value, words[i].word) == 0) {
            *ret_value = words[i].value;
            return true;
        }
    }
    return false;
}
