/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * http_int.h - what the files of the HTTP front share.
 *
 * A call is one HTTP request in progress.  Its life, all on its connection's MHD thread except
 * where it says otherwise:
 *
 *   (headers)--> BODY --(body is complete)--> WAITING --(done, any thread)--> DONE --> free
 *                  |                    connection suspended                   ^
 *                  +-------------- everything that is not infer ---------------+
 *
 * Calls and their memory are recycled: nothing of ours allocates per request after warm-up.
 */
#ifndef SX_FRONT_HTTP_INT_H
#define SX_FRONT_HTTP_INT_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/list.h"
#include "front/http.h"
#include "front/way.h"
#include "serve/request.h"
#include "serve/server.h"
#include "wire/v2.h"

enum route {
    ROUTE_ERROR, /* call->err says why */
    ROUTE_LIVE,
    ROUTE_READY,
    ROUTE_SERVER,
    ROUTE_MODEL,
    ROUTE_MODEL_READY,
    ROUTE_MODEL_CONFIG,
    ROUTE_MODEL_STATS,
    ROUTE_ALL_STATS,
    ROUTE_INDEX,
    ROUTE_REPOSITORY_CONTROL,
    ROUTE_PLAN,
    ROUTE_INFER,
};

/* Where a URL leads. */
struct target {
    enum route route;
    const char *verb;  /* that the path takes; HEAD goes where GET does */
    const char *model; /* inside the URL, not terminated */
    size_t model_len;
    int64_t version; /* 0: not said */
};

enum call_state { CALL_BODY, CALL_WAITING, CALL_DONE };

struct call {
    struct sx_httpd *httpd;
    struct sx_loop *loop; /* whose thread is its connection's */
    struct MHD_Connection *connection;
    struct sx_list link; /* in httpd->free_calls or, while WAITING, httpd->waiting */
    unsigned refs;       /* the HTTP request and its response; the connection's thread */
    enum call_state state;
    struct target target;
    uint64_t begun_ns; /* when its headers were there */
    int status;        /* HTTP status of the answer; 0: from err.rc */
    struct sx_err err; /* rc is SX_OK or why the answer is an error */

    struct sx_buffer *body; /* NULL until the first byte */
    size_t body_at;         /* where the body begins in the buffer */
    size_t body_len, content_length;
    bool has_length;
    bool discard; /* swallow the rest of the body: the answer is known */
    size_t discarded;
    size_t received;  /* of the body, kept or not */
    size_t low_mark;  /* bytes that the socket waits for before it wakes us; 0: any */
    int64_t json_len; /* -1: header not sent */

    struct sx_model *model;
    struct sx_v2_model v2_model;
    struct sx_v2_call v2;
    size_t counted; /* bytes of v2.json in httpd->json_bytes */
    struct sx_request *request;

    /* guard: httpd->lock */
    uint64_t serial;     /* of this waiting; tells a recycled call from the one that was seen */
    uint64_t waiting_ns; /* since */
    bool cancelling;     /* the watcher is inside sx_server_cancel */
    bool seen_gone;
};

/* A thread that drives an MHD daemon. */
struct sx_loop {
    struct sx_httpd *httpd;
    struct MHD_Daemon *daemon;
    int mhd_fd, wake_fd;
    pthread_t thread;
    bool running;
    atomic_bool stop;
    struct sx_way way; /* [thread] */
};

struct sx_httpd {
    struct sx_httpd_config config;
    struct sx_loop *loops; /* config.threads of them */
    unsigned n_loops;
    uint16_t port;
    atomic_bool stopping;
    atomic_uint active;       /* calls between the first callback and the last */
    atomic_uint suspended;    /* connections between suspend and the end of resume */
    atomic_size_t json_bytes; /* of large JSON answers that are being sent */

    pthread_mutex_t lock;
    struct sx_list free_calls;
    struct sx_list waiting; /* calls, oldest first */
    uint64_t serials;
    pthread_cond_t changed; /* a cancel ended, the watcher should look or stop */
    bool watcher_asleep, watcher_stop;
    pthread_t watcher;
    bool has_watcher;
};

/* --- http_call.c ---------------------------------------------------------------------------------
 */

struct call *sx_call_begin(struct sx_loop *loop, struct MHD_Connection *connection, const char *url,
                           const char *method);
/* Take a piece of the body; false: hang up. */
bool sx_call_body(struct call *call, const char *data, size_t size);
/* The body is complete, or the model has answered. */
enum MHD_Result sx_call_step(struct call *call);
void sx_call_unref(struct call *call);
void sx_call_free(struct call *call);

/* --- http_reply.c --------------------------------------------------------------------------------
 */

/* Queue the error in call->err, or the document in call->v2.json, or the inference's answer. */
enum MHD_Result sx_reply(struct call *call);
/* The JSON has been sent, or is thrown away. */
void sx_reply_uncount(struct call *call);

/* --- routes.c ------------------------------------------------------------------------------------
 */

/* SX_OK, SX_NOT_FOUND (no such path) or SX_UNSUPPORTED (not with this method: 405; the target's
 * verb is right). */
enum sx_rc sx_route(const char *method, const char *url, struct target *ret_target);
/* Write the document that the call asks for into call->v2.json, or set call->err. */
void sx_route_document(struct call *call);

/* --- http_watch.c --------------------------------------------------------------------------------
 */

enum sx_rc sx_watch_start(struct sx_httpd *httpd, struct sx_err *err);
void sx_watch_stop(struct sx_httpd *httpd);
void sx_watch_add(struct call *call);
/* From any thread, before the connection is resumed. */
void sx_watch_remove(struct call *call);
/* The request is about to be released: wait until the watcher lets go of it. */
void sx_watch_settle(struct call *call);

/* --- http_loop.c
 * ----------------------------------------------------------------------------------- */

/* The caller keeps listen_fd.  Stop also after a failure. */
enum sx_rc sx_loop_start(struct sx_loop *loop, struct sx_httpd *httpd, int listen_fd, bool ipv6,
                         MHD_AccessHandlerCallback on_request,
                         MHD_RequestCompletedCallback on_completed, struct sx_err *err);
/* Look at httpd->stopping. */
void sx_loop_wake(struct sx_loop *loop);
void sx_loop_stop(struct sx_loop *loop);

/* --- listen.c ------------------------------------------------------------------------------------
 */

/* A listening socket; the caller closes it. */
enum sx_rc sx_listen(const char *address, uint16_t port, const char *flag, int *ret_fd,
                     uint16_t *ret_port, bool *ret_ipv6, struct sx_err *err);

#endif
