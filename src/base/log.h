/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - the program's log, on stderr.
 *
 * Only cli/, front/ and serve/ log; libraries below return errors.  One line per message,
 * in Triton's shape:  I0520 20:03:25.829575 3355 registry.c:41] "model 'x' is ready".
 * Any thread; a line is written by a single write(2), so lines never mix.
 */
#ifndef SX_BASE_LOG_H
#define SX_BASE_LOG_H

enum sx_log_level { SX_LOG_ERROR, SX_LOG_WARNING, SX_LOG_INFO, SX_LOG_VERBOSE };

/* Messages above `level` are dropped; start-up default: SX_LOG_INFO. */
void sx_log_set_level(enum sx_log_level level);
enum sx_log_level sx_log_get_level(void);

void sx_log_write(enum sx_log_level level, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#define sx_error(...)   sx_log_write(SX_LOG_ERROR, __FILE__, __LINE__, __VA_ARGS__)
#define sx_warning(...) sx_log_write(SX_LOG_WARNING, __FILE__, __LINE__, __VA_ARGS__)
#define sx_info(...)    sx_log_write(SX_LOG_INFO, __FILE__, __LINE__, __VA_ARGS__)
#define sx_verbose(...) sx_log_write(SX_LOG_VERBOSE, __FILE__, __LINE__, __VA_ARGS__)

#endif
