/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.c - `staronnx serve`: options, and the life of the server process.
 *
 *     block signals -> machine, engine, server -> models -> HTTP -> ready
 *                   -> SIGTERM or SIGINT -> refuse new, answer the admitted -> exit 0
 *
 * Signals are blocked in every thread and read by the main thread with sigwait, so nothing ever
 * runs in a signal handler.  A second signal ends the process at once.
 */
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/serve.h"
#include "serve/server.h"

static struct sx_texts stores, devices;
static struct sx_serve_front front = {
    .http_address = "127.0.0.1",
    .http_port = 8000,
    .metrics_port = 8002,
    .max_input = 64 << 20,
    .allow_http = true,
    .allow_metrics = true,
};
static const char *library, *engine_name, *policy;
static const char *grpc_port, *grpc_address, *allow_grpc, *ignored;
static uint64_t exit_timeout = 30, verbose, max_batch = 4, queue_size, default_timeout_ms;
static bool log_info = true, log_warning = true, log_error = true, strict, no_cache, no_profiling;

static const struct sx_option options[] = {
    {"models", 'm', "DIR", SX_OPT_LIST, &stores,
     "a model repository: DIR/NAME/VERSION/model.onnx, with an optional DIR/NAME/config.pbtxt; may "
     "be repeated"},
    {"model-repository", 0, "DIR", SX_OPT_LIST, &stores, "the same, as Triton calls it"},
    {"model-store", 0, "DIR", SX_OPT_LIST, &stores, "the same, as KServe calls it"},
    {NULL, 0, NULL, SX_OPT_HEADING, NULL, "Network"},
    {"http-port", 0, "PORT", SX_OPT_UINT, &front.http_port, "default 8000; 0: any free one"},
    {"http-address", 0, "ADDRESS", SX_OPT_TEXT, &front.http_address,
     "default 127.0.0.1, this machine alone; 0.0.0.0: every network"},
    {"allow-http", 0, "BOOL", SX_OPT_BOOL, &front.allow_http, "default true"},
    {"http-thread-count", 0, "N", SX_OPT_UINT, &front.http_threads,
     "threads that read and write; default: by the number of cores"},
    {"http-max-input-size", 0, "BYTES", SX_OPT_UINT, &front.max_input,
     "largest request body; default 67108864"},
    {"metrics-port", 0, "PORT", SX_OPT_UINT, &front.metrics_port,
     "where GET /metrics is answered; default 8002; 0: any free one"},
    {"metrics-address", 0, "ADDRESS", SX_OPT_TEXT, &front.metrics_address,
     "default: as --http-address"},
    {"allow-metrics", 0, "BOOL", SX_OPT_BOOL, &front.allow_metrics, "default true"},
    {NULL, 0, NULL, SX_OPT_HEADING, NULL, "Computing"},
    {"device", 0, "DEVICE", SX_OPT_LIST, &devices, SX_DEVICE_HELP},
    {"onnxruntime", 0, "PATH", SX_OPT_TEXT, &library,
     "the ONNX Runtime library to load; default: the system's"},
    {"default-max-batch-size", 0, "N", SX_OPT_UINT, &max_batch,
     "for models with a free first dimension that do not say; default 4; 0 or 1: no batching"},
    {"max-queue-size", 0, "N", SX_OPT_UINT, &queue_size,
     "requests that may wait for a model that does not say; default 1024"},
    {"default-timeout-ms", 0, "MS", SX_OPT_UINT, &default_timeout_ms,
     "for requests without a timeout and models without an objective; default 30000"},
    {"policy", 0, "NAME", SX_OPT_TEXT, &policy,
     "how several models share one device: fair (default); for comparisons edf, blind, temporal, "
     "fixed, greedy, max-throughput, max-min, and width: each as if it were alone"},
    {"no-cache", 0, NULL, SX_OPT_FLAG, &no_cache,
     "do not keep prepared models in the cache directory"},
    {"no-profiling", 0, NULL, SX_OPT_FLAG, &no_profiling,
     "do not measure models in idle time after loading"},
    {NULL, 0, NULL, SX_OPT_HEADING, NULL, "Life and log"},
    {"exit-timeout-secs", 0, "S", SX_OPT_UINT, &exit_timeout,
     "how long a stop waits for admitted requests; default 30"},
    {"exit-on-error", 0, "BOOL", SX_OPT_BOOL, &strict,
     "exit when a model of a repository cannot be loaded; default false"},
    {"log-verbose", 0, "LEVEL", SX_OPT_UINT, &verbose, "1: log every detail; default 0"},
    {"log-info", 0, "BOOL", SX_OPT_BOOL, &log_info, "default true"},
    {"log-warning", 0, "BOOL", SX_OPT_BOOL, &log_warning, "default true"},
    {"log-error", 0, "BOOL", SX_OPT_BOOL, &log_error, "default true"},
    {NULL, 0, NULL, SX_OPT_HEADING, NULL, "Accepted without effect"},
    {"grpc-port", 0, "PORT", SX_OPT_IGNORED, &grpc_port, "gRPC is not there yet"},
    {"grpc-address", 0, "ADDRESS", SX_OPT_IGNORED, &grpc_address, NULL},
    {"allow-grpc", 0, "BOOL", SX_OPT_IGNORED, &allow_grpc, "gRPC is not there yet"},
    {"strict-readiness", 0, "BOOL", SX_OPT_IGNORED, &ignored, NULL},
    {"strict-model-config", 0, "BOOL", SX_OPT_IGNORED, &ignored, NULL},
    {"model-control-mode", 0, "MODE", SX_OPT_IGNORED, &ignored, NULL},
    {"engine", 0, "NAME", SX_OPT_TEXT, &engine_name, NULL}, /* "fake": for our own tests */
    {NULL, 0, NULL, SX_OPT_FLAG, NULL, NULL},
};

