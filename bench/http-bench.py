#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""What HTTP costs: ResNet-50 against a bare Run loop, and requests per second of a tiny model."""

import sys

import support

MODEL = "resnet50"


def resnet50(args, report):
    """Rounds of one request in flight over HTTP, and of a bare loop, in turn."""
    path = support.light_model(MODEL, batch=True)
    n = support.cores()
    ours, theirs = [], []
    for k in range(args.rounds):
        # a new server in each round: while it is there, it sleeps when the bare loop runs
        with support.Server([path], settle=True) as server:
            over, bare = [], []
            for _ in range(2):
                over.append(http_p50(server, args.seconds))
                bare.append(bare_p50(path, n, args.seconds))
        ours.append(support.median(over))
        theirs.append(support.median(bare))
        support.say(f"round {k + 1}: HTTP {ours[-1]:.0f} us, bare loop {theirs[-1]:.0f} us")
    report.rounds("resnet50_ratio", support.ratios(ours, theirs), "", goal=("<=", 1.05),
                  note=f"p50, one request in flight, binary tensors on loopback, against Run "
                       f"with {n} threads")
    report.rounds("resnet50_p50_us", ours, "us", note="over HTTP")
    report.rounds("resnet50_bare_p50_us", theirs, "us", note="bare loop")


def http_p50(server, seconds):
    series = support.perf("-m", MODEL, "-u", server.url, "--duration", seconds, "--warmup", 1)
    return series["points"][0]["p50_us"]


def bare_p50(path, threads, seconds):
    lines = support.compare(path, "--load", "closed:1", "--rounds", 1, "--seconds", seconds,
                            "--warmup", 1, f"bare:{threads}")
    return lines[0]["p50_us"]


def small(args, report):
    with support.workspace() as work:
        config = ('name: "add"\nbackend: "onnxruntime"\nmax_batch_size: 256\n'
                  "dynamic_batching { }\n")
        model = support.add_model(work)
        store = support.repository(work / "models", {"add": (model, config)})
        with support.Server(store, settle=True, env={"STARONNX_CACHE": str(work)}) as server:
            def rate(connections, seconds):
                series = support.perf("-m", "add", "-u", server.url, "--concurrency-range",
                                      connections, "--duration", seconds, "--warmup", 0.5)
                point = series["points"][0]
                failed = sum(n for kind, n in point["requests"].items() if kind != "ok")
                if failed:
                    support.say(f"{failed} requests failed: {series['messages']}")
                return point["throughput"], point["p99_us"]

            tried = {}
            for connections in (16, 32, 64, 128, 256):
                tried[connections], p99 = rate(connections, 2)
                support.say(f"{connections} connections: {tried[connections]:.0f}/s, p99 "
                            f"{p99:.0f} us")
            best = max(tried, key=tried.get)
            values = [rate(best, args.seconds)[0] for _ in range(args.rounds)]
    report.rounds("small_rps", values, "1/s", goal=(">=", 30000),
                  note=f"Add on [1, 4] floats, {best} connections (the best of "
                       f"{', '.join(map(str, tried))}), client on the same {support.cores()} cores")


def main():
    args = support.arguments(__doc__, rounds=5, seconds=4.0, only="")
    report = support.Report("http", args.json)
    if args.only in ("", "resnet50"):
        resnet50(args, report)
    if args.only in ("", "small"):
        small(args, report)
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
