/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * ort_api.c - load ONNX Runtime.
 *
 * The library is opened with dlopen, so that one build of ours works with Debian's library and
 * with any newer one that the user names: its C API only grows, but its sonames differ.
 *
 * The environment is one per library and lives as long as an engine uses it.  The library itself
 * is never unloaded: buffers of outputs may outlive every engine, and its static objects do not
 * survive dlclose.
 *
 * Noise.  Debian's library registers the ONNX operators twice and prints a line "Schema error: ..."
 * for each on stderr, over a thousand, when the operators are first looked up.  So a model of one
 * operator is opened while the library loads, and meanwhile stderr goes to memory; afterwards
 * everything but those lines is passed on.  Another thread's message in that moment comes
 * late, but it comes.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "engine/ort_int.h"

#define API_VERSION 21

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static struct ort_lib *libs;

/* --- quiet --------------------------------------------------------------------------- */

struct quiet {
    int saved, capture;
};

static void quiet_begin(struct quiet *q)
{
    fflush(stderr);
    q->capture = memfd_create("stderr", MFD_CLOEXEC);
    q->saved = q->capture < 0 ? -1 : dup(STDERR_FILENO);
    if (q->saved >= 0)
        dup2(q->capture, STDERR_FILENO);
}

static void quiet_end(struct quiet *q)
{
    if (q->saved >= 0) {
        fflush(stderr);
        dup2(q->saved, STDERR_FILENO);
        close(q->saved);
        FILE *f = fdopen(q->capture, "r");
        if (f) {
            char *line = NULL;
            size_t size = 0;
            bool known = false;
            rewind(f);
            while (getline(&line, &size, f) > 0) {
                /* one message may span lines; the rest of a known one is indented or empty */
                bool more = known && (line[0] == ' ' || line[0] == '\t' || line[0] == '\n');
                known = more || !strncmp(line, "Schema error", 12);
                if (!known)
                    fputs(line, stderr);
            }
            free(line);
            fclose(f);
            return;
        }
    }
    if (q->capture >= 0)
        close(q->capture);
}

/* --- errors -------------------------------------------------------------------------------------
 */

enum sx_rc sx_ort_check(const struct ort_lib *lib, OrtStatus *status, struct sx_err *err)
{
    if (!status)
        return SX_OK;
    enum sx_rc rc;
    switch (lib->api->GetErrorCode(status)) {
    case ORT_INVALID_ARGUMENT:
    case ORT_INVALID_PROTOBUF:
    case ORT_INVALID_GRAPH:
        rc = SX_INVALID;
        break;
    case ORT_NO_SUCHFILE:
        rc = SX_NOT_FOUND;
        break;
    case ORT_NOT_IMPLEMENTED:
        rc = SX_UNSUPPORTED;
        break;
    default:
        rc = SX_ENGINE;
    }
    const char *text = lib->api->GetErrorMessage(status);
    size_t len = strlen(text);
    while (len && (text[len - 1] == '\n' || text[len - 1] == '.'))
        len--;
    sx_fail(err, rc, "%.*s", (int)(len < 4096 ? len : 4096), text);
    lib->api->ReleaseStatus(status);
    return rc;
}

/* What the library says also comes back as a status; the log gets it for those who look closely. */
static void ORT_API_CALL say(void *param, OrtLoggingLevel level, const char *category,
                             const char *id, const char *where, const char *message)
{
    (void)param, (void)category, (void)id, (void)where;
    if (level >= ORT_LOGGING_LEVEL_FATAL)
        sx_error("onnxruntime: %s", message);
    else if (level == ORT_LOGGING_LEVEL_ERROR)
        sx_verbose("onnxruntime: %s", message);
}

/* An ONNX model with one operator: y = Identity(x). */
static const unsigned char identity_model[] = {
    0x08, 8,                                                 /* IR version */
    0x42, 2,  0x10, 13,                                      /* operator set */
    0x3a, 43,                                                /* graph: */
    0x0a, 16, 0x0a, 1,   'x', 0x12, 1,   'y',                /*   node, from, to, type */
    0x22, 8,  'I',  'd', 'e', 'n',  't', 'i',  't', 'y',     /* */
    0x12, 1,  'g',                                           /*   name */
    0x5a, 9,  0x0a, 1,   'x', 0x12, 4,   0x0a, 2,   0x08, 1, /*   input, float */
    0x62, 9,  0x0a, 1,   'y', 0x12, 4,   0x0a, 2,   0x08, 1, /*   output, float */
};

/* Make the library say at once what it says only once. */
static enum sx_rc wake(const struct ort_lib *lib, struct sx_err *err)
{
    const OrtApi *api = lib->api;
    OrtSessionOptions *o = NULL;
    OrtSession *session = NULL;
    enum sx_rc rc = sx_ort_check(lib, api->CreateSessionOptions(&o), err);
    if (!rc)
        rc = sx_ort_check(lib, api->SetIntraOpNumThreads(o, 1), err);
    if (!rc)
        rc = sx_ort_check(lib,
                          api->CreateSessionFromArray(lib->env, identity_model,
                                                      sizeof(identity_model), o, &session),
                          err);
    if (session)
        api->ReleaseSession(session);
    if (o)
        api->ReleaseSessionOptions(o);
    return rc;
}

