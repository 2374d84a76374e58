/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * inproc.h - load on a server in this process: requests without a wire.
 *
 * What remains against HTTP is the wire's cost; what remains against a bare engine is the
 * scheduler's.
 */
#ifndef SX_PERF_INPROC_H
#define SX_PERF_INPROC_H

#include "perf/dataset.h"
#include "perf/target.h"
#include "serve/server.h"

/* What the model takes, as the HTTP client would learn it from the model's metadata. */
enum sx_rc sx_inproc_info(const struct sx_model *model, struct sx_model_info *ret_info,
                          struct sx_err *err);

/* A target for `model`.  Server, model and data are
 * borrowed and outlive it.  `timeout_ns`: of each request; 0: the model's default. */
enum sx_rc sx_inproc_create(struct sx_server *server, struct sx_model *model,
                            const struct sx_dataset *data, uint32_t slots, uint64_t timeout_ns,
                            struct sx_target **ret_target, struct sx_err *err);

#endif
