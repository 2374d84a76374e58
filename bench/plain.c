/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "plain.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <onnxruntime_c_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"

static const OrtApi *api;
static OrtEnv *env;
static OrtMemoryInfo *memory;

static void check(OrtStatus *status)
{
    if (!status)
        return;
    fprintf(stderr, "plain ONNX Runtime: %s\n", api->GetErrorMessage(status));
    exit(1);
}

void plain_quiet(bool on)
{
    static int keep = -1;
    if (on && keep < 0) {
        int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
        keep = dup(2);
        dup2(nowhere, 2);
        close(nowhere);
    } else if (!on && keep >= 0) {
        dup2(keep, 2);
        close(keep);
        keep = -1;
    }
}

static void start(void)
{
    if (api)
        return;
    setenv("ORT_DISABLE_TELEMETRY", "1", 0);
    const char *path = getenv("STARONNX_ONNXRUNTIME");
    void *library = dlopen(path ? path : "libonnxruntime.so.1.21", RTLD_NOW);
    if (!library) {
        fprintf(stderr, "plain ONNX Runtime: %s\n", dlerror());
        exit(1);
    }
    const OrtApiBase *(*base)(void);
    *(void **)&base = dlsym(library, "OrtGetApiBase");
    api = base()->GetApi(21);
    plain_quiet(true);
    OrtStatus *status = api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "plain", &env);
    plain_quiet(false);
    check(status);
    check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
}

const OrtApi *plain_api(OrtEnv **ret_env)
{
    start();
    *ret_env = env;
    return api;
}

struct plain_session {
    OrtSession *session;
    size_t n_in, n_out;
    const char *in[SX_INPUTS_MAX], *out[SX_INPUTS_MAX];
};

struct plain_session *plain_open(const char *path, int threads)
{
    start();
    struct plain_session *s = calloc(1, sizeof *s);
    OrtSessionOptions *options;
    OrtAllocator *allocator;
    check(api->CreateSessionOptions(&options));
    check(api->SetIntraOpNumThreads(options, threads));
    plain_quiet(true);
    OrtStatus *status = api->CreateSession(env, path, options, &s->session);
    plain_quiet(false);
    check(status);
    api->ReleaseSessionOptions(options);
    check(api->GetAllocatorWithDefaultOptions(&allocator));
    check(api->SessionGetInputCount(s->session, &s->n_in));
    check(api->SessionGetOutputCount(s->session, &s->n_out));
    for (size_t i = 0; i < s->n_in; i++)
        check(api->SessionGetInputName(s->session, i, allocator, (char **)&s->in[i]));
    for (size_t i = 0; i < s->n_out; i++)
        check(api->SessionGetOutputName(s->session, i, allocator, (char **)&s->out[i]));
    return s;
}

void plain_run(struct plain_session *s, const struct sx_tensor *inputs, int n)
{
    OrtValue *in[SX_INPUTS_MAX] = {0}, *out[SX_INPUTS_MAX] = {0};
    for (int i = 0; i < n; i++)
        check(api->CreateTensorWithDataAsOrtValue(
            memory, inputs[i].data, inputs[i].nbytes, inputs[i].dims, (size_t)inputs[i].rank,
            (ONNXTensorElementDataType)sx_dtype_to_onnx(inputs[i].dtype), &in[i]));
    check(api->Run(s->session, NULL, s->in, (const OrtValue *const *)in, (size_t)n, s->out,
                   s->n_out, out));
    for (int i = 0; i < n; i++)
        api->ReleaseValue(in[i]);
    for (size_t i = 0; i < s->n_out; i++)
        api->ReleaseValue(out[i]);
}

void plain_close(struct plain_session *s)
{
    api->ReleaseSession(s->session);
    free(s);
}

/* --- as a target ------------------------------------------------------------------------------ */

struct plain {
    struct sx_target base;
    const struct sx_dataset *data;
    int batch;
    bool bare;
    struct sx_mailbox mailbox;
    pthread_mutex_t lock; /* the queue, in_flight, stop */
    pthread_cond_t work, idle;
    uint32_t *queue;  /* slots; a ring */
    uint64_t *sample; /* by slot */
    uint32_t head, count, in_flight;
    bool stop;
    int n_sessions;
    struct plain_session *session[64];
    pthread_t thread[64];
};

static struct plain *plain_of(struct sx_target *t)
{
    return SX_CONTAINER_OF(t, struct plain, base);
}

static const struct sx_tensor *inputs_of(const struct plain *p, uint64_t sample)
{
    return &p->data->tensor[sample % p->data->n_samples * (uint64_t)p->data->n_inputs];
}

