/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * listen.c - listening sockets, with errors that say what to do.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "front/http_int.h"

static enum sx_rc fail_bind(const char *address, uint16_t port, const char *flag,
                            struct sx_err *err)
{
    sx_fail(err, SX_IO, "cannot listen on %s port %u: %s", address, port, strerror(errno));
    if (errno == EADDRINUSE)
        sx_hint(err, "another program has this port; choose one with %s-port, or 0 for any", flag);
    else if (errno == EADDRNOTAVAIL)
        sx_hint(err, "this machine does not have that address; see %s-address", flag);
    else if (errno == EACCES)
        sx_hint(err, "ports below 1024 need privileges; choose another with %s-port", flag);
    return SX_IO;
}

enum sx_rc sx_listen(const char *address, uint16_t port, const char *flag, int *ret_fd,
                     uint16_t *ret_port, bool *ret_ipv6, struct sx_err *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *info = NULL;
    char service[8];
    if (!address)
        address = "127.0.0.1";
    snprintf(service, sizeof(service), "%u", port);
    int rc = getaddrinfo(address, service, &hints, &info);
    if (rc) {
        sx_fail(err, SX_INVALID, "'%s' is not an address: %s", address, gai_strerror(rc));
        sx_hint(err, "%s-address takes an IP address, 0.0.0.0 or :: for all", flag);
        return SX_INVALID;
    }
    enum sx_rc result = SX_OK;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } bound = {0};
    socklen_t len = sizeof(bound);
    int one = 1;
    bool v6 = info->ai_family == AF_INET6;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        result = sx_fail(err, SX_IO, "cannot make a socket: %s", strerror(errno));
        goto out;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* accepted ones inherit it */
    if (bind(fd, info->ai_addr, info->ai_addrlen) || listen(fd, 1024) ||
        getsockname(fd, &bound.any, &len)) {
        result = fail_bind(address, port, flag, err);
        close(fd);
        goto out;
    }
    *ret_fd = fd;
    *ret_port = ntohs(v6 ? bound.v6.sin6_port : bound.v4.sin_port);
    *ret_ipv6 = v6;
out:
    freeaddrinfo(info);
    return result;
}
