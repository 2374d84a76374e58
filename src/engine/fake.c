/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * fake.c - an engine that computes nothing, on time.
 *
 * For tests, simulation and demos without a model.  A model is a text file; one thing a line, `#`
 * begins a comment:
 *
 *     input  NAME TYPE [DIM...] [optional]     DIM -1: free; no DIM: a scalar
 *     output NAME TYPE [DIM...] [sum]
 *     time   base_us=500 per_sample_us=100 serial=0.2 spin=1 slow=10 slow_over=1000
 *     fail   open | stage | session | nth=K | value=V
 *     chain  N [bytes=B]
 *
 * What it computes.  Output k is made from input k modulo the number of inputs (its source),
 * sample by sample where the first dimension of both is free, so that samples mixed up in a
 * batch show.  Plain: y[j] = 2 * x[j mod n] + 1, with n the source's elements per sample.  `sum`:
 * every element of a sample is the sum of (i + 1) * x[i] over the source's sample.  A BYTES output
 * needs a BYTES source and repeats its strings.  A free dimension takes the size that the source
 * has in the same place (1 when there is none).
 *
 * How long it takes.  (base_us + samples * per_sample_us) * (serial + (1 - serial) / width):
 * Amdahl's law.  In real time the caller sleeps to the deadline (`spin=1`: computes until
 * then); in virtual time the duration is only reported.  slow=F slow_over=V: F times as long when
 * the first element of the first input is over V, so that who sends it chooses when a model's cost
 * drifts.  cold=F: the first run of a model takes F times as long.
 *
 * `chain N`: the model can be cut (fake_stage.c): it is N operators in a row, each of which takes
 * an equal share of the time.  All but the last hand on the first input as it is; the last one
 * makes the outputs.  Needs exactly one input, of a fixed-size type, that is not optional. bytes=B:
 * moving what lies between two operators is said to take B bytes per sample.
 *
 * `fail stage`: the model cannot be opened in parts, though it says that it can be cut.
 * `fail nth=K`: the K-th run of a model fails (from 1; counted over its sessions).
 * `fail value=V`: a run fails when an element of the first input equals V, after its time.  Of a
 * cut model, the stage with the last operator counts, and the one with the first operator looks at
 * values.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "engine/fake_int.h"

static enum sx_rc fake_create(const struct sx_engine_config *config, struct sx_engine **ret_engine,
                              struct sx_err *err)
{
    struct sx_engine *e = calloc(1, sizeof(*e));
    if (!e)
        return sx_fail(err, SX_NO_MEMORY, "no memory for the engine");
    e->ops = &sx_engine_fake;
    snprintf(e->version, sizeof(e->version), "fake 1");
    e->virtual_time = config->virtual_time;
    *ret_engine = e;
    return SX_OK;
}

static void fake_destroy(struct sx_engine *engine)
{
    free(engine);
}

/* --- the model file --------------------------------------------------------------------------- */

static void free_ports(struct sx_port *ports, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free((char *)ports[i].name);
    free(ports);
}

void sx_fake_close(struct sx_engine_model *model)
{
    struct fake_model *m = (struct fake_model *)model;
    sx_dag_destroy(m->base.dag);
    free(m->names);
    free_ports(m->base.inputs, m->base.n_inputs);
    free_ports(m->base.outputs, m->base.n_outputs);
    free(m->sums);
    free(m);
}

static bool parse_number(const char *text, double *ret_value)
{
    char *end;
    *ret_value = strtod(text, &end);
    return end != text && !*end && isfinite(*ret_value);
}

/* "NAME TYPE [DIM...] [word]" into a new port at the end of the array. */
static enum sx_rc parse_port(char *rest, struct sx_port **ports, size_t *n, bool *ret_word,
                             const char *word, struct sx_err *err)
{
    char *save, *name = strtok_r(rest, " \t", &save), *type = strtok_r(NULL, " \t", &save);
    struct sx_port p = {.rank = 0};

    *ret_word = false;
    if (!type || !(p.dtype = sx_dtype_from_name(type, strlen(type))))
        return sx_fail(err, SX_INVALID, "expected a name and a type such as FP32");
    for (char *w; (w = strtok_r(NULL, " \t", &save));) {
        char *end;
        if (!strcmp(w, word)) {
            *ret_word = true;
            continue;
        }
        long long dim = strtoll(w, &end, 10);
        if (*end || end == w || dim < -1 || p.rank == SX_MAX_RANK)
            return sx_fail(err, SX_INVALID, "'%s' is not a dimension", w);
        p.dims[p.rank++] = dim;
    }
    struct sx_port *more = realloc(*ports, (*n + 1) * sizeof(p));
    if (more)
        *ports = more;
    if (!more || !(p.name = strdup(name)))
        return sx_fail(err, SX_NO_MEMORY, "no memory for the model");
    (*ports)[(*n)++] = p;
    return SX_OK;
}

