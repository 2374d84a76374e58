/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * latency_file.h - a table of times as a small JSON file that people write.
 *
 *     {"name": "resnet50", "units": [1, 2, 4], "batches": [1, 8],
 *      "ms": [[10.3, 5.6, 3.2],
 *             [70.1, 36.5, null]]}
 *
 * A row for each batch, in it a time for each number of units, in milliseconds; null: not measured.
 * Units and batches go up.  "name" may be left out; other fields are ignored.  For machines of
 * which only a table is known, and as input of simulations.
 */
#ifndef SX_COST_LATENCY_FILE_H
#define SX_COST_LATENCY_FILE_H

#include <stddef.h>

#include "base/sbuf.h"
#include "cost/latency.h"

#define SX_LATENCY_NAME 64

struct yyjson_val;

/* A table of a file; not prepared, but it passes sx_latency_check.  Without "name", the file's name
 * without directory and ".json".  SX_NOT_FOUND, SX_IO: no such file, unreadable.  SX_INVALID: the
 * message names the file and the line, or the field; `err`'s hint says what belongs there. */
enum sx_rc sx_latency_load(const char *path, struct sx_latency *ret_latency,
                           char ret_name[SX_LATENCY_NAME], struct sx_err *err);
/* The same of a JSON object that is part of a larger file; `where` names it in messages ("file
 * 'x', models[2].table").  ret_name may be NULL; without "name" it stays as it is. */
enum sx_rc sx_latency_read(struct yyjson_val *object, const char *where,
                           struct sx_latency *ret_latency, char ret_name[SX_LATENCY_NAME],
                           struct sx_err *err);

/* Append the JSON object; the numbers read back the same to 15 digits. */
void sx_latency_put(struct sx_sbuf *out, const char *name, const struct sx_latency *latency);
/* Write a file atomically; makes its directory. */
enum sx_rc sx_latency_save(const char *path, const char *name, const struct sx_latency *latency,
                           struct sx_err *err);

#endif
