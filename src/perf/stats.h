/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * stats.h - what became of a set of requests.
 *
 * Latency counts from the time at which a request was due, not from when the client got round to
 * sending it, so that a slow server can't hide its queue in the client.
 */
#ifndef SX_PERF_STATS_H
#define SX_PERF_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hist.h"

/*   code, key in JSON, what it says to a person */
#define SX_OUTCOME_TABLE(X)                                                                        \
    X(OK, "ok", "answered")                                                                        \
    X(REJECTED, "rejected", "rejected by an overloaded server")                                    \
    X(EXPIRED, "expired", "expired in the server's queue")                                         \
    X(BAD_REQUEST, "bad_request", "refused as a bad request")                                      \
    X(SERVER_ERROR, "server_error", "failed in the server")                                        \
    X(TIMEOUT, "timeout", "not answered within the client's timeout")                              \
    X(CONNECT, "connect", "could not connect")                                                     \
    X(CLOSED, "closed", "connection closed before the answer was complete")                        \
    X(MALFORMED, "malformed", "answered with something that is not HTTP")                          \
    X(UNSENT, "unsent", "due, but never sent: no free connection")

enum sx_outcome {
#define SX_OUTCOME_ENUM(code, key, text) SX_OUTCOME_##code,
    SX_OUTCOME_TABLE(SX_OUTCOME_ENUM)
#undef SX_OUTCOME_ENUM
        SX_OUTCOME_COUNT
};

const char *sx_outcome_key(enum sx_outcome o);
const char *sx_outcome_text(enum sx_outcome o);
/* Rejected and expired requests were answered: the server chose to shed load.  The rest is lost. */
bool sx_outcome_is_lost(enum sx_outcome o);

/* A request that was sent later than this after it was due counts as late. */
#define SX_LATE_NS UINT64_C(1000000)

/* Plain data, about 40 KiB. */
struct sx_stats {
    struct sx_hist latency; /* of the requests that were answered */
    struct sx_hist lag;     /* of all that were sent: from due to sent */
    uint64_t outcome[SX_OUTCOME_COUNT];
    uint64_t within; /* answered within the objective; all answered ones when there is none */
    uint64_t late;
    uint64_t ns; /* length of the interval */
};

void sx_stats_init(struct sx_stats *s);
/* A request that was due, sent and finished at these times.  objective_ns 0: none. */
void sx_stats_add(struct sx_stats *s, enum sx_outcome outcome, uint64_t due, uint64_t sent,
                  uint64_t done, uint64_t objective_ns);
void sx_stats_merge(struct sx_stats *into, const struct sx_stats *from);

uint64_t sx_stats_total(const struct sx_stats *s);
uint64_t sx_stats_failed(const struct sx_stats *s);
uint64_t sx_stats_lost(const struct sx_stats *s);
/* Answers per second over the interval. */
double sx_stats_rate(const struct sx_stats *s);

/* Whether `n` values all lie within `percent` of their mean. */
bool sx_stable(const double *values, int n, double percent);

#endif
