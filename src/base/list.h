/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * list.h - intrusive doubly linked list.
 *
 * The element embeds a `struct sx_list`; the list head is one, too.  Nothing is allocated.
 * An element is in at most one list per embedded node; an unlinked node points to itself, so
 * sx_list_remove is safe to call twice.
 */
#ifndef SX_BASE_LIST_H
#define SX_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct sx_list {
    struct sx_list *prev, *next;
};

#define SX_CONTAINER_OF(ptr, type, member)                                                         \
    ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

static inline void sx_list_init(struct sx_list *l)
{
    l->prev = l->next = l;
}

static inline bool sx_list_empty(const struct sx_list *l)
{
    return l->next == l;
}

/* Insert `node` before `pos`; with the head as `pos`, append. */
static inline void sx_list_insert(struct sx_list *pos, struct sx_list *node)
{
    node->prev = pos->prev;
    node->next = pos;
    pos->prev->next = node;
    pos->prev = node;
}

static inline void sx_list_remove(struct sx_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    sx_list_init(node);
}

/* Move all elements of `from` to the end of `to`; `from` becomes empty. */
static inline void sx_list_splice(struct sx_list *to, struct sx_list *from)
{
    if (sx_list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    sx_list_init(from);
}

#define SX_LIST_FOREACH(it, head)                                                                  \
    for (struct sx_list *it = (head)->next; it != (head); it = it->next)
/* `it` may be removed inside the loop. */
#define SX_LIST_FOREACH_SAFE(it, head)                                                             \
    for (struct sx_list *it = (head)->next, *it##_next = it->next; it != (head);                   \
         it = it##_next, it##_next = it->next)

#endif
