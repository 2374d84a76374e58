/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * tensorproto.h - a tensor in a file of its own: a serialised ONNX TensorProto (.pb).
 */
#ifndef SX_GRAPH_TENSORPROTO_H
#define SX_GRAPH_TENSORPROTO_H

#include "tensor/tensor.h"

/* Parse the whole file's bytes.  `*ret` gets a buffer from `pool`; `where` names it in errors. */
enum sx_rc sx_tensorproto_parse(const void *data, size_t size, const char *where,
                                struct sx_pool *pool, struct sx_tensor *ret, struct sx_err *err);

#endif
