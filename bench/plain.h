/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * plain.h - ONNX Runtime as people use it without us: the baseline of the benchmarks.
 *
 * Written against ONNX Runtime's C API alone, so that nothing of the engine under test is in the
 * baseline.  Optimisation level, spinning, arena: ONNX Runtime's own defaults.
 */
#ifndef SX_BENCH_PLAIN_H
#define SX_BENCH_PLAIN_H

#include <stdbool.h>

#include "perf/dataset.h"
#include "perf/target.h"

struct OrtApi;
struct OrtEnv;
struct plain_session;

/* ONNX Runtime's C API, loaded and with an environment; exits with a message on failure. */
const struct OrtApi *plain_api(struct OrtEnv **ret_env);

/* Hides what goes to stderr: Debian's build prints a thousand harmless lines about schemas when the
 * first session is made. */
void plain_quiet(bool on);

/* A session with `threads` intra-op threads; exits with a message on failure. */
struct plain_session *plain_open(const char *path, int threads);
/* One Run on these inputs, in the model's order; outputs are dropped. */
void plain_run(struct plain_session *s, const struct sx_tensor *inputs, int n);
void plain_close(struct plain_session *s);

/* `sessions` sessions of `threads` threads, each with a thread of its own that takes up to `batch`
 * waiting requests from one common queue.  `bare`: no queue and no thread; submit runs. */
struct sx_target *plain_target(const char *path, int sessions, int threads, int batch, bool bare,
                               const struct sx_dataset *data, uint32_t slots);

#endif
