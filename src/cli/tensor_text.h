/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * tensor_text.h - tensors for people and scripts: numbers out of any element type, and back.
 */
#ifndef SX_CLI_TENSOR_TEXT_H
#define SX_CLI_TENSOR_TEXT_H

#include "base/rng.h"
#include "base/sbuf.h"
#include "tensor/tensor.h"

struct sx_tensor_summary {
    uint64_t count, not_finite; /* elements; NaN and infinities, left out of the rest */
    double min, max, mean;      /* 0 when there is nothing to tell */
};

/* Element `i` as a number; not for BYTES. */
double sx_element(const struct sx_tensor *t, uint64_t i);
void sx_tensor_summarise(const struct sx_tensor *t, struct sx_tensor_summary *ret);
/* Append up to `max` elements: numbers, or JSON strings for BYTES, with a space between them, or in
 * `json` a comma; there, what is not finite is a string ("NaN").  Returns how many were written. */
uint64_t sx_tensor_add_values(struct sx_sbuf *s, const struct sx_tensor *t, uint64_t max,
                              bool json);
/* Fill with random values: floats normal, integers 0..9, truth values, short words. `t` has type
 * and shape; it gets a buffer. */
enum sx_rc sx_tensor_random(struct sx_tensor *t, struct sx_pool *pool, struct sx_rng *rng,
                            struct sx_err *err);

#endif
