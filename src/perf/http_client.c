/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * http_client.c - many keep-alive connections on one epoll, as a target.
 *
 * States of a connection
 *
 *     CLOSED --submit--> CONNECTING --writable--> SENDING --all sent--> WAITING --answer--> IDLE
 *                                                   ^                                        |
 *                                                   +-----------------submit-----------------+
 *     any --failure, answer with "Connection: close", end of file while IDLE--> CLOSED
 *
 * Always true between calls
 *   I1  a slot is busy from submit until its completion lies in `done` and was polled.
 *   I2  `active` holds the connections in CONNECTING, SENDING, WAITING, oldest request first,
 *       so that its head is the next to time out.
 *   I3  events are edge-triggered and registered once: every handler reads or writes until the
 *       kernel says that there is no more, or fewer bytes came than there was room for.
 *
 * A server may close an idle connection just when we send on it.  Then nothing of an answer has
 * come, the connection was used before, and the request is sent once more on a new one
 * (RFC 9112, section 9.3.1); anything else that is cut off is a failure.
 */
#include "perf/http_client.h"

#include <assert.h>
#include <errno.h>
#include <llhttp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "perf/http_error.h"

#define READ_BYTES ((size_t)256 << 10)
#define EVENTS     256

enum conn_state { CONN_CLOSED, CONN_CONNECTING, CONN_SENDING, CONN_WAITING, CONN_IDLE };

struct conn {
    struct sx_list active; /* in client.active */
    int fd;
    enum conn_state state;
    bool used;      /* answered a request before, on this fd */
    bool retried;   /* the current request */
    bool complete;  /* the parser saw the end of the answer */
    bool answering; /* some of it came */
    uint64_t deadline;
    const struct sx_http_request *request;
    size_t sent;
    llhttp_t parser;
};

struct client {
    struct sx_target base;
    struct sx_http_addr server;
    const char *stats; /* path */
    uint64_t timeout_ns;
    const struct sx_http_request *request;
    size_t n_requests;
    int epoll;
    struct conn *conn;
    struct sx_list active;
    llhttp_settings_t settings;
    char *read_buf;
    struct sx_completion *done; /* as many places as slots */
    size_t done_head, n_done;
    struct sx_http_counts counts;
    struct sx_http_error *error; /* of each slot: the failed answer that is being read */
    char example[SX_OUTCOME_COUNT][192];
};

static struct client *client_of(struct sx_target *t)
{
    return SX_CONTAINER_OF(t, struct client, base);
}

/* --- endings ------------------------------------------------------------------------------------
 */

static void finish(struct client *c, struct conn *k, enum sx_outcome outcome, int status,
                   const char *example)
{
    sx_list_remove(&k->active);
    k->request = NULL;
    size_t at = (c->done_head + c->n_done++) % c->base.slots;
    c->done[at] = (struct sx_completion){
        .slot = (uint32_t)(k - c->conn),
        .outcome = outcome,
        .status = status,
        .done = sx_now(),
    };
    if (outcome != SX_OUTCOME_OK && !c->example[outcome][0])
        snprintf(c->example[outcome], sizeof(c->example[outcome]), "%s", example);
}

static void close_conn(struct conn *k)
{
    if (k->fd >= 0)
        close(k->fd); // leaves the epoll set by itself
    k->fd = -1;
    k->state = CONN_CLOSED;
    k->used = false;
}

static void fail(struct client *c, struct conn *k, enum sx_outcome outcome, const char *example)
{
    close_conn(k);
    finish(c, k, outcome, 0, example);
}

/* --- the parser's callbacks ---------------------------------------------------------------------
 */

static int on_message_begin(llhttp_t *p)
{
    struct conn *k = p->data;
    k->answering = true;
    return 0;
}

static int on_message_complete(llhttp_t *p)
{
    struct conn *k = p->data;
    if (p->status_code / 100 == 1)
        return 0; // an interim answer: the real one follows
    k->complete = true;
    return HPE_PAUSED;
}

/* --- sending ------------------------------------------------------------------------------------
 */

static void open_conn(struct client *c, struct conn *k);

/* The peer is gone: send again if that can be an idle connection's end, else fail. */
static void lost(struct client *c, struct conn *k, const char *why)
{
    bool again = k->used && !k->retried && !k->answering;
    close_conn(k);
    if (!again) {
        finish(c, k, SX_OUTCOME_CLOSED, 0, why);
        return;
    }
    k->retried = true;
    k->sent = 0;
    c->counts.retries++;
    open_conn(c, k);
}

static void send_more(struct client *c, struct conn *k)
{
    k->state = CONN_SENDING;
    while (k->sent < k->request->len) {
        ssize_t n =
            send(k->fd, k->request->data + k->sent, k->request->len - k->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) {
            lost(c, k, strerror(errno));
            return;
        }
        k->sent += (size_t)n;
    }
    k->state = CONN_WAITING;
}

