/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * request.h - one request, from any wire.
 *
 *                  refused              deadline passed        client gone
 *                     |                       |                     |
 *   NEW --------> admission --> QUEUED --> expired --> DONE     cancelled --> DONE
 *   (caller's)                    |
 *                                 +--> RUNNING --> DONE         (caller's again)
 *
 * A request whose batch fails goes from RUNNING back to QUEUED, once, and then runs alone.
 *
 * Life: sx_request_create (from the model's free list) -> the caller fills inputs and the fields
 * marked "in" -> sx_server_infer.  If that returns SX_OK the request belongs to the server until
 * `done(req)` is called, exactly once; otherwise it stays the caller's and `done` is not called.
 * After `done` the caller reads the fields marked "out" and calls sx_request_release.
 *
 * After warm-up none of this allocates.
 */
#ifndef SX_SERVE_REQUEST_H
#define SX_SERVE_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/rc.h"
#include "tensor/tensor.h"

struct sx_model;

enum sx_request_state { SX_REQUEST_NEW, SX_REQUEST_QUEUED, SX_REQUEST_RUNNING, SX_REQUEST_DONE };

struct sx_request {
    /* in */
    struct sx_tensor *inputs; /* one per input port, in the model's order; zeroed: left out */
    uint64_t timeout_ns;      /* 0: the model's default; it counts from arrival, or from */
    uint64_t received_ns; /* when the first of it was seen, on the server's clock (0: arrival), but
                             at most a fifth of the timeout before: slow lines are not ours */
    uint64_t way_ns;      /* how long answers have waited lately, from the end of their run until
                             they were sent; 0: not known */
    uint32_t priority;    /* 1 is first; 0: the model's default, or the lowest */
    void (*done)(struct sx_request *request); /* on any thread; must not block */
    void *user;

    /* out */
    enum sx_rc rc;
    struct sx_err err;         /* filled when rc is not SX_OK */
    struct sx_tensor *outputs; /* one per output port; views, released with the request */
    uint64_t arrival_ns, start_ns, end_ns; /* admitted, run began, run ended; 0: never */
    unsigned batch, width;                 /* samples in the batch it ran in, cores it ran on */

    /* the server's; owner: whoever owns the request, or the server's lock while it is QUEUED */
    struct sx_model *model; /* one reference */
    enum sx_request_state state;
    uint64_t deadline_ns;
    uint64_t end_by_ns; /* what predictions must keep: the deadline less a reserve */
    uint32_t samples;
    uint64_t shape_class; /* a hash: different ones may not share a batch */
    bool cancelled;
    bool alone;          /* it shares no batch: one that it was in has failed */
    struct sx_list link; /* in the model's queue, the job's requests, or the free list */
};

/* A request for `model` with zeroed inputs; holds a reference on the model. */
enum sx_rc sx_request_create(struct sx_model *model, struct sx_request **ret_request);
/* Drop inputs and outputs and return the request to its model.  NULL is fine. */
void sx_request_release(struct sx_request *request);

#endif
