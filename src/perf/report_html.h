/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * report_html.h - the parts of the page: its style and its charts.
 */
#ifndef SX_PERF_REPORT_HTML_H
#define SX_PERF_REPORT_HTML_H

#include "base/sbuf.h"

#define SX_COLOURS 8 /* classes c0..c7 for lines, b0..b7 for boxes */

struct sx_report;

extern const char sx_report_css[];
void sx_report_charts(struct sx_sbuf *o, const struct sx_report *r);

#endif
