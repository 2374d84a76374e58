#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Throughput of a core at full speed and one slowed down k times, over that of the fast one alone.

Saturating load (closed loop, 16 in flight) on models of batch 1, in this process's server without a
wire.  The best that can be had is (1 + 1/k) times the fast core.  Each measurement of the pair has
one of the fast core beside it.  For comparison, in the first round: the whole model on both cores at
full speed (no slow device), and StarPU's own policies with whole models as tasks on the same pair."""

import sys

import support

MODELS = ("resnet50", "inception_v1")
KS = (2, 4, 8)
POLICIES = ("dmdas", "lws")
LOAD = "closed:16"


def mix(ready, measured):
    """Which variants ran, in percent."""
    names, runs = [v["name"] for v in ready["variants"]], measured["runs"]
    total = sum(runs) or 1
    return ", ".join(f"{n} {100 * r / total:.0f} %" for n, r in zip(names, runs) if r)


def measure(model, args):
    """{k: [{who: measurement}, ...]} by round, and which variants ran at last."""
    path = support.light_model(model)
    rounds, mixes = {k: [] for k in KS}, {}
    pairs = {}
    with support.Compare(path, *support.FAST, "staronnx") as fast, \
            support.Compare(path, "--device", "cpu", "staronnx") as both:
        for k in KS:
            pairs[k] = support.Compare(path, *support.pair(k), "staronnx")
        for r in range(args.rounds):
            for k in KS if r % 2 == 0 else reversed(KS):
                one = {}
                turn = [("fast", fast), ("pair", pairs[k])] + [("all", both)] * (r == 0)
                for who, process in turn if r % 2 == 0 else reversed(turn):
                    one[who] = process.measure(LOAD, args.seconds, r + 1, warmup=2)
                for policy in POLICIES if r == 0 else ():  # its idle workers spin
                    with support.Compare(path, *support.pair(k), f"starpu:{policy}") as process:
                        one[policy] = process.measure(LOAD, args.seconds, r + 1, warmup=2)
                rounds[k].append(one)
                mixes[k] = mix(pairs[k].ready, one["pair"])
                support.say(f"{model}, k = {k}, round {r + 1}: "
                            + ", ".join(f"{w} {m['throughput']:.2f}/s" for w, m in one.items()))
        for process in pairs.values():
            process.close()
    return rounds, mixes


def main():
    args = support.arguments(__doc__, rounds=3, seconds=12.0)
    support.two_cores()
    results = {model: measure(model, args) for model in MODELS}
    report = support.Report("hetero", args.json)
    who = ("fast", "pair", "all", *POLICIES)
    head = ("model", "k", "ratio", "fast/s", "pair/s", "all cores/s",
            *(f"{p}/s" for p in POLICIES), "fast busy", "slow busy", "variants that ran")
    table = [head]
    for k in KS:
        shares = {}
        for model in MODELS:
            rounds, mixes = results[model]
            rows = rounds[k]
            shares[model] = [r["pair"]["throughput"] / r["fast"]["throughput"] / (1 + 1 / k)
                             for r in rows]
            failed = sum(m["lost"] + m["rejected"] for r in rows for m in r.values())
            table.append((model, str(k), f"{support.median(shares[model]):.3f}",
                          *(f"{support.median([r[w]['throughput'] for r in rows if w in r]):.2f}"
                            for w in who),
                          *(f"{100 * support.median([r['pair']['busy'][d] for r in rows]):.0f} %"
                            for d in (0, 1)),
                          mixes[k] + (f"; {failed} FAILED" if failed else "")))
        worse = min(MODELS, key=lambda m: support.median(shares[m]))
        report.rounds(f"ratio_k{k}", shares[worse], goal=(">=", 0.95),
                      note=f"throughput over {1 + 1 / k:g} times that of the fast core alone; "
                           f"{worse}, the worse of {len(MODELS)}; {support.emulated(k)}")
    report.detail(f"requests per second, medians of {args.rounds} rounds in turn; `all cores` has no "
                  "slow device, " + " and ".join(POLICIES) + " are StarPU's policies on the pair; "
                  "these in one round")
    report.table(table, left=(0, 10))
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
