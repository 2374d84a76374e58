#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Is what `staronnx simulate` says true?  The server and the simulator get the same requests.

Three models of different weight are served at five loads (equal work of each, Poisson, open loop).
Then the simulator, which is given what the server measured of its runs' times, their spread, and
when the requests were due, says what should have happened: goodput within the objectives, and the
99th percentile of latency."""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

import support

MODELS = ("squeezenet", "inception_v1", "resnet50")
LOADS = (0.3, 0.5, 0.7, 0.9, 1.1)
RESERVE_MS = 5  # that the server leaves for the way back; serve/dispatch.c
MEAN_TO_DEVIATION = 1.2533  # of a normal distribution: standard over mean absolute deviation


def table(cells):
    """As cost/latency_file.h reads it, of the cells that the server measured."""
    units = sorted({c[0] for c in cells})
    batches = sorted({c[1] for c in cells})
    ms = {(c[0], c[1]): c[2] for c in cells if c[3]}
    return {"units": units, "batches": batches,
            "ms": [[ms.get((u, b)) for u in units] for b in batches]}


def noise(cells):
    """Of a run's time, as a share of it: over cells, by how often they ran."""
    weight = [c[3] * c[2] for c in cells]
    spread = [c[3] * c[4] for c in cells]
    return MEAN_TO_DEVIATION * sum(spread) / sum(weight) if sum(weight) else 0


def simulate(directory, costs, goals, run, seconds, warmup, units, seed):
    """What the simulator says of the requests of a run."""
    models = []
    for i, (name, goal, cost) in enumerate(zip(MODELS, goals, costs)):
        times = sorted(due for model, due, _, _ in run["requests"] if model == i)
        (directory / f"{name}.times").write_text("".join(f"{t:.0f}\n" for t in times))
        models.append({"name": name, "table": table(cost["cells"]), "objective_ms": goal,
                       "lone_units": units, "noise": noise(cost["cells"]),
                       "load": {"kind": "times", "file": f"{name}.times", "unit_seconds": 1e-6}})
    scenario = directory / "scenario.json"
    scenario.write_text(json.dumps({
        "units": units, "fit": "aligned", "policy": "fair", "half_rule": False, "seed": seed,
        "seconds": seconds, "warm_seconds": warmup, "replan_seconds": 0.25,
        "margin_ms": RESERVE_MS, "models": models}))
    done = subprocess.run([support.program(), "simulate", str(scenario), "--json"],
                          capture_output=True, text=True)
    if done.returncode:
        support.die(f"simulate: {done.stderr.strip()}")
    return json.loads(done.stdout)["results"][0]


def measured(run, goals, seconds, warmup):
    """(goodput, {model: p99 in ms}) of the requests that were due after the warm-up."""
    good, latency = 0, [[] for _ in goals]
    for model, due, us, outcome in run["requests"]:
        if due < 1e6 * warmup or outcome != support.Mix.ANSWERED:
            continue
        latency[model].append(us / 1000)
        good += us <= 1000 * goals[model]
    return good / (seconds - warmup), [float(np.percentile(x, 99)) if x else 0 for x in latency]


def main():
    args = support.arguments(__doc__, seconds=20.0, warmup=1.0, rounds=2, factor=5.0, max_batch=8)
    paths = [support.light_model(m, batch=True) for m in MODELS]
    goals = [round(args.factor * support.lone_ms(p, 10), 2) for p in paths]
    units = support.cores()
    rows, goods, tails = [], {}, {}
    with tempfile.TemporaryDirectory(prefix="staronnx-sim-") as directory, \
            support.Mix(list(zip(paths, goals)), "--max-batch", args.max_batch) as mix:
        support.say("measuring the capacity")
        mix.tell("policy", "fair")
        rate = [1000 * units / (len(MODELS) * c["unit_ms"]) for c in mix.costs]
        mix.run(6, 1, 1, rate)
        costs = mix.ask("costs")["models"]
        rate = [1000 * units / (len(MODELS) * c["unit_ms"]) for c in costs]
        for r in range(args.rounds):
            for load in LOADS if r % 2 == 0 else reversed(LOADS):
                support.say(f"round {r + 1}, load {load:g}")
                run = mix.run(args.seconds, 0.5, 50 + r, [load * x for x in rate])
                costs = mix.ask("costs")["models"]
                good, p99 = measured(run, goals, args.seconds, args.warmup)
                said = simulate(pathlib.Path(directory), costs, goals, run, args.seconds,
                                args.warmup, units, 50 + r)
                said_p99 = [m["p99_ms"] for m in said["models"]]
                goods.setdefault(load, []).append(said["all"]["goodput"] / good - 1)
                tails.setdefault(load, []).append(
                    [a / b - 1 if b else 0 for a, b in zip(said_p99, p99)])
                rows.append((str(r + 1), f"{load:g}", f"{good:.2f}", f"{said['all']['goodput']:.2f}",
                             *(f"{b:.1f} / {a:.1f}" for a, b in zip(said_p99, p99))))
    report = support.Report("sim-vs-real", args.json)
    good_error = {load: abs(support.median(e)) for load, e in goods.items()}
    tail_error = max((abs(support.median([e[i] for e in es])), MODELS[i], load)
                     for load, es in tails.items() for i in range(len(MODELS)))
    worst = max(good_error, key=good_error.get)
    report.add("goodput_error", good_error[worst], goal=("<=", 0.05), n=args.rounds,
               note=f"simulated over measured, all models; the worst of {len(LOADS)} loads ({worst:g})")
    report.add("p99_error", tail_error[0], goal=("<=", 0.15), n=args.rounds,
               note=f"the worst of all models and loads: {tail_error[1]} at {tail_error[2]:g}")
    report.detail(f"{', '.join(MODELS)}; objectives {', '.join(f'{g:g}' for g in goals)} ms; Poisson, "
                  f"{args.seconds:g} s a load; goodput in answers/s within the objective, p99 in ms, "
                  "measured / simulated")
    report.table([("round", "load", "goodput", "simulated", *(f"p99 {m}" for m in MODELS))] + rows,
                 left=())
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
