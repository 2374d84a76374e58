#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""How long `staronnx serve` takes from exec to ready, beyond what its sessions need to load.

From the time to ready is taken what CreateSession takes in a bare program (bench/load.c), in a
process of its own, for the same sessions: same prepared model, same widths, same shared weights.  Rounds alternate.  The prepared model is in the cache; what making it costs once is a
figure of its own."""

import json
import re
import subprocess
import sys

import support

MODEL = "resnet50"


def load_sessions(model, widths):
    done = subprocess.run([support.helper_program("load-sessions"), str(model), *map(str, widths)],
                          stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def session_widths(server):
    """The width of every session: one for each group of cores."""
    found = sorted({int(w) for w in re.findall(
        r'^staronnx_width_runs_total\{[^}]*width="(\d+)"', server.metrics(), re.M)})
    return [w for w in found for _ in range(support.cores() // w)]


def main():
    args = support.arguments(__doc__, rounds=11)
    path = support.light_model(MODEL, batch=True)
    with support.workspace() as work:
        env = {"STARONNX_CACHE": str(work)}
        with support.Server([path], env=env, pause=0.0005) as server:
            first = server.ready_s
            widths = session_widths(server)
        entries = list((work / "prepared").glob("*/model.onnx"))
        if len(entries) != 1 or not widths:
            support.die(f"{len(entries)} prepared models, widths {widths}: expected one, and some")
        ready, loads = [], []
        for k in range(args.rounds):
            loads.append(load_sessions(entries[0], widths))
            with support.Server([path], env=env, pause=0.0005) as server:
                ready.append(1000 * server.ready_s)
            support.say(f"round {k + 1}: ready in {ready[-1]:.0f} ms; library "
                        f"{loads[-1]['library_ms']:.0f}, weights {loads[-1]['weights_ms']:.1f}, "
                        f"sessions {loads[-1]['sessions_ms']:.0f} ms")
    sessions = [x["sessions_ms"] for x in loads]
    library = [x["library_ms"] for x in loads]
    added = [r - s for r, s in zip(ready, sessions)]
    report = support.Report("start", args.json)
    report.rounds("added_ms", added, "ms", goal=("<=", 100),
                  note=f"{MODEL}, sessions of widths {widths}; exec to ready, less CreateSession "
                       "alone: loading ONNX Runtime counts as ours")
    report.rounds("added_less_library_ms", [a - b for a, b in zip(added, library)], "ms",
                  note="the same, less loading ONNX Runtime")
    report.rounds("ready_ms", ready, "ms", note="exec to ready")
    report.rounds("sessions_ms", sessions, "ms", note="CreateSession in a bare process")
    report.rounds("library_ms", library, "ms",
                  note="loading ONNX Runtime and making its environment in a bare process")
    report.add("first_ready_ms", 1000 * first, "ms",
               note="the first start with this model, which makes the prepared model")
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
