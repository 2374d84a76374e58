/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "perf/dataset.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "perf/dataset_int.h"

#define WORD 8 /* letters in a made-up string */

enum sx_rc sx_dataset_alloc(struct sx_dataset *d, const struct sx_model_info *m, size_t n_samples,
                            struct sx_err *err)
{
    memset(d, 0, sizeof(*d));
    d->tensor = calloc(n_samples * (size_t)m->n_inputs + 1, sizeof(*d->tensor));
    if (!d->tensor)
        return sx_fail(err, SX_NO_MEMORY, "out of memory for %zu samples", n_samples);
    d->n_samples = n_samples;
    d->n_inputs = m->n_inputs;
    for (size_t s = 0; s < n_samples; s++) {
        for (int i = 0; i < m->n_inputs; i++) {
            struct sx_tensor *t = &d->tensor[s * (size_t)m->n_inputs + (size_t)i];
            t->dtype = m->input[i].dtype;
            t->rank = m->input[i].rank;
            memcpy(t->dims, m->input[i].dims, sizeof(t->dims));
        }
    }
    return SX_OK;
}

void sx_dataset_fini(struct sx_dataset *d)
{
    for (size_t i = 0; d->tensor && i < d->n_samples * (size_t)d->n_inputs; i++)
        free(d->tensor[i].data);
    free(d->tensor);
    memset(d, 0, sizeof(*d));
}

static uint16_t half_of(double x) // 0 <= x < 1, rounded down
{
    if (x < 0x1p-14)
        return (uint16_t)(x * 0x1p24);
    int e = -1;
    while (x < 0.5) {
        x *= 2;
        e--;
    }
    return (uint16_t)(((e + 15) << 10) | (int)((2 * x - 1) * 1024));
}

static void fill(struct sx_tensor *t, uint64_t count, bool zero, struct sx_rng *rng)
{
    for (uint64_t i = 0; i < count; i++) {
        double x = zero ? 0 : sx_rng_double(rng);
        unsigned char *at = t->data + i * sx_dtype_size(t->dtype);
        switch (t->dtype) {
        case SX_FP32: {
            float f = (float)((double)(uint32_t)(x * 0x1p24) * 0x1p-24); // stays below 1
            memcpy(at, &f, sizeof(f));
            break;
        }
        case SX_FP64:
            memcpy(at, &x, sizeof(x));
            break;
        case SX_FP16: {
            uint16_t h = half_of(x);
            memcpy(at, &h, sizeof(h));
            break;
        }
        case SX_BF16: {
            float f = (float)((double)(uint32_t)(x * 256) / 256);
            memcpy(at, (unsigned char *)&f + 2, 2); // 8 significant bits fit
            break;
        }
        case SX_BYTES:
            at = t->data + i * (4 + WORD);
            memcpy(at, (uint32_t[]){WORD}, 4);
            for (int k = 0; k < WORD; k++)
                at[4 + k] = zero ? 'a' : (unsigned char)('a' + sx_rng_below(rng, 26));
            break;
        default:
            *at = x >= 0.5; // little-endian 0 or 1; the memory is zeroed
        }
    }
}

enum sx_rc sx_dataset_generate(struct sx_dataset *d, const struct sx_model_info *m,
                               size_t n_samples, bool zero, uint64_t seed, struct sx_err *err)
{
    enum sx_rc rc = sx_dataset_alloc(d, m, n_samples, err);
    struct sx_rng rng;
    sx_rng_init(&rng, seed);
    for (size_t i = 0; !rc && i < n_samples * (size_t)m->n_inputs; i++) {
        struct sx_tensor *t = &d->tensor[i];
        const char *name = m->input[i % (size_t)m->n_inputs].name;
        uint64_t count;
        size_t width = t->dtype == SX_BYTES ? 4 + WORD : sx_dtype_size(t->dtype);
        if (!sx_shape_count(t->dims, t->rank, &count) || count > SX_SAMPLE_MAX / width) {
            rc = sx_fail(err, SX_TOO_LARGE, "input '%s' is larger than %zu MiB", name,
                         SX_SAMPLE_MAX >> 20);
            break;
        }
        t->nbytes = (size_t)count * width;
        t->data = calloc(1, t->nbytes + 1);
        if (!t->data)
            rc = sx_fail(err, SX_NO_MEMORY, "out of memory for input '%s'", name);
        else
            fill(t, count, zero, &rng);
    }
    if (rc)
        sx_dataset_fini(d);
    return rc;
}
