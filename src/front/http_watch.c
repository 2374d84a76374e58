/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * http_watch.c - notice clients that go away while their request waits.
 *
 * MHD does not look at a suspended connection, so a closed one would keep its place in the queue
 * and be computed for nobody.  One thread looks every PERIOD at the connections that have
 * waited for PATIENCE, all in one poll(2).  Requests that are answered sooner cost it nothing; with
 * no requests it sleeps.
 *
 * A client that only closed its sending side looks the same (a FIN) and is treated the same: other
 * servers and proxies do so, too.  Its answer is 499, if it still listens.
 *
 * Thread   the watcher; add, remove, settle from the threads of the calls.  `lock` guards all.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "front/http_int.h"

#define PERIOD   (25 * SX_MS)
#define PATIENCE (20 * SX_MS)

struct suspect {
    struct call *call;
    uint64_t serial;
};

/* The connections that have waited long; there is room for all.  Holds the lock. */
static nfds_t collect(struct sx_httpd *h, uint64_t now, struct suspect *suspects,
                      struct pollfd *fds)
{
    nfds_t n = 0;
    SX_LIST_FOREACH (it, &h->waiting) {
        struct call *call = SX_CONTAINER_OF(it, struct call, link);
        if (sx_time_add(call->waiting_ns, PATIENCE) > now)
            break; /* oldest first */
        if (call->seen_gone)
            continue;
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(call->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        if (!info)
            continue;
        fds[n] = (struct pollfd){.fd = info->connect_fd, .events = POLLRDHUP};
        suspects[n++] = (struct suspect){call, call->serial};
    }
    return n;
}

/* Holds the lock; drops it around the cancel, which may run the request's `done`. */
static void cancel(struct sx_httpd *h, const struct suspect *s)
{
    struct call *call = s->call;
    if (call->serial != s->serial || call->state != CALL_WAITING || sx_list_empty(&call->link))
        return; /* answered meanwhile */
    call->seen_gone = true;
    call->cancelling = true;
    struct sx_request *request = call->request;
    pthread_mutex_unlock(&h->lock);
    sx_server_cancel(h->config.server, request);
    pthread_mutex_lock(&h->lock);
    call->cancelling = false;
    pthread_cond_broadcast(&h->changed);
}

static void sleep_until(struct sx_httpd *h, uint64_t at)
{
    struct timespec ts = {.tv_sec = (time_t)(at / SX_S), .tv_nsec = (long)(at % SX_S)};
    pthread_cond_timedwait(&h->changed, &h->lock, &ts);
}

static void *watch(void *arg)
{
    struct sx_httpd *h = arg;
    struct suspect *suspects = calloc(h->config.max_connections, sizeof(*suspects));
    struct pollfd *fds = calloc(h->config.max_connections, sizeof(*fds));
    pthread_mutex_lock(&h->lock);
    while (!h->watcher_stop && suspects && fds) {
        if (sx_list_empty(&h->waiting)) {
            h->watcher_asleep = true;
            pthread_cond_wait(&h->changed, &h->lock);
            h->watcher_asleep = false;
            continue;
        }
        uint64_t next = sx_now() + PERIOD;
        while (!h->watcher_stop && sx_now() < next)
            sleep_until(h, next);
        nfds_t n = collect(h, sx_now(), suspects, fds);
        if (n == 0)
            continue;
        pthread_mutex_unlock(&h->lock);
        int ready = poll(fds, n, 0);
        pthread_mutex_lock(&h->lock);
        for (nfds_t i = 0; ready > 0 && i < n; i++)
            if (fds[i].revents & (POLLRDHUP | POLLHUP | POLLERR))
                cancel(h, &suspects[i]);
    }
    pthread_mutex_unlock(&h->lock);
    free(suspects);
    free(fds);
    return NULL;
}

enum sx_rc sx_watch_start(struct sx_httpd *h, struct sx_err *err)
{
    int e = pthread_create(&h->watcher, NULL, watch, h);
    if (e)
        return sx_fail(err, SX_INTERNAL, "cannot start a thread: %s", strerror(e));
    h->has_watcher = true;
    return SX_OK;
}

void sx_watch_stop(struct sx_httpd *h)
{
    if (!h->has_watcher)
        return;
    pthread_mutex_lock(&h->lock);
    h->watcher_stop = true;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->watcher, NULL);
    h->has_watcher = false;
}

void sx_watch_add(struct call *call)
{
    struct sx_httpd *h = call->httpd;
    uint64_t now = sx_now();
    pthread_mutex_lock(&h->lock);
    call->waiting_ns = now;
    call->serial = ++h->serials;
    call->seen_gone = false;
    call->state = CALL_WAITING;
    sx_list_insert(&h->waiting, &call->link);
    bool wake = h->watcher_asleep;
    h->watcher_asleep = false;
    if (wake)
        pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

void sx_watch_remove(struct call *call)
{
    struct sx_httpd *h = call->httpd;
    pthread_mutex_lock(&h->lock);
    sx_list_remove(&call->link);
    call->state = CALL_DONE;
    pthread_mutex_unlock(&h->lock);
}

void sx_watch_settle(struct call *call)
{
    struct sx_httpd *h = call->httpd;
    pthread_mutex_lock(&h->lock);
    while (call->cancelling)
        pthread_cond_wait(&h->changed, &h->lock);
    pthread_mutex_unlock(&h->lock);
}
