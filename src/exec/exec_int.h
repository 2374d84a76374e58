/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * exec_int.h - what an executor's implementation provides.
 *
 * An implementation embeds `struct sx_exec` as its first member and fills it with sx_exec_init.
 * exec.c keeps the book of units, so that a caller that lets tasks overlap by half is stopped in
 * every implementation.
 */
#ifndef SX_EXEC_EXEC_INT_H
#define SX_EXEC_EXEC_INT_H

#include <stdatomic.h>

#include "exec/exec.h"

/* All are mandatory except where it says optional.  Threads are those of the calls in exec.h. */
struct sx_exec_ops {
    void (*destroy)(struct sx_exec *exec); /* everything but what sx_exec_init took */
    struct sx_task *(*task_create)(struct sx_exec *exec); /* NULL: no memory; zeroed */
    void (*task_destroy)(struct sx_exec *exec, struct sx_task *task);
    struct sx_data *(*data_create)(struct sx_exec *exec); /* NULL: no memory */
    void (*data_destroy)(struct sx_exec *exec, struct sx_data *data);
    void (*submit)(struct sx_exec *exec, struct sx_task *task); /* it is in the book */
    void (*expect)(struct sx_exec *exec, unsigned unit);        /* optional: does nothing */
    void (*set_alarm)(struct sx_exec *exec, uint64_t at);
    void (*advance)(struct sx_exec *exec, uint64_t until); /* optional: does nothing */
    uint64_t (*next_event)(struct sx_exec *exec);          /* optional: SX_NEVER */
};

struct sx_exec {
    const struct sx_exec_ops *ops;
    struct sx_clock *clock;
    void (*alarm)(void *user);
    void *alarm_user;
    unsigned n_units;
    bool any_unit; /* tasks may leave the unit to the executor; set by the implementation */
    /* Per unit: how many tasks have it, from submit to sx_exec_finish, and above bit 32 the units
     * that each of them has. */
    _Atomic uint64_t *book;
};

/* Fill the common part; the implementation's destroy need not undo it. */
enum sx_rc sx_exec_init(struct sx_exec *exec, const struct sx_exec_ops *ops, struct sx_clock *clock,
                        const struct sx_exec_config *config, struct sx_err *err);
void sx_exec_fini(struct sx_exec *exec);

/* Run the task here and now, on `unit`, and wait as its slowdown demands.  Real time only. */
void sx_exec_run(struct sx_task *task, unsigned unit);
/* The task has run: its units are free, and it goes back to its owner. */
void sx_exec_finish(struct sx_exec *exec, struct sx_task *task);

enum sx_rc sx_exec_create_inline(const struct sx_exec_config *config, struct sx_exec **ret_exec,
                                 struct sx_err *err);
enum sx_rc sx_exec_create_virtual(const struct sx_exec_config *config, struct sx_exec **ret_exec,
                                  struct sx_err *err);
unsigned sx_exec_starpu_max_units(void);
enum sx_rc sx_exec_create_starpu(const struct sx_exec_config *config, struct sx_exec **ret_exec,
                                 struct sx_err *err);

#endif
