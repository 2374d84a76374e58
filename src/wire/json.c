/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * json.c - the JSON cursor.  Numbers are in json_number.c.
 */
#include "wire/json.h"

#include <string.h>

#include "base/utf8.h"

void sx_json_init(struct sx_json *j, const char *text, size_t len)
{
    *j = (struct sx_json){.p = text, .end = text + len, .start = text};
}

bool sx_json_fail(struct sx_json *j, const char *error)
{
    if (!j->error)
        j->error = j->p >= j->end ? "the text ends too early" : error;
    return false;
}

char sx_json_peek(struct sx_json *j)
{
    while (j->p < j->end && (*j->p == ' ' || *j->p == '\n' || *j->p == '\r' || *j->p == '\t'))
        j->p++;
    return j->p < j->end && !j->error ? *j->p : '\0';
}

static bool take(struct sx_json *j, char c, const char *error)
{
    if (sx_json_peek(j) != c || j->error)
        return sx_json_fail(j, error);
    j->p++;
    return true;
}

bool sx_json_array(struct sx_json *j)
{
    if (!take(j, '[', "expected '['"))
        return false;
    if (sx_json_peek(j) != ']')
        return !j->error;
    j->p++;
    return false;
}

bool sx_json_object(struct sx_json *j)
{
    if (!take(j, '{', "expected '{'"))
        return false;
    if (sx_json_peek(j) != '}')
        return !j->error;
    j->p++;
    return false;
}

bool sx_json_more(struct sx_json *j, char close)
{
    char c = sx_json_peek(j);
    if (j->error)
        return false;
    if (c == ',') {
        j->p++;
        return true;
    }
    if (c != close)
        return sx_json_fail(j, close == ']' ? "expected ',' or ']'" : "expected ',' or '}'");
    j->p++;
    return false;
}

static int hex4(const char *p)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int d = c >= '0' && c <= '9'                     ? c - '0'
                : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                         : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

/* Check the escape at p (on the backslash); its length, 0 when it is none. */
static size_t escape_len(const char *p, const char *end)
{
    if (end - p < 2)
        return 0;
    if (p[1] != 'u')
        return p[1] && strchr("\"\\/bfnrt", p[1]) ? 2 : 0;
    if (end - p < 6)
        return 0;
    int v = hex4(p + 2);
    if (v < 0 || (v >= 0xdc00 && v <= 0xdfff))
        return 0;
    if (v < 0xd800 || v > 0xdbff)
        return 6;
    if (end - p < 12 || p[6] != '\\' || p[7] != 'u')
        return 0;
    v = hex4(p + 8);
    return v >= 0xdc00 && v <= 0xdfff ? 12 : 0;
}

bool sx_json_get_string(struct sx_json *j, struct sx_json_string *ret_string)
{
    if (!take(j, '"', "expected a string"))
        return false;
    const char *start = j->p, *p = start, *end = j->end;
    bool escaped = false;
    for (;;) {
        if (p >= end) {
            j->p = p;
            return sx_json_fail(j, "");
        }
        unsigned char c = (unsigned char)*p;
        size_t n, skip;
        if (c == '"') {
            break;
        } else if (c == '\\') {
            escaped = true;
            n = escape_len(p, end);
            if (!n) {
                j->p = p;
                return sx_json_fail(j, "broken escape in a string");
            }
        } else if (c < 0x20) {
            j->p = p;
            return sx_json_fail(j, "control character in a string");
        } else if (c < 0x80) {
            n = 1;
        } else {
            n = sx_utf8_length((const unsigned char *)p, (const unsigned char *)end, &skip);
            if (!n) {
                j->p = p;
                return sx_json_fail(j, "a string is not valid UTF-8");
            }
        }
        p += n;
    }
    *ret_string = (struct sx_json_string){start, (size_t)(p - start), escaped};
    j->p = p + 1;
    return true;
}

bool sx_json_key(struct sx_json *j, struct sx_json_string *ret_key)
{
    if (sx_json_peek(j) != '"')
        return sx_json_fail(j, "expected a field's name in quotes");
    return sx_json_get_string(j, ret_key) && take(j, ':', "expected ':'");
}

static bool take_word(struct sx_json *j, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(j->end - j->p) < n || memcmp(j->p, word, n) != 0)
        return false;
    j->p += n;
    return true;
}

bool sx_json_get_bool(struct sx_json *j, bool *ret_value)
{
    char c = sx_json_peek(j);
    if (c == 't' && take_word(j, "true"))
        *ret_value = true;
    else if (c == 'f' && take_word(j, "false"))
        *ret_value = false;
    else
        return sx_json_fail(j, "expected true or false");
    return true;
}

static inline bool digit(const char *p, const char *end)
{
    return p < end && *p >= '0' && *p <= '9';
}

bool sx_json_get_number(struct sx_json *j, const char **ret_text, size_t *ret_len)
{
    char c = sx_json_peek(j);
    if (j->error)
        return false;
    const char *start = j->p, *p = start, *end = j->end;
    if (c == '-')
        p++;
    if (digit(p, end)) {
        if (*p == '0')
            p++;
        else
            while (digit(p, end))
                p++;
        if (p < end && *p == '.') {
            p++;
            if (!digit(p, end))
                return sx_json_fail(j, "expected a number");
            while (digit(p, end))
                p++;
        }
        if (p < end && (*p | 0x20) == 'e') {
            p++;
            if (p < end && (*p == '+' || *p == '-'))
                p++;
            if (!digit(p, end))
                return sx_json_fail(j, "expected a number");
            while (digit(p, end))
                p++;
        }
        j->p = p;
    } else {
        j->p = p;
        if (!(c == 'N' && take_word(j, "NaN")) && !take_word(j, "Infinity")) {
            j->p = start;
            return sx_json_fail(j, "expected a number");
        }
        p = j->p;
    }
    /* Nothing that continues a word (01, 0x1, 1a), and not the end: strtod needs a byte to stop at.
     */
    if (p >= end) {
        j->p = p;
        return sx_json_fail(j, "");
    }
    if (*p != ',' && *p != ']' && *p != '}' && *p != ' ' && *p != '\n' && *p != '\r' && *p != '\t')
        return sx_json_fail(j, "expected a number");
    *ret_text = start;
    *ret_len = (size_t)(p - start);
    return true;
}

