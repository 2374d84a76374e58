/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * http_fetch.c - addresses, and one blocking request at a time.
 */
#include <errno.h>
#include <llhttp.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "perf/http_client.h"

#define BODY_MAX ((size_t)64 << 20)

enum sx_rc sx_http_resolve(const char *url, struct sx_http_addr *ret, struct sx_err *err)
{
    char host[256];
    const char *port = "8000";
    const char *p = strncmp(url, "http://", 7) == 0 ? url + 7 : url;
    if (strncmp(url, "https://", 8) == 0 || strncmp(url, "grpc://", 7) == 0)
        return sx_fail(err, SX_UNSUPPORTED, "'%s': only plain HTTP is supported", url);
    size_t len = strcspn(p, "/");
    if (len == 0 || len >= sizeof(host) || p[len + (p[len] == '/')] != 0)
        return sx_fail(err, SX_INVALID, "'%s' is not HOST or HOST:PORT", url);
    snprintf(host, sizeof(host), "%.*s", (int)len, p);
    char *name = host, *colon = strrchr(host, ':'), *bracket = strrchr(host, ']');
    if (colon && colon > bracket) {
        *colon = 0;
        port = colon + 1;
    }
    if (host[0] == '[' && bracket) {
        *bracket = 0;
        name = host + 1;
    }
    char *end;
    unsigned long number = strtoul(port, &end, 10);
    if (*end || number == 0 || number > 65535)
        return sx_fail(err, SX_INVALID, "'%s' is not a port", port);

    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list;
    int rc = getaddrinfo(name, port, &hints, &list);
    if (rc)
        return sx_fail(err, SX_NOT_FOUND, "host '%s': %s", name, gai_strerror(rc));
    // "localhost" may come as ::1 first where the server listens on 127.0.0.1 only: take what
    // answers
    struct addrinfo *use = list;
    for (struct addrinfo *a = list; a && list->ai_next; a = a->ai_next) {
        int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool ok = fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0;
        if (fd >= 0)
            close(fd);
        if (ok) {
            use = a;
            break;
        }
    }
    memcpy(&ret->addr, use->ai_addr, use->ai_addrlen);
    ret->addr_len = use->ai_addrlen;
    freeaddrinfo(list);
    snprintf(ret->host, sizeof(ret->host), bracket ? "[%.200s]:%s" : "%.200s:%s", name, port);
    return SX_OK;
}

struct fetch {
    int fd;
    uint64_t deadline;
    struct sx_sbuf *body;
    bool complete;
};

static enum sx_rc wait_for(const struct fetch *f, short events, struct sx_err *err)
{
    uint64_t now = sx_now();
    int ms = f->deadline > now ? (int)((f->deadline - now + SX_MS - 1) / SX_MS) : 0;
    struct pollfd p = {.fd = f->fd, .events = events};
    int rc;
    while ((rc = poll(&p, 1, ms)) < 0 && errno == EINTR)
        ;
    if (rc == 0)
        return sx_fail(err, SX_DEADLINE, "no answer in time");
    return rc < 0 ? sx_fail(err, SX_IO, "poll: %s", strerror(errno)) : SX_OK;
}

static int on_body(llhttp_t *p, const char *at, size_t n)
{
    struct fetch *f = p->data;
    if (f->body->len + n > BODY_MAX)
        return HPE_USER;
    sx_sbuf_add(f->body, at, n);
    return 0;
}

static int on_complete(llhttp_t *p)
{
    struct fetch *f = p->data;
    if (p->status_code / 100 == 1)
        return 0;
    f->complete = true;
    return HPE_PAUSED;
}

static enum sx_rc send_all(struct fetch *f, const struct sx_sbuf *out, struct sx_err *err)
{
    for (size_t sent = 0; sent < out->len;) {
        enum sx_rc rc = wait_for(f, POLLOUT, err);
        if (rc)
            return rc;
        ssize_t n = send(f->fd, out->data + sent, out->len - sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return sx_fail(err, SX_UNAVAILABLE, "%s", strerror(errno));
        sent += n > 0 ? (size_t)n : 0;
    }
    return SX_OK;
}

static enum sx_rc receive_all(struct fetch *f, llhttp_t *parser, struct sx_err *err)
{
    char buf[16384];
    while (!f->complete) {
        enum sx_rc rc = wait_for(f, POLLIN, err);
        if (rc)
            return rc;
        ssize_t n = recv(f->fd, buf, sizeof(buf), 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n < 0)
            return sx_fail(err, SX_IO, "%s", strerror(errno));
        enum llhttp_errno e =
            n > 0 ? llhttp_execute(parser, buf, (size_t)n) : llhttp_finish(parser);
        if (f->complete)
            break;
        if (n == 0)
            return sx_fail(err, SX_IO, "the server closed the connection");
        if (e != HPE_OK)
            return sx_fail(err, SX_IO, "the answer is not HTTP: %s",
                           llhttp_get_error_reason(parser));
    }
    return f->body->failed ? sx_fail(err, SX_NO_MEMORY, "out of memory") : SX_OK;
}

enum sx_rc sx_http_fetch(const struct sx_http_addr *server, const char *path, const char *body,
                         uint64_t timeout_ns, int *ret_status, struct sx_sbuf *ret_body,
                         struct sx_err *err)
{
    struct fetch f = {.deadline = sx_time_add(sx_now(), timeout_ns), .body = ret_body};
    struct sx_sbuf out = {0};
    llhttp_settings_t settings;
    llhttp_t parser;
    llhttp_settings_init(&settings);
    settings.on_body = on_body;
    settings.on_message_complete = on_complete;
    llhttp_init(&parser, HTTP_RESPONSE, &settings);
    parser.data = &f;

    sx_sbuf_printf(&out, "%s %s HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\nConnection: close\r\n",
                   body ? "POST" : "GET", path, server->host);
    if (body)
        sx_sbuf_printf(&out, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                       strlen(body));
    sx_sbuf_printf(&out, "\r\n%s", body ? body : "");
    enum sx_rc rc = out.failed ? sx_fail(err, SX_NO_MEMORY, "out of memory") : SX_OK;

    f.fd = rc ? -1 : socket(server->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (!rc && f.fd < 0)
        rc = sx_fail(err, SX_IO, "socket: %s", strerror(errno));
    if (!rc && connect(f.fd, (const struct sockaddr *)&server->addr, server->addr_len) < 0 &&
        errno != EINPROGRESS)
        rc = sx_fail(err, SX_UNAVAILABLE, "%s", strerror(errno));
    if (!rc)
        rc = send_all(&f, &out, err);
    if (!rc)
        rc = receive_all(&f, &parser, err);
    if (!rc)
        *ret_status = parser.status_code;
    if (rc && err)
        sx_while(err, "%s%s: ", server->host, path);
    if (f.fd >= 0)
        close(f.fd);
    sx_sbuf_free(&out);
    return rc;
}
