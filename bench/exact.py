#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""How far cuts of small random graphs are from the best of all cuts, found by exhaustive search.

Graphs of 6 to 16 operators of four shapes, in 2 to 4 stages, equal or with 80 % of the speed in
the first one, times and tensors over two decades, links from free to as slow as computing.
The gap is (slowest stage of our cut) / (that of the best cut) - 1, and 0 where ours is faster: both
may give up 1 % of it for fewer bytes.  Exhaustive search is no part of what proposes our cut.
"""

import json
import subprocess
import sys

import support


def main():
    args = support.arguments(__doc__, graphs=960, seed=1)
    command = [support.helper_program("exact-cuts"), str(args.graphs), str(args.seed)]
    support.say(f"searching all cuts of {args.graphs} graphs")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        support.die(f"exact-cuts ended with status {done.returncode}")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    if len(rows) != args.graphs:
        support.die(f"{len(rows)} results of {args.graphs}")

    def gap(row, key):
        return max(row[key] / row["best_ns"] - 1, 0)

    gaps = [gap(row, "ours_ns") for row in rows]
    report = support.Report("exact", args.json)
    report.add("mean_gap", sum(gaps) / len(gaps), "", None, len(gaps),
               "of the slowest stage, against exhaustive search", ("<=", 0.05))
    report.add("max_gap", max(gaps), "", None, len(gaps), "the worst graph")
    report.add("best_found", sum(g <= 1e-9 for g in gaps) / len(gaps), "", None, len(gaps),
               "share of graphs where no cut is faster than ours")
    cuts = [gap(row, "dp_ns") for row in rows]
    report.add("mean_gap_dp", sum(cuts) / len(cuts), "", None, len(cuts),
               "of topological cuts alone, without refinement and METIS")
    asked = sum(row["metis_runs"] > 0 for row in rows)
    report.detail(f"METIS proposed for {asked} graphs; winners came from " + ", ".join(
        f"{name} {sum(row['method'] == name for row in rows)}"
        for name in sorted({row["method"] for row in rows})))
    for shape in sorted({row["shape"] for row in rows}):
        some = [gap(row, "ours_ns") for row in rows if row["shape"] == shape]
        report.detail(f"{shape}: mean gap {sum(some) / len(some):.5f}, "
                      f"max {max(some):.5f}, {len(some)} graphs")
    slow = max(rows, key=lambda row: row["exhaustive_ms"])
    report.detail(f"the longest exhaustive search took {slow['exhaustive_ms']:.0f} ms, "
                  f"the longest of ours {max(row['ms'] for row in rows):.1f} ms")
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
