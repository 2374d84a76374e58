/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/* names.c - a hash table with open addressing, at most half full. */
#include "graph/names.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static struct sx_names_slot *find(struct sx_names_slot *slots, size_t cap, const char *name)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (const unsigned char *p = (const unsigned char *)name; *p; p++)
        hash = (hash ^ *p) * UINT64_C(0x100000001b3);
    size_t i = (hash ^ (hash >> 32)) & (cap - 1);
    while (slots[i].name && strcmp(slots[i].name, name))
        i = (i + 1) & (cap - 1);
    return &slots[i];
}

bool sx_names_add(struct sx_names *names, const char *name, int value, int *ret_old)
{
    *ret_old = SX_NAMES_NONE;
    if (2 * (names->n + 1) > names->cap) {
        size_t cap = names->cap ? 2 * names->cap : 64;
        struct sx_names_slot *slots = calloc(cap, sizeof(*slots));
        if (!slots)
            return false;
        for (size_t i = 0; i < names->cap; i++)
            if (names->slots[i].name)
                *find(slots, cap, names->slots[i].name) = names->slots[i];
        free(names->slots);
        names->slots = slots;
        names->cap = cap;
    }
    struct sx_names_slot *slot = find(names->slots, names->cap, name);
    if (slot->name) {
        *ret_old = slot->value;
        return false;
    }
    *slot = (struct sx_names_slot){name, value};
    names->n++;
    return true;
}

int sx_names_get(const struct sx_names *names, const char *name)
{
    if (!names->cap)
        return SX_NAMES_NONE;
    const struct sx_names_slot *slot = find(names->slots, names->cap, name);
    return slot->name ? slot->value : SX_NAMES_NONE;
}

void sx_names_fini(struct sx_names *names)
{
    free(names->slots);
    *names = (struct sx_names){0};
}
