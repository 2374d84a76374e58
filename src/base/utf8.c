/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * utf8.c - what is well-formed UTF-8.
 */
#include "base/utf8.h"

size_t sx_utf8_length(const unsigned char *p, const unsigned char *end, size_t *ret_skip)
{
    size_t n;
    unsigned char low = 0x80, high = 0xbf; // range of the second byte
    *ret_skip = 1;
    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        n = 2;
    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        n = 3;
        if (p[0] == 0xe0)
            low = 0xa0; // overlong
        else if (p[0] == 0xed)
            high = 0x9f; // surrogates
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        n = 4;
        if (p[0] == 0xf0)
            low = 0x90; // overlong
        else if (p[0] == 0xf4)
            high = 0x8f; // above U+10FFFF
    } else {
        return 0;
    }
    for (size_t i = 1; i < n; i++) { // stops at a NUL, which is no continuation
        if (p + i == end || p[i] < low || p[i] > high) {
            *ret_skip = i;
            return 0;
        }
        low = 0x80;
        high = 0xbf;
    }
    return n;
}
