#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""How long a decision takes when several models share a machine.

All units are in use and all queues are full; whenever a run ends (in virtual time), the scheduler
is asked until it says WAIT, and each answer is timed, look-ahead included.  `windows`: models
whose queues are never empty; `requests`: queues with deadlines and learnt rates.  The figure is
the slower kind's 99th percentile.

Then the same in a real server: 16 models of an engine that does not compute but takes the times
that it was given, on this machine's cores, under random arrivals.  From there, too, comes how late
runs begin after the decision to start them.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

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


def serve(seconds, rounds, n=16, load=0.8):
    """What the server says of its scheduler after that load: [{decide: .., start: ..}, ...]"""
    with tempfile.TemporaryDirectory(prefix="staronnx-decide-") as directory:
        models, lone = [], []
        for i in range(n):
            base, each = 300 + 150 * i, 200 + 100 * i
            path = pathlib.Path(directory, f"m{i}.fake")
            path.write_text("input x FP32 -1 4\noutput y FP32 -1 4\n"
                            f"time base_us={base} per_sample_us={each} serial=0.2\n")
            lone.append((base + each) / 1000)
            models.append((path, 15 * lone[-1]))
        rates = [1000 * load * support.cores() / (n * ms) for ms in lone]
        got = []
        for seed in range(rounds):
            with support.Mix(models, "--engine", "fake", "--max-batch", 8) as mix:
                mix.run(seconds, 1, seed + 1, rates)
                got.append(mix.ask("sched"))
        return got


def main():
    args = support.arguments(__doc__, rounds=5, decisions=20000, seconds=4.0)
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
    support.say("deciding in a server with 16 models")
    served = serve(args.seconds, args.rounds)
    n = sum(s["decide"]["n"] for s in served)
    report.rounds("server_p99_us", [s["decide"]["p99_us"] for s in served], "us", goal=("<", 50),
                  note=f"{n} decisions of a real server, 16 models with injected times on "
                       f"{support.cores()} units; worst {max(s['decide']['max_us'] for s in served):.0f}"
                       " us")
    report.rounds("start_delay_p99_us", [s["start"]["p99_us"] for s in served], "us",
                  note="from the decision to start a run until it begins; median "
                       f"{statistics.median(s['start']['p50_us'] for s in served):.1f} us, worst "
                       f"{max(s['start']['max_us'] for s in served):.0f} us")
    report.table(rows)
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
