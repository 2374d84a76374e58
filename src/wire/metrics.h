/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.h - the server's figures in Prometheus text.
 *
 * Triton's names (nv_inference_*) where the meaning is the same, so that dashboards made for it
 * work; our own (staronnx_*) for the rest.  README.md lists them.
 */
#ifndef SX_WIRE_METRICS_H
#define SX_WIRE_METRICS_H

#include "base/rc.h"
#include "base/sbuf.h"

struct sx_server;

/* Append the whole page.  Allocates; may be called from any thread. `n_units`: units of the
 * machine. */
enum sx_rc sx_metrics_put(struct sx_sbuf *s, struct sx_server *server, unsigned n_units);

#endif
