/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * rc.c - result codes and explained errors.
 *
 * Texts are formatted aside and then copied, so that an argument may point into the very error
 * that is being filled.
 */
#include "base/rc.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *text;
    int http, grpc;
} rc_table[] = {
#define SX_RC_ROW(code, text, http, grpc) [SX_##code] = {text, http, grpc},
    SX_RC_TABLE(SX_RC_ROW)
#undef SX_RC_ROW
};

/* A code from outside the enum is our bug, and is answered as one. */
static enum sx_rc known(enum sx_rc rc)
{
    return (unsigned)rc < SX_RC_COUNT ? rc : SX_INTERNAL;
}

const char *sx_rc_text(enum sx_rc rc)
{
    return rc_table[known(rc)].text;
}

int sx_rc_http(enum sx_rc rc)
{
    return rc_table[known(rc)].http;
}

int sx_rc_grpc(enum sx_rc rc)
{
    return rc_table[known(rc)].grpc;
}

/* Format with room for `size` bytes; an impossible format leaves "". */
static void __attribute__((format(printf, 3, 0))) format_text(char *buf, size_t size,
                                                              const char *format, va_list args)
{
    if (vsnprintf(buf, size, format, args) < 0)
        buf[0] = '\0';
}

enum sx_rc sx_fail(struct sx_err *err, enum sx_rc rc, const char *format, ...)
{
    if (!err)
        return rc;
    char message[sizeof err->message];
    va_list args;
    va_start(args, format);
    format_text(message, sizeof message, format, args);
    va_end(args);
    err->rc = rc;
    memcpy(err->message, message, sizeof message);
    err->hint[0] = '\0';
    return rc;
}

void sx_hint(struct sx_err *err, const char *format, ...)
{
    if (!err)
        return;
    char hint[sizeof err->hint];
    va_list args;
    va_start(args, format);
    format_text(hint, sizeof hint, format, args);
    va_end(args);
    memcpy(err->hint, hint, sizeof hint);
}

enum sx_rc sx_while(struct sx_err *err, const char *format, ...)
{
    if (!err)
        return SX_INTERNAL;
    char context[sizeof err->message], message[sizeof err->message];
    va_list args;
    va_start(args, format);
    format_text(context, sizeof context, format, args);
    va_end(args);
    /* The separator may be part of the context or left to us. */
    size_t len = strlen(context);
    while (len > 0 && (context[len - 1] == ' ' || context[len - 1] == ':'))
        len--;
    size_t used = len;
    memcpy(message, context, len);
    for (const char *part = ": "; *part && used < sizeof message - 1; part++)
        message[used++] = *part;
    for (const char *part = err->message; *part && used < sizeof message - 1; part++)
        message[used++] = *part;
    message[used] = '\0';
    memcpy(err->message, message, used + 1);
    return err->rc;
}
