/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * report.h - results of simulations for people, for programs, and as a picture.
 */
#ifndef SX_SIM_REPORT_H
#define SX_SIM_REPORT_H

#include "base/sbuf.h"
#include "sim/ideal.h"
#include "sim/scenario.h"

/* A scenario under some policies. */
struct sx_sim_report {
    const struct sx_sim_scenario *scenario;
    enum sx_share_policy policies[SX_SHARE_POLICIES];
    struct sx_sim_result results[SX_SHARE_POLICIES]; /* owned by the caller */
    unsigned n;
    /* Of the same models, one run of each at a time, and two; NULL: none.  Then also what kernels
     * used under each policy, as a share of all units. */
    const struct sx_ideal_result *ideal, *ideal_two;
    double kernels[SX_SHARE_POLICIES];
    double wall_seconds; /* of all simulations; 0: not to be printed */
};

/* Tables that line up, and a sentence of conclusion. */
void sx_sim_report_text(const struct sx_sim_report *report, struct sx_sbuf *out);
/* One object; its fields are in staronnx(1).  Times in ms, rates in samples or requests per second;
 * without wall times the same for the same scenario. */
void sx_sim_report_json(const struct sx_sim_report *report, struct sx_sbuf *out);
/* The sentence alone. */
void sx_sim_report_conclusion(const struct sx_sim_report *report, struct sx_sbuf *out);

/* The schedule of the first machine as SVG: time on x, units on y, a run is a rectangle in its
 * model's colour with its batch in it; fillers are pale with a coloured edge.  Ends of windows and
 * deadlines are ticks below.  No style sheet: every shape has its attributes. */
void sx_sim_picture(const struct sx_sim_scenario *scenario, const struct sx_sim_result *result,
                    enum sx_share_policy policy, struct sx_sbuf *out);

#endif
