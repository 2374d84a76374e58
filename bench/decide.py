#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""How long a decision takes when several models share a machine.

All units are in use and all queues are full; whenever a run ends (in virtual time), the scheduler
is asked until it says WAIT, and each answer is timed, look-ahead included.  `windows`: models
whose queues are never empty; `requests`: queues with deadlines and learnt rates.  The figure is
the slower kind's 99th percentile.
"""

import json
import statistics
import subprocess
import sys

import support

KINDS = ("windows", "requests")
SIZES = ((2, 2), (4, 8), (16, 64), (64, 256), (256, 1024))


def times(kind, models, units, decisions, seed):
    command = [support.helper_program("decide-times"), kind, *map(str, (models, units, decisions,
                                                                       seed))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        support.die(f"decide-times ended with status {done.returncode}")
    return json.loads(done.stdout)


def main():
    args = support.arguments(__doc__, rounds=5, decisions=20000)
    report = support.Report("decide", args.json)
    rows = [("queues", "models", "units", "mean us", "median us", "p99 us", "worst us", "starts")]
    at_16 = {}
    for kind in KINDS:
        for models, units in SIZES:
            support.say(f"deciding for {models} models on {units} units, {kind}")
            few = max(args.decisions // (models * models // 256 or 1), 500)
            got = [times(kind, models, units, few, seed) for seed in range(args.rounds)]
            if (models, units) == (16, 64):
                at_16[kind] = [g["p99_us"] for g in got]
            middle = {key: statistics.median(g[key] for g in got) for key in got[0]}
            rows.append((kind, f"{models}", f"{units}", *(f"{middle[key]:.1f}" for key in (
                "mean_us", "p50_us", "p99_us")), f"{max(g['max_us'] for g in got):.0f}",
                f"{100 * middle['starts']:.0f} %"))
    slower = max(KINDS, key=lambda kind: statistics.median(at_16[kind]))
    report.rounds("p99_us", at_16[slower], "us", goal=("<", 50),
                  note=f"16 models, 64 units; {slower}, the slower kind of queues")
    report.table(rows)
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
