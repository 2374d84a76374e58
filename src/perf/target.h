/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * target.h - what a load is put on: a server over HTTP, a server in this process, a model of one.
 *
 * The runner numbers its places for requests in flight: slots 0..slots-1.  It submits a request
 * into a free slot, and the slot stays busy until a poll gives its completion back.
 *
 *     create -> (submit | poll)* -> cancel -> destroy
 *
 * Everything here is called from the runner's one thread.  An implementation whose answers come on
 * other threads posts them to a `struct sx_mailbox` (below) and polls that.
 */
#ifndef SX_PERF_TARGET_H
#define SX_PERF_TARGET_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rc.h"
#include "perf/stats.h"

struct sx_target;

struct sx_completion {
    uint32_t slot;
    enum sx_outcome outcome;
    int status;    /* HTTP status; 0 when there is none */
    uint64_t done; /* when the answer was complete */
};

/* What a server counted of a model since it started: sums over requests that it answered. */
struct sx_server_times {
    uint64_t requests, samples, runs;
    uint64_t queue_ns, input_ns, infer_ns, output_ns;
};

/* All mandatory but for the last. */
struct sx_target_ops {
    /* Start sample `sample` (taken modulo what the target has) in a free slot.  Never blocks, never
     * fails: what goes wrong is a completion. */
    void (*submit)(struct sx_target *t, uint32_t slot, uint64_t sample);
    /* Wait until something completed or `until`, and write up to `max` completions; returns how
     * many.  May return 0 early.  `until` in the past means: don't wait. */
    size_t (*poll)(struct sx_target *t, uint64_t until, struct sx_completion *out, size_t max);
    /* Give up what is in flight: no completion of it is reported later, all slots are free. */
    void (*cancel)(struct sx_target *t);
    /* The first message that came with this outcome; "" if there was none. */
    const char *(*example)(struct sx_target *t, enum sx_outcome outcome);
    void (*destroy)(struct sx_target *t);
    /* False: the server does not say.  Blocks, up to a second. */
    bool (*server_times)(struct sx_target *t, struct sx_server_times *ret);
};

struct sx_target {
    const struct sx_target_ops *ops;
    uint32_t slots;  /* how many requests can be in flight */
    uint32_t batch;  /* inferences in one request */
    char name[256];  /* for reports: "http://localhost:8000/v2/models/resnet50" */
    char model[128]; /* the model's name */
};

/* --- completions from other threads -------------------------------------------------------------
 */

/* A bounded queue of completions: as many places as slots, so a post never fails.  Any thread
 * posts, one waits. */
struct sx_mailbox {
    pthread_mutex_t lock;
    pthread_cond_t wake; /* CLOCK_MONOTONIC */
    struct sx_completion *item;
    uint32_t cap, head, count; /* guarded by lock */
};

enum sx_rc sx_mailbox_init(struct sx_mailbox *m, uint32_t slots);
void sx_mailbox_fini(struct sx_mailbox *m);
void sx_mailbox_post(struct sx_mailbox *m, const struct sx_completion *c);
/* As `poll` above. */
size_t sx_mailbox_wait(struct sx_mailbox *m, uint64_t until, struct sx_completion *out, size_t max);

#endif
