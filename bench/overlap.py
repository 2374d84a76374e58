#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Share of a saturated run in which both of two unequal devices compute, from the server's trace."""

import sys

import support

MODELS = ("resnet50", "inception_v1")
KS = (2, 4, 8)


def main():
    args = support.arguments(__doc__, rounds=3, seconds=12.0)
    support.two_cores()
    shares, table = {}, [("model", "k", "both", "fast busy", "slow busy", "requests/s")]
    for model in MODELS:
        path = support.light_model(model)
        processes = {k: support.Compare(path, *support.pair(k), "staronnx") for k in KS}
        rows = {k: [] for k in KS}
        for r in range(args.rounds):
            for k in KS if r % 2 == 0 else reversed(KS):
                rows[k].append(processes[k].measure("closed:16", args.seconds, r + 1, warmup=2))
                support.say(f"{model}, k = {k}, round {r + 1}: both busy "
                            f"{100 * rows[k][-1]['all_busy']:.1f} %")
        for k in KS:
            processes[k].close()
            shares[model, k] = [m["all_busy"] for m in rows[k]]
            table.append((model, str(k), *(f"{100 * v:.1f} %" for v in (
                support.median(shares[model, k]),
                *(support.median([m["busy"][d] for m in rows[k]]) for d in (0, 1)))),
                f"{support.median([m['throughput'] for m in rows[k]]):.2f}"))
    report = support.Report("overlap", args.json)
    model, k = min(shares, key=lambda at: support.median(shares[at]))
    report.rounds("both_busy", shares[model, k], goal=(">", 0.90),
                  note=f"{model} with k = {k}, the worst of {len(shares)}; closed loop, 16 in flight; "
                       f"the slow device counts as busy while it waits: {support.emulated(k)}")
    report.table(table)
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