/* "key=value ..." */
static enum sx_rc parse_settings(struct fake_model *m, char *rest, bool time, struct sx_err *err)
{
    char *save;
    for (char *w = strtok_r(rest, " \t", &save); w; w = strtok_r(NULL, " \t", &save)) {
        char *eq = strchr(w, '=');
        double v = 0;
        if (eq) {
            *eq = 0;
            if (!parse_number(eq + 1, &v))
                return sx_fail(err, SX_INVALID, "'%s' is not a number", eq + 1);
        }
        bool ok = true;
        if (time && eq && !strcmp(w, "base_us") && v >= 0)
            m->base_us = v;
        else if (time && eq && !strcmp(w, "per_sample_us") && v >= 0)
            m->per_sample_us = v;
        else if (time && eq && !strcmp(w, "serial") && v >= 0 && v <= 1)
            m->serial = v;
        else if (time && eq && !strcmp(w, "slow") && v > 0)
            m->slow = v;
        else if (time && eq && !strcmp(w, "slow_over"))
            m->slow_over = v;
        else if (time && eq && !strcmp(w, "cold") && v > 0)
            m->cold = v;
        else if (time && eq && !strcmp(w, "spin"))
            m->spin = v != 0;
        else if (!time && eq && !strcmp(w, "nth") && v >= 1)
            m->fail_nth = (uint64_t)v;
        else if (!time && eq && !strcmp(w, "value"))
            m->fail_on_value = true, m->fail_value = v;
        else if (!time && !eq && !strcmp(w, "open"))
            return sx_fail(err, SX_ENGINE, "the model says that it cannot be opened");
        else if (!time && !eq && !strcmp(w, "stage"))
            m->fail_stage = true;
        else if (!time && !eq && !strcmp(w, "session"))
            m->fail_session = true;
        else
            ok = false;
        if (!ok)
            return sx_fail(err, SX_INVALID, "'%s' is not a setting or not in its range", w);
    }
    return SX_OK;
}

/* "N [bytes=B]" */
static enum sx_rc parse_chain(struct fake_model *m, char *rest, struct sx_err *err)
{
    char *save;
    double n = 0;
    m->chain_bytes = -1;
    for (char *w = strtok_r(rest, " \t", &save); w; w = strtok_r(NULL, " \t", &save)) {
        bool ok = !strncmp(w, "bytes=", 6)
                      ? parse_number(w + 6, &m->chain_bytes) && m->chain_bytes >= 0
                      : parse_number(w, &n) && n >= 1 && n <= FAKE_MAX_CHAIN && n == floor(n);
        if (!ok)
            return sx_fail(err, SX_INVALID, "'%s' is not a setting or not in its range", w);
    }
    if (n < 1)
        return sx_fail(err, SX_INVALID, "expected a number of operators");
    m->chain = (uint32_t)n;
    m->last = m->chain - 1;
    return SX_OK;
}

static enum sx_rc parse_line(struct fake_model *m, char *line, struct sx_err *err)
{
    line[strcspn(line, "#\r")] = 0;
    line += strspn(line, " \t");
    size_t len = strcspn(line, " \t");
    char *rest = line + len;
    if (!len)
        return SX_OK;
    if (*rest)
        *rest++ = 0;

    enum sx_rc rc;
    bool word;
    if (!strcmp(line, "input")) {
        rc = parse_port(rest, &m->base.inputs, &m->base.n_inputs, &word, "optional", err);
        if (!rc)
            m->base.inputs[m->base.n_inputs - 1].optional = word;
        return rc;
    }
    if (!strcmp(line, "output")) {
        bool *sums = realloc(m->sums, (m->base.n_outputs + 1) * sizeof(bool));
        if (!sums)
            return sx_fail(err, SX_NO_MEMORY, "no memory for the model");
        m->sums = sums;
        rc = parse_port(rest, &m->base.outputs, &m->base.n_outputs, &word, "sum", err);
        if (!rc)
            m->sums[m->base.n_outputs - 1] = word;
        return rc;
    }
    if (!strcmp(line, "time") || !strcmp(line, "fail"))
        return parse_settings(m, rest, line[0] == 't', err);
    if (!strcmp(line, "chain"))
        return parse_chain(m, rest, err);
    return sx_fail(err, SX_INVALID,
                   "a line begins with input, output, time, fail or chain, not '%s'", line);
}

