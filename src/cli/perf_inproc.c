/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_inproc.c - load on the server library in this process.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/perf_int.h"
#include "perf/inproc.h"

#define NAME          "model"
#define MAX_BATCH     16
#define MEASURING_MAX (60 * SX_S) /* for the idle measuring after loading */

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
static void wait_until_settled(struct sx_server *server)
{
    uint64_t until = sx_now() + MEASURING_MAX;
    while (!sx_server_settled(server) && sx_now() < until)
        nanosleep(&(struct timespec){.tv_nsec = 10 * (long)SX_MS}, NULL);
}

enum sx_rc sx_perf_open_inproc(const struct sx_perf_target_options *o, struct sx_perf_opened *ret,
                               struct sx_err *err)
{
    struct sx_model_info info;
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
                                          .default_max_batch = MAX_BATCH,
                                          .default_max_queue = o->slots};
        if (o->batch > MAX_BATCH)
            config.default_max_batch = (unsigned)o->batch;
        rc = sx_server_create(&config, &p->server, err);
    }
    if (!rc)
        rc = sx_server_load(p->server, NAME, 1, o->model_path, NULL, err);
    if (!rc)
        rc = sx_server_find(p->server, NAME, strlen(NAME), 0, &p->model, err);
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
    wait_until_settled(p->server);
    ret->owned = p;
    ret->close = close_target;
    return SX_OK;
}
