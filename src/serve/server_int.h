/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * server_int.h - what the files of serve/ share.
 */
#ifndef SX_SERVE_SERVER_INT_H
#define SX_SERVE_SERVER_INT_H

#include <stdint.h>

struct sx_server;

/* Keep a model that could not be loaded, with the reason, for the repository index. */
void sx_server_note_failure(struct sx_server *server, const char *name, int64_t version,
                            const char *reason);

#endif
