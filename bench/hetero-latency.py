#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""The worst latencies with a slow second device: p99 at 0.9 of the throughput, over the fast core's.

First the saturation throughput of the fast core alone and of the pair; then Poisson arrivals at
0.9 of it, the pair at its own, the fast core at its own: the same sequence of gaps, scaled, for as
many requests.  Greedy is the same pair where any idle device takes the next request.  For
comparison at the pair's rate: both cores at full speed, and StarPU's own policies."""

import sys

import support

MODELS = ("resnet50", "inception_v1")
POLICIES = ("dmdas", "lws")
LOAD = 0.9


def measure(model, args):
    path, k = support.light_model(model), args.k
    found = {w: [] for w in ("fast", "pair", "greedy", "all", *POLICIES)}
    with support.Compare(path, *support.FAST, "staronnx") as fast, \
            support.Compare(path, *support.pair(k), "staronnx") as pair, \
            support.Compare(path, *support.pair(k), "--greedy", "staronnx") as greedy, \
            support.Compare(path, "--device", "cpu", "staronnx") as both:
        top = {"fast": [], "pair": []}
        for r in range(args.rounds):
            turn = [("fast", fast), ("pair", pair)]
            for who, process in turn if r % 2 == 0 else reversed(turn):
                top[who].append(process.measure("closed:16", args.seconds, r + 1)["throughput"])
        rate = {who: LOAD * support.median(values) for who, values in top.items()}
        support.say(f"{model}: saturated at {rate['fast'] / LOAD:.2f}/s and "
                    f"{rate['pair'] / LOAD:.2f}/s")

        def at_rate(process, who, r):
            per_s = rate["fast" if who == "fast" else "pair"]
            m = process.poisson(per_s, args.samples, 10 + r)
            found[who].append(m)
            support.say(f"  round {r + 1}, {who}: p50 {m['p50_us'] / 1e3:.1f} ms, p99 "
                        f"{m['p99_us'] / 1e3:.1f} ms of {m['n']}")

        for r in range(args.rounds):
            turn = [("fast", fast), ("pair", pair), ("greedy", greedy), ("all", both)]
            for who, process in turn if r % 2 == 0 else reversed(turn):
                at_rate(process, who, r)
        for policy in POLICIES:  # its idle workers spin: only while it is measured
            with support.Compare(path, *support.pair(k), f"starpu:{policy}") as process:
                at_rate(process, policy, 0)
    return rate, found


def main():
    args = support.arguments(__doc__, k=4.0, rounds=3, seconds=8.0, samples=500)
    args.k = int(args.k) if args.k.is_integer() else args.k
    support.two_cores()
    results = {model: measure(model, args) for model in MODELS}

    def over_fast(model, who):
        rows = results[model][1]
        return [a["p99_us"] / b["p99_us"] for a, b in zip(rows[who], rows["fast"])]

    report = support.Report("hetero-latency", args.json)
    worse = max(MODELS, key=lambda m: support.median(over_fast(m, "pair")))
    lost = sum(m["lost"] + m["rejected"] for model in MODELS for rows in results[model][1].values()
               for m in rows)
    note = (f"k = {args.k}; Poisson at {LOAD} of what each can carry, {args.samples} requests; "
            f"{worse}, the worse of {len(MODELS)}; {support.emulated(args.k)}"
            + (f"; {lost} LOST OR REFUSED" if lost else ""))
    ours = report.rounds("p99_ratio", over_fast(worse, "pair"), goal=("<=", 1.5), note=note)
    report.rounds("greedy_p99_ratio", over_fast(worse, "greedy"), goal=(">", ours.value),
                  note="any idle device takes the next request; above p99_ratio is what placing "
                       f"requests gains; {worse}, k = {args.k}, emulated as well")
    head = ("model", "who", "rate/s", "p50 ms", "p95 ms", "p99 ms", "p99 over fast", "n")
    table = [head]
    for model in MODELS:
        rate, found = results[model]
        for who, rows in found.items():
            def ms(key):
                return f"{support.median([m[key] for m in rows]) / 1e3:.1f}"
            table.append((model, who, f"{rate['fast' if who == 'fast' else 'pair']:.2f}",
                          ms("p50_us"), ms("p95_us"), ms("p99_us"),
                          f"{support.median(over_fast(model, who)):.3f}",
                          str(sum(m["n"] for m in rows))))
    report.detail("all: both cores at full speed, no slow device; " + " and ".join(POLICIES)
                  + ": StarPU's policies on the pair, one round")
    report.table(table, left=(0, 1))
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