static const struct sx_usage usage = {
    .name = "staronnx serve",
    .operands = "[FILE.onnx ...]",
    .summary =
        "Serve models over HTTP with the Open Inference Protocol (KServe V2, as Triton speaks "
        "it). A file is served under its name without .onnx. SIGTERM or SIGINT stops: what "
        "was admitted is answered first; a second signal ends at once.",
    .details = "Examples:\n"
               "  staronnx serve --models models\n"
               "  staronnx serve resnet50.onnx --http-port 9000 --device cpu:0-3\n",
    .options = options,
    .min_operands = 0,
    .max_operands = SIZE_MAX,
};

static bool known_policy(const char *name)
{
    enum sx_share_policy found;

    return strcmp(name, "width") == 0 || sx_share_policy_find(name, &found);
}

static int check_options(const struct sx_texts *files)
{
    if (stores.count == 0 && files->count == 0)
        return sx_usage_error(&usage, "nothing to serve: name --models DIR or a FILE.onnx");
    if (front.http_port > 65535 || front.metrics_port > 65535)
        return sx_usage_error(&usage, "a port is at most 65535");
    if (front.http_threads > 256)
        return sx_usage_error(&usage, "--http-thread-count is at most 256");
    if (front.max_input == 0)
        return sx_usage_error(&usage, "--http-max-input-size is at least 1");
    if (exit_timeout > 86400)
        return sx_usage_error(&usage, "--exit-timeout-secs is at most 86400");
    if (policy && !known_policy(policy))
        return sx_usage_error(&usage, "there is no policy '%s'; --help lists them", policy);
    if (max_batch > 4096)
        return sx_usage_error(&usage, "--default-max-batch-size is at most 4096");
    return -1;
}

static void set_log(void)
{
    sx_log_set_level(verbose       ? SX_LOG_VERBOSE
                     : log_info    ? SX_LOG_INFO
                     : log_warning ? SX_LOG_WARNING
                                   : SX_LOG_ERROR);
    if (grpc_port || grpc_address || allow_grpc)
        sx_warning(
            "gRPC is not there yet: --grpc-port, --grpc-address, --allow-grpc have no effect");
    if (ignored)
        sx_warning("some options of other servers have no effect here");
}

/* --- signals ---------------------------------------------------------------------------------- */

static sigset_t stop_signals;

