/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * contract_test.h - what the tests of the executors' contract share.
 */
#ifndef SX_EXEC_CONTRACT_TEST_H
#define SX_EXEC_CONTRACT_TEST_H

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define UNITS 4

/* What happens on other threads is reported here, as cmocka's asserts work on the main one. */
static atomic_int wrong;
#define EXPECT(what) ((what) ? (void)0 : (void)atomic_fetch_add(&wrong, 1))

static int cpus[UNITS]; /* CPUs that we may use, in turn */

static inline int find_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set))
        return -1;
    for (unsigned u = 0, cpu = 0; u < UNITS; cpu = (cpu + 1) % CPU_SETSIZE)
        if (CPU_ISSET(cpu, &set))
            cpus[u++] = (int)cpu;
    return 0;
}

/* SX_STRESS=N multiplies the lengths of the stress tests. */
static inline unsigned stress(void)
{
    const char *s = getenv("SX_STRESS");
    return s && atoi(s) > 0 ? (unsigned)atoi(s) : 1;
}

#endif
