/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * http.c - start and stop the HTTP server; MHD's callbacks.
 *
 * Stopping.  quiesce closes the listening socket; the caller drains the server, which answers all
 * that waits; destroy then gives the answers time to leave.  MHD must not be stopped while a
 * connection is suspended (it would abort), so destroy waits for those without a limit.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "front/http_int.h"

#define LINGER          (5 * SX_S)  /* for answers to leave */
#define CONNECTION_POOL (64u << 10) /* MHD's memory per connection: headers and read buffer */

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_size, void **request_cls)
{
    (void)version;
    struct call *call = *request_cls;
    if (!call) {
        call = sx_call_begin(cls, connection, url, method);
        *request_cls = call;
        if (!call)
            return MHD_NO;
        /* A client that waits for "100 Continue" can be told at once, before it sends the body. */
        if (call->discard &&
            MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_EXPECT))
            return sx_reply(call);
        return MHD_YES;
    }
    if (*data_size > 0) {
        bool ok = sx_call_body(call, data, *data_size);
        *data_size = 0;
        return ok ? MHD_YES : MHD_NO;
    }
    return sx_call_step(call);
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **request_cls,
                         enum MHD_RequestTerminationCode code)
{
    (void)cls;
    (void)connection;
    (void)code;
    struct call *call = *request_cls;
    *request_cls = NULL;
    if (call)
        sx_call_unref(call);
}

/* As many files as the connections need, as far as we may. */
static void raise_file_limit(unsigned connections)
{
    struct rlimit limit;
    rlim_t want = (rlim_t)connections + 512;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < want) {
        limit.rlim_cur = limit.rlim_max < want ? limit.rlim_max : want;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void set_defaults(struct sx_httpd_config *c)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (c->threads == 0)
        c->threads = cores < 1 ? 1 : cores > 8 ? 8 : (unsigned)cores;
    if (c->max_body == 0)
        c->max_body = (size_t)64 << 20;
    if (c->max_connections == 0)
        c->max_connections = 4096;
    if (c->max_connections < c->threads)
        c->max_connections = c->threads;
    if (c->idle_timeout_s == 0)
        c->idle_timeout_s = 60;
}

static enum sx_rc start_daemon(struct sx_httpd *h, struct sx_err *err)
{
    const struct sx_httpd_config *c = &h->config;
    int fd;
    bool ipv6;
    enum sx_rc rc = sx_listen(c->address, c->port, "--http", &fd, &h->port, &ipv6, err);
    if (rc)
        return rc;
    struct MHD_OptionItem options[] = {
        {MHD_OPTION_LISTEN_SOCKET, fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, (intptr_t)c->max_connections, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, (intptr_t)c->idle_timeout_s, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_POOL, NULL},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, h},
        {c->threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, (intptr_t)c->threads, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
                     MHD_USE_SUPPRESS_DATE_NO_CLOCK | (ipv6 ? MHD_USE_IPv6 : 0);
    h->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, h, MHD_OPTION_ARRAY, options,
                                 MHD_OPTION_END);
    if (!h->daemon) {
        close(fd);
        return sx_fail(err, SX_INTERNAL, "the HTTP server could not be started");
    }
    return SX_OK;
}

enum sx_rc sx_httpd_create(const struct sx_httpd_config *config, struct sx_httpd **ret_httpd,
                           struct sx_err *err)
{
    struct sx_httpd *h = calloc(1, sizeof(*h));
    if (!h)
        return sx_fail(err, SX_NO_MEMORY, "out of memory");
    pthread_condattr_t attr;
    h->config = *config;
    set_defaults(&h->config);
    pthread_mutex_init(&h->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&h->changed, &attr);
    pthread_condattr_destroy(&attr);
    sx_list_init(&h->free_calls);
    sx_list_init(&h->waiting);
    raise_file_limit(h->config.max_connections);
    enum sx_rc rc = sx_watch_start(h, err);
    if (!rc)
        rc = start_daemon(h, err);
    if (rc) {
        sx_httpd_destroy(h);
        return rc;
    }
    *ret_httpd = h;
    return SX_OK;
}

uint16_t sx_httpd_port(const struct sx_httpd *h)
{
    return h->port;
}

void sx_httpd_quiesce(struct sx_httpd *h)
{
    if (atomic_exchange(&h->stopping, true))
        return;
    MHD_socket fd = MHD_quiesce_daemon(h->daemon);
    if (fd != MHD_INVALID_SOCKET)
        close(fd);
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)SX_MS}, NULL);
}

void sx_httpd_destroy(struct sx_httpd *h)
{
    if (!h)
        return;
    if (h->daemon) {
        sx_httpd_quiesce(h);
        uint64_t until = sx_now() + LINGER;
        while (atomic_load_explicit(&h->active, memory_order_acquire) > 0 && sx_now() < until)
            nap();
        while (atomic_load_explicit(&h->suspended, memory_order_acquire) > 0)
            nap();
        MHD_stop_daemon(h->daemon);
    }
    sx_watch_stop(h);
    SX_LIST_FOREACH_SAFE (it, &h->free_calls) {
        struct call *call = SX_CONTAINER_OF(it, struct call, link);
        sx_list_remove(it);
        sx_call_free(call);
    }
    pthread_cond_destroy(&h->changed);
    pthread_mutex_destroy(&h->lock);
    free(h);
}
