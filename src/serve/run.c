/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * run.c - one run of a session, with its results in our memory where their shapes are declared.
 *
 * Written into memory of our pool, a result travels to the next stage or the client uncopied, and
 * nothing is allocated after warm-up.
 */
#include "serve/server_int.h"

static void drop(struct sx_tensor *outputs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sx_tensor_unref(&outputs[i]);
}

/* *ret_any: is there any? */
static enum sx_rc allocate(const struct sx_port *ports, struct sx_tensor *outputs, size_t n,
                           int64_t batch, struct sx_pool *pool, bool *ret_any)
{
    for (size_t i = 0; i < n; i++) {
        const struct sx_port *p = &ports[i];
        int64_t dims[SX_MAX_RANK];
        bool fixed = p->rank >= 0 && p->dtype != SX_BYTES;
        for (int d = 0; fixed && d < p->rank; d++) {
            dims[d] = d == 0 && batch >= 0 && p->dims[0] < 0 ? batch : p->dims[d];
            fixed = dims[d] >= 0;
        }
        if (!fixed)
            continue;
        enum sx_rc rc = sx_tensor_alloc(&outputs[i], pool, p->dtype, dims, p->rank);
        if (rc)
            return rc;
        *ret_any = true;
    }
    return SX_OK;
}

enum sx_rc sx_run_ports(struct sx_session *session, const struct sx_tensor *inputs,
                        const struct sx_port *ports, struct sx_tensor *outputs, size_t n,
                        int64_t batch, struct sx_pool *pool, atomic_bool *self_alloc,
                        uint64_t *ret_ns, struct sx_err *err)
{
    bool prepared = false;
    if (!atomic_load_explicit(self_alloc, memory_order_relaxed) &&
        allocate(ports, outputs, n, batch, pool, &prepared)) {
        drop(outputs, n);
        return sx_fail(err, SX_NO_MEMORY, "no memory for the results");
    }
    enum sx_rc rc = sx_session_run(session, inputs, outputs, ret_ns, err);
    if (rc == SX_ENGINE && prepared) {
        /* Perhaps only because a declared shape does not hold: let the engine say. */
        drop(outputs, n);
        rc = sx_session_run(session, inputs, outputs, ret_ns, err);
        if (!rc)
            atomic_store_explicit(self_alloc, true, memory_order_relaxed);
    }
    if (rc)
        drop(outputs, n);
    return rc;
}
