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

#define LINGER (5 * SX_S) /* for answers to leave */

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
    if (c->max_json == 0) {
        size_t limit = sx_pool_limit(sx_server_pool(c->server));
        c->max_json = limit ? limit / 4 : SIZE_MAX;
    }
    if (c->max_connections == 0)
        c->max_connections = 4096;
    if (c->max_connections < c->threads)
        c->max_connections = c->threads;
    if (c->idle_timeout_s == 0)
        c->idle_timeout_s = 60;
}

static enum sx_rc start_loops(struct sx_httpd *h, struct sx_err *err)
{
    const struct sx_httpd_config *c = &h->config;
    int fd;
    bool ipv6;
    enum sx_rc rc = sx_listen(c->address, c->port, "--http", &fd, &h->port, &ipv6, err);
    if (rc)
        return rc;
    h->loops = calloc(c->threads, sizeof(*h->loops));
    if (!h->loops)
        rc = sx_fail(err, SX_NO_MEMORY, "out of memory");
    while (!rc && h->n_loops < c->threads)
        rc = sx_loop_start(&h->loops[h->n_loops++], h, fd, ipv6, on_request, on_completed, err);
    close(fd);
    return rc;
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
        rc = start_loops(h, err);
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
    for (unsigned i = 0; i < h->n_loops; i++)
        sx_loop_wake(&h->loops[i]);
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)SX_MS}, NULL);
}

void sx_httpd_destroy(struct sx_httpd *h)
{
    if (!h)
        return;
    if (h->n_loops > 0) {
        sx_httpd_quiesce(h);
        uint64_t until = sx_now() + LINGER;
        while (atomic_load_explicit(&h->active, memory_order_acquire) > 0 && sx_now() < until)
            nap();
        while (atomic_load_explicit(&h->suspended, memory_order_acquire) > 0)
            nap();
        for (unsigned i = 0; i < h->n_loops; i++)
            sx_loop_stop(&h->loops[i]);
    }
    free(h->loops);
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
