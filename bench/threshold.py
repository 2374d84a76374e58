#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Congestion threshold of a fast and a slow device over that of the fast one, same objective.

The threshold is the highest Poisson rate at which at most 1 % of requests are late, refused or
lost; late is beyond the objective, five times what a lone run takes on one core.  The searches of
all devices take turns, with the same sequence of gaps, scaled to each rate."""

import math
import sys

import support

MODELS = ("resnet50", "inception_v1")
KS = (2, 4)
BAD = 0.01


class Search:
    """The highest rate that holds, between two that differ by the precision at most."""

    def __init__(self, process, capacity, precision):
        self.process, self.precision = process, precision
        self.low, self.high = 0.05 * capacity, None  # nothing has failed yet
        self.next, self.held = 0.75 * capacity, False

    def done(self):
        return self.high and self.high / self.low <= 1 + self.precision

    def step(self, samples, seed):
        rate = self.next
        m = self.process.poisson(rate, samples, seed)
        offered = m["n"] + m["rejected"] + m["lost"]
        bad = 1 - m["within"] / offered if offered else 1.0
        if bad <= BAD:
            self.low, self.held = rate, True
        else:
            self.high = rate
        if not self.high:
            self.next = 1.2 * self.low
        elif not self.held:  # in steps: what is far below takes long to measure
            self.next = max(0.85 * self.high, self.low)
        else:
            self.next = math.sqrt(self.low * self.high)
        return rate, bad


def search(model, args):
    """[{who: threshold}, ...] by round, and the objective in ms."""
    path = support.light_model(model)
    objective = round(args.factor * support.lone_ms(path), 1)
    rounds = []
    processes = {}
    try:
        for who, devices in (("fast", support.FAST), *((k, support.pair(k)) for k in KS)):
            processes[who] = support.Compare(path, *devices, "--objective", objective, "staronnx")
        capacity = {who: p.measure("closed:4", args.seconds, 1)["throughput"]
                    for who, p in processes.items()}
        for r in range(args.rounds):
            searches = {w: Search(p, capacity[w], args.precision / 100)
                        for w, p in processes.items()}
            while not all(s.done() for s in searches.values()):
                for who, s in searches.items():
                    if not s.done():
                        rate, bad = s.step(args.samples, 20 + r)
                        support.say(f"{model}, {who}: {rate:.2f}/s, {100 * bad:.1f} % bad")
            for who, s in searches.items():
                if not s.held:
                    support.die(f"no rate holds {objective} ms on {who}: give a larger --factor")
            rounds.append({w: s.low for w, s in searches.items()})
    finally:
        for p in processes.values():
            p.close()
    return rounds, objective


def main():
    args = support.arguments(__doc__, rounds=1, seconds=8.0, samples=300, factor=5.0, precision=3.0)
    support.two_cores()
    results = {model: search(model, args) for model in MODELS}
    report = support.Report("threshold", args.json)
    table = [("model", "objective ms", "fast/s", *(f"k = {k}/s" for k in KS),
              *(f"ratio k = {k}" for k in KS))]
    shares = {m: {k: [r[k] / r["fast"] / (1 + 1 / k) for r in results[m][0]] for k in KS}
              for m in MODELS}
    for m in MODELS:
        rounds, objective = results[m]
        table.append((m, f"{objective:g}",
                      *(f"{support.median([r[w] for r in rounds]):.2f}" for w in ("fast", *KS)),
                      *(f"{support.median(shares[m][k]):.3f}" for k in KS)))
    for k in KS:
        worse = min(MODELS, key=lambda m: support.median(shares[m][k]))
        report.rounds(f"ratio_k{k}", shares[worse][k], goal=(">=", 0.9),
                      note=f"threshold over {1 + 1 / k:g} times that of the fast core; {worse}, the "
                           f"worse of {len(MODELS)}; at most {100 * BAD:g} % of {args.samples} "
                           f"requests late, refused or lost; rates to {args.precision:g} %; "
                           + support.emulated(k))
    report.table(table)
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
