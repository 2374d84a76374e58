/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * ort_prepare.c - optimise a model once, keep its weights in memory once.
 *
 * ONNX Runtime left alone optimises a model for every session and holds the weights twice in
 * each.  Here it does so once: it saves the optimised model under
 *
 *     CACHE/prepared/KEY/model.onnx     the graph
 *     CACHE/prepared/KEY/weights.bin    every constant of some size
 *     CACHE/prepared/KEY/stage-*.onnx   parts of the graph (ort_stage.c)
 *
 * and all sessions open that with optimisation off.  We map weights.bin and hand out the
 * constants as shared initializers; copies in a processor's favourite layout ("prepacked") go to
 * one container that the sessions share.
 *
 * KEY names everything that the result depends on: the file (size, time, device and inode, so that
 * links share an entry; its external files, too), the library's version, the kind of machine, and
 * how we do it (FORMAT).  An entry is made in a directory of its own and renamed into place, so
 * that nobody ever sees half of one and two processes may make the same one.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sbuf.h"
#include "engine/ort_int.h"

#define FORMAT       1
#define WEIGHTS_NAME "weights.bin"
#define MIN_EXTERNAL "1024" /* bytes; smaller constants stay in the graph */
#define WORTH_BYTES  (UINT64_C(1) << 20)

bool sx_ort_prepare_pays(const struct sx_onnx *source)
{
    const struct sx_onnx_initializer *init;
    size_t n = sx_onnx_initializers(source, &init);
    uint64_t bytes = 0;

    for (size_t i = 0; i < n; i++)
        bytes += init[i].nbytes;
    return bytes >= WORTH_BYTES || sx_onnx_parameters(source) >= WORTH_BYTES ||
           sx_onnx_made_parameters(source) >= WORTH_BYTES / sizeof(float);
}

/* --- the key ------------------------------------------------------------------------------------
 */

static void add_file(struct sx_sbuf *s, const char *path)
{
    struct stat st;
    if (stat(path, &st))
        memset(&st, 0, sizeof(st));
    sx_sbuf_printf(s, "%jd|%jd.%09ld|%ju|%ju\n", (intmax_t)st.st_size, (intmax_t)st.st_mtim.tv_sec,
                   st.st_mtim.tv_nsec, (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
}

static uint64_t fnv1a(const char *data, size_t len, uint64_t hash)
{
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)data[i]) * UINT64_C(0x100000001b3);
    return hash;
}

void sx_ort_hash(const void *data, size_t size, char ret_text[33])
{
    snprintf(ret_text, 33, "%016" PRIx64 "%016" PRIx64,
             fnv1a(data, size, UINT64_C(0xcbf29ce484222325)),
             fnv1a(data, size, UINT64_C(0x9e3779b97f4a7c15)));
}

static enum sx_rc entry_path(const struct ort_lib *lib, const struct sx_onnx *source,
                             const char *cache_dir, const char *machine_id, unsigned how,
                             char **ret_path, struct sx_err *err)
{
    struct sx_sbuf s = {0}, path = {0};
    const struct sx_onnx_initializer *init;
    size_t n = sx_onnx_initializers(source, &init);

    sx_sbuf_printf(&s, "format %d\nort %s\nlibrary %s\nmachine %s\n", FORMAT, lib->version,
                   lib->path, machine_id);
    add_file(&s, sx_onnx_path(source));
    const char *last = NULL;
    for (size_t i = 0; i < n; i++) {
        if (!init[i].external || (last && !strcmp(last, init[i].location)))
            continue; /* neighbours share a file, nearly always */
        last = init[i].location;
        sx_sbuf_clear(&path);
        sx_sbuf_printf(&path, "%s/%s", sx_onnx_dir(source), last);
        if (!path.failed)
            add_file(&s, path.data);
    }
    sx_sbuf_clear(&path);
    if (!s.failed) {
        char key[33];
        sx_ort_hash(s.data, s.len, key);
        sx_sbuf_printf(&path, "%s/%s/%s%s", cache_dir, how & SX_ORT_BASIC ? "portable" : "prepared",
                       key, how & SX_ORT_INSIDE ? "-inside" : "");
    }
    bool failed = s.failed || path.failed;
    sx_sbuf_free(&s);
    if (failed) {
        sx_sbuf_free(&path);
        return sx_fail(err, SX_NO_MEMORY, "no memory for a path");
    }
    *ret_path = path.data;
    return SX_OK;
}

/* --- making an entry ----------------------------------------------------------------- */