/* The rows of `n` samples one after the other; memory grows to the largest batch and stays. */
static void gather(struct plain *p, const uint32_t *slots, int n, struct sx_tensor *batch)
{
    for (int i = 0; i < p->data->n_inputs; i++) {
        const struct sx_tensor *first = &inputs_of(p, p->sample[slots[0]])[i];
        unsigned char *data = realloc(batch[i].data, first->nbytes * (size_t)p->batch);
        batch[i] = *first;
        batch[i].data = data;
        batch[i].dims[0] = n;
        batch[i].nbytes = first->nbytes * (size_t)n;
        for (int k = 0; k < n; k++)
            memcpy(data + first->nbytes * (size_t)k, inputs_of(p, p->sample[slots[k]])[i].data,
                   first->nbytes);
    }
}

struct worker {
    struct plain *plain;
    int index;
};

static void *work(void *arg)
{
    struct worker w = *(struct worker *)arg;
    free(arg);
    struct plain *p = w.plain;
    struct sx_tensor batch[SX_INPUTS_MAX] = {0};
    uint32_t *slots = calloc((size_t)p->batch, sizeof *slots);
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->count && !p->stop)
            pthread_cond_wait(&p->work, &p->lock);
        if (!p->count)
            break;
        int n = 0;
        while (p->count && n < p->batch) {
            slots[n++] = p->queue[p->head];
            p->head = (p->head + 1) % p->base.slots;
            p->count--;
        }
        pthread_mutex_unlock(&p->lock);
        if (n == 1) {
            plain_run(p->session[w.index], inputs_of(p, p->sample[slots[0]]), p->data->n_inputs);
        } else {
            gather(p, slots, n, batch);
            plain_run(p->session[w.index], batch, p->data->n_inputs);
        }
        uint64_t now = sx_now();
        for (int k = 0; k < n; k++) {
            struct sx_completion c = {slots[k], SX_OUTCOME_OK, 200, now};
            sx_mailbox_post(&p->mailbox, &c);
        }
        pthread_mutex_lock(&p->lock);
        p->in_flight -= (uint32_t)n;
        if (!p->in_flight)
            pthread_cond_signal(&p->idle);
    }
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->data->n_inputs; i++)
        free(batch[i].data);
    free(slots);
    return NULL;
}

static void plain_submit(struct sx_target *t, uint32_t slot, uint64_t sample)
{
    struct plain *p = plain_of(t);
    if (p->bare) {
        plain_run(p->session[0], inputs_of(p, sample), p->data->n_inputs);
        struct sx_completion c = {slot, SX_OUTCOME_OK, 200, sx_now()};
        sx_mailbox_post(&p->mailbox, &c);
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->sample[slot] = sample;
    p->queue[(p->head + p->count++) % t->slots] = slot;
    p->in_flight++;
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}

static size_t plain_poll(struct sx_target *t, uint64_t until, struct sx_completion *out, size_t max)
{
    return sx_mailbox_wait(&plain_of(t)->mailbox, until, out, max);
}

static void plain_cancel(struct sx_target *t)
{
    struct plain *p = plain_of(t);
    pthread_mutex_lock(&p->lock);
    p->in_flight -= p->count;
    p->count = 0;
    while (p->in_flight)
        pthread_cond_wait(&p->idle, &p->lock);
    pthread_mutex_unlock(&p->lock);
    struct sx_completion dropped[64];
    while (sx_mailbox_wait(&p->mailbox, 0, dropped, 64))
        ;
}

static const char *plain_example(struct sx_target *t, enum sx_outcome outcome)
{
    (void)t;
    (void)outcome;
    return "";
}

static void plain_destroy(struct sx_target *t)
{
    struct plain *p = plain_of(t);
    plain_cancel(t);
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n_sessions; i++) {
        if (!p->bare)
            pthread_join(p->thread[i], NULL);
        plain_close(p->session[i]);
    }
    sx_mailbox_fini(&p->mailbox);
    free(p->queue);
    free(p->sample);
    free(p);
}

static const struct sx_target_ops plain_ops = {plain_submit, plain_poll, plain_cancel,
                                               plain_example, plain_destroy};

struct sx_target *plain_target(const char *path, int sessions, int threads, int batch, bool bare,
                               const struct sx_dataset *data, uint32_t slots)
{
    struct plain *p = calloc(1, sizeof *p);
    p->base.ops = &plain_ops;
    p->base.slots = slots;
    p->base.batch = 1;
    p->data = data;
    p->batch = batch;
    p->bare = bare;
    p->n_sessions = sessions;
    p->queue = calloc(slots, sizeof *p->queue);
    p->sample = calloc(slots, sizeof *p->sample);
    sx_mailbox_init(&p->mailbox, slots);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->idle, NULL);
    for (int i = 0; i < sessions; i++) {
        p->session[i] = plain_open(path, threads);
        struct worker *w = malloc(sizeof *w);
        *w = (struct worker){p, i};
        if (bare)
            free(w);
        else
            pthread_create(&p->thread[i], NULL, work, w);
    }
    return &p->base;
}
