/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * queue_target.h - a target that is a queue in virtual time: G/D/c with a bounded waiting room.
 *
 * `servers` servers take `service_ns` for each request, first come first served; a request that
 * finds `room` others waiting is rejected.  It can break: one that is never answered takes no
 * server's time, and from `gone_at` on connections are refused.  Polling moves the clock, so hours
 * take milliseconds and every run of a seed is the same.
 */
#ifndef SX_PERF_QUEUE_TARGET_H
#define SX_PERF_QUEUE_TARGET_H

#include "base/clock.h"
#include "perf/target.h"

struct sx_queue_config {
    uint32_t servers, slots;
    uint64_t service_ns;
    uint32_t room;      /* 0: no bound */
    uint32_t deaf_each; /* of so many requests one is never answered; 0: none */
    uint64_t gone_at;   /* 0: never */
};

/* `clock` is borrowed; give the same one to the runner. */
enum sx_rc sx_queue_target_create(const struct sx_queue_config *config,
                                  struct sx_clock_virtual *clock, struct sx_target **ret);

#endif
