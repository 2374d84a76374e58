/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * metis_wire.h - what goes between propose.c and staronnx-metis, in the machine's own byte order.
 *
 * To the helper: the request, then the arrays of METIS's interface, one after the other:
 *     int32_t xadj[n + 1], adjncy[n_adjacent], adjwgt[n_adjacent], vwgt[n * n_weights], vsize[n];
 *     float tpwgts[n_parts * n_weights], ubvec[n_weights];
 * Back: SX_METIS_REPLY, then `runs` times one byte (1: it worked) and n bytes, the labels
 * (without meaning when it did not).
 */
#ifndef SX_PARTITION_METIS_WIRE_H
#define SX_PARTITION_METIS_WIRE_H

#include <stdint.h>

#define SX_METIS_REQUEST   "sxmetis1"
#define SX_METIS_REPLY     "sxparts1"
#define SX_METIS_MAGIC     8
#define SX_METIS_MAX_N     (1 << 26)
#define SX_METIS_MAX_RUNS  64
#define SX_METIS_MAX_PARTS 16

struct sx_metis_request {
    char magic[SX_METIS_MAGIC];
    int32_t n, n_adjacent, n_weights, n_parts, runs;
    uint32_t seed;
};

#endif
