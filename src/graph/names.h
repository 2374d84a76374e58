/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * names.h - which name stands for what: strings to numbers; for graph/ alone.
 *
 * Zero-initialise, set, get, free.  Names are borrowed.
 */
#ifndef SX_GRAPH_NAMES_H
#define SX_GRAPH_NAMES_H

#include <stdbool.h>
#include <stddef.h>

struct sx_names {
    struct sx_names_slot {
        const char *name;
        int value;
    } *slots;
    size_t n, cap; /* cap is 0 or a power of two */
};

#define SX_NAMES_NONE (-1000)

/* Add a name.  False: memory ran out, or (*ret_old set to another value than SX_NAMES_NONE) the
 * name is there already and keeps its old value. */
bool sx_names_add(struct sx_names *names, const char *name, int value, int *ret_old);
/* SX_NAMES_NONE when it is not there. */
int sx_names_get(const struct sx_names *names, const char *name);
void sx_names_fini(struct sx_names *names);

#endif
