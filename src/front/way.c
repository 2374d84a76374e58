/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "front/way.h"

#include <math.h>

#define STEP  1.1
#define SHARE 0.01  /* of answers that wait longer */
#define LEAST 20e3  /* ns: an idle machine's; from here it can still grow */
#define MOST  100e6 /* ns: longer is not the machine's way, it stands still */

static double faded(const struct sx_way *way, uint64_t now)
{
    double idle = now > way->at ? (double)(now - way->at) : 0;
    return fmax(way->ns * exp2(-idle / (double)SX_WAY_HALF_NS), LEAST);
}

void sx_way_note(struct sx_way *way, uint64_t waited, uint64_t now)
{
    double ns = faded(way, now);
    ns *= (double)waited > ns ? STEP : pow(STEP, -SHARE / (1 - SHARE));
    way->ns = fmin(fmax(ns, LEAST), MOST);
    way->at = now;
}

uint64_t sx_way_ns(const struct sx_way *way, uint64_t now)
{
    return way->ns > 0 ? (uint64_t)faded(way, now) : 0;
}
