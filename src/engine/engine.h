/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.h - how a model is computed.
 *
 * An engine opens models; a model makes sessions; a session runs batches on a fixed set of
 * cores.  Two implementations: `ort` (ONNX Runtime, loaded at run time) and `fake` (a
 * deterministic model of one, for tests and virtual time).  The contract below is tested against
 * both (engine/contract_test.c).
 *
 *     sx_engine_create -> sx_engine_open_model -> sx_model_session (one per width and core group)
 *                                                   -> sx_session_run, many times
 *
 * Weights are in memory once per opened model, however many sessions it has.
 *
 * Threads: create, open and session calls block and may come from any thread, one at a time per
 * engine.  sx_session_run blocks while it computes; a session of width 1 may run on many threads
 * at once, a wider one runs one batch at a time (the caller sees to it).
 */
#ifndef SX_ENGINE_ENGINE_H
#define SX_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rc.h"
#include "cost/profile.h"
#include "graph/dag.h"
#include "tensor/tensor.h"

struct sx_device;
struct sx_engine;
struct sx_engine_model;
struct sx_machine;
struct sx_session;

/* An input or output of a model. */
struct sx_port {
    const char *name;
    enum sx_dtype dtype;       /* never NONE in an opened model */
    int rank;                  /* -1: the model does not say; any rank is taken */
    int64_t dims[SX_MAX_RANK]; /* -1: free */
    bool optional;             /* an input with a default in the model */
    char first_dim[32];        /* how its author calls a free dims[0], cut off there; "": he has not
                                  said */
};

struct sx_engine_config {
    const char *name;       /* "ort" or "fake" */
    const char *library;    /* ort: path of libonnxruntime; NULL: the system's */
    const char *cache_dir;  /* where prepared models are kept; NULL: prepare nothing */
    const char *machine_id; /* goes into the names of prepared models */
    bool virtual_time;      /* fake: report how long a run takes instead of taking that long */
};

/* --- engine --------------------------------------------------------------------------------- */

enum sx_rc sx_engine_create(const struct sx_engine_config *config, struct sx_engine **ret_engine,
                            struct sx_err *err);
/* All its models must be closed. NULL is fine. */
void sx_engine_destroy(struct sx_engine *engine);
/* "ONNX Runtime 1.21.0", for people and for cache keys. */
const char *sx_engine_version(const struct sx_engine *engine);

/* --- model ---------------------------------------------------------------------------------- */

/* Open `path`.  With a cache directory, ort optimises the model once, keeps the result there
 * with its weights in a file of their own, and maps it from then on; if that cannot be done for
 * this model, it is opened plainly and sx_engine_model_note says why. */
enum sx_rc sx_engine_open_model(struct sx_engine *engine, const char *path,
                                struct sx_engine_model **ret_model, struct sx_err *err);
/* All its sessions must be closed. NULL is fine. */
void sx_engine_close_model(struct sx_engine_model *model);
size_t sx_engine_inputs(const struct sx_engine_model *model, const struct sx_port **ret_ports);
size_t sx_engine_outputs(const struct sx_engine_model *model, const struct sx_port **ret_ports);
/* Why the model is not opened the best way; "" when it is. */
const char *sx_engine_model_note(const struct sx_engine_model *model);
/* All sessions are made and warm: give back memory that only their making needed.  Others can be
 * made all the same. */
void sx_engine_model_settle(struct sx_engine_model *model);

/* --- stages ----------------------------------------------------------------------------------- */

/* The operators of the model as the engine runs it (ort: after its own optimiser, so that a cut is
 * never inside what it fuses), with types, sizes and groups filled in.  Built at the first call,
 * which blocks for as long as a load; owned by the model.  SX_UNSUPPORTED: this model cannot be
 * cut; the message says why. */
enum sx_rc sx_engine_graph(struct sx_engine_model *model, const struct sx_dag **ret_dag,
                           struct sx_err *err);
/* The file that the graph was read from; NULL unless sx_engine_graph succeeded (fake: always). */
const struct sx_onnx *sx_engine_graph_onnx(const struct sx_engine_model *model);
/* What a profile of that graph is kept under: operators, edges and shapes (not weights: times do
 * not depend on their values), the machine, the engine's version. */
enum sx_rc sx_engine_profile_key(struct sx_engine_model *model, const char *machine_id,
                                 struct sx_profile_key *ret_key, struct sx_err *err);
/* Open a model for cutting it into files that other programs run, on other machines: its graph is
 * the one before ONNX Runtime suits it to this machine (its basic level), and groups keep together
 * what it would fuse.  Needs a cache directory.  Everything else as with sx_engine_open_model. */
