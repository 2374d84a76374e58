/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * dir_test.h - a directory of a test program's own.
 *
 *     setup:    return make_dir(path, sizeof path, "model.onnx");
 *     teardown: remove_dir, with everything in it
 */
#ifndef SX_BASE_DIR_TEST_H
#define SX_BASE_DIR_TEST_H

#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"

static char dir[32];

/* Make it, a new one each time, and a path in it.  0, or -1: it cannot be made. */
static inline int make_dir(char *path, size_t size, const char *name)
{
    snprintf(dir, sizeof dir, "/tmp/staronnx-test-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, size, "%s/%s", dir, name);
    return 0;
}

/* For cmocka. */
static inline int remove_dir(void **state)
{
    (void)state;
    return sx_dir_remove(dir, NULL) ? -1 : 0;
}

#endif
