/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * measure.c - inputs to time a model with, one timed run, and what many of them say.
 *
 * A median and the median distance from it: a run that something else disturbed counts as one run,
 * however long it took.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "engine/engine_int.h"

static void release(struct sx_buffer *buffer)
{
    free(buffer);
}

/* Ordinary numbers: arithmetic on zeros may be short-cut, that on denormals is slow.  Integers are
 * 1, which nearly always is a valid index; a 0 would end the process if the model divides by it. */
static void fill(struct sx_tensor *t, struct sx_rng *rng)
{
    size_t size = sx_dtype_size(t->dtype), n = t->nbytes / size;

    for (size_t i = 0; i < n; i++) {
        unsigned char *to = t->data + i * size;
        double d = sx_rng_double(rng) - 0.5;
        float f = (float)d;
        uint64_t bits = sx_rng_u64(rng);
        uint16_t half = (uint16_t)((bits & 0x8000) | (bits & 0x3ff) | 0x3400); /* +-[0.25, 0.5) */
        uint32_t wide;
        switch (t->dtype) {
        case SX_FP32:
            memcpy(to, &f, size);
            break;
        case SX_FP64:
            memcpy(to, &d, size);
            break;
        case SX_FP16:
            memcpy(to, &half, size);
            break;
        case SX_BF16: /* the upper half of a float */
            memcpy(&wide, &f, sizeof(wide));
            half = (uint16_t)(wide >> 16);
            memcpy(to, &half, size);
            break;
        case SX_BOOL:
            to[0] = bits >> 63;
            break;
        default: /* little-endian, like all elements */
            memset(to, 0, size);
            to[0] = 1;
        }
    }
}

static enum sx_rc make_input(const struct sx_port *p, unsigned batch, struct sx_tensor *t,
                             struct sx_rng *rng, struct sx_err *err)
{
    struct sx_tensor made = {.dtype = p->dtype, .rank = p->rank};

    if (p->dtype == SX_BYTES)
        return sx_fail(err, SX_UNSUPPORTED, "input '%s' takes strings: nobody knows which",
                       p->name);
    if (p->rank < 0)
        return sx_fail(err, SX_UNSUPPORTED, "input '%s' takes any number of dimensions", p->name);
    for (int d = 0; d < p->rank; d++)
        made.dims[d] = p->dims[d] >= 0 ? p->dims[d] : d ? SX_FREE_DIM : batch;
    if (!sx_shape_bytes(made.dtype, made.dims, made.rank, &made.nbytes))
        return sx_fail(err, SX_INVALID, "input '%s' would be too large", p->name);
    made.buffer = malloc(sizeof(*made.buffer) + SX_BUF_ALIGN + made.nbytes);
    if (!made.buffer)
        return sx_fail(err, SX_NO_MEMORY, "no memory for input '%s'", p->name);
    uintptr_t at = (uintptr_t)(made.buffer + 1);
    at = (at + SX_BUF_ALIGN - 1) / SX_BUF_ALIGN * SX_BUF_ALIGN;
    sx_buffer_wrap(made.buffer, (void *)at, made.nbytes, release, NULL);
    made.data = made.buffer->data;
    fill(&made, rng);
    *t = made;
    return SX_OK;
}

enum sx_rc sx_measure_inputs(const struct sx_port *ports, size_t n, unsigned batch,
                             struct sx_tensor **ret_inputs, struct sx_err *err)
{
    struct sx_tensor *inputs = calloc(n + 1, sizeof(*inputs));
    struct sx_rng rng;
    enum sx_rc rc = SX_OK;
    bool batches = batch == 1;

    if (!inputs)
        return sx_fail(err, SX_NO_MEMORY, "no memory for inputs");
    sx_rng_init(&rng, 1);
    for (size_t i = 0; !rc && i < n; i++) {
        const struct sx_port *p = &ports[i];
        if (p->optional)
            continue;
        batches = batches || (p->rank > 0 && p->dims[0] < 0);
        rc = make_input(p, batch, &inputs[i], &rng, err);
    }
    if (!rc && !batches)
        rc = sx_fail(err, SX_INVALID,
                     "batches of %u: the first dimension of the model's inputs is not free", batch);
    if (rc)
        sx_measure_free(inputs, n);
    else
        *ret_inputs = inputs;
    return rc;
}

void sx_measure_free(struct sx_tensor *inputs, size_t n)
{
    for (size_t i = 0; inputs && i < n; i++)
        sx_tensor_unref(&inputs[i]);
    free(inputs);
}

enum sx_rc sx_measure_run(struct sx_session *session, const struct sx_tensor *inputs,
                          double *ret_ns, struct sx_err *err)
{
    size_t n = session->model->n_outputs;
    struct sx_tensor *outputs = calloc(n + 1, sizeof(*outputs));
    uint64_t ns = 0;

    if (!outputs)
        return sx_fail(err, SX_NO_MEMORY, "no memory for outputs");
    uint64_t begin = sx_now();
    enum sx_rc rc = sx_session_run(session, inputs, outputs, &ns, err);
    *ret_ns = (double)(session->model->engine->virtual_time ? ns : sx_now() - begin);
    sx_measure_free(outputs, n);
    return rc;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double middle(double *values, size_t n)
{
    qsort(values, n, sizeof(*values), compare);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

double sx_measure_median(double *values, size_t n, double *ret_spread)
{
    double median = middle(values, n);
    for (size_t i = 0; ret_spread && i < n; i++)
        values[i] = values[i] > median ? values[i] - median : median - values[i];
    if (ret_spread)
        *ret_spread = middle(values, n);
    return median;
}
