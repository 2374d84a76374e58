/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * http_error.h - what a failed answer says about why.
 */
#ifndef SX_PERF_HTTP_ERROR_H
#define SX_PERF_HTTP_ERROR_H

#include <stddef.h>

#include "perf/stats.h"

/* The beginning of an answer as it came, then the words in it. */
struct sx_http_error {
    size_t len;
    char raw[1024];
    char text[192];
};

void sx_http_error_begin(struct sx_http_error *e);
void sx_http_error_feed(struct sx_http_error *e, const char *data, size_t n);
/* What an HTTP status means for the load; fills e->text unless it is a success.  A 503 that says
 * that the request's time ran out has expired; any other 503 and a 429 are rejections. */
enum sx_outcome sx_http_outcome(int status, struct sx_http_error *e);

#endif
