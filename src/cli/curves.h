/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * curves.h - what `profile` says of time by units and batch: knees, and the choice for an
 * objective.
 */
#ifndef SX_CLI_CURVES_H
#define SX_CLI_CURVES_H

#include "base/sbuf.h"
#include "cost/efficacy.h"
#include "cost/knee.h"
#include "cost/parallel.h"
#include "cost/profile.h"

struct sx_curves {
    const char *name, *kind; /* "resnet50", "cpu"; borrowed.  kind NULL: of a file */
    const char *unit;        /* "core", "unit" */
    struct sx_latency measured, prepared;
    double spread_ns[SX_LATENCY_UNITS][SX_LATENCY_BATCHES];
    bool has_spread;
    unsigned filled, moved; /* cells that prepare filled, and that it moved by more than 1 % */
    struct sx_knee knee[SX_LATENCY_BATCHES];
    bool has_fit[SX_LATENCY_BATCHES]; /* of at least four measured times */
    struct sx_parallel_fit fit[SX_LATENCY_BATCHES];
};

/* Of a checked table, which is copied. */
void sx_curves_init(struct sx_curves *curves, const char *name, const char *kind, const char *unit,
                    const struct sx_latency *measured);
/* Of all that a profile has of a kind of device, with spreads. */
enum sx_rc sx_curves_from_profile(struct sx_curves *curves, const char *name, const char *kind,
                                  const struct sx_profile *profile, struct sx_err *err);

/* A table for people, and notes below it. */
void sx_curves_text(struct sx_sbuf *out, const struct sx_curves *curves);
/* {"device":"cpu","units":[..],...}: no more, no less than the table says, and the fit. */
void sx_curves_json(struct sx_sbuf *out, const struct sx_curves *curves);
/* Time over units as an SVG file: a curve for each batch, its knee by efficacy marked. */
enum sx_rc sx_curves_draw(const struct sx_curves *curves, const char *path, struct sx_err *err);

/* The batch and share of best efficacy within the limits, or why there is none. */
void sx_choice_text(struct sx_sbuf *out, const struct sx_curves *curves,
                    const struct sx_efficacy_limits *limits);
void sx_choice_json(struct sx_sbuf *out, const struct sx_curves *curves,
                    const struct sx_efficacy_limits *limits);

#endif
