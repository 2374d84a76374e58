#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""What HTTP costs: ResNet-50 against a bare Run loop, and requests per second of a tiny model."""

import subprocess
import sys
import time

import numpy as np

import support

MODEL = "resnet50"


class Bare:
    """A loop around Run in a process of its own, which sleeps unless it is asked."""

    def __init__(self, path, threads):
        self.process = subprocess.Popen([sys.executable, __file__, "--bare", str(path),
                                         str(threads)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def p50_us(self, seconds):
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def bare(path, threads):
    session = support.plain_session(path, threads)
    image = {session.get_inputs()[0].name:
             np.random.default_rng(1).random((1, 3, 224, 224), np.float32)}
    for line in sys.stdin:
        times, end = [], time.perf_counter() + float(line)
        while not times or times[-1][1] < end:
            at = time.perf_counter()
            session.run(None, image)
            times.append((at, time.perf_counter()))
        print(1e6 * support.median([b - a for a, b in times]), flush=True)


def resnet50(args, report):
    """Short rounds of one request in flight over HTTP and of a bare loop, in turn."""
    path = support.light_model(MODEL, batch=True)
    n = support.cores()
    ours, theirs = [], []
    with support.Server([path], settle=True) as server:
        loop = Bare(path, n)

        def over_http():
            series = support.perf("-m", MODEL, "-u", server.url, "--duration", args.seconds,
                                  "--warmup", 0.5)
            return series["points"][0]["p50_us"]

        over_http(), loop.p50_us(0.5)
        for k in range(args.rounds):
            turns = [(ours, over_http), (theirs, lambda: loop.p50_us(args.seconds))]
            for values, measure in turns if k % 2 else reversed(turns):
                values.append(measure())
            support.say(f"round {k + 1}: HTTP {ours[-1]:.0f} us, bare loop {theirs[-1]:.0f} us")
        loop.close()
    report.rounds("resnet50_ratio", support.ratios(ours, theirs), "", goal=("<=", 1.05),
                  note=f"p50, one request in flight, binary tensors on loopback, against Run "
                       f"with {n} threads; perf's p50 is the upper end of a bucket 1.6 % wide")
    report.rounds("resnet50_p50_us", ours, "us", note="over HTTP")
    report.rounds("resnet50_bare_p50_us", theirs, "us", note="bare loop")


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
            values = [rate(best, args.seconds)[0] for _ in range(5)]
    report.rounds("small_rps", values, "1/s", goal=(">=", 30000),
                  note=f"Add on [1, 4] floats, {best} connections (the best of "
                       f"{', '.join(map(str, tried))}), client on the same {support.cores()} cores")


def main():
    args = support.arguments(__doc__, rounds=9, seconds=3.0, only="")
    report = support.Report("http", args.json)
    if args.only in ("", "resnet50"):
        resnet50(args, report)
    if args.only in ("", "small"):
        small(args, report)
    return report.print()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        bare(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(main())
