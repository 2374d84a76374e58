/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * exec.h - how tasks are run on units, and when.
 *
 * An executor owns the threads (or the virtual time) of a set of units.  A task names the units
 * that it occupies; it runs on the first one, whose thread is bound to that core, and the
 * executor gives the others' workers nothing to do for as long as the task runs, so that their
 * cores are lent to the session's own threads.  The caller decides what runs where; tasks of one
 * unit run one after the other, and those of several units may not overlap with others by half: two
 * tasks under way have all their units in common, or none.
 *
 * Implementations, one contract (exec/contract_test.c, exec/contract_data_test.c):
 *   starpu   StarPU workers, one per unit, under a scheduling policy of our own; the real thing
 *   inline   runs each task inside sx_exec_submit; for tools and tests, no threads
 *   virtual  a discrete-event simulation: runs a task when it begins, completes it when its
 *            `virtual_ns` has passed on a virtual clock
 *
 * One timer belongs to the executor: the scheduler's alarm.
 *
 * Threads: `run` is called on the unit's thread, `done` after it on the same thread (starpu), in
 * the submitting call (inline), or in sx_exec_advance (virtual).  No lock is held during either.
 * `done` may submit, also the same task, destroy the task and data that no other task names, and
 * set the alarm.  The unit and the data are still held while `done` runs: what waits for them
 * begins when it has returned, so a long `done` delays a pipeline.
 * inline: what `run`, `done` or the alarm submits is queued and runs before the outermost submit on
 * that thread returns, all in the order of submission; tasks that have units or data in common
 * are submitted by one thread.  virtual: `run` is called by submit or in sx_exec_advance, when the
 * task begins, but never inside another `run` or `done`; everything belongs to one thread.
 */
#ifndef SX_EXEC_EXEC_H
#define SX_EXEC_EXEC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/rc.h"

struct sx_exec;

enum sx_exec_kind { SX_EXEC_STARPU, SX_EXEC_INLINE, SX_EXEC_VIRTUAL };

/* A place for tensors that go from task to task.  Tasks that name the same data run in the order
 * in which they were submitted, as their modes demand: a reader after the writer before it, a
 * writer after the readers before it; "after" means when the `done` of that one has returned.
 * (starpu: a data handle and its implicit dependencies; on devices with a memory of their own it is
 * what StarPU moves, prefetches and overlaps.) */
struct sx_data;
enum sx_mode { SX_READ, SX_WRITE };
#define SX_TASK_DATA 64 /* most data of one task */

/* What the caller fills before each submit; owned by the caller until then, by the executor
 * until `done` is called, then by the caller again. */
struct sx_task {
    void (*run)(struct sx_task *task);
    void (*done)(struct sx_task *task);
    void *user;
    unsigned first_unit, n_units; /* occupies units [first_unit, first_unit + n_units) */
    struct sx_data **data;        /* n_data of them, each once; the arrays are read until `done` */
    const enum sx_mode *modes;    /* is called; NULL when there are none */
    unsigned n_data;
    double slowdown;     /* over 1: after `run` the unit stays busy (asleep) until that many times
                            the time of `run` have passed; then `done`.  This is emulation of a
                            slow device.  0 or 1: none */
    uint64_t virtual_ns; /* set by `run`: how long it takes in virtual time, without slowdown */
    unsigned ran_on;     /* set before `run`: the unit (with a StarPU policy that chooses) */
    uint64_t begin_ns, end_ns; /* set by the executor, on its clock: `run` began; it was over, with
                                  its slow-down */
    const char *name;          /* for traces; static or longer-lived than the task */
};

struct sx_exec_config {
    enum sx_exec_kind kind;
    unsigned n_units;
    const int *cpus;           /* per unit: the system's number of its core; NULL: unbound */
    void (*alarm)(void *user); /* called when the alarm is due; no lock held; may be NULL */
    void *alarm_user;
    /* starpu, for comparisons: a policy of StarPU's own ("dmdas", "lws", ...) chooses the worker of
     * tasks with first_unit SX_ANY_UNIT, by `expect_ns(user of the task, unit)` where it asks for
     * a time, and its idle workers spin.  `expect_ns` is called by submit and when data are
     * released, on any thread, until `run` is called; it may not submit.  Order on a unit is then
     * StarPU's choice.  NULL: our policy.  SX_INVALID for one that StarPU does not have. */
    const char *starpu_policy;
    double (*expect_ns)(void *task_user, unsigned unit);
};
#define SX_ANY_UNIT (~0u) /* n_units is 1 then; only with starpu_policy */

/* The most units that an executor of this kind has room for: what its library was built with. */
unsigned sx_exec_max_units(enum sx_exec_kind kind);
/* Start the workers.  Blocks.  StarPU is one per process: a second starpu executor is
 * SX_UNSUPPORTED while the first lives. */
enum sx_rc sx_exec_create(const struct sx_exec_config *config, struct sx_exec **ret_exec,
                          struct sx_err *err);
/* Disarm the alarm, wait for submitted tasks (also those that their `done` submits), stop the
 * workers.  Tasks and data have been destroyed before, or are in the last `done`.  NULL is fine.
 * Not from a task or the alarm; no other thread may be inside a call. */
void sx_exec_destroy(struct sx_exec *exec);
struct sx_clock *sx_exec_clock(struct sx_exec *exec);

/* A task with room for what the implementation needs; destroy it only while it is yours. */
enum sx_rc sx_exec_task_create(struct sx_exec *exec, struct sx_task **ret_task);
void sx_exec_task_destroy(struct sx_exec *exec, struct sx_task *task);
/* For one tensor between tasks; the executor keeps the order, the caller the tensor.  Any thread.
 * Cheap once some have been destroyed: starpu uses them again. */
enum sx_rc sx_exec_data_create(struct sx_exec *exec, struct sx_data **ret_data);
/* After the tasks that name it are done. NULL is fine. */
void sx_exec_data_destroy(struct sx_exec *exec, struct sx_data *data);
/* Any number of tasks may be submitted for a unit while another runs there: they run one after the
 * other, in the order in which they became ready (their data available; without data that is the
 * order of submission).  Never blocks, never fails; any thread. */
void sx_exec_submit(struct sx_exec *exec, struct sx_task *task);
/* A task for this unit, or one that needs its core, may be submitted in a moment: if the core
 * sleeps, let it wake up meanwhile.  A hint; costs next to nothing when the unit is awake.  Never
 * blocks; any thread. */
void sx_exec_expect(struct sx_exec *exec, unsigned unit);
/* Call `alarm` once at or after `at`; replaces an earlier setting; SX_NEVER clears it.  An alarm
 * that is due at this moment may still be called after it was replaced or cleared, so the callee
 * looks at the clock and not at what it had asked for.  Never blocks; any thread. */
void sx_exec_set_alarm(struct sx_exec *exec, uint64_t at);

/* virtual only: let time pass until `until`, calling what becomes due, in order; with SX_NEVER
 * until nothing is pending.  Others: does nothing. */
void sx_exec_advance(struct sx_exec *exec, uint64_t until);
/* virtual only: time of the next completion or alarm; SX_NEVER when there is none. */
uint64_t sx_exec_next_event(struct sx_exec *exec);

#endif
