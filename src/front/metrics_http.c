/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics_http.c - GET /metrics, one thread.
 */
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sbuf.h"
#include "front/http_int.h"
#include "wire/metrics.h"

struct sx_metricsd {
    struct MHD_Daemon *daemon;
    struct sx_server *server;
    unsigned n_units;
    uint16_t port;
};

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type,
                              char *text, size_t len, enum MHD_ResponseMemoryMode mode)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(len, text, mode);
    if (!response) {
        if (mode == MHD_RESPMEM_MUST_FREE)
            free(text);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_size, void **request_cls)
{
    static char not_found[] = "the metrics are at /metrics\n";
    static int seen;
    struct sx_metricsd *m = cls;
    (void)version;
    (void)data;
    if (!*request_cls || *data_size > 0) { /* headers only, or a body nobody asked for */
        *request_cls = &seen;
        *data_size = 0;
        return MHD_YES;
    }
    if (strcmp(url, "/metrics") != 0 || strcmp(method, "GET") != 0)
        return answer(connection, MHD_HTTP_NOT_FOUND, "text/plain", not_found,
                      sizeof(not_found) - 1, MHD_RESPMEM_PERSISTENT);
    struct sx_sbuf s = {0};
    if (sx_metrics_put(&s, m->server, m->n_units)) {
        sx_sbuf_free(&s);
        return MHD_NO;
    }
    return answer(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", s.data,
                  s.len, MHD_RESPMEM_MUST_FREE);
}

enum sx_rc sx_metricsd_create(struct sx_server *server, unsigned n_units, const char *address,
                              uint16_t port, struct sx_metricsd **ret_metricsd, struct sx_err *err)
{
    int fd;
    bool ipv6;
    struct sx_metricsd *m = calloc(1, sizeof(*m));
    if (!m)
        return sx_fail(err, SX_NO_MEMORY, "out of memory");
    m->server = server;
    m->n_units = n_units;
    enum sx_rc rc = sx_listen(address, port, "--metrics", &fd, &m->port, &ipv6, err);
    if (rc) {
        free(m);
        return rc;
    }
    m->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | (ipv6 ? MHD_USE_IPv6 : 0), 0, NULL,
                                 NULL, on_request, m, MHD_OPTION_LISTEN_SOCKET, (MHD_socket)fd,
                                 MHD_OPTION_CONNECTION_LIMIT, 64u, MHD_OPTION_CONNECTION_TIMEOUT,
                                 10u, MHD_OPTION_END);
    if (!m->daemon) {
        close(fd);
        free(m);
        return sx_fail(err, SX_INTERNAL, "the metrics server could not be started");
    }
    *ret_metricsd = m;
    return SX_OK;
}

uint16_t sx_metricsd_port(const struct sx_metricsd *m)
{
    return m->port;
}

void sx_metricsd_destroy(struct sx_metricsd *m)
{
    if (!m)
        return;
    MHD_stop_daemon(m->daemon);
    free(m);
}
