#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""The fair policy against an ideal one that gives each kernel its own units, in virtual time.

The ideal preempts every 100 us at no cost; as the paper's, it has one run of each model at a time.
The fair policy may have several, so beside it stands an ideal with two.  Useful units of whole runs
are those up to their model's knee; `kernels` is what the kernels in them really use.
ConvNet-1/2/3: knee and time there as recalled from a
paper (30 %-10.3 ms, 40 %-14.6 ms, 60 %-15.4 ms at batch 16); their kernels are derived (see
src/sim/ideal.h).  Beside them 20 random sets of three models, without a goal.
"""

import json
import random
import statistics
import subprocess
import sys

import support


def simulate(*options):
    command = [support.program(), "simulate", "--ideal", "--no-half-rule", "--json", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        support.die(f"{' '.join(command)} ended with status {done.returncode}")
    result = json.loads(done.stdout)
    fair, ideal = result["results"][0], result["ideal"]
    return {"fair": fair["useful"], "ideal": ideal["utilisation"],
            "utilisation": fair["useful"] / ideal["utilisation"],
            "throughput": fair["all"]["throughput"] / ideal["throughput"],
            "missed": fair["all"]["missed"], "windows": fair["all"]["windows"],
            "ideal_missed": ideal["missed"], "kernels": fair["kernels"],
            "two": fair["all"]["throughput"] / result["ideal_two"]["throughput"],
            "ideal_two": result["ideal_two"]["utilisation"],
            "refused": sum(not m["plan"]["admitted"] for m in fair["models"])}


def random_set(seed):
    """Three models: knees of 15 to 60 of 100 units, 5 to 25 ms, windows of 2.5 to 6 times that.

    The rest of the demand on top of each other may be what it may: some are refused."""
    draw = random.Random(seed)
    options, what = [], []
    for i in range(3):
        knee, ms = 5 * draw.randint(3, 12), round(draw.uniform(5, 25), 1)
        objective = round(ms * draw.uniform(2.5, 6))
        options += ["--kernels", f"m{i}={knee}@{ms},objective={objective}"]
        what.append(f"{knee}@{ms}/{objective}")
    return options, " ".join(what)


def main():
    args = support.arguments(__doc__, seconds=20.0, sets=20)
    seconds = ("--seconds", str(args.seconds))
    nets = simulate("--mix", "convnets", *seconds)
    report = support.Report("ideal", args.json)
    said = f"simulated, recalled knees, derived kernels, {args.seconds:g} s"
    report.add("utilisation_ratio", nets["utilisation"], "", None, 1,
               f"{nets['fair']:.3f} of the units useful, {nets['ideal']:.3f} with the ideal; {said}",
               (">=", 0.90))
    report.add("throughput_ratio", nets["throughput"], "", None, 1, "samples per second",
               (">=", 0.90))
    report.add("missed", nets["missed"], "windows", None, nets["windows"], "of the ConvNets", None)
    report.add("throughput_two", nets["two"], "", None, 1,
               f"against an ideal with two runs of each model, {nets['ideal_two']:.3f} in use")
    report.add("kernels", nets["kernels"], "", None, 1,
               "of the units under the fair policy that kernels use")
    rows = [("set: knee@ms/objective", "fair", "kernels", "ideal", "utilisation", "throughput",
             "with two", "missed", "ideal missed", "refused")]
    results = []
    for seed in range(args.sets):
        options, what = random_set(seed)
        support.say(f"set {seed + 1} of {args.sets}")
        r = simulate(*options, *seconds)
        results.append(r)
        rows.append((what, f"{r['fair']:.3f}", f"{r['kernels']:.3f}", f"{r['ideal']:.3f}",
                     f"{r['utilisation']:.3f}", f"{r['throughput']:.3f}", f"{r['two']:.3f}",
                     str(r["missed"]), str(r["ideal_missed"]),
                     str(r["refused"])))
    for name in ("utilisation", "throughput"):
        values = sorted(r[name] for r in results)
        report.rounds(f"random_{name}", values, note=f"{args.sets} random sets; least "
                      f"{values[0]:.3f}, median {statistics.median(values):.3f}, most {values[-1]:.3f}")
    report.table(rows)
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
