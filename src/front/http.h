/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * http.h - the Open Inference Protocol over HTTP/1.1 (libmicrohttpd), and the metrics page.
 *
 *     sx_httpd_create -> (serves) -> sx_httpd_quiesce -> sx_server_drain -> sx_httpd_destroy
 *
 * A request's body goes into one pooled buffer, placed so that its first binary tensor is
 * aligned; input tensors are views of it, large output tensors are sent from where they lie.
 * While a request waits for its model, its connection is suspended and costs no thread; a watcher
 * notices clients that go away meanwhile and cancels their requests.
 *
 * Routes are listed in README.md.
 */
#ifndef SX_FRONT_HTTP_H
#define SX_FRONT_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "base/rc.h"

struct sx_server;
struct sx_httpd;
struct sx_metricsd;

struct sx_httpd_config {
    struct sx_server *server; /* borrowed; outlives the front */
    const char *address;      /* NULL: 127.0.0.1 */
    uint16_t port;            /* 0: any free one, see sx_httpd_port */
    unsigned threads;         /* 0: one per core, at most 8 */
    size_t max_body;          /* bytes of a request's body; 0: 64 MiB */
    size_t max_json;          /* bytes of large JSON answers under way; 0: the pool's limit / 4 */
    unsigned max_connections; /* further ones wait in the backlog; 0: 4096 */
    unsigned idle_timeout_s;  /* a connection that is silent for so long is closed; 0: 60 */
};

/* Bind and serve.  SX_IO with a hint when the port is taken or the address is not here. */
enum sx_rc sx_httpd_create(const struct sx_httpd_config *config, struct sx_httpd **ret_httpd,
                           struct sx_err *err);
uint16_t sx_httpd_port(const struct sx_httpd *httpd);
/* Accept no more connections; answers to those that are open say "Connection: close". */
void sx_httpd_quiesce(struct sx_httpd *httpd);
/* Wait until the requests that arrived are answered, at most some seconds, and close.  The server
 * must have been drained: nothing may be queued there.  NULL is fine. */
void sx_httpd_destroy(struct sx_httpd *httpd);

/* GET /metrics on a port of its own; `n_units`: units of the machine.  NULL address: 127.0.0.1. */
enum sx_rc sx_metricsd_create(struct sx_server *server, unsigned n_units, const char *address,
                              uint16_t port, struct sx_metricsd **ret_metricsd, struct sx_err *err);
uint16_t sx_metricsd_port(const struct sx_metricsd *metricsd);
void sx_metricsd_destroy(struct sx_metricsd *metricsd); /* NULL is fine */

#endif
