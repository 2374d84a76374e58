/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * utf8.h - what is well-formed UTF-8 (RFC 3629; Unicode 15, table 3-7).
 */
#ifndef SX_BASE_UTF8_H
#define SX_BASE_UTF8_H

#include <stddef.h>

/* Length of the sequence at `p`, of a text that goes to `end` (NULL: to a NUL).  0: there is none,
 * and *ret_skip bytes are what one U+FFFD stands for (the longest part that could have begun a
 * sequence). */
size_t sx_utf8_length(const unsigned char *p, const unsigned char *end, size_t *ret_skip);

#endif
