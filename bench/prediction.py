#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Error of what plans predict: of stages alone, and of whole pipelines on two unequal devices.

For each model and each k, operators are measured on the fast core and variants planned for it and
a core slowed down k times; then each stage is run alone, and each variant as a pipeline of StarPU
tasks.  An error is |predicted - measured| / measured.  Of stages those of cut variants count; of
plans the latency of a lone job and the time between two jobs of a full pipeline."""

import json
import subprocess
import sys

import numpy as np
import support

KS = (2, 4)


def cases(name, k, args):
    done = subprocess.run(
        [support.helper_program("predict-cases"), str(support.model(name)), *support.pair(k),
         "--runs", str(args.runs), "--rounds", str(args.rounds), "--jobs", str(args.jobs)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        support.die(f"predict-cases {name} ended with status {done.returncode}:\n"
                    f"{done.stderr[-2000:]}")
    return [{**json.loads(line), "model": name, "k": k} for line in done.stdout.splitlines()]


def off(predicted, measured):
    return abs(predicted - measured) / measured


def main():
    args = support.arguments(__doc__, runs=9, rounds=9, jobs=30, models="")
    support.two_cores()
    names = args.models.split(",") if args.models else support.LIGHT + support.GENERATED
    rows = []
    for name in names:
        for k in KS:
            support.say(f"{name}, k = {k}")
            rows += cases(name, k, args)
    stages = [r for r in rows if r["what"] == "stage"]
    plans = [r for r in rows if r["what"] == "plan"]
    cut = [off(r["predicted_ns"], r["measured_ns"]) for r in stages if r["stages"] > 1]
    whole = [off(r["predicted_ns"], r["measured_ns"]) for r in stages if r["stages"] == 1]
    both = [off(*r[key]) for r in plans for key in ("latency_ns", "slowest_ns")]
    report = support.Report("prediction", args.json)
    where = f"{len(names)} models, k = {' and '.join(map(str, KS))}; {support.emulated('k')}"
    if cut:
        worst = max((r for r in stages if r["stages"] > 1),
                    key=lambda r: off(r["predicted_ns"], r["measured_ns"]))
        report.add("stage_median", support.median(cut), n=len(cut), goal=("<", 0.10),
                   note=f"stages of cut variants, alone on their core; {where}; whole models: "
                        f"{support.median(whole):.3f} of {len(whole)}")
        report.add("stage_p95", float(np.percentile(cut, 95)), n=len(cut), goal=("<", 0.25),
                   note=f"the worst: {worst['model']}, stage {worst['stage'] + 1} of "
                        f"{worst['plan']}: {worst['predicted_ns'] / 1e6:.2f} ms predicted, "
                        f"{worst['measured_ns'] / 1e6:.2f} measured")
    else:
        report.add("stage_median", None, n=0, goal=("<", 0.10), note="no variant is cut")
        report.add("stage_p95", None, n=0, goal=("<", 0.25), note="no variant is cut")
    report.add("plan_median", support.median(both), n=len(both), goal=("<", 0.10),
               note="latency of a lone job, and time between two of a full pipeline, of all "
                    "variants")
    table = [("model", "k", "plan", "stages ms", "measured", "latency ms", "measured", "slowest ms",
              "measured", "worst error")]
    for p in plans:
        mine = [r for r in stages if (r["model"], r["k"], r["plan"]) == (p["model"], p["k"],
                                                                         p["plan"])]
        errors = [off(r["predicted_ns"], r["measured_ns"]) for r in mine] + \
            [off(*p["latency_ns"]), off(*p["slowest_ns"])]
        table.append((p["model"], str(p["k"]), p["plan"],
                      " + ".join(f"{r['predicted_ns'] / 1e6:.2f}" for r in mine),
                      " + ".join(f"{r['measured_ns'] / 1e6:.2f}" for r in mine),
                      *(f"{v / 1e6:.2f}" for v in (*p["latency_ns"], *p["slowest_ns"])),
                      f"{100 * max(errors):.0f} %"))
    report.table(table, left=(0, 2))
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
