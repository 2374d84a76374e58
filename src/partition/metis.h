/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * metis.h - METIS in a process of its own.
 *
 * METIS installs signal handlers for the whole process and raises SIGABRT or SIGTERM on errors, so
 * no program that serves may call it.  `staronnx-metis` (metis.c, the one file that includes
 * METIS's header) reads graphs on its standard input and writes partitions on its standard output;
 * propose.c starts it with posix_spawn, bounds its time, and takes any way in which it
 * ends.  Looked for: $STARONNX_METIS, beside the running program, the installed libexec directory.
 */
#ifndef SX_PARTITION_METIS_H
#define SX_PARTITION_METIS_H

#include "partition/partition.h"

/* Raw partitions, not repaired: each of ret_parts[0 .. *ret_n) holds n_nodes labels in
 * [0, n_stages).  At most `cap`; the caller frees each.  Fails with SX_UNSUPPORTED when the helper
 * is missing, fails, is killed or takes too long; nothing else is harmed. */
enum sx_rc sx_metis_propose(const struct sx_part_problem *problem, const char *helper,
                            uint64_t seed, uint32_t **ret_parts, size_t cap, size_t *ret_n,
                            struct sx_err *err);

#endif
