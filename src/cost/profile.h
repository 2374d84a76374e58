/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * profile.h - measured times of a model's operators, as data and as a file.
 *
 * One table for each (kind of device, units, batch): a time for every node of the DAG and one for
 * the whole model in one piece.  A device's slow-down factor (emulation) is not in it: it
 * multiplies what was measured.  The file is JSON, one version number, written atomically, and
 * refused when its key says that it is about something else: another model, machine, engine build,
 * or graph.
 */
#ifndef SX_COST_PROFILE_H
#define SX_COST_PROFILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/rc.h"

#define SX_PROFILE_FORMAT 1

struct sx_profile_key {
    char model[40];   /* hash of what is measured */
    char machine[40]; /* sx_machine.id */
    char engine[64];  /* "ONNX Runtime 1.21.0" */
    uint32_t n_nodes;
};

struct sx_profile_table {
    char kind[16]; /* "cpu" */
    unsigned units, batch, runs;
    double whole_ns, whole_spread_ns; /* median and median absolute deviation of whole runs */
    double *node_ns, *node_spread_ns; /* n_nodes each; scaled so that the sum of the medians is
                                         whole_ns (a profiled run is slower than a plain one) */
};

struct sx_profile_link {
    char from[16], to[16]; /* kinds of device */
    double fixed_ns, byte_ns;
};

struct sx_profile {
    struct sx_profile_key key;
    struct sx_profile_table *tables; /* by kind, units, batch */
    size_t n_tables;
    struct sx_profile_link *links;
    size_t n_links;
};

/* Where a profile of this key is kept: CACHE_DIR/profiles/HASH.json.  SX_INVALID: does not fit. */
enum sx_rc sx_profile_cache_path(const char *cache_dir, const struct sx_profile_key *key, char *buf,
                                 size_t size, struct sx_err *err);

/* A zeroed profile is empty; its owner sets `key` before the first put. */
void sx_profile_fini(struct sx_profile *profile);
/* Add a table or replace the one of the same (kind, units, batch); the arrays are copied and the
 * copies scaled, so that the sum of the nodes is whole_ns.  SX_INVALID: a time is negative or not
 * finite, a count is 0. */
enum sx_rc sx_profile_put(struct sx_profile *profile, const struct sx_profile_table *table,
                          struct sx_err *err);
enum sx_rc sx_profile_put_link(struct sx_profile *profile, const struct sx_profile_link *link,
                               struct sx_err *err);
const struct sx_profile_table *sx_profile_get(const struct sx_profile *profile, const char *kind,
                                              unsigned units, unsigned batch);
/* Times of each node for a batch that may not have been measured: linear between the nearest two
 * that were; beyond them, on the line through the nearest two (no node ever faster at a larger
 * batch, nor slower per sample at a larger one than below), in proportion where only one was
 * measured.  SX_NOT_FOUND when nothing of that kind and number of units is there.  ret_ns:
 * n_nodes; either may be NULL. */
enum sx_rc sx_profile_node_ns(const struct sx_profile *profile, const char *kind, unsigned units,
                              unsigned batch, double *ret_ns, double *ret_whole_ns);
/* The link between two kinds; a copy at 10 GB/s plus 1 us when it was not measured. */
struct sx_profile_link sx_profile_link(const struct sx_profile *profile, const char *from,
                                       const char *to);

/* Write atomically (a new file renamed into place); makes its directory. */
enum sx_rc sx_profile_save(const struct sx_profile *profile, const char *path, struct sx_err *err);
/* SX_NOT_FOUND: no such file.  SX_INVALID: damaged, cut off, of another version, or - with `key` -
 * about something else; the message says what differs and how to make a new one. */
enum sx_rc sx_profile_load(const char *path, const struct sx_profile_key *key,
                           struct sx_profile *ret_profile, struct sx_err *err);

#endif
