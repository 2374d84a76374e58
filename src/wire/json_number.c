/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * json_number.c - numbers between text and binary, exact both ways and without the C library on
 * the usual path.
 *
 * Reading.  A decimal with a mantissa below 2^53 and a power of ten up to 22 is one correctly
 * rounded operation on two exact doubles; the rest goes to strtod.  A float is taken from that
 * double unless the double lies halfway between two floats, where rounding twice could differ
 * from rounding once: then strtof decides.
 *
 * Writing.  Six digits are tried first, then seven, eight, nine (a float needs no more): the
 * digits are an integer below 2^53, and reading them back is the same one operation.  Trailing
 * zeros go.  If fewer than six digits are enough, the six-digit candidate ends in zeros, since
 * the interval of texts that mean a float is narrower than a unit of its sixth digit.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/json.h"

static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                              1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                              1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

bool sx_json_uint64(const char *text, size_t len, uint64_t *ret_value)
{
    uint64_t v = 0;
    if (len == 2 && text[0] == '-' && text[1] == '0') {
        *ret_value = 0;
        return true;
    }
    for (size_t i = 0; i < len; i++) {
        unsigned d = (unsigned)text[i] - '0';
        if (d > 9 || v > UINT64_MAX / 10 || (v == UINT64_MAX / 10 && d > UINT64_MAX % 10))
            return false;
        v = v * 10 + d;
    }
    *ret_value = v;
    return len > 0;
}