bool sx_json_skip(struct sx_json *j)
{
    char stack[SX_JSON_MAX_DEPTH]; /* what closes each open array or object */
    size_t depth = 0;
    for (;;) {
        struct sx_json_string s;
        const char *text;
        size_t len;
        bool b;
        char c = sx_json_peek(j);
        if (c == '[' || c == '{') {
            if (depth == SX_JSON_MAX_DEPTH)
                return sx_json_fail(j, "arrays and objects nest too deep");
            char close = c == '[' ? ']' : '}';
            if (c == '[' ? sx_json_array(j) : sx_json_object(j)) {
                stack[depth++] = close;
                if (close == '}' && !sx_json_key(j, &s))
                    return false;
                continue;
            }
        } else if (c == '"') {
            sx_json_get_string(j, &s);
        } else if (c == 't' || c == 'f') {
            sx_json_get_bool(j, &b);
        } else if (c == 'n') {
            if (!take_word(j, "null"))
                sx_json_fail(j, "expected a value");
        } else if (c == '-' || (c >= '0' && c <= '9') || c == 'N' || c == 'I') {
            sx_json_get_number(j, &text, &len);
        } else {
            sx_json_fail(j, "expected a value");
        }
        /* A value is complete; close what ends with it. */
        for (;;) {
            if (j->error)
                return false;
            if (depth == 0)
                return true;
            if (sx_json_more(j, stack[depth - 1])) {
                if (stack[depth - 1] == '}' && !sx_json_key(j, &s))
                    return false;
                break;
            }
            depth--;
        }
    }
}

bool sx_json_finish(struct sx_json *j)
{
    sx_json_peek(j);
    if (j->error)
        return false;
    return j->p >= j->end || sx_json_fail(j, "unexpected text after the JSON object");
}

static size_t put_utf8(char *to, unsigned v)
{
    if (v < 0x80) {
        to[0] = (char)v;
        return 1;
    }
    if (v < 0x800) {
        to[0] = (char)(0xc0 | v >> 6);
        to[1] = (char)(0x80 | (v & 0x3f));
        return 2;
    }
    if (v < 0x10000) {
        to[0] = (char)(0xe0 | v >> 12);
        to[1] = (char)(0x80 | (v >> 6 & 0x3f));
        to[2] = (char)(0x80 | (v & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | v >> 18);
    to[1] = (char)(0x80 | (v >> 12 & 0x3f));
    to[2] = (char)(0x80 | (v >> 6 & 0x3f));
    to[3] = (char)(0x80 | (v & 0x3f));
    return 4;
}

/* Decode the (checked) escape at *p and move past it. */
static size_t decode_escape(const char **p, char *to)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    char c = (*p)[1];
    if (c != 'u') {
        *p += 2;
        *to = into[strchr(from, c) - from];
        return 1;
    }
    unsigned v = (unsigned)hex4(*p + 2);
    *p += 6;
    if (v >= 0xd800 && v <= 0xdbff) {
        v = 0x10000 + ((v - 0xd800) << 10) + ((unsigned)hex4(*p + 2) - 0xdc00);
        *p += 6;
    }
    return put_utf8(to, v);
}

size_t sx_json_decode(const struct sx_json_string *s, char *to)
{
    if (!s->escaped) {
        if (s->len)
            memcpy(to, s->data, s->len);
        return s->len;
    }
    size_t n = 0;
    for (const char *p = s->data, *end = p + s->len; p < end;) {
        if (*p == '\\')
            n += decode_escape(&p, to + n);
        else
            to[n++] = *p++;
    }
    return n;
}

bool sx_json_equal(const struct sx_json_string *s, const char *text)
{
    if (!s->escaped)
        return strncmp(text, s->data, s->len) == 0 && text[s->len] == '\0';
    for (const char *p = s->data, *end = p + s->len; p < end;) {
        char piece[4];
        size_t n = 1;
        if (*p == '\\')
            n = decode_escape(&p, piece);
        else
            piece[0] = *p++;
        if (strncmp(text, piece, n) != 0 || strnlen(text, n) < n)
            return false;
        text += n;
    }
    return *text == '\0';
}

bool sx_json_put_bytes(struct sx_sbuf *s, const unsigned char *bytes, size_t len)
{
    size_t before = s->len;
    const unsigned char *p = bytes, *end = bytes + len, *run = bytes;
    sx_sbuf_putc(s, '"');
    while (p < end) {
        if (*p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\') {
            p++;
            continue;
        }
        size_t skip, n = sx_utf8_length(p, end, &skip);
        if (!n) {
            s->len = before;
            if (s->data)
                s->data[before] = '\0';
            return false;
        }
        if (n > 1) {
            p += n;
            continue;
        }
        sx_sbuf_add(s, run, (size_t)(p - run));
        if (*p == '"' || *p == '\\') {
            char pair[2] = {'\\', (char)*p};
            sx_sbuf_add(s, pair, 2);
        } else {
            sx_sbuf_printf(s, "\\u%04x", *p);
        }
        run = ++p;
    }
    sx_sbuf_add(s, run, (size_t)(p - run));
    sx_sbuf_putc(s, '"');
    return true;
}
