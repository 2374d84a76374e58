/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "perf/http_error.h"

#include <stdio.h>
#include <string.h>

void sx_http_error_begin(struct sx_http_error *e)
{
    e->len = 0;
    e->text[0] = 0;
}

void sx_http_error_feed(struct sx_http_error *e, const char *data, size_t n)
{
    size_t room = sizeof(e->raw) - 1 - e->len;
    n = n < room ? n : room;
    memcpy(e->raw + e->len, data, n);
    e->len += n;
}

/* The string behind "error": in the body, or the body's first line.  Only for people: a rough
 * reading is enough, and the body may be cut. */
static void find_words(struct sx_http_error *e, int status)
{
    e->raw[e->len] = 0;
    for (size_t i = 0; i < e->len; i++) // a NUL would end it, control characters would spoil a line
        e->raw[i] = (unsigned char)e->raw[i] < ' ' && e->raw[i] != '\n' ? ' ' : e->raw[i];
    char *body = strstr(e->raw, "\n \n");
    if (!body)
        body = strstr(e->raw, "\n\n");
    body = body ? body + strspn(body, " \n") : e->raw + e->len;
    char *words = strstr(body, "\"error\"");
    size_t len;
    if (words && (words = strchr(words + 7, '"'))) {
        words++;
        for (len = 0; words[len] && words[len] != '"'; len++)
            len += words[len] == '\\' && words[len + 1];
    } else {
        words = body;
        len = strcspn(words, "\n");
    }
    snprintf(e->text, sizeof(e->text), "HTTP %d%s%.*s", status, len ? ": " : "", (int)len, words);
}

enum sx_outcome sx_http_outcome(int status, struct sx_http_error *e)
{
    if (status / 100 == 2)
        return SX_OUTCOME_OK;
    find_words(e, status);
    if (status == 429)
        return SX_OUTCOME_REJECTED;
    if (status == 503)
        return strstr(e->text, "timeout expired") || strstr(e->text, "deadline")
                   ? SX_OUTCOME_EXPIRED
                   : SX_OUTCOME_REJECTED;
    if (status == 499 || status == 504)
        return SX_OUTCOME_EXPIRED;
    return status < 500 ? SX_OUTCOME_BAD_REQUEST : SX_OUTCOME_SERVER_ERROR;
}
