/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/serve.h"
#include "front/http.h"

struct sx_serve_front_state {
    struct sx_httpd *http;
    struct sx_metricsd *metrics;
    const char *http_address, *metrics_address;
};

static const char *metrics_address(const struct sx_serve_front *f)
{
    return f->metrics_address ? f->metrics_address : f->http_address;
}

/* Bind and let go.  What goes wrong for another reason is left for the real start to explain. */
static enum sx_rc try_port(const char *address, uint64_t port, const char *option,
                           struct sx_err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *info;
    char service[24];
    int fd, one = 1;
    enum sx_rc rc = SX_OK;

    snprintf(service, sizeof service, "%u", (unsigned)port);
    if (port == 0 || getaddrinfo(address, service, &hints, &info) != 0)
        return SX_OK;
    fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(fd, info->ai_addr, info->ai_addrlen) != 0) {
            rc = sx_fail(err, SX_UNAVAILABLE, "cannot listen on %s port %u: %s", address,
                         (unsigned)port, strerror(errno));
            if (errno == EADDRINUSE)
                sx_hint(err, "another program has this port; choose one with --%s, or 0 for any",
                        option);
        }
        close(fd);
    }
    freeaddrinfo(info);
    return rc;
}

enum sx_rc sx_serve_front_check(const struct sx_serve_front *f, struct sx_err *err)
{
    enum sx_rc rc = SX_OK;

    if (f->allow_http)
        rc = try_port(f->http_address, f->http_port, "http-port", err);
    if (rc == SX_OK && f->allow_metrics)
        rc = try_port(metrics_address(f), f->metrics_port, "metrics-port", err);
    return rc;
}

enum sx_rc sx_serve_front_start(const struct sx_serve_front *f, struct sx_server *server,
                                unsigned n_units, struct sx_serve_front_state **ret_state,
                                struct sx_err *err)
{
    struct sx_serve_front_state *state = calloc(1, sizeof *state);
    struct sx_httpd_config config = {
        .server = server,
        .address = f->http_address,
        .port = (uint16_t)f->http_port,
        .threads = (unsigned)f->http_threads,
        .max_body = f->max_input,
    };
    enum sx_rc rc = SX_OK;

    if (!state)
        return sx_fail(err, SX_NO_MEMORY, "out of memory");
    state->http_address = f->http_address;
    state->metrics_address = metrics_address(f);
    /* Metrics first: who sees the server ready may scrape it at once. */
    if (f->allow_metrics)
        rc = sx_metricsd_create(server, n_units, state->metrics_address, (uint16_t)f->metrics_port,
                                &state->metrics, err);
    if (rc == SX_OK && f->allow_http)
        rc = sx_httpd_create(&config, &state->http, err);
    if (rc != SX_OK) {
        sx_serve_front_stop(state);
        return rc == SX_IO ? SX_UNAVAILABLE : rc;
    }
    *ret_state = state;
    return SX_OK;
}

void sx_serve_front_announce(const struct sx_serve_front_state *state)
{
    if (state->metrics)
        sx_info("metrics at http://%s:%u/metrics", state->metrics_address,
                sx_metricsd_port(state->metrics));
    if (state->http)
        sx_info("ready: http://%s:%u/v2", state->http_address, sx_httpd_port(state->http));
    else
        sx_info("ready, without HTTP");
}

void sx_serve_front_quiesce(struct sx_serve_front_state *state)
{
    if (state->http)
        sx_httpd_quiesce(state->http);
}

void sx_serve_front_stop(struct sx_serve_front_state *state)
{
    sx_httpd_destroy(state->http);
    sx_metricsd_destroy(state->metrics);
    free(state);
}
