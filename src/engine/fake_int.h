/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_int.h - what the files of the fake engine share.
 */
#ifndef SX_ENGINE_FAKE_INT_H
#define SX_ENGINE_FAKE_INT_H

#include <stdatomic.h>

#include "engine/engine_int.h"

#define FAKE_MAX_CHAIN 100000

/* A model, or a stage of one: then with copies of the settings, and with ports of its own. */
struct fake_model {
    struct sx_engine_model base;
    bool *sums; /* for each output */
    double base_us, per_sample_us, serial;
    double slow, slow_over; /* times, for runs whose first value is over that; slow 0: none */
    double cold;            /* times, for the first run; 0: none */
    bool spin, fail_stage, fail_session, fail_on_value;
    double fail_value;
    uint64_t fail_nth; /* 0: never */
    atomic_uint_fast64_t n_runs;
    uint32_t chain;       /* operators of the whole model; 0: it cannot be cut */
    uint32_t first, last; /* those that this one computes; 0 and 0 without a chain */
    double chain_bytes;   /* of a sample between operators; < 0: those of the input */
    char *names;          /* of operators and tensors of the graph */
};

void sx_fake_close(struct sx_engine_model *model);

/* fake_stage.c */
enum sx_rc sx_fake_graph(struct sx_engine_model *model, struct sx_err *err);
enum sx_rc sx_fake_open_stage(struct sx_engine_model *model, const uint32_t *nodes, size_t n,
                              struct sx_engine_model **ret_stage, struct sx_err *err);
enum sx_rc sx_fake_profile(struct sx_engine_model *model, const struct sx_engine_measure *what,
                           double *ret_node_ns, double *ret_spread_ns, double ret_whole[2],
                           struct sx_err *err);

#endif
