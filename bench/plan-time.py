#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""How long cutting a profiled graph takes, by its size.

Graphs of 1,000 to 20,000 operators with skip connections, like Inception, a U-Net and a transformer
(with a mask that every layer reads), in 4 stages: from the problem to the cut, METIS in its
process included, on one core.  The time is the worst shape's median; the exponent is the worst
shape's slope of log time over log size.
"""

import json
import math
import statistics
import subprocess
import sys

import support

SHAPES = ("inception", "unet", "transformer")
SIZES = (1000, 2000, 5000, 10000, 20000)


def times(shape, size, stages, rounds):
    command = [support.helper_program("plan-times"), shape, str(size), str(stages), str(rounds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        support.die(f"plan-times ended with status {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def slope(points):
    x = [math.log(size) for size, _ in points]
    y = [math.log(ms) for _, ms in points]
    mx, my = statistics.fmean(x), statistics.fmean(y)
    return (sum((a - mx) * (b - my) for a, b in zip(x, y)) / sum((a - mx) ** 2 for a in x))


def main():
    args = support.arguments(__doc__, rounds=6, stages=4)
    values, exponents, lines, unheard = {}, {}, [], 0
    for shape in SHAPES:
        points = []
        for size in SIZES:
            support.say(f"cutting {shape} graphs of {size} operators")
            rows = times(shape, size, args.stages, args.rounds)
            values[shape, size] = [row["ms"] for row in rows]
            points.append((size, statistics.median(values[shape, size])))
            unheard += sum(row["metis_runs"] == 0 for row in rows)
            own = statistics.median(row["ms_without_metis"] for row in rows)
            lines.append(f"{shape:12} {size:6} operators: {points[-1][1]:8.1f} ms, "
                         f"{own:8.1f} ms without METIS")
        exponents[shape] = slope(points)
    if unheard:
        support.die(f"METIS failed {unheard} times: this would not be its time")
    report = support.Report("plan-time", args.json)
    worst = max(SHAPES, key=lambda shape: statistics.median(values[shape, 2000]))
    report.rounds("ms_2000", values[worst, 2000], "ms", goal=("<", 1000),
                  note=f"2,000 operators, {args.stages} stages; {worst}, the slowest shape")
    steep = max(SHAPES, key=exponents.get)
    report.add("exponent", exponents[steep], "", None, len(SIZES),
               f"of the growth from {SIZES[0]:,} to {SIZES[-1]:,} operators; {steep}, the steepest "
               "shape", ("<=", 1.15))
    worst = max(SHAPES, key=lambda shape: statistics.median(values[shape, 20000]))
    report.rounds("ms_20000", values[worst, 20000], "ms", note=f"20,000 operators; {worst}")
    for line in lines:
        report.detail(line)
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
