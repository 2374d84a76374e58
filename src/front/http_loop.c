/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * http_loop.c - one thread, one MHD daemon, driven from outside.
 *
 * MHD's own threads stall when 128 connections become ready at once: MHD_epoll fetches events in
 * arrays of 128 and, when one is full, waits again with the full timeout before it handles any
 * (libmicrohttpd 1.0.1).  So MHD runs without threads here: the loop waits on MHD's epoll
 * descriptor and calls MHD_run, which never waits.  Remove when the oldest MHD we support is
 * mended.
 *
 * Each loop has a duplicate of the listening socket and accepts for itself.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "front/http_int.h"

#define TURN_NS         100000      /* the shortest there is */
#define CONNECTION_POOL (64u << 10) /* MHD's memory per connection: headers and read buffer */

static int wait_ms(struct MHD_Daemon *daemon)
{
    int64_t ms = MHD_get_timeout64s(daemon);
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

/* Linux (6.12 and later) lets a thread that wakes up take a core at once from one with longer
 * turns, else only at the end of a turn: requests and answers would wait up to 3 ms behind runs.
 * How much of a core it may have stays the same.  Elsewhere there is no such thing, or it is not
 * allowed: then it stays as it was. */
static void ask_for_short_turns(void)
{
    struct sched_attr attr;
    if (sched_getattr(0, &attr, sizeof attr, 0) || attr.sched_policy != SCHED_OTHER)
        return;
    attr.sched_runtime = TURN_NS;
    sched_setattr(0, &attr, 0);
}

static void *run(void *arg)
{
    struct sx_loop *loop = arg;
    struct pollfd fds[2] = {{.fd = loop->mhd_fd, .events = POLLIN},
                            {.fd = loop->wake_fd, .events = POLLIN}};
    bool quiet = false;
    ask_for_short_turns();
    for (;;) {
        int ms = wait_ms(loop->daemon);
        if (ms != 0 && poll(fds, 2, ms) < 0 && errno != EINTR)
            sx_error("poll: %s", strerror(errno)); /* out of memory: MHD_run still makes progress */
        /* Take the wake-up before looking at what it may be for, or one that comes in between is
         * lost. */
        eventfd_t n;
        if (ms != 0 && fds[1].revents)
            eventfd_read(loop->wake_fd, &n);
        if (atomic_load_explicit(&loop->stop, memory_order_acquire))
            return NULL;
        if (!quiet && atomic_load_explicit(&loop->httpd->stopping, memory_order_acquire)) {
            MHD_socket fd = MHD_quiesce_daemon(loop->daemon);
            if (fd != MHD_INVALID_SOCKET)
                close(fd);
            quiet = true;
        }
        MHD_run(loop->daemon);
    }
}

enum sx_rc sx_loop_start(struct sx_loop *loop, struct sx_httpd *h, int listen_fd, bool ipv6,
                         MHD_AccessHandlerCallback on_request,
                         MHD_RequestCompletedCallback on_completed, struct sx_err *err)
{
    unsigned connections = h->config.max_connections / h->config.threads;
    *loop = (struct sx_loop){.httpd = h, .wake_fd = -1};
    int fd = dup(listen_fd);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0 || loop->wake_fd < 0) {
        if (fd >= 0)
            close(fd);
        return sx_fail(err, SX_IO, "cannot open a file: %s", strerror(errno));
    }
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_SUPPRESS_DATE_NO_CLOCK |
                     (ipv6 ? MHD_USE_IPv6 : 0);
    loop->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, loop, MHD_OPTION_LISTEN_SOCKET, (MHD_socket)fd,
        MHD_OPTION_CONNECTION_LIMIT, connections, MHD_OPTION_CONNECTION_TIMEOUT,
        h->config.idle_timeout_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_POOL,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, h, MHD_OPTION_END);
    if (!loop->daemon) {
        close(fd);
        return sx_fail(err, SX_INTERNAL, "the HTTP server could not be started");
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(loop->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info)
        return sx_fail(err, SX_INTERNAL, "libmicrohttpd has no epoll here");
    loop->mhd_fd = info->epoll_fd;
    int e = pthread_create(&loop->thread, NULL, run, loop);
    if (e)
        return sx_fail(err, SX_INTERNAL, "cannot start a thread: %s", strerror(e));
    loop->running = true;
    return SX_OK;
}

void sx_loop_wake(struct sx_loop *loop)
{
    if (loop->wake_fd >= 0)
        eventfd_write(loop->wake_fd, 1);
}

void sx_loop_stop(struct sx_loop *loop)
{
    if (loop->running) {
        atomic_store_explicit(&loop->stop, true, memory_order_release);
        sx_loop_wake(loop);
        pthread_join(loop->thread, NULL);
        loop->running = false;
    }
    if (loop->daemon)
        MHD_stop_daemon(loop->daemon);
    loop->daemon = NULL;
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    loop->wake_fd = -1;
}
