/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * chain.h - a model and its stages, opened side by side, for benchmarks of cuts.
 *
 * Values of a run are tensors by number of the DAG's tensor: a stage reads and writes that table.
 * What fails ends the program with a message, but for what a cut may do wrong.
 */
#ifndef SX_BENCH_CHAIN_H
#define SX_BENCH_CHAIN_H

#include "engine/engine.h"
#include "machine/machine.h"
#include "perf/dataset.h"

void chain_or_die(enum sx_rc rc, const struct sx_err *err);
void *chain_need(void *memory); /* NULL ends the program */

struct chain_model {
    struct sx_engine *engine;
    struct sx_engine_model *model;
    const struct sx_dag *dag;
    const struct sx_port *in, *out;
    size_t n_in, n_out;
    struct sx_dataset data; /* free dimensions are 1 */
    unsigned n_inputs;      /* samples in it */
};

/* `cache`: for prepared models; NULL: the user's. */
void chain_open_model(struct chain_model *m, const struct sx_machine *machine, const char *path,
                      const char *cache, unsigned n_inputs, uint64_t seed);
void chain_close_model(struct chain_model *m);

struct chain_stage {
    uint32_t *nodes, n, *in, *out; /* `out` lies in the memory of `in` */
    size_t n_in, n_out;
    struct sx_engine_model *model;
    struct sx_session *session; /* of width 1 */
};

/* Check these nodes (copied) and open them; on failure `err` says what is wrong with the cut, and
 * the stage can be closed all the same. */
enum sx_rc chain_open_stage(const struct chain_model *m, const uint32_t *nodes, uint32_t n,
                            struct chain_stage *stage, struct sx_err *err);
void chain_close_stage(struct chain_stage *stage);

/* A table of values with the inputs of one sample; free it with chain_drop. */
struct sx_tensor *chain_values(const struct chain_model *m, unsigned sample);
/* On the calling thread; outputs of an earlier run are replaced. */
void chain_run_stage(const struct chain_stage *stage, struct sx_tensor *values);
/* The value that is an output of the model. */
const struct sx_tensor *chain_output(const struct chain_model *m, const struct sx_tensor *values,
                                     size_t output);
void chain_drop(const struct chain_model *m, struct sx_tensor *values);

#endif
