/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * flow.h - which operator of the main graph makes and reads which value; for graph/ alone.
 *
 * Values are what names of the main graph stand for.  What a body of If, Loop or Scan reads from
 * the main graph, at any depth, counts as read by the operator that the body belongs to.
 *
 * An operator is constant when it reads nothing but constants and gives the same result
 * every time: no random numbers, and nothing that we do not know (a domain that is neither ONNX's
 * nor Microsoft's, a function with such an operator in it).  Constant operators can be copied.
 */
#ifndef SX_GRAPH_FLOW_H
#define SX_GRAPH_FLOW_H

#include "graph/names.h"
#include "graph/onnx_int.h"

#define SX_FLOW_NONE UINT32_MAX

enum sx_flow_kind {
    SX_FLOW_INPUT,
    SX_FLOW_INITIALIZER,
    SX_FLOW_SPARSE, /* initializer */
    SX_FLOW_NODE,
};

struct sx_flow_value {
    const char *name;
    enum sx_flow_kind kind;
    uint32_t index;  /* in the graph's list of that kind; of the node that makes it */
    uint32_t output; /* in the graph's list of outputs; SX_FLOW_NONE */
    bool constant;
    uint64_t bytes; /* of a constant, in memory; estimated when operators make it */
};

struct sx_flow {
    const Onnx__GraphProto *graph;
    struct sx_flow_value *values;
    uint32_t n_values;
    struct sx_names names; /* to values */
    uint32_t *first_read;  /* node i reads reads[first_read[i] ... first_read[i + 1]], each once */
    uint32_t *reads;
    uint32_t *order; /* all nodes, producers first; the file's order if that is one */
    bool *constant;  /* per node */
    uint64_t *own;   /* per node: bytes of the constants inside it: attributes, bodies */
};

/* Linear in the size of the file.  The model has been checked (onnx_check.c).  Free with
 * sx_flow_fini, also after failure. */
enum sx_rc sx_flow_build(const struct sx_onnx *model, struct sx_flow *flow, struct sx_err *err);
void sx_flow_fini(struct sx_flow *flow);
/* SX_FLOW_NONE for "" (left out) and for names that the graph does not have. */
uint32_t sx_flow_find(const struct sx_flow *flow, const char *name);

#endif
