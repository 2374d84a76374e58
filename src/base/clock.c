/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.c - the real clock and one that is set by hand.
 */
#include "base/clock.h"

#include <errno.h>
#include <time.h>

#include "base/list.h"

uint64_t sx_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts); // cannot fail: the clock exists and ts is ours
    return (uint64_t)ts.tv_sec * SX_S + (uint64_t)ts.tv_nsec;
}

void sx_sleep_until(uint64_t at)
{
    struct timespec ts = {.tv_sec = (time_t)(at / SX_S), .tv_nsec = (long)(at % SX_S)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
        ;
}

static uint64_t real_now(struct sx_clock *clock)
{
    (void)clock;
    return sx_now();
}

static struct sx_clock real_clock = {.now = real_now};

struct sx_clock *sx_clock_real(void)
{
    return &real_clock;
}

static uint64_t virtual_now(struct sx_clock *clock)
{
    return SX_CONTAINER_OF(clock, struct sx_clock_virtual, base)->at;
}

void sx_clock_virtual_init(struct sx_clock_virtual *clock, uint64_t at)
{
    clock->base.now = virtual_now;
    clock->at = at;
}

void sx_clock_virtual_advance(struct sx_clock_virtual *clock, uint64_t at)
{
    if (at > clock->at)
        clock->at = at;
}
