/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_inproc.c - load on the server library in this process.
 */
#include "cli/perf_int.h"

enum sx_rc sx_perf_open_inproc(const struct sx_perf_target_options *o, struct sx_perf_opened *ret,
                               struct sx_err *err)
{
    (void)ret;
    sx_fail(err, SX_UNSUPPORTED, "%s: running a model in this process is not built in",
            o->model_path);
    sx_hint(err, "start `staronnx serve` and use -m");
    return SX_UNSUPPORTED;
}
