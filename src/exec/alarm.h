/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * alarm.h - one alarm on the real clock, with a thread that sleeps until it is due.
 */
#ifndef SX_EXEC_ALARM_H
#define SX_EXEC_ALARM_H

#include <stdint.h>

#include "base/rc.h"

struct sx_alarm;

/* Start the thread; `call` runs on it with no lock held.  `call` may be NULL. */
enum sx_rc sx_alarm_create(void (*call)(void *user), void *user, struct sx_alarm **ret_alarm,
                           struct sx_err *err);
/* See sx_exec_set_alarm.  A few nanoseconds unless `at` is earlier than what the thread sleeps
 * to; any thread, also inside the call. */
void sx_alarm_set(struct sx_alarm *alarm, uint64_t at);
/* Join the thread: no call after that, and sx_alarm_set has no effect. */
void sx_alarm_stop(struct sx_alarm *alarm);
/* Stop, free.  NULL is fine. */
void sx_alarm_destroy(struct sx_alarm *alarm);

#endif
