/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * mix_fixture.h - for tests: several fake models in one server, in virtual time.
 *
 * Models compute y = 2 x + 1 on [samples, 4] floats, so that rows that were mixed up show.  Nothing
 * runs but inside mix_advance, on the caller's thread: every interleaving is exact and repeatable.
 */
#ifndef SX_SERVE_MIX_FIXTURE_H
#define SX_SERVE_MIX_FIXTURE_H

#include "machine/machine.h"
#include "serve/server.h"

#define MIX_MODELS 4

struct mix {
    struct sx_engine *engine;
    struct sx_unit units[16];
    struct sx_machine machine;
    struct sx_server *server;
    struct sx_model *model[MIX_MODELS]; /* a reference each; NULL: not loaded */
    char path[MIX_MODELS][64];
};

/* What became of one request. */
struct mix_slot {
    struct mix *mix;
    struct sx_request *request; /* while it is the server's */
    float value;
    int answers;
    enum sx_rc rc;
    char message[512];
    uint64_t arrival, start, end; /* start 0: it never ran */
    unsigned samples, batch, width;
};

/* A server of so many units without a model; `policy` NULL: the default. */
void mix_open(struct mix *mix, unsigned units, const char *policy);
/* Load model number `i` under the name "m<i>": `time`, a line of the fake engine's; objective, 0:
 * none; more lines of config.pbtxt, may be NULL.  Does not wait for its profile. */
void mix_load(struct mix *mix, unsigned i, const char *time, double objective_ms, const char *more);
/* Unload it, and give our reference back. */
void mix_unload(struct mix *mix, unsigned i);
/* Let the profiles be measured. */
void mix_settle(struct mix *mix);
void mix_close(struct mix *mix);

uint64_t mix_now(struct mix *mix);
void mix_advance(struct mix *mix, uint64_t by);
/* Until nothing is pending. */
void mix_finish(struct mix *mix);
/* A request for `samples` of model `i`, every element `value`; timeout 0: the model's.  The
 * answer's values are checked. */
enum sx_rc mix_submit(struct mix *mix, unsigned i, struct mix_slot *slot, float value,
                      int64_t samples, uint64_t timeout_ns);

#endif
