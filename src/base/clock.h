/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.h - where time comes from.
 *
 * Times are nanoseconds as uint64_t on a monotonic scale with an arbitrary origin.
 * SX_NEVER is later than every time.  Code that must also run in virtual time takes a
 * `struct sx_clock *` and never asks the system.
 */
#ifndef SX_BASE_CLOCK_H
#define SX_BASE_CLOCK_H

#include <stdint.h>

#define SX_NEVER UINT64_MAX
#define SX_US    UINT64_C(1000)
#define SX_MS    UINT64_C(1000000)
#define SX_S     UINT64_C(1000000000)

/* The machine's monotonic clock, in nanoseconds; any thread. */
uint64_t sx_now(void);
/* Sleep until that clock shows `at` (at once when it does), also through signals. */
void sx_sleep_until(uint64_t at);

struct sx_clock {
    uint64_t (*now)(struct sx_clock *clock); /* any thread; never goes backwards */
};

/* The shared real clock; never destroyed. */
struct sx_clock *sx_clock_real(void);

/* A clock that stands still until it is set; owned by one thread. */
struct sx_clock_virtual {
    struct sx_clock base;
    uint64_t at;
};
void sx_clock_virtual_init(struct sx_clock_virtual *clock, uint64_t at);
/* Move forward to `at`; an earlier time is ignored (a clock never goes back). */
void sx_clock_virtual_advance(struct sx_clock_virtual *clock, uint64_t at);

static inline uint64_t sx_clock_now(struct sx_clock *clock)
{
    return clock->now(clock);
}

/* a + b without wrapping past SX_NEVER. */
static inline uint64_t sx_time_add(uint64_t a, uint64_t b)
{
    return a > SX_NEVER - b ? SX_NEVER : a + b;
}

#endif
