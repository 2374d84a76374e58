/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c - the program's log.
 *
 * A line is put together on the stack and leaves in one write(2): no lock, no allocation, and
 * nothing that a full disk or a closed stderr can break.  What does not fit is cut and marked
 * with "...".  Times are UTC, and verbose lines carry the letter I, both as in Triton.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE_MAX = 2048, LINE_MAX_BYTES = 4096 };

static atomic_int log_level = SX_LOG_INFO;

void sx_log_set_level(enum sx_log_level level)
{
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

enum sx_log_level sx_log_get_level(void)
{
    return (enum sx_log_level)atomic_load_explicit(&log_level, memory_order_relaxed);
}

/* Append `message` with everything escaped that would end the line or the quotes; returns the
 * new length, at most `max`. */
static size_t add_escaped(char *line, size_t len, size_t max, const char *message)
{
    for (const unsigned char *p = (const unsigned char *)message; *p; p++) {
        char esc[8] = {(char)*p};
        size_t n = 1;
        if (*p == '"' || *p == '\\')
            n = (size_t)snprintf(esc, sizeof esc, "\\%c", *p);
        else if (*p == '\n')
            n = (size_t)snprintf(esc, sizeof esc, "\\n");
        else if (*p < 0x20 || *p == 0x7f)
            n = (size_t)snprintf(esc, sizeof esc, "\\u%04x", *p);
        if (n > max - len) {
            memcpy(line + max - 3, "...", 3);
            return max;
        }
        memcpy(line + len, esc, n);
        len += n;
    }
    return len;
}

void sx_log_write(enum sx_log_level level, const char *file, int line_number, const char *format,
                  ...)
{
    if (level > sx_log_get_level())
        return;
    int saved = errno; // callers go on to look at it, and the format may say %m

    char message[MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    int wanted = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (wanted < 0)
        message[0] = '\0';
    else if ((size_t)wanted >= sizeof message)
        memcpy(message + sizeof message - 4, "...", 4);

    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    const char *slash = strrchr(file, '/');

    char line[LINE_MAX_BYTES];
    int head = snprintf(line, 256, "%c%02d%02d %02d:%02d:%02d.%06ld %ld %.64s:%d] \"",
                        "EWII"[level], tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                        ts.tv_nsec / 1000, (long)getpid(), slash ? slash + 1 : file, line_number);
    size_t len = add_escaped(line, head > 0 ? (size_t)head : 0, sizeof line - 2, message);
    line[len++] = '"';
    line[len++] = '\n';
    while (write(STDERR_FILENO, line, len) < 0 && errno == EINTR)
        ;
    errno = saved;
}
