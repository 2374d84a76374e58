/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * repository.c - load a directory in Triton's layout:
 *
 *     DIR/NAME/[config.pbtxt]
 *     DIR/NAME/VERSION/model.onnx      (a file, or a directory that holds one, for external data)
 *
 * VERSION is a positive decimal number without leading zeros; other directories are no versions.
 * One model's failure never stops another's load: it is logged and noted.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "serve/config.h"
#include "serve/server.h"
#include "serve/server_int.h"

static bool parse_version(const char *name, int64_t *ret_version)
{
    if (*name < '1' || *name > '9')
        return false;
    char *end;
    errno = 0;
    long long v = strtoll(name, &end, 10);
    if (errno || *end)
        return false;
    *ret_version = v;
    return true;
}

static int compare_descending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* The version directories of a model, highest first; free() the array. */
static enum sx_rc list_versions(const char *dir, int64_t **ret_versions, size_t *ret_n,
                                struct sx_err *err)
{
    char **names;
    size_t n, found = 0;
    enum sx_rc rc = sx_dir_names(dir, &names, &n, err);
    if (rc)
        return rc;
    int64_t *versions = malloc((n + 1) * sizeof(*versions));
    for (size_t i = 0; versions && i < n; i++) {
        char path[PATH_MAX];
        int64_t v;
        if (!parse_version(names[i], &v))
            continue;
        if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, names[i]) < sizeof(path) &&
            sx_path_is_dir(path))
            versions[found++] = v;
    }
    sx_names_free(names, n);
    if (!versions)
        return sx_fail(err, SX_NO_MEMORY, "out of memory");
    qsort(versions, found, sizeof(*versions), compare_descending);
    *ret_versions = versions;
    *ret_n = found;
    return SX_OK;
}

static bool selected(const struct sx_config_version_policy *policy, const int64_t *versions,
                     size_t i)
{
    switch (policy->kind) {
    case SX_VERSIONS_LATEST:
        return i < policy->latest;
    case SX_VERSIONS_ALL:
        return true;
    case SX_VERSIONS_SPECIFIC:
        for (size_t k = 0; k < policy->n_specific; k++)
            if (policy->specific[k] == versions[i])
                return true;
        return false;
    }
    return false;
}

static enum sx_rc read_config(const char *dir, const char *name, struct sx_config *config,
                              struct sx_err *err)
{
    char path[PATH_MAX], *text;
    size_t len;
    sx_config_init(config);
    if ((size_t)snprintf(path, sizeof(path), "%s/config.pbtxt", dir) >= sizeof(path))
        return sx_fail(err, SX_INVALID, "the path is too long");
    if (sx_path_is_file(path)) {
        enum sx_rc rc = sx_file_read(path, 1 << 20, &text, &len, err);
        if (rc)
            return rc;
        rc = sx_config_parse(text, len, path, config, err);
        free(text);
        if (rc)
            return rc;
    }
    if (*config->name && strcmp(config->name, name) != 0) {
        sx_fail(err, SX_INVALID, "%s: name '%s' is not the directory's name", path, config->name);
        sx_hint(err, "remove the line, or write name: \"%s\"", name);
        return SX_INVALID;
    }
    snprintf(config->name, sizeof(config->name), "%s", name);
    if (!*config->default_filename)
        strcpy(config->default_filename, "model.onnx");
    return SX_OK;
}

static enum sx_rc load_version(struct sx_server *server, const char *dir, int64_t version,
                               const struct sx_config *config, struct sx_err *err)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof(path), "%s/%lld/%s", dir, (long long)version,
                     config->default_filename);
    if (n > 0 && (size_t)n < sizeof(path) && sx_path_is_dir(path)) {
        char inner[PATH_MAX];
        if ((size_t)snprintf(inner, sizeof(inner), "%s/model.onnx", path) < sizeof(inner)) {
            memcpy(path, inner, sizeof(inner));
            n = (int)strlen(path);
        }
    }
    if (n < 0 || (size_t)n >= sizeof(path))
        return sx_fail(err, SX_INVALID, "the path is too long");
    if (!sx_path_is_file(path)) {
        sx_fail(err, SX_NOT_FOUND, "there is no file %s", path);
        sx_hint(err, "default_model_filename in config.pbtxt can name another file");
        return SX_NOT_FOUND;
    }
    return sx_server_load(server, config->name, version, path, config, err);
}