static char *join(const char *dir, const char *name)
{
    char *path;
    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

/* On disk before it is seen: after a power cut, weights of zeroes would answer wrongly. */
static enum sx_rc sync_file(const char *path, struct sx_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return SX_OK; /* a model without large constants */
    enum sx_rc rc = fd < 0 || fsync(fd) ? sx_file_fail(err, "write", path) : SX_OK;
    if (fd >= 0)
        close(fd);
    return rc;
}

enum sx_rc sx_ort_optimise(const struct ort_lib *lib, const char *from, const char *dir,
                           GraphOptimizationLevel level, bool inside, struct sx_err *err)
{
    const OrtApi *api = lib->api;
    OrtSessionOptions *o = NULL;
    OrtSession *session = NULL;
    char *model = join(dir, SX_ORT_MODEL_NAME), *weights = join(dir, WEIGHTS_NAME);
    enum sx_rc rc = SX_OK;

    if (!model || !weights) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for a path");
        goto out;
    }
    const char *const entries[][2] = {
        {"session.disable_prepacking", "1"}, /* this session never runs */
        {"session.optimized_model_external_initializers_file_name", WEIGHTS_NAME},
        {"session.optimized_model_external_initializers_min_size_in_bytes", MIN_EXTERNAL},
    };
    size_t n_entries = inside ? 1 : sizeof(entries) / sizeof(*entries);
    rc = sx_ort_check(lib, api->CreateSessionOptions(&o), err);
    if (!rc)
        rc = sx_ort_check(lib, api->SetIntraOpNumThreads(o, 1), err);
    if (!rc)
        rc = sx_ort_check(lib, api->SetInterOpNumThreads(o, 1), err);
    if (!rc)
        rc = sx_ort_check(lib, api->SetSessionGraphOptimizationLevel(o, level), err);
    if (!rc)
        rc = sx_ort_check(lib, api->SetOptimizedModelFilePath(o, model), err);
    for (size_t i = 0; !rc && i < n_entries; i++)
        rc = sx_ort_check(lib, api->AddSessionConfigEntry(o, entries[i][0], entries[i][1]), err);
    if (!rc)
        rc = sx_ort_check(lib, api->CreateSession(lib->env, from, o, &session), err);
    if (session)
        api->ReleaseSession(session);
    if (!rc)
        rc = sync_file(model, err);
    if (!rc)
        rc = sync_file(weights, err);
out:
    if (o)
        api->ReleaseSessionOptions(o);
    free(model);
    free(weights);
    return rc;
}

static enum sx_rc make_entry(const struct ort_lib *lib, const struct sx_onnx *source,
                             const char *entry, unsigned how, struct sx_err *err)
{
    static atomic_uint serial;
    char *dir = NULL, *stripped = NULL;
    enum sx_rc rc;

    if (asprintf(&dir, "%s.%d.%u.new", entry, (int)getpid(), atomic_fetch_add(&serial, 1)) < 0)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a path");
    rc = sx_dir_create(dir, err);
    if (rc)
        goto out;
    const char *from = sx_onnx_path(source);
    if (sx_onnx_overridable(source)) {
        from = stripped = join(dir, "stripped.onnx");
        rc = stripped ? sx_onnx_write_stripped(source, stripped, err)
                      : sx_fail(err, SX_NO_MEMORY, "no memory for a path");
    }
    if (!rc)
        rc = sx_ort_optimise(lib, from, dir, how & SX_ORT_BASIC ? ORT_ENABLE_BASIC : ORT_ENABLE_ALL,
                             how & SX_ORT_INSIDE, err);
    if (stripped)
        unlink(stripped);
    if (!rc && rename(dir, entry)) {
        if (errno != EEXIST && errno != ENOTEMPTY) /* else another process was faster: fine */
            rc = sx_file_fail(err, "create", entry);
    } else if (!rc) {
        goto out; /* it has moved */
    }
    sx_dir_remove(dir, NULL);
out:
    free(stripped);
    free(dir);
    return rc;
}

enum sx_rc sx_ort_prepare(const struct ort_lib *lib, const struct sx_onnx *source,
                          const char *cache_dir, const char *machine_id, unsigned how,
                          struct sx_onnx **ret_model, struct sx_err *err)
{
    char *entry = NULL, *model = NULL;
    enum sx_rc rc = entry_path(lib, source, cache_dir, machine_id, how, &entry, err);
    if (rc)
        return rc;
    model = join(entry, SX_ORT_MODEL_NAME);
    if (!model) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for a path");
        goto out;
    }
    if (sx_path_is_dir(entry)) {
        rc = sx_onnx_open(model, ret_model, err);
        if (!rc)
            goto out;
        sx_dir_remove(entry, NULL); /* damaged: make it again */
    }
    rc = make_entry(lib, source, entry, how, err);
    if (!rc)
        rc = sx_onnx_open(model, ret_model, err);
