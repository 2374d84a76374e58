#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Memory of a server with four variants of VGG-19, against one plain ONNX Runtime session.

The server has two unequal devices: the model is resident whole on each and cut both ways.  Both
figures are proportional set sizes: the server's that of the whole process, after lone and
concurrent requests; the session's what it adds to a Python process that has loaded ONNX Runtime,
after one run."""

import concurrent.futures
import re
import sys
import time

import memory
import numpy as np
import support

MODEL = "vgg19"
VARIANTS = 4


def variant_runs(server):
    """{name of a variant: runs} of the server's model."""
    return {name: int(n) for name, n in re.findall(
        r'^staronnx_variant_runs_total\{[^}]*variant="([^"]*)"[^}]*\} (\d+)', server.metrics(),
        re.M)}


def serve(path, k):
    """(PSS in bytes, {variant: runs})"""
    with support.Server([path], *support.pair(k), settle=True) as server:
        name = server.client().input_of(MODEL)
        image = {name: np.random.default_rng(1).random((1, 3, 224, 224), np.float32)}

        def some(n):
            client = server.client()
            for _ in range(n):
                client.infer(MODEL, image)
            client.close()

        for clients in (1, 2, 8, 16, 16, 16):
            with concurrent.futures.ThreadPoolExecutor(clients) as pool:
                list(pool.map(some, [3] * clients))
            if clients > 2 and all(variant_runs(server).values()):
                break
        time.sleep(1)
        return server.pss(), variant_runs(server)


def main():
    args = support.arguments(__doc__, rounds=3, k=4)
    support.two_cores()
    path = support.light_model(MODEL)
    with support.Server([path], *support.pair(args.k)):
        support.say("prepared")  # the first start makes the prepared model and its profile
    ours, theirs = [], []
    for r in range(args.rounds):
        theirs.append(memory.plain_process(path))
        size, runs = serve(path, args.k)
        ours.append(size)
        support.say(f"round {r + 1}: server {ours[-1] / 2**20:.0f} MiB, plain session "
                    f"{theirs[-1] / 2**20:.0f} MiB; runs: {runs}")
    report = support.Report("variants", args.json)
    unused = [v for v, n in runs.items() if not n]
    report.rounds("pss_ratio", support.ratios(ours, theirs), "", goal=("<=", 0.70),
                  note=f"{MODEL}, {len(runs)} variants resident; runs: "
                  + ", ".join(f"{v} {n}" for v, n in runs.items())
                  + (f"; NEVER RAN: {', '.join(unused)}" if unused else "")
                  + "; " + support.emulated(args.k))
    report.add("variants", len(runs), goal=(">=", VARIANTS), n=args.rounds)
    report.rounds("server_mib", [x / 2**20 for x in ours], "MiB", note="the whole process")
    report.rounds("plain_mib", [x / 2**20 for x in theirs], "MiB",
                  note=f"what one session with {support.cores()} threads adds to its process")
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
