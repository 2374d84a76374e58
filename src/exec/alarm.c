/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * alarm.c - one alarm on the real clock.
 *
 * The scheduler sets the alarm far more often than it becomes due, and nearly always to a later
 * time.  So a setter wakes the thread only when the new time is earlier than the one the thread
 * sleeps to; otherwise the thread wakes at the old time, sees that it is early and sleeps on.
 *
 * Always true
 *   A1  the thread sleeps to `sleeps_to`; while it is awake that is 0, so nobody wakes it.
 *   A2  a setter stores `due` and then reads `sleeps_to`; the thread stores `sleeps_to` and then
 *       reads `due`.  All four are sequentially consistent, so at least one of them sees the
 *       other, and a setting is never slept over.
 *   A3  the thread holds the mutex from storing `sleeps_to` until it sleeps, so that a signal
 *       given under the mutex cannot come between.
 */
#include "exec/alarm.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "base/clock.h"

struct sx_alarm {
    void (*call)(void *user);
    void *user;
    _Atomic uint64_t due;       /* SX_NEVER: not set */
    _Atomic uint64_t sleeps_to; /* written under the mutex */
    pthread_mutex_t mutex;      /* a leaf: nothing else is taken while it is held */
    pthread_cond_t wake;
    bool stop;    /* under the mutex */
    bool started; /* owner of the alarm */
    pthread_t thread;
};

static void sleep_until(struct sx_alarm *a, uint64_t at)
{
    if (at == SX_NEVER) {
        pthread_cond_wait(&a->wake, &a->mutex);
        return;
    }
    struct timespec ts = {.tv_sec = (time_t)(at / SX_S), .tv_nsec = (long)(at % SX_S)};
    pthread_cond_timedwait(&a->wake, &a->mutex, &ts);
}

static void *alarm_main(void *arg)
{
    struct sx_alarm *a = arg;
    prctl(PR_SET_NAME, "sx-alarm");
    prctl(PR_SET_TIMERSLACK, 1UL); /* the default rounds up by 50 us */
    pthread_mutex_lock(&a->mutex);
    while (!a->stop) {
        uint64_t due = atomic_load(&a->due);
        if (due != SX_NEVER && due <= sx_now()) {
            if (atomic_compare_exchange_strong(&a->due, &due, SX_NEVER)) {
                pthread_mutex_unlock(&a->mutex);
                a->call(a->user);
                pthread_mutex_lock(&a->mutex);
            }
            continue;
        }
        atomic_store(&a->sleeps_to, due);
        if (atomic_load(&a->due) >= due)
            sleep_until(a, due);
        atomic_store(&a->sleeps_to, 0);
    }
    pthread_mutex_unlock(&a->mutex);
    return NULL;
}

enum sx_rc sx_alarm_create(void (*call)(void *user), void *user, struct sx_alarm **ret_alarm,
                           struct sx_err *err)
{
    struct sx_alarm *a = calloc(1, sizeof *a);
    if (!a)
        return sx_fail(err, SX_NO_MEMORY, "no memory for the alarm");
    a->call = call;
    a->user = user;
    atomic_init(&a->due, SX_NEVER);
    pthread_mutex_init(&a->mutex, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&a->wake, &attr);
    pthread_condattr_destroy(&attr);
    if (call) {
        int e = pthread_create(&a->thread, NULL, alarm_main, a);
        if (e) {
            sx_alarm_destroy(a);
            return sx_fail(err, SX_UNAVAILABLE, "can't start the alarm's thread: %s", strerror(e));
        }
        a->started = true;
    }
    *ret_alarm = a;
    return SX_OK;
}

void sx_alarm_set(struct sx_alarm *a, uint64_t at)
{
    atomic_store(&a->due, at);
    if (at >= atomic_load(&a->sleeps_to))
        return;
    pthread_mutex_lock(&a->mutex);
    atomic_store(&a->sleeps_to, 0); /* it is as good as awake: one wake-up is enough */
    pthread_cond_signal(&a->wake);
    pthread_mutex_unlock(&a->mutex);
}

void sx_alarm_stop(struct sx_alarm *a)
{
    if (!a->started)
        return;
    pthread_mutex_lock(&a->mutex);
    a->stop = true;
    pthread_cond_signal(&a->wake);
    pthread_mutex_unlock(&a->mutex);
    pthread_join(a->thread, NULL);
    a->started = false;
}

void sx_alarm_destroy(struct sx_alarm *a)
{
    if (!a)
        return;
    sx_alarm_stop(a);
    pthread_cond_destroy(&a->wake);
    pthread_mutex_destroy(&a->mutex);
    free(a);
}
