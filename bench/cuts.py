#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Cuts of thirteen models into 2, 3 and 4 stages: valid, equal to the whole, no worse than others'.

Devices are as fast as their share: equal, or the first 80 % and the others the rest.  Operators are
measured on one core; each cut is planned, opened as models of its own, and run on random inputs.
What a cut is worth (the slowest stage with what it fetches; within 1 % of the least of those that
are compared, the bytes cut) is counted apart from the planner, and compared with the best cut of the
file's own order (an exact dynamic programme) and with METIS's raw partitions where they are valid."""

import json
import subprocess
import sys

import support

NEAR = 1e-5  # of the largest value, where an output is not the same to the last bit


def cases(name, args):
    done = subprocess.run(
        [support.helper_program("cut-cases"), str(support.model(name)), "--runs", str(args.runs),
         "--inputs", str(args.inputs), "--seed", str(args.seed)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        support.die(f"cut-cases {name} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return [{**json.loads(line), "model": name} for line in done.stdout.splitlines()]


def equal(case):
    return (case["valid"] and case["finite"] and case["varied"]
            and (case["bits"] or case["max_rel"] <= NEAR))


def where(case):
    return f"{case['model']} in {case['stages']}, {case['split']}"


def worst(report, name, rows, key, note):
    """A case that is not valid has no ratio: it counts for `valid`."""
    rows = [c for c in rows if c.get(key) is not None]
    if not rows:
        report.add(name, None, goal=("<=", 1.0), n=0, note="nothing to compare with")
        return
    most = max(rows, key=lambda c: c[key])
    same = sum(c[key] == 1 for c in rows)
    report.add(name, most[key], n=len(rows), goal=("<=", 1.0),
               note=f"{note}; the worst: {where(most)}; better in {sum(c[key] < 1 for c in rows)}, "
                    f"the same in {same} of {len(rows)}")


def main():
    args = support.arguments(__doc__, runs=7, inputs=3, seed=1, models="")
    names = args.models.split(",") if args.models else support.LIGHT + support.GENERATED
    rows = []
    for name in names:
        support.say(name)
        rows += cases(name, args)
    report = support.Report("cuts", args.json)
    report.add("cases", len(rows), goal=("==", 6 * len(names)), n=len(rows),
               note=f"{len(names)} models, 2, 3 and 4 stages, equal and 80/20")
    bad = [c for c in rows if not c["valid"]]
    report.add("valid", sum(c["valid"] for c in rows), goal=("==", len(rows)), n=len(rows),
               note="; ".join(f"{where(c)}: {c['note']}" for c in bad[:3]))
    near = [c for c in rows if equal(c) and not c["bits"]]
    differ = [c for c in rows if not equal(c)]
    note = f"bit-identical in {sum(c['bits'] for c in rows)} of {len(rows)}, {args.inputs} inputs each"
    if near:
        most = max(near, key=lambda c: c["max_rel"])
        note += f"; the others within {most['max_rel']:.1e} of the largest value ({where(most)})"
    if differ:
        note += "; NOT EQUAL: " + ", ".join(where(c) for c in differ[:6])
    report.add("equal", sum(equal(c) for c in rows), goal=("==", len(rows)), n=len(rows), note=note)
    worst(report, "worst_vs_dp", rows, "vs_dp", "objective over that of the best cut of the file's "
          "order")
    circles = sum(c.get("vs_metis_pair", 0) > 1 >= c.get("vs_metis", 0) for c in rows)
    unseen = [c for c in rows if c.get("vs_other_seed", 0) > 1]
    worst(report, "worst_vs_metis", rows, "vs_metis", "objective over that of METIS's valid "
          "raw partition that is hardest to beat, its parts in any order, with the planner's seeds "
          f"(with others METIS is ahead in {len(unseen)}"
          + "".join(f"; {where(c)}: {c['vs_other_seed']:.3f}" for c in unseen[:2])
          + f"; in {circles} METIS is ahead as a pair, but behind the file's order, in a circle)")
    head = ("model", "stages", "split", "used", "plan ms", "dp ms", "metis ms", "plan kB cut",
            "dp kB", "metis kB", "vs dp", "vs metis", "from", "planned in", "outputs")
    table = [head]
    for c in rows:
        def num(key, scale, digits):
            return "-" if c.get(key) is None else f"{c[key] / scale:.{digits}f}"
        table.append((c["model"], str(c["stages"]), c["split"], str(c["used"]),
                      *(num(f"{k}_ns", 1e6, 2) for k in ("plan", "dp", "metis")),
                      *(num(f"{k}_bytes", 1e3, 0) for k in ("plan", "dp", "metis")),
                      num("vs_dp", 1, 3), num("vs_metis", 1, 3),
                      c["method"] + (", refined" if c["refined"] else ""),
                      f"{c['solve_ms']:.0f} ms",
                      "bits" if c["bits"] else f"{c['max_rel']:.1e}" if c["valid"] else "invalid"))
    report.detail("slowest stage as predicted, and bytes cut (each tensor once per stage that "
                  "fetches it)")
    report.table(table, left=(0, 2, 12))
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
