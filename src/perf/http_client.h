/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * http_client.h - load over HTTP/1.1, and single requests to ask a server about itself.
 *
 * The load's requests are complete byte strings made beforehand, so that in the steady state one
 * costs one send(2) and one recv(2).  Each slot has a connection of its own, opened when it is
 * first used and kept alive.  Answers are read and dropped; of a failed one the error text is kept.
 */
#ifndef SX_PERF_HTTP_CLIENT_H
#define SX_PERF_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/rc.h"
#include "base/sbuf.h"
#include "perf/target.h"

/* Where a server is. */
struct sx_http_addr {
    struct sockaddr_storage addr;
    socklen_t addr_len;
    char host[256]; /* as it goes into the Host header: "localhost:8000" */
};

/* `url`: host[:port], [ipv6][:port], with or without "http://" before and a '/' behind; the port's
 * default is 8000.  Looks names up, so it blocks. */
enum sx_rc sx_http_resolve(const char *url, struct sx_http_addr *ret, struct sx_err *err);

/* One request on a connection of its own; blocks up to `timeout_ns`.  `body` NULL: GET, else POST
 * of JSON.  Appends the answer's body to `ret_body` whatever its status. */
enum sx_rc sx_http_fetch(const struct sx_http_addr *server, const char *path, const char *body,
                         uint64_t timeout_ns, int *ret_status, struct sx_sbuf *ret_body,
                         struct sx_err *err);

struct sx_http_opts {
    uint32_t connections; /* slots */
    uint64_t timeout_ns;  /* for one request, from when it is sent; 0: none */
    const char *stats;    /* path of the model's statistics, borrowed; NULL: do not ask */
};

/* A whole request: header and body. */
struct sx_http_request {
    const char *data;
    size_t len;
};

/* The target sends requests[sample % n]; their bytes are borrowed and outlive it. */
enum sx_rc sx_http_target_create(const struct sx_http_addr *server, const struct sx_http_opts *opts,
                                 const struct sx_http_request *requests, size_t n,
                                 struct sx_target **ret, struct sx_err *err);

/* Read the statistics of one model, as Triton's extension has them; false when they are not that.
 */
bool sx_server_times_parse(const char *json, size_t len, struct sx_server_times *ret);

/* What the client did, beside the completions. */
struct sx_http_counts {
    uint64_t connects; /* connections opened */
    uint64_t retries;  /* requests sent again, because an idle connection turned out closed */
};
struct sx_http_counts sx_http_target_counts(const struct sx_target *t);

#endif
