/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_test.h - what tests of the simulation share.
 */
#ifndef SX_SIM_SIM_TEST_H
#define SX_SIM_SIM_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sim/sim.h"

static inline struct sx_sim_result simulate(const struct sx_sim_config *c)
{
    struct sx_sim_result r;
    struct sx_err err = {0};
    enum sx_rc rc = sx_sim_run(c, &r, &err);
    if (rc)
        fail_msg("%s", err.message);
    return r;
}

static inline void assert_conserved(const struct sx_sim_figures *f)
{
    assert_int_equal(f->offered, f->in_time + f->late + f->refused_late + f->refused_full +
                                     f->dropped + f->waiting);
}

#endif
