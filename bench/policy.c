/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/list.h"
#include "exec/exec.h"

#define MAX_UNITS 64
#define WARM      3 /* runs before those that are timed */
#define TIMED     7

struct policy;

struct place {
    struct policy *policy;
    struct sx_task *task; /* made at the slot's first request */
    uint32_t slot;
    uint64_t sample;
    enum sx_rc rc;
};

struct policy {
    struct sx_target base;
    const struct sx_machine *machine;
    const struct sx_dataset *data;
    struct sx_exec *exec;
    struct sx_engine_model *model;
    struct sx_session *session; /* width 1: runs on many threads at once */
    size_t n_out;
    double ns; /* of one run */
    struct sx_mailbox mailbox;
    struct place *place;
    pthread_mutex_t lock; /* in_flight, message */
    pthread_cond_t idle;
    uint32_t in_flight;
    char message[384];
};

static double slowdown_of(const struct policy *p, unsigned unit)
{
    for (unsigned d = 0; d < p->machine->n_devices; d++) {
        const struct sx_device *device = &p->machine->devices[d];
        if (unit >= device->first_unit && unit - device->first_unit < device->n_units)
            return device->slowdown;
    }
    return 1;
}

static enum sx_rc compute(struct policy *p, uint64_t sample, struct sx_err *err)
{
    struct sx_tensor out[SX_INPUTS_MAX] = {0};
    size_t at = sample % p->data->n_samples * (size_t)p->data->n_inputs;
    enum sx_rc rc = sx_session_run(p->session, &p->data->tensor[at], out, NULL, err);
    for (size_t i = 0; i < p->n_out; i++)
        sx_tensor_unref(&out[i]);
    return rc;
}

static void on_run(struct sx_task *task)
{
    struct place *place = task->user;
    struct policy *p = place->policy;
    struct sx_err err = {0};
    task->slowdown = slowdown_of(p, task->ran_on);
    place->rc = compute(p, place->sample, &err);
    if (place->rc) {
        pthread_mutex_lock(&p->lock);
        memcpy(p->message, err.message, sizeof p->message);
        pthread_mutex_unlock(&p->lock);
    }
}

static void complete(struct place *place)
{
    struct policy *p = place->policy;
    struct sx_completion c = {.slot = place->slot,
                              .outcome = place->rc ? SX_OUTCOME_SERVER_ERROR : SX_OUTCOME_OK,
                              .status = sx_rc_http(place->rc),
                              .done = sx_now()};
    pthread_mutex_lock(&p->lock);
    sx_mailbox_post(&p->mailbox, &c);
    if (!--p->in_flight)
        pthread_cond_signal(&p->idle);
    pthread_mutex_unlock(&p->lock);
}

static void on_done(struct sx_task *task)
{
    complete(task->user);
}

static double expect_ns(void *task_user, unsigned unit)
{
    const struct place *place = task_user;
    return place->policy->ns * slowdown_of(place->policy, unit);
}

static void policy_submit(struct sx_target *t, uint32_t slot, uint64_t sample)
{
    struct policy *p = SX_CONTAINER_OF(t, struct policy, base);
    struct place *place = &p->place[slot];
    pthread_mutex_lock(&p->lock);
    p->in_flight++;
    pthread_mutex_unlock(&p->lock);
    place->policy = p;
    place->slot = slot;
    place->sample = sample;
    place->rc = place->task ? SX_OK : sx_exec_task_create(p->exec, &place->task);
    if (place->rc) {
        complete(place);
        return;
    }
    place->task->run = on_run;
    place->task->done = on_done;
    place->task->user = place;
    place->task->first_unit = SX_ANY_UNIT;
    place->task->n_units = 1;
    place->task->name = "whole model";
    sx_exec_submit(p->exec, place->task);
}

static size_t policy_poll(struct sx_target *t, uint64_t until, struct sx_completion *out,
                          size_t max)
{
    return sx_mailbox_wait(&SX_CONTAINER_OF(t, struct policy, base)->mailbox, until, out, max);
}

