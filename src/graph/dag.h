/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * dag.h - the operators of a model as a graph that can be cut.
 *
 * Nodes are the operators that the model's outputs need and that depend on its inputs (or on
 * chance), in a topological order (the file's): an edge never leads to a smaller index.  Tensors
 * are what flows between them: graph inputs first, then the nodes' outputs that somebody reads or
 * that are outputs of the graph.  Initializers, and operators that depend on constants alone, are
 * no part of it: a stage takes along those that it reads.  Bodies of If, Loop and Scan belong to
 * their node; what they read from outside is the node's input.
 *
 * Three rare kinds of output of the graph: one that operators on constants make has its last
 * operator as a node (without inputs), so that some stage makes it; one that is an input of the
 * graph is that tensor, with `output` set, and made by no stage; one that is an initializer
 * is no tensor (sx_dag_find says SX_DAG_NONE): who runs stages takes it from the file.
 *
 * Life: sx_dag_build; the engine fills in types and sizes (sx_engine_graph); constant from then
 * on.  Names belong to the sx_onnx that it was built from, which must outlive it.  A DAG may also
 * be made by hand: each array from malloc, by_name and texts NULL.
 *
 * Threads: reading is safe from any; none of these functions blocks.
 */
#ifndef SX_GRAPH_DAG_H
#define SX_GRAPH_DAG_H

#include "graph/onnx.h"

#define SX_DAG_NONE UINT32_MAX

struct sx_dag_node {
    const char *name;          /* of the node, "" when it has none */
    const char *type;          /* operator: "Conv"; "com.microsoft.Gelu" outside ai.onnx */
    uint32_t onnx_index;       /* among the main graph's nodes */
    uint32_t first_in, n_in;   /* tensors read, each once: dag->ins[first_in ...] */
    uint32_t first_out, n_out; /* tensors written: dag->outs[first_out ...] */
    uint64_t weight_bytes;     /* of the constants it reads, each once per node, and those in its
                                  bodies; estimated where operators make them */
};

struct sx_names;

struct sx_dag_tensor {
    const char *name;
    uint32_t producer;          /* node; SX_DAG_NONE: an input of the graph */
    uint32_t first_use, n_uses; /* nodes that read it, ascending: dag->uses[first_use ...] */
    bool output;                /* an output of the graph */
    /* From here on filled in by the engine; `typed` false: it could not tell. */
    bool typed;
    int onnx_type;
    int rank;                         /* -1: unknown */
    int64_t dims[SX_MAX_RANK];        /* -1: the batch decides; -2: the data decide */
    double fixed_bytes, sample_bytes; /* size = fixed_bytes + batch * sample_bytes */
    bool sized;                       /* false: the data decide: it should not be cut */
};

struct sx_dag {
    struct sx_dag_node *nodes;
    struct sx_dag_tensor *tensors;
    uint32_t n_nodes, n_tensors;
    uint32_t *ins, *outs, *uses;
    /* Nodes with the same number must stay in one stage; numbers are the least node of the group.
     * Made by sx_dag_build as "each alone"; the engine joins what it fuses, and both sides of a
     * tensor that is not sized. A group may enclose others: sx_dag_close_groups. */
    uint32_t *group;

    struct sx_names *by_name; /* for sx_dag_find; NULL: it looks at all of them */
    char *texts;              /* types with their domains */
};

/* Linear in the size of the file. */
enum sx_rc sx_dag_build(const struct sx_onnx *model, struct sx_dag **ret_dag, struct sx_err *err);
void sx_dag_destroy(struct sx_dag *dag); /* NULL is fine */
/* Index of a tensor by name; SX_DAG_NONE.  O(1). */
uint32_t sx_dag_find(const struct sx_dag *dag, const char *tensor);
/* Bytes of a tensor at this batch; 0 while it is not sized. */
double sx_dag_bytes(const struct sx_dag *dag, uint32_t tensor, unsigned batch);
/* Put two nodes into one group.  Until sx_dag_close_groups, `group` is not to be read. */
void sx_dag_join(struct sx_dag *dag, uint32_t a, uint32_t b);
/* Make the quotient by groups acyclic: join whatever lies on a path that leaves a group and
 * comes back, and make `group` name the least node of each.  Call once after the joins.  Linear. */
enum sx_rc sx_dag_close_groups(struct sx_dag *dag);
/* May these nodes (at least one, each once) be one stage: whole groups, and no path that leaves the
 * set and comes back?  On failure SX_INVALID names the operators.  Linear. */
enum sx_rc sx_dag_check_stage(const struct sx_dag *dag, const uint32_t *nodes, size_t n,
                              struct sx_err *err);

/* Graphviz text; stage[] (may be NULL) colours nodes, ns[] (may be NULL) writes times.  Edges show
 * sizes where they are known, for a batch of 1.  The text is allocated; the caller frees it. */
enum sx_rc sx_dag_dot(const struct sx_dag *dag, const uint32_t *stage, const double *ns,
                      char **ret_text, struct sx_err *err);

#endif
