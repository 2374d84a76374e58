/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_inproc.c - load on the server library in this process.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/perf_int.h"
#include "perf/inproc.h"

#define DEFAULT_BATCH 4           /* the server's own */
#define MEASURING_MAX (60 * SX_S) /* for the idle measuring after loading */
#define SAY_AFTER     (2 * SX_S)

struct inproc {
    struct sx_machine *machine;
    struct sx_engine *engine;
    struct sx_server *server;
    struct sx_model *model;
    struct sx_dataset data;
};

static void destroy(struct inproc *p)
{
    sx_dataset_fini(&p->data);
    sx_model_unref(&p->model);
    sx_server_destroy(p->server);
    sx_engine_destroy(p->engine);
    sx_machine_destroy(p->machine);
    free(p);
}

static void close_target(struct sx_perf_opened *o)
{
    if (o->target)
        o->target->ops->destroy(o->target);
    destroy(o->owned);
}

/* A server measures a new model while it is idle; load that starts at once would measure that. */
static void wait_until_settled(struct sx_server *server, bool quiet)
{
    uint64_t begin = sx_now(), now = begin;
    bool said = false;
    while (!sx_server_settled(server) && now < begin + MEASURING_MAX) {
        if (!said && !quiet && now > begin + SAY_AFTER) {
            fprintf(stderr, "staronnx perf: the server measures the model in idle time first, "
                            "up to a minute\n");
            said = true;
        }
        nanosleep(&(struct timespec){.tv_nsec = 10 * (long)SX_MS}, NULL);
        now = sx_now();
    }
}

enum sx_rc sx_perf_open_inproc(const struct sx_perf_target_options *o, struct sx_perf_opened *ret,
                               struct sx_err *err)
{
    struct sx_model_info info;
    char name[128];
    sx_path_stem(o->model_path, ".onnx", name, sizeof name);
    struct inproc *p = calloc(1, sizeof *p);
    if (!p)
        return sx_fail(err, SX_NO_MEMORY, "out of memory");
    sx_log_set_level(SX_LOG_WARNING);
    enum sx_rc rc = sx_open_server_machine(&o->devices, &p->machine, err);
    if (!rc)
        rc = sx_open_engine(o->onnxruntime, p->machine, &p->engine, err);
    if (!rc) {
        struct sx_server_config config = {.engine = p->engine,
                                          .machine = p->machine,
                                          .exec = SX_EXEC_STARPU,
                                          .default_max_queue = o->slots};
        if (o->batch > DEFAULT_BATCH)
            config.default_max_batch = (unsigned)o->batch;
        rc = sx_server_create(&config, &p->server, err);
    }
    if (!rc)
        rc = sx_server_load(p->server, name, 1, o->model_path, NULL, err);
    if (!rc)
        rc = sx_server_find(p->server, name, strlen(name), 0, &p->model, err);
    if (!rc)
        rc = sx_inproc_info(p->model, &info, err);
    if (!rc)
        rc = sx_perf_dataset(o, &info, &p->data, err);
    uint64_t timeout = o->server_timeout_us ? o->server_timeout_us * SX_US : o->timeout_ns;
    if (!rc)
        rc = sx_inproc_create(p->server, p->model, &p->data, o->slots, timeout, &ret->target, err);
    if (rc) {
        destroy(p);
        return rc;
    }
    wait_until_settled(p->server, o->quiet);
    ret->owned = p;
    ret->close = close_target;
    return SX_OK;
}