/* What StarPU has cannot be taken back: wait for it. */
static void policy_cancel(struct sx_target *t)
{
    struct policy *p = SX_CONTAINER_OF(t, struct policy, base);
    struct sx_completion dropped[64];
    pthread_mutex_lock(&p->lock);
    while (p->in_flight)
        pthread_cond_wait(&p->idle, &p->lock);
    pthread_mutex_unlock(&p->lock);
    while (sx_mailbox_wait(&p->mailbox, 0, dropped, 64))
        ;
}

static const char *policy_example(struct sx_target *t, enum sx_outcome outcome)
{
    const struct policy *p = SX_CONTAINER_OF(t, struct policy, base);
    return outcome == SX_OUTCOME_SERVER_ERROR ? p->message : "";
}

static void policy_destroy(struct sx_target *t)
{
    struct policy *p = SX_CONTAINER_OF(t, struct policy, base);
    policy_cancel(t);
    for (uint32_t i = 0; p->exec && i < t->slots; i++) {
        if (p->place[i].task)
            sx_exec_task_destroy(p->exec, p->place[i].task);
    }
    sx_exec_destroy(p->exec);
    sx_session_destroy(p->session);
    sx_engine_close_model(p->model);
    sx_mailbox_fini(&p->mailbox);
    pthread_cond_destroy(&p->idle);
    pthread_mutex_destroy(&p->lock);
    free(p->place);
    free(p);
}

static const struct sx_target_ops policy_ops = {policy_submit, policy_poll, policy_cancel,
                                                policy_example, policy_destroy};

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* On the calling thread, wherever it is: cores are alike. */
static enum sx_rc time_it(struct policy *p, struct sx_err *err)
{
    double ns[TIMED];
    for (int i = -WARM; i < TIMED; i++) {
        uint64_t begin = sx_now();
        enum sx_rc rc = compute(p, 0, err);
        if (rc)
            return rc;
        if (i >= 0)
            ns[i] = (double)(sx_now() - begin);
    }
    qsort(ns, TIMED, sizeof *ns, ascending);
    p->ns = ns[TIMED / 2];
    return SX_OK;
}

enum sx_rc policy_target(struct sx_engine *engine, const struct sx_machine *machine,
                         const char *path, const char *policy, const struct sx_dataset *data,
                         uint32_t slots, struct sx_target **ret_target, struct sx_err *err)
{
    const struct sx_port *ports;
    int cpus[MAX_UNITS];
    enum sx_rc rc = SX_OK;
    struct policy *p = calloc(1, sizeof *p);
    if (!p)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a target");
    p->base.ops = &policy_ops;
    p->base.slots = slots;
    p->base.batch = 1;
    snprintf(p->base.name, sizeof p->base.name, "StarPU's %s", policy);
    p->machine = machine;
    p->data = data;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->idle, NULL);
    p->place = calloc(slots, sizeof *p->place);
    if (!p->place || sx_mailbox_init(&p->mailbox, slots)) {
        free(p->place);
        free(p);
        return sx_fail(err, SX_NO_MEMORY, "no memory for %u requests in flight", slots);
    }
    rc = sx_engine_open_model(engine, path, &p->model, err);
    if (!rc) {
        p->n_out = sx_engine_outputs(p->model, &ports);
        if (p->n_out > SX_INPUTS_MAX || machine->n_units > MAX_UNITS)
            rc =
                sx_fail(err, SX_UNSUPPORTED, "%zu outputs on %u units", p->n_out, machine->n_units);
    }
    if (!rc)
        rc = sx_session_create(p->model, 1, NULL, &p->session, err);
    if (!rc)
        rc = time_it(p, err);
    if (!rc) {
        for (unsigned u = 0; u < machine->n_units; u++)
            cpus[u] = machine->units[u].cpu;
        rc = sx_exec_create(&(struct sx_exec_config){.kind = SX_EXEC_STARPU,
                                                     .n_units = machine->n_units,
                                                     .cpus = cpus,
                                                     .starpu_policy = policy,
                                                     .expect_ns = expect_ns},
                            &p->exec, err);
    }
    if (rc)
        policy_destroy(&p->base);
    else
        *ret_target = &p->base;
    return rc;
}
