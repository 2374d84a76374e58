/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "perf/queue_target.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"

#define REFUSING_NS (10 * SX_US) /* time must pass, or a closed loop would be refused for ever */

struct queue {
    struct sx_target base;
    struct sx_queue_config config;
    struct sx_clock_virtual *clock;
    uint64_t *free_at;            /* of each server */
    struct sx_completion *flight; /* in order of submission: a ring of `slots` places */
    uint32_t head, count;
    struct sx_completion *refused;
    uint32_t n_refused;
    uint32_t n_deaf, submitted;
};

static struct queue *queue_of(struct sx_target *t)
{
    return SX_CONTAINER_OF(t, struct queue, base);
}

static uint32_t waiting(const struct queue *q, uint64_t now)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < q->count; i++) {
        uint64_t done = q->flight[(q->head + i) % q->base.slots].done;
        n += done > now + q->config.service_ns; // not begun yet
    }
    return n;
}

static void submit(struct sx_target *t, uint32_t slot, uint64_t sample)
{
    (void)sample;
    struct queue *q = queue_of(t);
    uint64_t now = sx_clock_now(&q->clock->base);
    assert(q->count + q->n_refused + q->n_deaf < t->slots);
    if (q->config.gone_at && now >= q->config.gone_at) {
        q->refused[q->n_refused++] = (struct sx_completion){slot, SX_OUTCOME_CONNECT, 0, now};
        return;
    }
    if (q->config.deaf_each && ++q->submitted % q->config.deaf_each == 0) {
        q->n_deaf++;
        return;
    }
    if (q->config.room && waiting(q, now) >= q->config.room) {
        q->refused[q->n_refused++] = (struct sx_completion){slot, SX_OUTCOME_REJECTED, 503, now};
        return;
    }
    uint32_t first = 0;
    for (uint32_t i = 1; i < q->config.servers; i++) {
        if (q->free_at[i] < q->free_at[first])
            first = i;
    }
    uint64_t begin = q->free_at[first] > now ? q->free_at[first] : now;
    q->free_at[first] = begin + q->config.service_ns; // equal times: completions stay in order
    q->flight[(q->head + q->count++) % t->slots] =
        (struct sx_completion){slot, SX_OUTCOME_OK, 200, q->free_at[first]};
}

static size_t poll_queue(struct sx_target *t, uint64_t until, struct sx_completion *out, size_t max)
{
    struct queue *q = queue_of(t);
    size_t n = 0;
    for (; n < max && q->n_refused > 0; n++)
        out[n] = q->refused[--q->n_refused];
    if (n > 0) {
        sx_clock_virtual_advance(q->clock, sx_clock_now(&q->clock->base) + REFUSING_NS);
        return n;
    }
    assert(q->count > 0 || until != SX_NEVER); // nothing would ever happen
    uint64_t next = q->count ? q->flight[q->head].done : SX_NEVER;
    sx_clock_virtual_advance(q->clock, next < until ? next : until);
    for (; n < max && q->count > 0 && q->flight[q->head].done <= sx_clock_now(&q->clock->base);
         n++) {
        out[n] = q->flight[q->head];
        q->head = (q->head + 1) % t->slots;
        q->count--;
    }
    return n;
}

static void cancel(struct sx_target *t)
{
    struct queue *q = queue_of(t);
    q->count = q->n_refused = q->n_deaf = 0;
    memset(q->free_at, 0, q->config.servers * sizeof(*q->free_at));
}

static const char *example(struct sx_target *t, enum sx_outcome outcome)
{
    (void)t;
    return outcome == SX_OUTCOME_REJECTED ? "Exceeds maximum queue size" : "";
}

static void destroy(struct sx_target *t)
{
    struct queue *q = queue_of(t);
    free(q->free_at);
    free(q->flight);
    free(q->refused);
    free(q);
}

static const struct sx_target_ops queue_ops = {
    .submit = submit,
    .poll = poll_queue,
    .cancel = cancel,
    .example = example,
    .destroy = destroy,
};

enum sx_rc sx_queue_target_create(const struct sx_queue_config *config,
                                  struct sx_clock_virtual *clock, struct sx_target **ret)
{
    struct queue *q = calloc(1, sizeof(*q));
    if (!q)
        return SX_NO_MEMORY;
    q->base = (struct sx_target){
        .ops = &queue_ops, .slots = config->slots, .batch = 1, .name = "queue", .model = "queue"};
    q->config = *config;
    q->clock = clock;
    q->free_at = calloc(config->servers, sizeof(*q->free_at));
    q->flight = calloc(config->slots, sizeof(*q->flight));
    q->refused = calloc(config->slots, sizeof(*q->refused));
    if (!q->free_at || !q->flight || !q->refused) {
        destroy(&q->base);
        return SX_NO_MEMORY;
    }
    *ret = &q->base;
    return SX_OK;
}
