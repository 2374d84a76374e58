#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""One running deployment against every fixed setting of plain ONNX Runtime, at ten loads.

A fixed setting is SxTxB: S sessions of T threads that take batches of up to B from one queue.
Saturation comes first (closed loop, many clients); then Poisson arrivals at ten rates up to 90 %
of the best saturation throughput.  Each time all settings (that can carry the rate) are screened,
and the best three and the deployment are measured in alternating rounds.  One process holds all of
them, and an idle setting sleeps.
"""

import math
import sys

import support

LOADS = [0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def settings(cores, max_batch):
    shapes = {(1, cores), (cores, 1), (cores, cores), (1, 1)}
    if cores >= 4:
        shapes |= {(2, cores // 2), (cores // 2, 2)}
    return [f"{s}x{t}x{b}" for s, t in sorted(shapes) for b in sorted({1, 4, max_batch})]


def saturation(bench, fixed, rounds, seconds):
    """{target: [requests/s, ...]}; two rounds of all, the rest of the best three and of ours."""
    values = {t: [] for t in ["staronnx"] + fixed}
    for r in range(rounds):
        if r == 2:
            fixed = sorted(fixed, key=lambda t: -support.median(values[t]))[:3]
        measured = ["staronnx"] + fixed
        for t in measured if r % 2 == 0 else reversed(measured):
            values[t].append(bench.measure("closed:16", seconds, r, t)["throughput"])
    return values


def at_rate(bench, rate, capacity, rounds, args):
    """{target: [measurement, ...]} for our deployment and the best three settings."""
    seconds = max(args.seconds, min(args.samples / rate, 6 * args.seconds))
    load = f"poisson:{rate:.4f}"
    able = [t for t, c in capacity.items() if t != "staronnx" and c > 1.02 * rate]
    screen = {t: bench.measure(load, seconds / 2, 1, t)["p95_us"] for t in able}
    best = sorted(able, key=screen.get)[:3]
    measured = {t: [] for t in ["staronnx"] + best}
    for r in range(rounds):
        for t in measured if r % 2 == 0 else reversed(list(measured)):
            measured[t].append(bench.measure(load, seconds, 10 + r, t))
    return measured


def p(rows, key):
    return support.median([r[key] for r in rows])


def main():
    args = support.arguments(__doc__, model="squeezenet", rounds=11, seconds=2.5, samples=75,
                             max_batch=8, loads=",".join(map(str, LOADS)))
    loads = [float(x) for x in args.loads.split(",")]
    cores = support.cores()
    fixed = settings(cores, args.max_batch)
    targets = ["staronnx"] + fixed
    bench = support.Compare(support.light_model(args.model, batch=True), "--warmup", "0.5",
                            "--max-batch", args.max_batch, *targets)
    support.say(f"saturation of {len(fixed)} settings")
    values = saturation(bench, fixed, args.rounds, args.seconds)
    capacity = {t: support.median(v) for t, v in values.items()}
    top = max((t for t in fixed if len(values[t]) == args.rounds), key=capacity.get)
    report = support.Report("adaptive", args.json)

    rows, worst, low = [], None, None
    for share in loads:
        rate = share * capacity[top]
        support.say(f"load {share:.0%}: {rate:.1f} requests/s")
        m = at_rate(bench, rate, capacity, args.rounds, args)
        ours = m.pop("staronnx")
        if not m:
            continue
        # Ratios within a round, so that what slowed the machine slowed both.
        best = min(m, key=lambda t: p(m[t], "p95_us"))
        ratio = support.median([a["p95_us"] / b["p95_us"] for a, b in zip(ours, m[best])])
        quick = min(m, key=lambda t: p(m[t], "p50_us"))
        middle = support.median([a["p50_us"] / b["p50_us"] for a, b in zip(ours, m[quick])])
        if low is None:
            low = [a["p50_us"] / b["p50_us"] for a, b in zip(ours, m[quick])]
        if worst is None or ratio > worst[0]:
            worst = (ratio, share, best)
        support.say(f"  p50 {p(ours, 'p50_us') / 1e3:.2f} ms, {middle:.3f} of {quick}; p95 "
                    f"{p(ours, 'p95_us') / 1e3:.2f} ms, {ratio:.3f} of {best}; runs by width "
                    + ", ".join(str(m["runs_by_width"]) for m in ours))
        rows.append((f"{share:.0%}", f"{rate:.1f}", f"{p(ours, 'p50_us') / 1e3:.2f}",
                     f"{p(m[quick], 'p50_us') / 1e3:.2f}", quick, f"{middle:.3f}",
                     f"{p(ours, 'p95_us') / 1e3:.2f}", f"{p(m[best], 'p95_us') / 1e3:.2f}", best,
                     f"{ratio:.3f}"))
    bench.close()
    report.rounds("low_load_p50_ratio", low, goal=("<=", 1.05),
                  note=f"at {loads[0]:.0%} of the best saturation throughput")
    report.rounds("saturation_ratio", support.ratios(values["staronnx"], values[top]),
                  goal=(">=", 0.97), note=f"{capacity['staronnx']:.1f} requests/s against "
                                          f"{capacity[top]:.1f} of {top}")
    report.add("curve_worst_ratio", worst[0] if worst else math.nan, goal=("<=", 1.10),
               n=args.rounds, note=f"p95 at {worst[1]:.0%} load against {worst[2]}")
    report.detail(f"{args.model}; times in ms; medians of {args.rounds} alternating rounds")
    head = ("load", "rate", "p50", "best p50", "of", "ratio", "p95", "best p95", "of", "ratio")
    report.table([head] + rows, left=())
    report.detail()
    report.detail("saturation: " + ", ".join(f"{t} {capacity[t]:.1f}/s" for t in targets))
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
