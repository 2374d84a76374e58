#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""What a request through the scheduler and StarPU costs over a bare `Run` loop, in process.

Closed loop, one request at a time, batch 1.  The bare loop is ONNX Runtime as it comes, with as
many threads as there are cores (ResNet-50) or one (the trivial model).
"""

import sys

import support


def medians(model, threads, rounds, seconds):
    bare = f"bare:{threads}"
    rows = support.compare(model, "--load", "closed:1", "--rounds", rounds, "--seconds", seconds,
                           "--warmup", min(1, seconds / 2), "staronnx", bare)
    by = {name: [r["p50_us"] for r in sorted(rows, key=lambda r: r["round"])
                 if r["target"] == name] for name in ("staronnx", bare)}
    return by["staronnx"], by[bare]


def main():
    args = support.arguments(__doc__, rounds=7, seconds=4.0)
    report = support.Report("overhead", args.json)
    support.say("ResNet-50, one request at a time")
    served, bare = medians(support.light_model("resnet50", batch=True), support.cores(),
                           args.rounds, args.seconds)
    report.rounds("resnet50_ratio", support.ratios(served, bare), goal=("<=", 1.02),
                  note=f"p50 {support.median(served) / 1e3:.2f} ms against "
                       f"{support.median(bare) / 1e3:.2f} ms of the bare loop, per round")
    support.say("a trivial model, one request at a time")
    with support.workspace() as directory:
        served, bare = medians(support.add_model(directory), 1, args.rounds,
                               min(1.0, args.seconds))
    report.rounds("trivial_added_us", [a - b for a, b in zip(served, bare)], "us",
                  goal=("<=", 40),
                  note=f"p50 {support.median(served):.1f} us against {support.median(bare):.1f} us; "
                       "one addition of four floats")
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