static size_t source_of(const struct sx_engine_model *m, size_t output)
{
    return output % m->n_inputs;
}

static enum sx_rc fake_open(struct sx_engine *engine, const char *path,
                            struct sx_engine_model **ret_model, struct sx_err *err)
{
    char *text = NULL;
    size_t size;
    enum sx_rc rc = sx_file_read(path, 1 << 20, &text, &size, err);
    if (rc)
        return rc;

    struct fake_model *m = calloc(1, sizeof(*m));
    if (!m) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for the model");
        goto out;
    }
    m->base.ops = &sx_engine_fake;
    m->base.engine = engine;
    int n = 0;
    for (char *line = text, *next; line; line = next) {
        n++;
        if ((next = strchr(line, '\n')))
            *next++ = 0;
        rc = parse_line(m, line, err);
        if (rc) {
            sx_while(err, "%s, line %d: ", path, n);
            goto out;
        }
    }
    if (!m->base.n_inputs || !m->base.n_outputs) {
        rc = sx_fail(err, SX_INVALID, "%s has no %s", path, m->base.n_inputs ? "output" : "input");
        goto out;
    }
    for (size_t i = 0; i < m->base.n_outputs; i++) {
        const struct sx_port *in = &m->base.inputs[source_of(&m->base, i)];
        const struct sx_port *o = &m->base.outputs[i];
        if ((in->dtype == SX_BYTES) != (o->dtype == SX_BYTES) || in->dtype == SX_FP16 ||
            in->dtype == SX_BF16 || o->dtype == SX_FP16 || o->dtype == SX_BF16) {
            rc = sx_fail(err, SX_INVALID, "%s: output '%s' cannot be made from input '%s'", path,
                         o->name, in->name);
            goto out;
        }
    }
    const struct sx_port *in = m->base.inputs;
    if (m->chain && (m->base.n_inputs > 1 || in->dtype == SX_BYTES || in->optional)) {
        rc = sx_fail(err, SX_INVALID,
                     "%s: a chain needs exactly one input, neither BYTES nor optional", path);
        goto out;
    }
    *ret_model = &m->base;
    m = NULL;
out:
    if (m)
        sx_fake_close(&m->base);
    free(text);
    return rc;
}

/* --- sessions -----------------------------------------------------------------------------------
 */

static enum sx_rc fake_session_create(struct sx_engine_model *model, unsigned width,
                                      const int *cpus, bool awake, struct sx_session **ret_session,
                                      struct sx_err *err)
{
    (void)cpus;
    (void)awake;
    if (((struct fake_model *)model)->fail_session)
        return sx_fail(err, SX_ENGINE, "the model says that it makes no sessions");
    struct sx_session *s = calloc(1, sizeof(*s));
    if (!s)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a session");
    s->ops = &sx_engine_fake;
    s->model = model;
    s->width = width;
    *ret_session = s;
    return SX_OK;
}

static void fake_session_destroy(struct sx_session *session)
{
    free(session);
}

#define NUMBERS(X)                                                                                 \
    X(BOOL, uint8_t)                                                                               \
    X(UINT8, uint8_t)                                                                              \
    X(UINT16, uint16_t)                                                                            \
    X(UINT32, uint32_t)                                                                            \
    X(UINT64, uint64_t)                                                                            \
    X(INT8, int8_t)                                                                                \
    X(INT16, int16_t)                                                                              \
    X(INT32, int32_t)                                                                              \
    X(INT64, int64_t)                                                                              \
    X(FP32, float)                                                                                 \
    X(FP64, double)

/* Element `i` of data that need not be aligned. */
static double element(const struct sx_tensor *t, uint64_t i)
{
    switch (t->dtype) {
#define X(type, ctype)                                                                             \
    case SX_##type: {                                                                              \
        ctype v;                                                                                   \
        memcpy(&v, t->data + i * sizeof(v), sizeof(v));                                            \
        return (double)v;                                                                          \
    }
        NUMBERS(X)
#undef X
    default:
        return 0;
    }
}

