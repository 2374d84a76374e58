/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * load.c - how long ONNX Runtime alone takes to make a server's sessions.
 *
 *     load-sessions MODEL.onnx WIDTH...
 *
 * MODEL is a prepared model (CACHE/prepared/KEY/model.onnx).  One session for each WIDTH, one
 * after the other, with the options and the shared weights that the engine gives its own.  One
 * line of JSON goes to stdout: milliseconds for the library and its environment, for mapping the
 * weights, and for CreateSession alone.
 */
#include <onnxruntime_c_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "graph/onnx.h"
#include "plain.h"

static const OrtApi *api;

static void check(OrtStatus *status)
{
    if (!status)
        return;
    fprintf(stderr, "load-sessions: %s\n", api->GetErrorMessage(status));
    exit(1);
}

static void or_die(enum sx_rc rc, const struct sx_err *err)
{
    if (!rc)
        return;
    fprintf(stderr, "load-sessions: %s\n", err->message);
    exit(1);
}

struct weights {
    char **names;
    OrtValue **values;
    size_t n;
};

/* All external data of a prepared model is in one file. */
static void map_weights(const struct sx_onnx *model, struct weights *w)
{
    const struct sx_onnx_initializer *init;
    size_t n = sx_onnx_initializers(model, &init), size = 0;
    const void *data = NULL;
    OrtMemoryInfo *memory;
    struct sx_err err = {0};
    w->names = calloc(n + 1, sizeof *w->names);
    w->values = calloc(n + 1, sizeof(OrtValue *));
    check(api->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory));
    for (size_t i = 0; i < n; i++) {
        if (!init[i].external || !init[i].nbytes)
            continue;
        if (!data) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", sx_onnx_dir(model), init[i].location);
            or_die(sx_file_map(path, &data, &size, &err), &err);
        }
        if (init[i].offset > size || init[i].nbytes > size - init[i].offset)
            exit(1);
        w->names[w->n] = strdup(init[i].name);
        check(api->CreateTensorWithDataAsOrtValue(
            memory, (char *)data + init[i].offset, init[i].nbytes, init[i].dims,
            (size_t)init[i].rank, (ONNXTensorElementDataType)init[i].onnx_type,
            &w->values[w->n++]));
    }
}

static void create(const OrtEnv *env, const char *path, int width, const struct weights *w,
                   OrtPrepackedWeightsContainer *prepacked)
{
    OrtSessionOptions *o;
    OrtSession *session; /* stays: the next one is made beside it */
    check(api->CreateSessionOptions(&o));
    check(api->SetIntraOpNumThreads(o, width));
    check(api->SetInterOpNumThreads(o, 1));
    check(api->SetSessionGraphOptimizationLevel(o, ORT_DISABLE_ALL));
    check(api->DisableMemPattern(o));
    for (size_t i = 0; i < w->n; i++)
        check(api->AddInitializer(o, w->names[i], w->values[i]));
    plain_quiet(true);
    OrtStatus *status =
        api->CreateSessionWithPrepackedWeightsContainer(env, path, o, prepacked, &session);
    plain_quiet(false);
    check(status);
    api->ReleaseSessionOptions(o);
}

int main(int argc, char **argv)
{
    struct sx_err err = {0};
    struct sx_onnx *model;
    struct weights w = {0};
    OrtEnv *env;
    OrtPrepackedWeightsContainer *prepacked;
    if (argc < 3) {
        fprintf(stderr, "usage: load-sessions MODEL.onnx WIDTH...\n");
        return 2;
    }
    uint64_t begin = sx_now();
    api = plain_api(&env);
    uint64_t loaded = sx_now();
    or_die(sx_onnx_open(argv[1], &model, &err), &err);
    map_weights(model, &w);
    check(api->CreatePrepackedWeightsContainer(&prepacked));
    uint64_t mapped = sx_now();
    for (int i = 2; i < argc; i++)
        create(env, argv[1], atoi(argv[i]), &w, prepacked);
    uint64_t done = sx_now();
    printf("{\"library_ms\": %.3f, \"weights_ms\": %.3f, \"sessions_ms\": %.3f}\n",
           (double)(loaded - begin) * 1e-6, (double)(mapped - loaded) * 1e-6,
           (double)(done - mapped) * 1e-6);
    fflush(stdout);
    _Exit(0); /* what it loaded is of no more use */
}