enum sx_rc sx_engine_open_portable(struct sx_engine *engine, const char *path,
                                   struct sx_engine_model **ret_model, struct sx_err *err);
/* Some convex nodes of that graph as a model of its own: sessions, ports and runs as above.  Ports
 * are in the order of sx_stage_ports.  Shares the weights of `model`, which must be closed later.
 */
enum sx_rc sx_engine_open_stage(struct sx_engine_model *model, const uint32_t *nodes, size_t n,
                                struct sx_engine_model **ret_stage, struct sx_err *err);

/* Measure each node: `runs` whole runs on made-up inputs (small random numbers; integers are 1;
 * free dimensions other than the batch are 64) at this batch, after warm-up, on the
 * calling thread and width-1 helpers bound to cpus[1..] (the caller is bound to cpus[0]; with
 * width 1 `cpus` may be NULL).
 * ret_node_ns, ret_spread_ns (n_nodes each): median and median absolute deviation.  ret_whole:
 * the same of unobserved whole runs, n 2: median, deviation.  Blocks for all of it; `tick` (may be
 * NULL) is called between runs with a share in [0, 1] and stops the measurement by returning
 * false (SX_CANCELLED).  SX_UNSUPPORTED: the model cannot be cut, or takes strings; SX_INVALID: no
 * such batch. */
enum sx_rc sx_engine_profile(struct sx_engine_model *model, unsigned batch, unsigned width,
                             const int *cpus, unsigned runs, bool (*tick)(void *user, double done),
                             void *user, double *ret_node_ns, double *ret_spread_ns,
                             double ret_whole[2], struct sx_err *err);
/* Measure with it on the first `units` of a device and put the table into the profile, whose key is
 * that of this model.  The calling thread stays bound to the device's first core, as a worker is.
 * SX_INVALID: the device has not so many units. */
enum sx_rc sx_engine_profile_table(struct sx_engine_model *model, const struct sx_machine *machine,
                                   const struct sx_device *device, unsigned units, unsigned batch,
                                   unsigned runs, bool (*tick)(void *user, double done), void *user,
                                   struct sx_profile *profile, struct sx_err *err);
/* Measure copies between each two kinds of a machine's devices and put their costs into the
 * profile; with `anew` also those that it has.  *ret_changed becomes true if there were any; it is
 * not touched else.  Some milliseconds for each. */
enum sx_rc sx_engine_profile_links(const struct sx_machine *machine, bool anew,
                                   struct sx_profile *profile, bool *ret_changed,
                                   struct sx_err *err);

/* --- session -------------------------------------------------------------------------------- */

/* A session that computes on `width` cores: the thread that calls run, bound by its owner to
 * cpus[0], and width-1 helpers that the session binds to cpus[1..] and that sleep between runs.
 * With width 1 `cpus` may be NULL and is not used. */
enum sx_rc sx_session_create(struct sx_engine_model *model, unsigned width, const int *cpus,
                             struct sx_session **ret_session, struct sx_err *err);
/* The same, but after a run the helpers look for the next one, for a while, and begin it sooner.
 * All runs that are started on their cores are of sessions made like this (of any width, and
 * `cpus` is not NULL), which claim them first. */
enum sx_rc sx_session_create_awake(struct sx_engine_model *model, unsigned width, const int *cpus,
                                   struct sx_session **ret_session, struct sx_err *err);
/* Such a session is about to run: helpers of others that look for work on its cores go to sleep,
 * its own wake up.  Before each of its runs, while nothing runs on those cores; any thread; does
 * not block.  False: its helpers sleep, and the run will have to wake them, as they cannot be woken
 * from here: one of them would take the caller's core. */
bool sx_session_claim(struct sx_session *session);
void sx_session_destroy(struct sx_session *session); /* NULL is fine */

/* Compute.  `inputs`: one tensor for each input port, in order; a zeroed one (dtype NONE) leaves
 * an optional input out.  `outputs`: one for each output port.  Where outputs[i].data is set (with
 * dtype and shape), the result is written there and the actual shape must match it; otherwise
 * outputs[i] becomes a tensor with a buffer of its own.  On failure outputs that were
 * zeroed stay zeroed.  `ret_ns` (may be NULL): in virtual time, how long the run takes; else 0.
 * SX_INVALID: the model refuses these inputs; SX_ENGINE: it failed, or a result has another shape
 * than was prepared for it. */
enum sx_rc sx_session_run(struct sx_session *session, const struct sx_tensor *inputs,
                          struct sx_tensor *outputs, uint64_t *ret_ns, struct sx_err *err);

#endif