static void failed(struct sx_server *server, const char *name, int64_t version,
                   const struct sx_err *err, unsigned *n_failed)
{
    if (version)
        sx_error("model '%s' version %lld: %s%s%s", name, (long long)version, err->message,
                 *err->hint ? "; " : "", err->hint);
    else
        sx_error("model '%s': %s%s%s", name, err->message, *err->hint ? "; " : "", err->hint);
    sx_server_note_failure(server, name, version, err->message);
    ++*n_failed;
}

static void load_model(struct sx_server *server, const char *dir, const char *name,
                       unsigned *n_loaded, unsigned *n_failed)
{
    struct sx_err err = {0};
    struct sx_config config;
    int64_t *versions = NULL;
    size_t n = 0;
    unsigned tried = 0;
    sx_config_init(&config);
    enum sx_rc rc = SX_OK;
    if (strlen(name) >= SX_NAME_MAX)
        rc = sx_fail(&err, SX_INVALID, "the name is longer than %d bytes", SX_NAME_MAX - 1);
    if (!rc)
        rc = read_config(dir, name, &config, &err);
    if (!rc)
        rc = list_versions(dir, &versions, &n, &err);
    for (size_t i = 0; !rc && i < n; i++) {
        struct sx_err version_err = {0};
        if (!selected(&config.versions, versions, i))
            continue;
        tried++;
        if (load_version(server, dir, versions[i], &config, &version_err))
            failed(server, name, versions[i], &version_err, n_failed);
        else
            ++*n_loaded;
    }
    if (!rc && n == 0) {
        rc = sx_fail(&err, SX_NOT_FOUND, "there is no version directory in %s", dir);
        sx_hint(&err, "put the model at %s/1/%s", dir, config.default_filename);
    } else if (!rc && tried == 0) {
        rc = sx_fail(&err, SX_NOT_FOUND, "version_policy selects none of the %zu versions in %s", n,
                     dir);
    }
    if (rc)
        failed(server, name, 0, &err, n_failed);
    if (*config.notes)
        sx_info("model '%s': accepted without effect in config.pbtxt: %s", name, config.notes);
    free(versions);
    sx_config_fini(&config);
}

/* A directory that looks like a model: a config, or at least one version. */
static bool is_model_dir(const char *dir)
{
    char path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof(path), "%s/config.pbtxt", dir) < sizeof(path) &&
        sx_path_is_file(path))
        return true;
    int64_t *versions;
    size_t n;
    if (list_versions(dir, &versions, &n, NULL))
        return false;
    free(versions);
    return n > 0;
}

enum sx_rc sx_server_load_repository(struct sx_server *server, const char *dir,
                                     unsigned *ret_loaded, unsigned *ret_failed, struct sx_err *err)
{
    char **names;
    size_t n;
    unsigned loaded = 0, n_failed = 0;
    if (!sx_path_is_dir(dir)) {
        sx_fail(err, SX_NOT_FOUND, "'%s' is not a directory", dir);
        if (sx_path_is_file(dir))
            sx_hint(err, "a single model file is an argument without --models");
        return SX_NOT_FOUND;
    }
    enum sx_rc rc = sx_dir_names(dir, &names, &n, err);
    if (rc)
        return rc;
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        char path[PATH_MAX];
        int64_t version;
        if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, names[i]) >= sizeof(path) ||
            !sx_path_is_dir(path))
            continue;
        if (!is_model_dir(path)) {
            if (!parse_version(names[i], &version))
                sx_verbose("'%s' has no version directory: skipped", path);
            continue;
        }
        any = true;
        load_model(server, path, names[i], &loaded, &n_failed);
    }
    sx_names_free(names, n);
    if (!any) {
        sx_fail(err, SX_INVALID, "'%s' is not a model repository: there is no model in it", dir);
        if (is_model_dir(dir))
            sx_hint(err, "it looks like a model itself; name the directory above it");
        else
            sx_hint(err, "models are expected at %s/NAME/1/model.onnx", dir);
        return SX_INVALID;
    }
    *ret_loaded = loaded;
    *ret_failed = n_failed;
    return SX_OK;
}
