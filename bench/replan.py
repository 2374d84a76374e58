#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Re-planning under load: does a request fail, or wait, because the plan changes?

Three models at 0.6 of the capacity together.  Every few seconds one model's share of that work goes
from a quarter to three quarters, and back, and a fourth model comes and goes.  The same arrivals are
then put on a server that keeps its first plan and where nothing comes or goes: what a request took
longer than there, in stretches around each new plan, is what re-planning added.  It is given in
the longest batch time of the plan: the least that anybody may have to wait where runs are not
interrupted.  All objectives are the same multiple of the slowest model's lone run, so that a refusal
is not the work of chance."""

import sys

import numpy as np

import support

MODELS = ("squeezenet", "inception_v1", "resnet50")
GUEST = "shufflenet"
LOAD = 0.6


def rates(costs, shares, units):
    return [1000 * LOAD * units * s / c["unit_ms"] for s, c in zip(shares, costs)]


def around(run, events, before, after):
    """Indices of requests that were due around an event."""
    due = np.array([r[1] for r in run["requests"]]) / 1e6
    near = np.zeros(len(due), bool)
    for e in events:
        near |= (due >= e - before) & (due <= e + after)
    return near


def main():
    args = support.arguments(__doc__, seconds=32.0, warmup=5.0, rounds=4, factor=8.0, phase=6.0,
                             max_batch=8)
    paths = [support.light_model(m, batch=True) for m in MODELS + (GUEST,)]
    lone = [support.lone_ms(p, 10) for p in paths]
    # Runs are not interrupted: what is shorter than the longest is lost by chance, not by a plan.
    goals = [round(args.factor * max(lone), 2)] * len(paths)
    models, units = list(zip(paths, goals)), support.cores()
    failed, asked, refused, late, plans, added, worst_plan, note = 0, 0, 0, 0, 0, [], 0.0, ""
    for r in range(args.rounds):
        runs, longest = {}, 0.0
        for kind in ("follows", "keeps") if r % 2 == 0 else ("keeps", "follows"):
            with support.Mix(models, "--max-batch", args.max_batch,
                             *["--keep-plan"] * (kind == "keeps")) as mix:
                mix.tell("policy", "fair")
                if r == 0 and not runs:
                    costs = mix.costs  # the same rates for all runs
                calm = rates(costs, (0.25, 0.375, 0.375, 0.0), units)
                high = rates(costs, (0.75, 0.125, 0.125, 0.0), units)
                events, at = [], args.phase
                while at < args.seconds:
                    to = high if len(events) % 2 == 0 else calm
                    events.append((at, "rate " + " ".join(f"{x:.5f}" for x in to)))
                    at += args.phase
                if kind == "follows":  # between two jumps each
                    for k in range(len(events) - 1):
                        events.append((args.phase * (k + 1.5),
                                       f"{'unload' if k % 2 == 0 else 'load'} {len(MODELS)}"))
                events.sort()
                support.say(f"round {r + 1}: the server {kind} its plan, {len(events)} events")
                run = mix.run(args.seconds, args.warmup, 300 + r, calm,
                              [f"{t:.3f} {what}" for t, what in events])
                plan = mix.ask("plan")
                longest = max([longest] + [m.get("predicted_ms", 0.0)
                                           for m in plan["models"][:len(MODELS)]])
                counts = mix.tally(run)
                runs[kind] = run
                support.say(f"  asked, in time, late, refused, failed: {counts}; "
                            f"{len(run['plans'])} plans, {run['plan_ms']:.2f} ms each; submit "
                            f"{run['submit_mean_us']:.1f} us, at most {run['submit_worst_us']:.0f}")
                if kind == "follows":
                    asked += sum(c[0] for c in counts)
                    late += sum(c[2] for c in counts)
                    refused += sum(c[3] for c in counts)
                    failed += sum(c[3] + c[4] for c in counts)
                    plans += len(run["plans"])
                    worst_plan = max(worst_plan, run["plan_ms"])
        a, b = runs["follows"]["requests"], runs["keeps"]["requests"]
        if [x[:1] for x in a] != [x[:1] for x in b]:
            support.die("the two runs had different arrivals")
        near = around(runs["follows"], runs["follows"]["plans"], longest / 1000,
                      2 * longest / 1000)
        if not near.any():
            support.die("no new plan was made: nothing to measure")
        x = np.array([q[2] for q in a])[near] / 1000
        y = np.array([q[2] for q in b])[near] / 1000
        mean, tail = x.mean() - y.mean(), np.percentile(x, 95) - np.percentile(y, 95)
        added.append(max(mean, tail) / longest)
        note = (f"longest batch {longest:.1f} ms; around plans ({near.sum()} of {len(a)} requests) "
                f"mean {x.mean():.1f} ms against {y.mean():.1f}, p95 {np.percentile(x, 95):.1f} "
                f"against {np.percentile(y, 95):.1f}")
        support.say(f"  {note}")
    report = support.Report("replan", args.json)
    report.add("failed", failed, "requests", n=asked, goal=("==", 0),
               note=f"refused ({refused}), lost or in error while plans changed {plans} times, at load "
                    f"{LOAD:g}; {late} were answered after their objective")
    report.rounds("added_batch_times", added, goal=("<=", 1),
                  note=f"the larger of mean and p95 that requests near a new plan took longer than the "
                       f"same requests under a plan that is kept; {note}")
    report.add("plan_ms", worst_plan, "ms", n=plans,
               note="what making a plan took, on copies, beside the requests")
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
