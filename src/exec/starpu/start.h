/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * start.h - starting StarPU, for starpu.c alone.
 */
#ifndef SX_EXEC_STARPU_START_H
#define SX_EXEC_STARPU_START_H

#include "exec/exec.h"

/* Check that the library is the one that we were built for, open the policy and start as many
 * CPU workers as `config` has units; no other kind.  One at a time in a process. */
enum sx_rc sx_starpu_start(const struct sx_exec_config *config, struct sx_err *err);

#endif
