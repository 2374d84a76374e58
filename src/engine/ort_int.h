/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * ort_int.h - what the files of the ort engine share.
 *
 * Only ort*.c include it; it is the one place that includes ONNX Runtime's header.
 */
#ifndef SX_ENGINE_ORT_INT_H
#define SX_ENGINE_ORT_INT_H

#include <onnxruntime_c_api.h>

#include "base/rc.h"
#include "engine/engine_int.h"
#include "graph/onnx.h"

/* --- ort_api.c: the library, loaded once per path and process ------------------------------------
 */

struct ort_lib {
    const OrtApi *api;
    OrtEnv *env;
    OrtMemoryInfo *cpu;      /* "the caller's CPU memory" */
    OrtAllocator *allocator; /* the default one; never released */
    char *path;
    char version[32];
    unsigned refs;
    struct ort_lib *next;
};

/* Load ONNX Runtime from `path` (a file, or a directory that has it; NULL: the system's) or take
 * another reference.  Any thread. */
enum sx_rc sx_ort_lib_get(const char *path, struct ort_lib **ret_lib, struct sx_err *err);
void sx_ort_lib_put(struct ort_lib *lib);
/* Turn a status into an error and release it; NULL is SX_OK. */
enum sx_rc sx_ort_check(const struct ort_lib *lib, OrtStatus *status, struct sx_err *err);

/* --- ort_value.c: tensors as ONNX Runtime sees them ---------------------------------- */

/* A value over the tensor's memory (fixed-size types), or a copy of its strings. */
enum sx_rc sx_ort_value_in(const struct ort_lib *lib, const struct sx_tensor *t,
                           OrtValue **ret_value, struct sx_err *err);
/* The zeroed `t` takes the value over, without a copy for fixed-size types; success consumes the
 * value.  `inputs`: memory that the result must not point into (it is the caller's). */
enum sx_rc sx_ort_value_out(const struct ort_lib *lib, OrtValue *value,
                            const struct sx_tensor *inputs, size_t n_inputs, struct sx_tensor *t,
                            struct sx_err *err);

/* --- ort_prepare.c: a model optimised once, with its weights in a file of their own --- */

/* The weights of one model, in memory once. */
struct ort_weights {
    const struct ort_lib *lib;
    OrtPrepackedWeightsContainer *prepacked;
    struct ort_weight_file {
        char *location;
        const void *data;
        size_t size;
    } *files;
    size_t n_files;
    char **names;
    OrtValue **values;
    size_t n_values;
};

enum {
    SX_ORT_INSIDE = 1, /* the weights stay in the graph's file, where sessions do not share them;
                          ONNX Runtime 1.21 cannot take them out of a graph that has operators with
                          bodies */
    SX_ORT_BASIC = 2,  /* optimised as far as any ONNX Runtime understands it, and no further */
};
/* Make sure that a prepared copy of `source` is under the cache directory and open it.  Fails with
 * a reason if that cannot be done for this model.  `how`: some of the above. */
enum sx_rc sx_ort_prepare(const struct ort_lib *lib, const struct sx_onnx *source,
                          const char *cache_dir, const char *machine_id, unsigned how,
                          struct sx_onnx **ret_model, struct sx_err *err);
/* Let ONNX Runtime optimise `from` and save the result in `dir` as SX_ORT_MODEL_NAME, with its
 * large constants beside it, or inside. */
enum sx_rc sx_ort_optimise(const struct ort_lib *lib, const char *from, const char *dir,
                           GraphOptimizationLevel level, bool inside, struct sx_err *err);
#define SX_ORT_MODEL_NAME "model.onnx"
/* Is there anything to win? Not for a model with next to no weights. */
bool sx_ort_prepare_pays(const struct sx_onnx *source);

/* A hash for names of files, 32 hexadecimal digits. */
void sx_ort_hash(const void *data, size_t size, char ret_text[33]);

enum sx_rc sx_ort_weights_open(const struct ort_lib *lib, const struct sx_onnx *model,
                               struct ort_weights *ret_weights, struct sx_err *err);
void sx_ort_weights_close(struct ort_weights *weights);
/* Give the mapped pages back; whoever still reads them gets them from the page cache. */
void sx_ort_weights_settle(const struct ort_weights *weights);

/* --- ort.c: models and sessions --- */

struct ort_engine {
    struct sx_engine base;
    struct ort_lib *lib;
    char *cache_dir, *machine_id;
    struct ort_spinners *spinners;
};

/* What sessions are made from. */
struct ort_source {
    char *path;
    char *bytes; /* unless NULL: instead of the file, stripped of overridable initializers */
    size_t n_bytes;
    const struct ort_weights *weights; /* the file is optimised, and these are its weights (a
                                          stage's: also others); NULL: a plain one */
};

struct ort_model {
    struct sx_engine_model base;
    const struct ort_lib *lib;
    struct ort_source source;
    struct ort_weights weights; /* prepared: its own; plain: of its stages, from sx_ort_graph on;
                                   a stage: none */
    const char **input_names, **output_names;
    struct ort_session *spare; /* made while opening, not taken yet */
};

struct ort_session {
    struct sx_session base;
    OrtSession *session;
    struct ort_helpers *helpers; /* that spin between runs; NULL: it has none */
    int *cpus;                   /* base.width; NULL: unknown, and then it claims none */
};

struct ort_session_config {
    unsigned width;
    const int *cpus;
    struct ort_helpers *helpers; /* unless NULL: they spin between runs */
    const char *profile; /* unless NULL: measure operators; the file's name begins with this */
    bool raw;            /* weights are not put into a faster layout: for one that hardly runs */
};

enum sx_rc sx_ort_session_open(const struct ort_lib *lib, const struct ort_source *source,
                               const struct ort_session_config *config, OrtSession **ret_session,
                               struct sx_err *err);
/* Give an empty model its source and its first session. */
enum sx_rc sx_ort_model_open_at(struct ort_model *model, const char *path,
                                const struct ort_weights *weights, struct sx_err *err);
void sx_ort_model_close(struct sx_engine_model *model);

/* --- ort_ports.c: inputs and outputs ---
 */

/* Fill in the ports of a model that has its first session; `source` is the file it was made from.
 */
enum sx_rc sx_ort_ports_describe(struct ort_model *model, const struct sx_onnx *source,
                                 struct sx_err *err);
void sx_ort_ports_free(struct ort_model *model);

/* --- ort_graph.c, ort_stage.c, ort_profile.c: see struct sx_engine_ops --- */

enum sx_rc sx_ort_graph(struct sx_engine_model *model, struct sx_err *err);
enum sx_rc sx_ort_open_stage(struct sx_engine_model *model, const uint32_t *nodes, size_t n,
                             struct sx_engine_model **ret_stage, struct sx_err *err);
enum sx_rc sx_ort_profile(struct sx_engine_model *model, const struct sx_engine_measure *what,
                          double *ret_node_ns, double *ret_spread_ns, double ret_whole[2],
                          struct sx_err *err);

#endif
