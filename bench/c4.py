#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Mixes of models recalled from a paper, in virtual time, under all policies.

Simulated, from figures of a V100 as recalled: what is checked is the scheduler's arithmetic, not a
machine.  C-4 is AlexNet, MobileNet, ResNet-50 and VGG-19 with queues that are never empty.
Utilisation counts the units of a run up to its model's knee.
"""

import json
import subprocess
import sys

import support

MIXES = ("c2", "c3", "c4", "c7")


def simulate(mix, seconds):
    command = [support.program(), "simulate", "--mix", mix, "--policy", "all", "--json",
               "--seconds", str(seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        support.die(f"{' '.join(command)} ended with status {done.returncode}")
    return {r["policy"]: r for r in json.loads(done.stdout)["results"]}


def rows_of(mix, results):
    temporal = results["temporal"]["all"]["throughput"]
    for policy, r in results.items():
        windows, missed = r["all"]["windows"], r["all"]["missed"]
        yield (mix, policy, f"{100 * r['useful']:.1f} %", f"{r['all']['throughput']:.0f}",
               f"{r['all']['throughput'] / temporal:.2f}", f"{r['all']['goodput']:.0f}",
               f"{100 * missed / windows:.1f} %" if windows else "-", f"{r['jain_run']:.3f}",
               f"{sum(not m['plan']['admitted'] for m in r['models'])}")


def main():
    args = support.arguments(__doc__, seconds=20.0)
    all_results = {}
    for mix in MIXES:
        support.say(f"simulating {mix}")
        all_results[mix] = simulate(mix, args.seconds)
    fair, temporal = all_results["c4"]["fair"], all_results["c4"]["temporal"]
    n = fair["all"]["runs"]
    report = support.Report("c4", args.json)
    said = f"simulated, recalled figures of a V100, {args.seconds:g} s"
    report.add("utilisation", fair["useful"], "", None, n, f"useful units; {said}", (">=", 0.94))
    report.add("vs_temporal", fair["all"]["throughput"] / temporal["all"]["throughput"], "x", None,
               n, "samples per second over those of one model at a time", (">=", 2.9))
    plans = [m["plan"] for m in fair["models"]]  # more units than the planned knee gain nothing here
    equal = sum(1000 * p["batch"] / p["ms"] for p in plans) / len(plans)
    report.add("vs_equal_slices", fair["all"]["throughput"] / equal, "x", None, n,
               f"`temporal` gives slices in proportion to objectives; equal ones would make {equal:.0f} "
               "samples per second, as they favour the small models")
    report.add("missed", fair["all"]["missed"], "windows", None, fair["all"]["windows"], "",
               ("==", 0))
    report.add("jain", fair["jain_run"], "", None, len(fair["models"]), "of the time in runs",
               (">=", 0.98))
    rows = [("mix", "policy", "useful", "samples/s", "x temporal", "kept/s", "missed", "Jain",
             "refused")]
    for mix in MIXES:
        rows += rows_of(mix, all_results[mix])
    report.table(rows, left=(0, 1))
    why = all_results["c7"]["fair"]["why"]
    if why:
        report.detail(f"c7, planning: {why}")
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