/* Integers wrap modulo 2^64, then to their size, so that every value is defined. */
static void set_element(struct sx_tensor *t, uint64_t i, double value)
{
    uint64_t bits = 0;
    if (t->dtype == SX_FP32) {
        float v = (float)value;
        memcpy(t->data + i * sizeof(v), &v, sizeof(v));
        return;
    }
    if (t->dtype == SX_FP64) {
        memcpy(t->data + i * sizeof(value), &value, sizeof(value));
        return;
    }
    if (isfinite(value)) {
        double r = fmod(fabs(trunc(value)), 18446744073709551616.0);
        bits = value < 0 ? 0 - (uint64_t)r : (uint64_t)r;
    }
    if (t->dtype == SX_BOOL)
        bits = value != 0;
    size_t size = sx_dtype_size(t->dtype);
    memcpy(t->data + i * size, &bits, size); /* little-endian: the low bytes come first */
}

static void own_release(struct sx_buffer *buffer)
{
    free(buffer);
}

/* A tensor of its own for an output whose dtype and shape are set. */
static enum sx_rc own_tensor(struct sx_tensor *t, size_t bytes, struct sx_err *err)
{
    struct sx_buffer *b = malloc(sizeof(*b) + bytes + 1);
    if (!b)
        return sx_fail(err, SX_NO_MEMORY, "no memory for an output");
    sx_buffer_wrap(b, b + 1, bytes, own_release, NULL);
    t->buffer = b;
    t->data = b->data;
    t->nbytes = bytes;
    return SX_OK;
}

static uint64_t n_samples(const struct sx_port *port, const struct sx_tensor *t)
{
    return port->rank > 0 && port->dims[0] < 0 ? (uint64_t)t->dims[0] : 1;
}

/* Fill in the shape of output `k`; `t` is zeroed or prepared. */
static enum sx_rc shape_output(const struct sx_port *port, const struct sx_tensor *source,
                               struct sx_tensor *t, struct sx_err *err)
{
    int64_t dims[SX_MAX_RANK];
    for (int d = 0; d < port->rank; d++)
        dims[d] = port->dims[d] >= 0 ? port->dims[d] : d < source->rank ? source->dims[d] : 1;
    if (port->dtype == SX_BYTES) { /* repeats its source, whatever was declared */
        *t = (struct sx_tensor){.dtype = SX_BYTES, .rank = source->rank};
        memcpy(t->dims, source->dims, sizeof(t->dims));
        enum sx_rc rc = own_tensor(t, source->nbytes, err);
        if (rc) {
            *t = (struct sx_tensor){0};
        } else if (source->nbytes) {
            memcpy(t->data, source->data, source->nbytes);
        }
        return rc;
    }
    if (t->data) {
        if (t->rank != port->rank || memcmp(dims, t->dims, (size_t)port->rank * sizeof(*dims)))
            return sx_fail(err, SX_ENGINE, "output '%s' was prepared with another shape",
                           port->name);
        return SX_OK;
    }
    size_t bytes;
    struct sx_tensor made = {.dtype = port->dtype, .rank = port->rank};
    memcpy(made.dims, dims, (size_t)port->rank * sizeof(*dims));
    if (!sx_shape_bytes(port->dtype, dims, port->rank, &bytes))
        return sx_fail(err, SX_INVALID, "output '%s' would be too large", port->name);
    enum sx_rc rc = own_tensor(&made, bytes, err);
    if (!rc)
        *t = made;
    return rc;
}

static void compute(const struct sx_port *in_port, const struct sx_tensor *in,
                    const struct sx_port *out_port, struct sx_tensor *out, bool sum)
{
    uint64_t n_in, n_out, rows = 1;
    sx_shape_count(in->dims, in->rank, &n_in);
    sx_shape_count(out->dims, out->rank, &n_out);
    if (n_samples(in_port, in) == n_samples(out_port, out))
        rows = n_samples(in_port, in);
    if (!rows || !n_out)
        return;
    n_in /= rows;
    n_out /= rows;
    for (uint64_t r = 0; r < rows; r++) {
        double total = 0;
        for (uint64_t i = 0; sum && i < n_in; i++)
            total += (double)(i + 1) * element(in, r * n_in + i);
        for (uint64_t i = 0; i < n_out; i++) {
            double x = n_in ? element(in, r * n_in + i % n_in) : 0;
            set_element(out, r * n_out + i, sum ? total : 2 * x + 1);
        }
    }
}