out:
    free(entry);
    free(model);
    return rc;
}

/* --- weights ------------------------------------------------------------------------------------
 */

static enum sx_rc map_file(struct ort_weights *w, const struct sx_onnx *model, const char *location,
                           const struct ort_weight_file **ret_file, struct sx_err *err)
{
    for (size_t i = 0; i < w->n_files; i++)
        if (!strcmp(w->files[i].location, location)) {
            *ret_file = &w->files[i];
            return SX_OK;
        }
    struct ort_weight_file *more = realloc(w->files, (w->n_files + 1) * sizeof(*more));
    if (!more)
        return sx_fail(err, SX_NO_MEMORY, "no memory for the weights");
    w->files = more;
    struct ort_weight_file *f = &more[w->n_files];
    f->location = strdup(location);
    char *path = join(sx_onnx_dir(model), location);
    enum sx_rc rc = f->location && path ? sx_file_map(path, &f->data, &f->size, err)
                                        : sx_fail(err, SX_NO_MEMORY, "no memory for the weights");
    free(path);
    if (rc) {
        free(f->location);
        return rc;
    }
    w->n_files++;
    *ret_file = f;
    return SX_OK;
}

enum sx_rc sx_ort_weights_open(const struct ort_lib *lib, const struct sx_onnx *model,
                               struct ort_weights *ret_weights, struct sx_err *err)
{
    const struct sx_onnx_initializer *init;
    size_t n = sx_onnx_initializers(model, &init);
    struct ort_weights w = {.lib = lib};

    enum sx_rc rc = sx_ort_check(lib, lib->api->CreatePrepackedWeightsContainer(&w.prepacked), err);
    w.names = calloc(n + 1, sizeof(*w.names));
    w.values = calloc(n + 1, sizeof(OrtValue *));
    if (!rc && (!w.names || !w.values))
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for the weights");
    for (size_t i = 0; !rc && i < n; i++) {
        const struct ort_weight_file *file = NULL;
        if (!init[i].external || !init[i].dtype || init[i].dtype == SX_BYTES || !init[i].nbytes)
            continue;
        rc = map_file(&w, model, init[i].location, &file, err);
        if (rc)
            break;
        if (init[i].offset > file->size || init[i].nbytes > file->size - init[i].offset) {
            rc = sx_fail(err, SX_INVALID, "initializer '%s' lies outside '%s'", init[i].name,
                         init[i].location);
            break;
        }
        char *name = strdup(init[i].name);
        OrtValue *value = NULL;
        if (!name) {
            rc = sx_fail(err, SX_NO_MEMORY, "no memory for the weights");
            break;
        }
        rc = sx_ort_check(lib,
                          lib->api->CreateTensorWithDataAsOrtValue(
                              lib->cpu, (char *)file->data + init[i].offset, init[i].nbytes,
                              init[i].dims, (size_t)init[i].rank,
                              (ONNXTensorElementDataType)init[i].onnx_type, &value),
                          err);
        w.names[w.n_values] = name;
        w.values[w.n_values++] = value;
    }
    if (rc)
        sx_ort_weights_close(&w);
    else
        *ret_weights = w;
    return rc;
}

void sx_ort_weights_close(struct ort_weights *w)
{
    for (size_t i = 0; i < w->n_values; i++) {
        if (w->values[i])
            w->lib->api->ReleaseValue(w->values[i]);
        free(w->names[i]);
    }
    free(w->names);
    free(w->values);
    if (w->prepacked)
        w->lib->api->ReleasePrepackedWeightsContainer(w->prepacked);
    for (size_t i = 0; i < w->n_files; i++) {
        sx_file_unmap(w->files[i].data, w->files[i].size);
        free(w->files[i].location);
    }
    free(w->files);
    memset(w, 0, sizeof(*w));
}

void sx_ort_weights_settle(const struct ort_weights *w)
{
    for (size_t i = 0; i < w->n_files; i++)
        if (w->files[i].size)
            madvise((void *)w->files[i].data, w->files[i].size, MADV_DONTNEED);
}