bool sx_json_int64(const char *text, size_t len, int64_t *ret_value)
{
    bool negative = len > 0 && text[0] == '-';
    uint64_t v;
    if (!sx_json_uint64(text + negative, len - negative, &v) ||
        v > (uint64_t)INT64_MAX + (negative ? 1 : 0))
        return false;
    *ret_value = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

/* The usual case; false: not decided. */
static bool fast_double(const char *text, size_t len, double *ret_value)
{
    const char *p = text, *end = text + len;
    bool negative = p < end && *p == '-';
    p += negative;
    uint64_t m = 0;
    int digits = 0, e = 0;
    const char *first = p;
    for (; p < end && (unsigned)(*p - '0') <= 9; p++) {
        m = m * 10 + (unsigned)(*p - '0');
        digits += digits || m != 0; /* m may wrap to 0 */
    }
    if (p == first)
        return false; /* NaN, Infinity */
    if (p < end && *p == '.') {
        for (p++; p < end && (unsigned)(*p - '0') <= 9; p++, e--) {
            m = m * 10 + (unsigned)(*p - '0');
            digits += digits || m != 0;
        }
    }
    if (digits > 19)
        return false; /* m may have wrapped */
    if (p < end && (*p | 0x20) == 'e') {
        bool minus = p + 1 < end && p[1] == '-';
        int x = 0;
        p += 1 + (minus || (p + 1 < end && p[1] == '+'));
        for (; p < end && x < 10000; p++)
            x = x * 10 + (*p - '0');
        if (p < end)
            return false;
        e += minus ? -x : x;
    }
    if (m > UINT64_C(1) << 53 || e < -22 || e > 22)
        return false;
    double v = (double)m;
    v = e < 0 ? v / tens[-e] : v * tens[e];
    *ret_value = negative ? -v : v;
    return true;
}

/* `text` is followed by a byte that ends a number, so strtod stops there. */
static bool special(const char *text, size_t len, double *ret_value)
{
    if (text[len - 1] == 'N') {
        *ret_value = NAN;
        return true;
    }
    if (text[len - 1] == 'y') {
        *ret_value = text[0] == '-' ? -INFINITY : INFINITY;
        return true;
    }
    return false;
}

bool sx_json_double(const char *text, size_t len, double *ret_value)
{
    double v;
    if (!fast_double(text, len, &v) && !special(text, len, &v)) {
        v = strtod(text, NULL);
        if (isinf(v))
            return false;
    }
    *ret_value = v;
    return true;
}

/* v rounds to a float as the decimal it came from does: it is not on a midpoint. */
static bool rounds_once(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    double a = fabs(v);
    return (bits & 0x1fffffff) != 0x10000000 && (a >= 1.2e-38 || a == 0) && a < 3.4e38;
}

bool sx_json_float(const char *text, size_t len, float *ret_value)
{
    double v;
    float f;
    if (fast_double(text, len, &v) && rounds_once(v)) {
        f = (float)v;
    } else if (special(text, len, &v)) {
        f = (float)v;
    } else {
        f = strtof(text, NULL);
        if (isinf(f))
            return false;
    }
    *ret_value = f;
    return true;
}

/* --- writing ------------------------------------------------------------------------------------
 */

void sx_json_put_uint64(struct sx_sbuf *s, uint64_t value)
{
    char text[20];
    int i = 20;
    do {
        text[--i] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    sx_sbuf_add(s, text + i, (size_t)(20 - i));
}

void sx_json_put_int64(struct sx_sbuf *s, int64_t value)
{
    uint64_t v = (uint64_t)value;
    if (value < 0) {
        sx_sbuf_putc(s, '-');
        v = 0 - v;
    }
    sx_json_put_uint64(s, v);
}

/* m * 10^-point_from_right, without trailing zeros; plain from 1e-5 to 1e16, else with an exponent.
 */
static void put_digits(struct sx_sbuf *s, uint64_t m, int point_from_right)
{
    char digits[24], out[64];
    while (m % 10 == 0 && m != 0) {
        m /= 10;
        point_from_right--;
    }
    int n = 0;
    for (uint64_t v = m; v; v /= 10)
        digits[n++] = (char)('0' + v % 10);  /* reversed */
    int exponent = n - 1 - point_from_right; /* of the first digit */
    int k = 0;
    if (exponent >= 0 && exponent < 16) {
        for (int i = 0; i <= exponent; i++)
            out[k++] = i < n ? digits[n - 1 - i] : '0';
        out[k++] = '.';
        if (exponent + 1 >= n)
            out[k++] = '0';
        for (int i = exponent + 1; i < n; i++)
            out[k++] = digits[n - 1 - i];
    } else if (exponent < 0 && exponent >= -5) {
        out[k++] = '0';
        out[k++] = '.';
        for (int i = -1; i > exponent; i--)
            out[k++] = '0';
        for (int i = 0; i < n; i++)
            out[k++] = digits[n - 1 - i];
    } else {
        out[k++] = digits[n - 1];
        if (n > 1) {
            out[k++] = '.';
            for (int i = 1; i < n; i++)
                out[k++] = digits[n - 1 - i];
        }
        out[k++] = 'e';
        if (exponent < 0)
            out[k++] = '-';
        unsigned x = (unsigned)abs(exponent);
        if (x >= 100)
            out[k++] = (char)('0' + x / 100);
        if (x >= 10)
            out[k++] = (char)('0' + x / 10 % 10);
        out[k++] = (char)('0' + x % 10);
    }
    sx_sbuf_add(s, out, (size_t)k);
}

static bool put_special(struct sx_sbuf *s, double v)
{
    if (isnan(v)) {
        sx_sbuf_add(s, "NaN", 3);
    } else if (isinf(v)) {
        if (v < 0)
            sx_sbuf_putc(s, '-');
        sx_sbuf_add(s, "Infinity", 8);
    } else if (v == 0) {
        if (signbit(v))
            sx_sbuf_putc(s, '-');
        sx_sbuf_add(s, "0.0", 3);
    } else {
        return false;
    }
    return true;
}

static double scale(double v, int e)
{
    return e >= 0 ? v * tens[e] : v / tens[-e];
}

/* floor(log10(a)) for a positive a; may be one off within a rounding error of a power of ten, or
 * when it is far from zero. */
static int decimal_exponent(double a)
{
    int e2;
    frexp(a, &e2);
    int e = (int)floor((e2 - 1) * 0.30102999566398120); /* right, or one low */
    if (e >= -22 && e < 22 && scale(a, -(e + 1)) >= 1)
        e++;
    return e;
}

/* m * 10^-e is v without rounding; then one rounding is all there is. */
static bool exact(uint64_t m, int e, double v)
{
    return e >= 0 ? fma(v, tens[e], -(double)m) == 0 : fma((double)m, tens[-e], -v) == 0;
}

void sx_json_put_float(struct sx_sbuf *s, float value)
{
    if (put_special(s, value))
        return;
    double a = fabs((double)value);
    if (value < 0)
        sx_sbuf_putc(s, '-');
    int e10 = decimal_exponent(a);
    for (int p = 6; p <= 9; p++) {
        int e = p - 1 - e10; /* digits after the point */
        if (e < -22 || e > 22)
            break;
        uint64_t m = (uint64_t)(scale(a, e) + 0.5);
        double back = scale((double)m, -e);
        if ((float)back == fabsf(value) && (rounds_once(back) || exact(m, e, back))) {
            put_digits(s, m, e);
            return;
        }
    }
    char text[40];
    for (int p = 1; p <= 9; p++) {
        snprintf(text, sizeof(text), "%.*e", p - 1, a);
        if (strtof(text, NULL) == (float)a)
            break;
    }
    sx_sbuf_puts(s, text);
}

void sx_json_put_double(struct sx_sbuf *s, double value)
{
    if (put_special(s, value))
        return;
    double a = fabs(value);
    if (value < 0)
        sx_sbuf_putc(s, '-');
    int e10 = a >= 1e-300 ? decimal_exponent(a) : -400;
    int e = 14 - e10; /* fifteen digits */
    if (e >= -22 && e <= 22) {
        uint64_t m = (uint64_t)(scale(a, e) + 0.5);
        if (m < UINT64_C(1) << 53 && scale((double)m, -e) == a) {
            put_digits(s, m, e);
            return;
        }
    }
    char text[40];
    for (int p = 15; p <= 17; p++) {
        snprintf(text, sizeof(text), "%.*g", p, a);
        if (strtod(text, NULL) == a)
            break;
    }
    sx_sbuf_puts(s, text);
    if (!strpbrk(text, ".e"))
        sx_sbuf_add(s, ".0", 2);
}
