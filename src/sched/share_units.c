/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * share_units.c - sets of units as bits.
 *
 * Which group is taken matters: of groups of 1 in 4 units with 3 in use, the twin of one in use is
 * taken first, so that the pair that is free stays whole.
 */
#include <string.h>

#include "sched/share_int.h"

static bool all_set(const uint64_t *units, unsigned first, unsigned n)
{
    while (n) {
        unsigned bit = first % 64, here = 64 - bit < n ? 64 - bit : n;
        uint64_t mask = (here == 64 ? ~UINT64_C(0) : (UINT64_C(1) << here) - 1) << bit;
        if ((units[first / 64] & mask) != mask)
            return false;
        first += here;
        n -= here;
    }
    return true;
}

/* Bits 0, n, 2n, ...; n a power of 2. */
static uint64_t every(unsigned n)
{
    return n >= 64 ? 1 : ~UINT64_C(0) / ((UINT64_C(1) << n) - 1);
}

/* n a power of 2, at most 32; all units in one word. */
static unsigned find_in_word(uint64_t free_units, unsigned n_units, unsigned n)
{
    uint64_t starts = free_units;
    for (unsigned k = 1; k < n; k *= 2)
        starts &= starts >> k;
    starts &= every(n);
    if (!starts)
        return n_units;
    uint64_t twins = starts & starts >> n & every(2 * n);
    uint64_t single = starts & ~(twins | twins << n);
    return (unsigned)__builtin_ctzll(single ? single : starts);
}

unsigned sx_units_find(const uint64_t *free_units, unsigned n_units, unsigned n)
{
    if (!n || n > n_units)
        return n_units;
    if (n_units <= 64 && n <= 32 && !(n & (n - 1)))
        return find_in_word(free_units[0], n_units, n);
    unsigned found = n_units;
    for (unsigned first = 0; first + n <= n_units; first += n) {
        if (!free_units[first / 64] && n <= 64) /* a word in use: nothing begins here */
            continue;
        if (!all_set(free_units, first, n))
            continue;
        unsigned twin = first / n % 2 ? first - n : first + n;
        if (twin + n > n_units || !all_set(free_units, twin, n))
            return first;
        if (found == n_units)
            found = first;
    }
    return found;
}

void sx_units_put(uint64_t *units, unsigned first, unsigned n, bool on)
{
    while (n) {
        unsigned bit = first % 64, here = 64 - bit < n ? 64 - bit : n;
        uint64_t mask = (here == 64 ? ~UINT64_C(0) : (UINT64_C(1) << here) - 1) << bit;
        if (on)
            units[first / 64] |= mask;
        else
            units[first / 64] &= ~mask;
        first += here;
        n -= here;
    }
}

void sx_units_lowest(const uint64_t *from, unsigned n, uint64_t *ret)
{
    memset(ret, 0, SHARE_WORDS * sizeof *ret);
    for (unsigned w = 0; n && w < SHARE_WORDS; w++) {
        uint64_t left = from[w];
        unsigned here = (unsigned)__builtin_popcountll(left);
        if (here <= n) {
            ret[w] = left;
            n -= here;
            continue;
        }
        for (; n; n--) {
            ret[w] |= left & -left;
            left &= left - 1;
        }
    }
}