/* --- loading ------------------------------------------------------------------------- */

static void *open_any(const char *path, char *tried, size_t size)
{
    static const char *const names[] = {"libonnxruntime.so.1.21", "libonnxruntime.so.1",
                                        "libonnxruntime.so"};
    bool dir = path && sx_path_is_dir(path);

    tried[0] = 0;
    if (path && !dir) {
        void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!handle)
            snprintf(tried, size, "%s", dlerror());
        return handle;
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        char full[4096];
        snprintf(full, sizeof(full), "%s%s%s", dir ? path : "", dir ? "/" : "", names[i]);
        void *handle = dlopen(full, RTLD_NOW | RTLD_LOCAL);
        if (handle)
            return handle;
        if (!tried[0])
            snprintf(tried, size, "%s", dlerror());
    }
    return NULL;
}

static enum sx_rc load(struct ort_lib *lib, const char *path, struct sx_err *err)
{
    char tried[256];
    void *handle = open_any(path, tried, sizeof(tried));
    if (!handle) {
        sx_fail(err, SX_NOT_FOUND, "ONNX Runtime cannot be loaded: %s", tried);
        sx_hint(err, path ? "name a libonnxruntime.so of version 1.21 or newer, or the directory "
                            "that has it"
                          : "install libonnxruntime1.21 (Debian 13), or name a libonnxruntime.so "
                            "with --onnxruntime");
        return SX_NOT_FOUND;
    }
    const OrtApiBase *(*get_base)(void) = NULL;
    void *symbol = dlsym(handle, "OrtGetApiBase");
    memcpy(&get_base, &symbol, sizeof(get_base));
    const OrtApiBase *base = symbol ? get_base() : NULL;
    if (!base) {
        sx_fail(err, SX_INVALID, "'%s' is not ONNX Runtime: it has no OrtGetApiBase", path);
        sx_hint(err, "name a libonnxruntime.so of version 1.21 or newer");
        dlclose(handle);
        return SX_INVALID;
    }
    snprintf(lib->version, sizeof(lib->version), "%s", base->GetVersionString());
    lib->api = base->GetApi(API_VERSION);
    if (!lib->api) {
        sx_fail(err, SX_UNSUPPORTED, "ONNX Runtime %s is too old", lib->version);
        sx_hint(err, "version 1.21 or newer is needed");
        return SX_UNSUPPORTED;
    }
    const OrtApi *api = lib->api;
    enum sx_rc rc = sx_ort_check(
        lib, api->CreateEnvWithCustomLogger(say, NULL, ORT_LOGGING_LEVEL_ERROR, "sx", &lib->env),
        err);
    if (!rc)
        rc = sx_ort_check(lib, api->DisableTelemetryEvents(lib->env), err);
    if (!rc)
        rc = sx_ort_check(
            lib, api->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &lib->cpu), err);
    if (!rc)
        rc = sx_ort_check(lib, api->GetAllocatorWithDefaultOptions(&lib->allocator), err);
    if (!rc)
        rc = wake(lib, err);
    return rc;
}

static void lib_free(struct ort_lib *lib)
{
    if (lib->cpu)
        lib->api->ReleaseMemoryInfo(lib->cpu);
    if (lib->env)
        lib->api->ReleaseEnv(lib->env);
    free(lib->path);
    free(lib);
}

enum sx_rc sx_ort_lib_get(const char *path, struct ort_lib **ret_lib, struct sx_err *err)
{
    enum sx_rc rc = SX_OK;
    struct ort_lib *lib;

    pthread_mutex_lock(&lock);
    for (lib = libs; lib; lib = lib->next)
        if (!strcmp(lib->path, path ? path : ""))
            break;
    if (!lib) {
        lib = calloc(1, sizeof(*lib));
        if (lib)
            lib->path = strdup(path ? path : "");
        if (!lib || !lib->path) {
            free(lib);
            rc = sx_fail(err, SX_NO_MEMORY, "no memory to load ONNX Runtime");
            goto out;
        }
        /* Official builds from 1.29 on report usage unless this is set before they load. */
        setenv("ORT_DISABLE_TELEMETRY", "1", 1);
        struct quiet quiet;
        quiet_begin(&quiet);
        rc = load(lib, path, err);
        quiet_end(&quiet);
        if (rc) {
            lib_free(lib);
            goto out;
        }
        lib->next = libs;
        libs = lib;
    }
    lib->refs++;
    *ret_lib = lib;
out:
    pthread_mutex_unlock(&lock);
    return rc;
}

void sx_ort_lib_put(struct ort_lib *lib)
{
    if (!lib)
        return;
    pthread_mutex_lock(&lock);
    if (--lib->refs == 0) {
        struct ort_lib **link = &libs;
        while (*link != lib)
            link = &(*link)->next;
        *link = lib->next;
        lib_free(lib);
    }
    pthread_mutex_unlock(&lock);
}