static void wait_until(uint64_t deadline, bool spin)
{
    if (spin) {
        while (sx_now() < deadline)
            ;
        return;
    }
    struct timespec at = {(time_t)(deadline / SX_S), (long)(deadline % SX_S)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        ;
}

static void take_time(const struct sx_session *session, uint64_t nth,
                      const struct sx_tensor *inputs, uint64_t begin, uint64_t *ret_ns)
{
    const struct fake_model *m = (const struct fake_model *)session->model;
    double us = m->base_us;
    us += m->per_sample_us *
          (double)(inputs[0].dtype ? n_samples(&m->base.inputs[0], &inputs[0]) : 1);
    us *= m->serial + (1 - m->serial) / session->width;
    if (m->slow > 0 && inputs[0].dtype && inputs[0].nbytes && element(&inputs[0], 0) > m->slow_over)
        us *= m->slow;
    if (m->cold > 0 && nth == 1)
        us *= m->cold;
    if (m->chain)
        us *= (double)(m->last - m->first + 1) / m->chain;
    if (m->base.engine->virtual_time) {
        if (ret_ns)
            *ret_ns = (uint64_t)(us * 1e3);
    } else if (us > 0) {
        wait_until(begin + (uint64_t)(us * 1e3), m->spin);
    }
}

static enum sx_rc fake_run(struct sx_session *session, const struct sx_tensor *inputs,
                           struct sx_tensor *outputs, uint64_t *ret_ns, struct sx_err *err)
{
    struct fake_model *m = (struct fake_model *)session->model;
    uint64_t begin = sx_now();
    bool ends = m->last + 1 >= m->chain; /* else it only hands its input on */
    enum sx_rc rc = SX_OK;

    uint64_t nth = ends ? atomic_fetch_add(&m->n_runs, 1) + 1 : 0;
    if (nth && nth == m->fail_nth)
        return sx_fail(err, SX_ENGINE, "the model says that run %llu fails",
                       (unsigned long long)nth);
    if (m->fail_on_value && !m->first && inputs[0].dtype != SX_BYTES && inputs[0].dtype) {
        uint64_t n;
        sx_shape_count(inputs[0].dims, inputs[0].rank, &n);
        for (uint64_t i = 0; i < n; i++)
            if (element(&inputs[0], i) == m->fail_value) {
                take_time(session, nth, inputs, begin, ret_ns);
                return sx_fail(err, SX_ENGINE, "the model says that the value %g fails",
                               m->fail_value);
            }
    }

    size_t made = 0;
    bool prepared[64];
    if (m->base.n_outputs > 64)
        return sx_fail(err, SX_UNSUPPORTED, "more than 64 outputs");
    for (; !rc && made < m->base.n_outputs; made++) {
        size_t k = made, s = source_of(&m->base, k);
        static const struct sx_tensor nothing = {.dtype = SX_UINT8, .rank = 1};
        const struct sx_tensor *source = inputs[s].dtype ? &inputs[s] : &nothing;
        prepared[k] = outputs[k].data != NULL;
        rc = shape_output(&m->base.outputs[k], source, &outputs[k], err);
        if (rc)
            break;
        if (!ends && source->nbytes)
            memcpy(outputs[k].data, source->data, source->nbytes);
        else if (ends && outputs[k].dtype != SX_BYTES)
            compute(&m->base.inputs[s], source, &m->base.outputs[k], &outputs[k], m->sums[k]);
    }
    if (rc) {
        for (size_t k = 0; k < made; k++)
            if (!prepared[k])
                sx_tensor_unref(&outputs[k]);
        return rc;
    }
    take_time(session, nth, inputs, begin, ret_ns);
    return SX_OK;
}

const struct sx_engine_ops sx_engine_fake = {
    .name = "fake",
    .create = fake_create,
    .destroy = fake_destroy,
    .open_model = fake_open,
    .close_model = sx_fake_close,
    .graph = sx_fake_graph,
    .open_stage = sx_fake_open_stage,
    .profile = sx_fake_profile,
    .session_create = fake_session_create,
    .session_destroy = fake_session_destroy,
    .run = fake_run,
};
