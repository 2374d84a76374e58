/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "perf/target.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

enum sx_rc sx_mailbox_init(struct sx_mailbox *m, uint32_t slots)
{
    memset(m, 0, sizeof(*m));
    m->item = calloc(slots, sizeof(*m->item));
    if (!m->item)
        return SX_NO_MEMORY;
    m->cap = slots;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&m->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&m->lock, NULL);
    return SX_OK;
}

void sx_mailbox_fini(struct sx_mailbox *m)
{
    if (!m->item)
        return;
    free(m->item);
    pthread_cond_destroy(&m->wake);
    pthread_mutex_destroy(&m->lock);
    memset(m, 0, sizeof(*m));
}

void sx_mailbox_post(struct sx_mailbox *m, const struct sx_completion *c)
{
    pthread_mutex_lock(&m->lock);
    assert(m->count < m->cap); // a slot completes once
    m->item[(m->head + m->count) % m->cap] = *c;
    if (m->count++ == 0)
        pthread_cond_signal(&m->wake);
    pthread_mutex_unlock(&m->lock);
}

size_t sx_mailbox_wait(struct sx_mailbox *m, uint64_t until, struct sx_completion *out, size_t max)
{
    struct timespec ts = {.tv_sec = (time_t)(until / SX_S), .tv_nsec = (long)(until % SX_S)};
    size_t n = 0;
    int rc = 0;
    pthread_mutex_lock(&m->lock);
    while (m->count == 0 && rc == 0 && until > sx_now())
        rc = until == SX_NEVER ? pthread_cond_wait(&m->wake, &m->lock)
                               : pthread_cond_timedwait(&m->wake, &m->lock, &ts);
    for (; n < max && m->count > 0; n++) {
        out[n] = m->item[m->head];
        m->head = (m->head + 1) % m->cap;
        m->count--;
    }
    pthread_mutex_unlock(&m->lock);
    return n;
}