static void block_signals(void)
{
    sigemptyset(&stop_signals);
    sigaddset(&stop_signals, SIGTERM);
    sigaddset(&stop_signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &stop_signals, NULL);
    signal(SIGPIPE, SIG_IGN); /* a client that goes away is an error of a write, not a death */
}

/* A second signal while draining: leave without looking back. */
static void *watch_second(void *unused)
{
    int sig;

    (void)unused;
    sigwait(&stop_signals, &sig);
    fprintf(stderr, "staronnx serve: second signal, leaving at once\n");
    _exit(SX_EXIT_FAILED);
}

/* A stop that came while models were loading. */
static bool stop_pending(void)
{
    sigset_t pending;

    sigpending(&pending);
    return sigismember(&pending, SIGTERM) || sigismember(&pending, SIGINT);
}

/* --- models ----------------------------------------------------------------------------------- */

static enum sx_rc load_models(struct sx_server *server, const struct sx_texts *files,
                              unsigned *ret_failed, struct sx_err *err)
{
    enum sx_rc rc = SX_OK;
    char name[SX_NAME_MAX];

    *ret_failed = 0;
    for (size_t i = 0; i < stores.count && rc == SX_OK && !stop_pending(); i++) {
        unsigned loaded = 0, failed = 0;
        rc = sx_server_load_repository(server, stores.item[i], &loaded, &failed, err);
        *ret_failed += failed;
    }
    for (size_t i = 0; i < files->count && rc == SX_OK && !stop_pending(); i++) {
        if (!sx_path_is_file(files->item[i])) {
            sx_fail(err, SX_NOT_FOUND, "'%s': no such file", files->item[i]);
            if (sx_path_is_dir(files->item[i]))
                sx_hint(err, "a model repository is given with --models");
            return SX_NOT_FOUND;
        }
        sx_path_stem(files->item[i], ".onnx", name, sizeof name);
        rc = sx_server_load(server, name, 1, files->item[i], NULL, err);
        if (rc == SX_ENGINE)
            rc = SX_INVALID; /* the file is at fault: the exit code says so */
    }
    return rc;
}

/* With several devices: where each model can run. */
static void print_variants(struct sx_server *server)
{
    struct sx_variant_info v[SX_VARIANTS_MAX];
    struct sx_model **models;
    size_t n;

    if (sx_server_models(server, &models, &n) != SX_OK)
        return;
    for (size_t i = 0; i < n; i++) {
        size_t n_variants = sx_model_variants(models[i], v, SX_VARIANTS_MAX);
        if (n_variants)
            fprintf(stderr, "\n  %s can run\n", sx_model_name(models[i]));
        for (size_t k = 0; k < n_variants; k++) {
            double sum = 0, slowest = 0;
            for (unsigned stage = 0; stage < v[k].n_stages; stage++) {
                double ns = v[k].predicted_ns[stage];
                sum += ns;
                slowest = ns > slowest ? ns : slowest;
            }
            if (slowest > 0)
                fprintf(stderr, "    %-40s  %9.2f ms  %9.1f requests/s\n", v[k].name, sum * 1e-6,
                        1e9 / slowest);
            else
                fprintf(stderr, "    %-40s  (not measured yet)\n", v[k].name);
        }
        sx_model_unref(&models[i]);
    }
    free(models);
}

static void print_table(struct sx_server *server)
{
    struct sx_model_entry *entries;
    size_t n;
    int width = 5;

    if (!log_info || sx_server_index(server, &entries, &n) != SX_OK)
        return;
    for (size_t i = 0; i < n; i++) {
        int len = (int)strlen(entries[i].name);
        width = len > width && len <= 60 ? len : width;
    }
    fprintf(stderr, "\n  %-*s  %7s  %s\n", width, "model", "version", "status");
    for (size_t i = 0; i < n; i++) {
        char version[24] = "-";
        if (entries[i].version)
            snprintf(version, sizeof version, "%" PRId64, entries[i].version);
        fprintf(stderr, "  %-*s  %7s  %s%s\n", width, entries[i].name, version,
                entries[i].ready ? "ready" : "failed: ", entries[i].ready ? "" : entries[i].reason);
    }
    free(entries);
    print_variants(server);
    fputc('\n', stderr);
}

