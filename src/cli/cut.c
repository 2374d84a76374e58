/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * cut.c - a model opened for cutting.
 */
#include "cli/cut.h"

#include <string.h>

#include "base/file.h"

enum sx_rc sx_cut_open(struct sx_cut *cut, const char *path, const struct sx_texts *devices,
                       const char *library, bool portable, struct sx_err *err)
{
    char cache[PATH_MAX];
    const struct sx_port *in;
    enum sx_rc rc;

    cut->path = path;
    if (sx_cache_dir(cache, sizeof cache)) {
        sx_fail(err, SX_NOT_FOUND, "there is no directory for caches");
        sx_hint(err, "set STARONNX_CACHE");
        return SX_NOT_FOUND;
    }
    rc = sx_open_machine(devices, &cut->machine, err);
    if (!rc)
        rc = sx_open_engine(library, cut->machine, &cut->engine, err);
    if (!rc)
        rc = portable ? sx_engine_open_portable(cut->engine, path, &cut->model, err)
                      : sx_engine_open_model(cut->engine, path, &cut->model, err);
    if (!rc)
        rc = sx_engine_graph(cut->model, &cut->dag, err);
    if (!rc)
        rc = sx_engine_profile_key(cut->model, cut->machine->id, &cut->profile.key, err);
    if (!rc)
        rc = sx_profile_cache_path(cache, &cut->profile.key, cut->profile_path,
                                   sizeof cut->profile_path, err);
    if (rc)
        return rc;
    size_t n = sx_engine_inputs(cut->model, &in);
    cut->batched = n > 0;
    for (size_t i = 0; i < n; i++)
        cut->batched = cut->batched && in[i].rank > 0 && in[i].dims[0] < 0;
    return SX_OK;
}

void sx_cut_close(struct sx_cut *cut)
{
    sx_profile_fini(&cut->profile);
    sx_engine_close_model(cut->model);
    sx_engine_destroy(cut->engine);
    sx_machine_destroy(cut->machine);
    memset(cut, 0, sizeof *cut);
}
