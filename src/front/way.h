/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * way.h - how long answers wait before they are sent.
 *
 * On a machine that is busy with runs, a thread that wakes up waits for a core: the answer is there
 * and nobody sends it.  A client sees that as latency, so deadlines must leave room for it; how
 * much, the answers before tell.  One of these belongs to each loop; its thread is the owner.
 */
#ifndef SX_FRONT_WAY_H
#define SX_FRONT_WAY_H

#include <stdint.h>

struct sx_way {
    double ns;   /* 99 % of answers waited less; 0: nothing is known */
    uint64_t at; /* when the last one was sent */
};

/* An answer waited for `waited` ns and is sent at `now`.  The quantile moves up by a tenth for each
 * that waited longer and down by a 99th of that for each other, which balances where 1 % are longer
 * (Robbins and Monro 1951, on a logarithmic scale); from 50 us to 2 ms takes 40 long ones. */
void sx_way_note(struct sx_way *way, uint64_t waited, uint64_t now);
/* The quantile in ns; it halves in each SX_WAY_HALF_NS without answers. */
uint64_t sx_way_ns(const struct sx_way *way, uint64_t now);

#define SX_WAY_HALF_NS UINT64_C(10000000000)

#endif