/* --- life ------------------------------------------------------------------------------------- */

static enum sx_rc open_engine(const struct sx_machine *machine, struct sx_engine **ret_engine,
                              struct sx_err *err)
{
    if (engine_name && strcmp(engine_name, "ort") != 0) {
        struct sx_engine_config config = {.name = engine_name};
        return sx_engine_create(&config, ret_engine, err);
    }
    return sx_open_engine(library, no_cache ? NULL : machine, ret_engine, err);
}

static enum sx_rc create_server(const struct sx_machine *machine, struct sx_engine *engine,
                                struct sx_server **ret_server, struct sx_err *err)
{
    static char cache[PATH_MAX];
    struct sx_server_config config = {
        .engine = engine,
        .machine = machine,
        .exec = SX_EXEC_STARPU,
        .default_max_batch = max_batch ? (unsigned)max_batch : 1,
        .default_timeout_ns = default_timeout_ms * SX_MS,
        .default_max_queue = queue_size,
        .no_profiling = no_profiling,
        .policy = policy,
        .cache_dir = !no_cache && sx_cache_dir(cache, sizeof cache) == SX_OK ? cache : NULL,
    };

    return sx_server_create(&config, ret_server, err);
}

/* Serve until a signal comes, then stop without losing an answer. */
static enum sx_rc serve(struct sx_server *server, unsigned n_units, struct sx_err *err)
{
    struct sx_serve_front_state *state = NULL;
    pthread_t watcher;
    int sig;
    enum sx_rc rc = sx_serve_front_start(&front, server, n_units, &state, err);

    if (rc != SX_OK)
        return rc;
    print_table(server);
    sx_serve_front_announce(state);
    sigwait(&stop_signals, &sig);
    if (log_info)
        sx_info("%s: stopping, waiting up to %" PRIu64 " s for admitted requests",
                sig == SIGINT ? "interrupted" : "terminated", exit_timeout);
    if (pthread_create(&watcher, NULL, watch_second, NULL) == 0)
        pthread_detach(watcher);
    sx_serve_front_quiesce(state);
    rc = sx_server_drain(server, sx_time_add(sx_now(), exit_timeout * SX_S));
    if (rc != SX_OK)
        sx_warning("some requests were not finished in time and were answered with an error");
    sx_serve_front_stop(state);
    return SX_OK;
}

int sx_cmd_serve(int argc, char **argv)
{
    struct sx_texts files = {0};
    struct sx_machine *machine = NULL;
    struct sx_engine *engine = NULL;
    struct sx_server *server = NULL;
    struct sx_err err = {0};
    unsigned failed = 0;
    enum sx_rc rc;
    int code = sx_options_parse(&usage, argc, argv, &files);

    if (code < 0)
        code = check_options(&files);
    if (code >= 0)
        goto out;
    set_log();
    block_signals();
    rc = sx_serve_front_check(&front, &err); /* before the models, which may take long */
    for (size_t i = 0; i < stores.count && rc == SX_OK; i++)
        if (!sx_path_is_dir(stores.item[i]))
            rc = sx_fail(&err, SX_NOT_FOUND, "'%s' is not a directory", stores.item[i]);
    if (rc == SX_OK)
        rc = sx_open_server_machine(&devices, &machine, &err);
    if (rc == SX_OK)
        rc = open_engine(machine, &engine, &err);
    if (rc == SX_OK)
        rc = create_server(machine, engine, &server, &err);
    if (rc == SX_OK)
        rc = load_models(server, &files, &failed, &err);
    if (rc == SX_OK && failed && strict)
        rc = sx_fail(&err, SX_INVALID, "%u models cannot be loaded; the log says why", failed);
    if (rc == SX_OK)
        rc = serve(server, machine->n_units, &err);
    if (rc != SX_OK)
        sx_complain(usage.name, &err);
    code = sx_exit_of(rc);
out:
    sx_server_destroy(server);
    sx_engine_destroy(engine);
    sx_machine_destroy(machine);
    sx_texts_free(&stores);
    sx_texts_free(&devices);
    sx_texts_free(&files);
    return code;
}
