/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * key.c - what a profile is about.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/engine_int.h"

/* FNV-1a, two of them: 128 bits. */
struct hash {
    uint64_t a, b;
};

static void mix(struct hash *h, const void *data, size_t n)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++) {
        h->a = (h->a ^ p[i]) * UINT64_C(0x100000001b3);
        h->b = (h->b ^ p[i]) * UINT64_C(0x100000001b3) + 1;
    }
}

static void mix_number(struct hash *h, int64_t number)
{
    mix(h, &number, sizeof number);
}

enum sx_rc sx_engine_profile_key(struct sx_engine_model *model, const char *machine_id,
                                 struct sx_profile_key *ret_key, struct sx_err *err)
{
    const struct sx_dag *dag;
    enum sx_rc rc = sx_engine_graph(model, &dag, err);
    if (rc)
        return rc;
    struct hash h = {UINT64_C(0xcbf29ce484222325), UINT64_C(0x9e3779b97f4a7c15)};
    for (uint32_t v = 0; v < dag->n_nodes; v++) {
        const struct sx_dag_node *node = &dag->nodes[v];
        mix(&h, node->type, strlen(node->type) + 1);
        mix_number(&h, (int64_t)node->weight_bytes);
        mix(&h, &dag->ins[node->first_in], node->n_in * sizeof *dag->ins);
        mix(&h, &dag->outs[node->first_out], node->n_out * sizeof *dag->outs);
        mix_number(&h, node->n_in);
    }
    for (uint32_t t = 0; t < dag->n_tensors; t++) {
        const struct sx_dag_tensor *tensor = &dag->tensors[t];
        mix_number(&h, tensor->onnx_type);
        mix_number(&h, tensor->rank);
        for (int d = 0; d < tensor->rank; d++)
            mix_number(&h, tensor->dims[d]);
    }
    memset(ret_key, 0, sizeof *ret_key);
    snprintf(ret_key->model, sizeof ret_key->model, "%016" PRIx64 "%016" PRIx64, h.a, h.b);
    snprintf(ret_key->machine, sizeof ret_key->machine, "%s", machine_id);
    snprintf(ret_key->engine, sizeof ret_key->engine, "%s", sx_engine_version(model->engine));
    ret_key->n_nodes = dag->n_nodes;
    return SX_OK;
}
