/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.h - the fronts of a server process: which ports it opens, and when.
 *
 *     check -> (load models) -> start -> announce -> quiesce -> (server drains) -> stop
 */
#ifndef SX_CLI_SERVE_H
#define SX_CLI_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "serve/server.h"

struct sx_serve_front {
    const char *http_address, *metrics_address; /* metrics: NULL as http */
    uint64_t http_port, metrics_port;           /* 0: any free one */
    uint64_t http_threads;                      /* 0: by the number of cores */
    uint64_t max_input;
    bool allow_http, allow_metrics;
};

struct sx_serve_front_state;

/* Can the ports be opened?  SX_UNAVAILABLE with the reason; tells early what start would. */
enum sx_rc sx_serve_front_check(const struct sx_serve_front *front, struct sx_err *err);
enum sx_rc sx_serve_front_start(const struct sx_serve_front *front, struct sx_server *server,
                                unsigned n_units, struct sx_serve_front_state **ret_state,
                                struct sx_err *err);
/* The lines on stderr that say where it serves, and that it is ready. */
void sx_serve_front_announce(const struct sx_serve_front_state *state);
/* Take no new connections. */
void sx_serve_front_quiesce(struct sx_serve_front_state *state);
/* After the server is drained: send what is unsent, close. */
void sx_serve_front_stop(struct sx_serve_front_state *state);

#endif