static void open_conn(struct client *c, struct conn *k)
{
    c->counts.connects++;
    k->fd = socket(c->server.addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (k->fd < 0) {
        fail(c, k, SX_OUTCOME_CONNECT, strerror(errno));
        return;
    }
    int one = 1;
    setsockopt(k->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    llhttp_init(&k->parser, HTTP_RESPONSE, &c->settings);
    k->parser.data = k;
    k->state = CONN_CONNECTING;
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = k};
    int rc = connect(k->fd, (struct sockaddr *)&c->server.addr, c->server.addr_len);
    if (rc < 0 && errno != EINPROGRESS)
        fail(c, k, SX_OUTCOME_CONNECT, strerror(errno));
    else if (epoll_ctl(c->epoll, EPOLL_CTL_ADD, k->fd, &ev) < 0)
        fail(c, k, SX_OUTCOME_CONNECT, strerror(errno));
    else if (rc == 0)
        send_more(c, k);
}

static void submit(struct sx_target *t, uint32_t slot, uint64_t sample)
{
    struct client *c = client_of(t);
    struct conn *k = &c->conn[slot];
    assert(slot < t->slots && !k->request);
    k->request = &c->request[sample % c->n_requests];
    k->sent = 0;
    k->retried = k->complete = k->answering = false;
    if (c->error[slot].len > 0)
        sx_http_error_begin(&c->error[slot]);
    k->deadline = c->timeout_ns ? sx_time_add(sx_now(), c->timeout_ns) : SX_NEVER;
    sx_list_insert(&c->active, &k->active);
    if (k->state == CONN_CLOSED)
        open_conn(c, k);
    else
        send_more(c, k);
}

/* --- receiving ----------------------------------------------------------------------------------
 */

static void answered(struct client *c, struct conn *k, bool clean)
{
    int status = k->parser.status_code;
    bool keep = clean && k->state == CONN_WAITING && llhttp_should_keep_alive(&k->parser);
    k->used = true;
    k->state = CONN_IDLE;
    if (!keep)
        close_conn(k);
    else
        llhttp_resume(&k->parser);
    struct sx_http_error *why = &c->error[k - c->conn];
    finish(c, k, sx_http_outcome(status, why), status, why->text);
}

/* Parse the whole answer or a part; false when the connection is done for. */
static bool parse(struct client *c, struct conn *k, const char *data, size_t n)
{
    enum llhttp_errno e = llhttp_execute(&k->parser, data, n);
    if (k->parser.status_code / 100 != 2 && k->parser.status_code / 100 != 1)
        sx_http_error_feed(&c->error[k - c->conn], data, n);
    if (e == HPE_PAUSED && k->complete) {
        answered(c, k, llhttp_get_error_pos(&k->parser) == data + n);
        return false; // nothing more is due
    }
    if (e != HPE_OK) {
        char text[128];
        snprintf(text, sizeof(text), "%s", llhttp_get_error_reason(&k->parser));
        fail(c, k, SX_OUTCOME_MALFORMED, text);
        return false;
    }
    return true;
}

static void end_of_file(struct client *c, struct conn *k)
{
    if (k->answering && llhttp_finish(&k->parser) == HPE_OK && k->complete)
        answered(c, k, false);
    else if (k->answering && k->complete)
        answered(c, k, false);
    else
        lost(c, k, "the server closed the connection");
}

static void receive(struct client *c, struct conn *k)
{
    for (;;) {
        ssize_t n = recv(k->fd, c->read_buf, READ_BYTES, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (!k->request) { // idle: end of file, an error, or bytes that nobody asked for
            close_conn(k);
            return;
        }
        if (n <= 0) {
            if (n == 0)
                end_of_file(c, k);
            else
                lost(c, k, strerror(errno));
            return;
        }
        if (!parse(c, k, c->read_buf, (size_t)n) || (size_t)n < READ_BYTES)
            return;
    }
}

static void handle(struct client *c, struct conn *k, uint32_t events)
{
    if (k->state == CONN_CONNECTING) {
        int e = 0;
        socklen_t len = sizeof(e);
        getsockopt(k->fd, SOL_SOCKET, SO_ERROR, &e, &len);
        if (e) {
            fail(c, k, SX_OUTCOME_CONNECT, strerror(e));
            return;
        }
        if (!(events & EPOLLOUT))
            return;
        send_more(c, k);
    } else if (k->state == CONN_SENDING && (events & EPOLLOUT)) {
        send_more(c, k);
    }
    int fd = k->fd; // a retry opens another one, about which these events say nothing
    if (fd >= 0 && k->state != CONN_CONNECTING &&
        (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
        receive(c, k);
    // end of file may have come with the last bytes, and edges come once
    if (k->fd == fd && k->state == CONN_IDLE && (events & (EPOLLRDHUP | EPOLLHUP)))
        close_conn(k);
    else if (k->fd == fd && k->state == CONN_WAITING && (events & (EPOLLRDHUP | EPOLLHUP)))
        receive(c, k);
}

/* --- polling ------------------------------------------------------------------------------------
 */

static void expire(struct client *c, uint64_t now)
{
    while (!sx_list_empty(&c->active)) {
        struct conn *k = SX_CONTAINER_OF(c->active.next, struct conn, active);
        if (k->deadline > now)
            return;
        fail(c, k, SX_OUTCOME_TIMEOUT, "no answer within the client's timeout");
    }
}

/* Wait for events until `until`, to the nanosecond where the kernel can. */
static int wait_events(struct client *c, struct epoll_event *ev, uint64_t until)
{
    int n = epoll_wait(c->epoll, ev, EVENTS, 0);
    uint64_t now = sx_now();
    if (n != 0 || until <= now)
        return n;
    uint64_t left = until - now;
    struct timespec ts = {.tv_sec = (time_t)(left / SX_S), .tv_nsec = (long)(left % SX_S)};
    struct pollfd p = {.fd = c->epoll, .events = POLLIN};
    return ppoll(&p, 1, until == SX_NEVER ? NULL : &ts, NULL) > 0
               ? epoll_wait(c->epoll, ev, EVENTS, 0)
               : 0;
}

static size_t take(struct client *c, struct sx_completion *out, size_t max)
{
    size_t n = 0;
    for (; n < max && c->n_done > 0; n++) {
        out[n] = c->done[c->done_head];
        c->done_head = (c->done_head + 1) % c->base.slots;
        c->n_done--;
    }
    return n;
}

static size_t poll_client(struct sx_target *t, uint64_t until, struct sx_completion *out,
                          size_t max)
{
    struct client *c = client_of(t);
    struct epoll_event ev[EVENTS];
    if (c->n_done > 0)
        until = 0;
    else if (!sx_list_empty(&c->active)) {
        uint64_t deadline = SX_CONTAINER_OF(c->active.next, struct conn, active)->deadline;
        until = deadline < until ? deadline : until;
    }
    int n = wait_events(c, ev, until);
    for (int i = 0; i < n; i++)
        handle(c, ev[i].data.ptr, ev[i].events);
    expire(c, sx_now());
    return take(c, out, max);
}

/* --- the rest of a life -------------------------------------------------------------------------
 */

static void cancel(struct sx_target *t)
{
    struct client *c = client_of(t);
    while (!sx_list_empty(&c->active)) {
        struct conn *k = SX_CONTAINER_OF(c->active.next, struct conn, active);
        sx_list_remove(&k->active);
        k->request = NULL;
        close_conn(k);
    }
    c->n_done = 0;
}

static const char *example(struct sx_target *t, enum sx_outcome outcome)
{
    return client_of(t)->example[outcome];
}

static void destroy(struct sx_target *t)
{
    struct client *c = client_of(t);
    for (uint32_t i = 0; c->conn && i < t->slots; i++)
        close_conn(&c->conn[i]);
    if (c->epoll >= 0)
        close(c->epoll);
    free(c->conn);
    free(c->done);
    free(c->error);
    free(c->read_buf);
    free(c);
}

static bool server_times(struct sx_target *t, struct sx_server_times *ret)
{
    struct client *c = SX_CONTAINER_OF(t, struct client, base);
    struct sx_sbuf body = {0};
    int status = 0;
    bool known = c->stats &&
                 !sx_http_fetch(&c->server, c->stats, NULL, SX_S, &status, &body, NULL) &&
                 status == 200 && body.data && sx_server_times_parse(body.data, body.len, ret);
    sx_sbuf_free(&body);
    return known;
}

static const struct sx_target_ops http_ops = {
    .submit = submit,
    .poll = poll_client,
    .cancel = cancel,
    .example = example,
    .destroy = destroy,
    .server_times = server_times,
};

enum sx_rc sx_http_target_create(const struct sx_http_addr *server, const struct sx_http_opts *opts,
                                 const struct sx_http_request *requests, size_t n,
                                 struct sx_target **ret, struct sx_err *err)
{
    assert(n > 0 && opts->connections > 0);
    struct client *c = calloc(1, sizeof(*c));
    if (!c)
        return sx_fail(err, SX_NO_MEMORY, "out of memory");
    c->base = (struct sx_target){.ops = &http_ops, .slots = opts->connections, .batch = 1};
    c->server = *server;
    c->timeout_ns = opts->timeout_ns;
    c->stats = opts->stats;
    c->request = requests;
    c->n_requests = n;
    sx_list_init(&c->active);
    llhttp_settings_init(&c->settings);
    c->settings.on_message_begin = on_message_begin;
    c->settings.on_message_complete = on_message_complete;
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL); // this thread wakes when a request is due
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    c->conn = calloc(opts->connections, sizeof(*c->conn));
    c->done = calloc(opts->connections, sizeof(*c->done));
    c->error = calloc(opts->connections, sizeof(*c->error));
    c->read_buf = malloc(READ_BYTES);
    if (c->epoll < 0 || !c->conn || !c->done || !c->error || !c->read_buf) {
        destroy(&c->base);
        return sx_fail(err, SX_NO_MEMORY, "no memory or file descriptors for %u connections",
                       opts->connections);
    }
    for (uint32_t i = 0; i < opts->connections; i++) {
        c->conn[i].fd = -1;
        sx_list_init(&c->conn[i].active);
    }
    *ret = &c->base;
    return SX_OK;
}

struct sx_http_counts sx_http_target_counts(const struct sx_target *t)
{
    return SX_CONTAINER_OF((struct sx_target *)(uintptr_t)t, struct client, base)->counts;
}
