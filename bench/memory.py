#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Memory of a server with VGG-19 at every width, against one plain ONNX Runtime session.

Both are proportional set sizes.  The server's is that of the whole process, after lone and
concurrent requests have used every width; the session's is what it adds to a Python process that
has loaded ONNX Runtime, after one run."""

import concurrent.futures
import re
import subprocess
import sys
import time

import numpy as np

import support

MODEL = "vgg19"


def plain(path):
    """In a process of its own: what one session adds, in bytes."""
    session = support.plain_session(support.light_model("squeezenet"), 1)  # wakes the library
    del session
    before = support.pss()
    session = support.plain_session(path, support.cores())
    name = session.get_inputs()[0].name
    session.run(None, {name: np.ones((1, 3, 224, 224), np.float32)})
    print(support.pss() - before)


def plain_process(path):
    done = subprocess.run([sys.executable, __file__, "--plain", str(path)], check=True,
                          stdout=subprocess.PIPE, text=True)
    return int(done.stdout)


def width_runs(server):
    """{cores: runs} of the server's model."""
    runs = {}
    for width, n in re.findall(r'^staronnx_width_runs_total\{[^}]*width="(\d+)"[^}]*\} (\d+)',
                               server.metrics(), re.M):
        runs[int(width)] = runs.get(int(width), 0) + int(n)
    return runs


def serve(path, settle):
    """(PSS in bytes, {cores: requests run on so many})"""
    with support.Server([path], settle=settle) as server:
        name = server.client().input_of(MODEL)
        image = {name: np.random.default_rng(1).random((1, 3, 224, 224), np.float32)}

        def some(n):
            client = server.client()
            for _ in range(n):
                client.infer(MODEL, image)
            client.close()

        before = width_runs(server)
        for k in range(5):
            many = (2 + 2 * k) * support.cores()
            some(2)
            with concurrent.futures.ThreadPoolExecutor(many) as pool:
                list(pool.map(some, [2] * many))
            runs = {w: n - before.get(w, 0) for w, n in width_runs(server).items()}
            if all(runs.values()):
                break
        time.sleep(1)
        return server.pss(), runs


def main():
    args = support.arguments(__doc__, rounds=3)
    path = support.light_model(MODEL)
    with support.Server([path]):
        support.say("prepared")  # the first start makes the prepared model
    ours, theirs = [], []
    for k in range(args.rounds):
        theirs.append(plain_process(path))
        size, runs = serve(path, settle=True)
        ours.append(size)
        support.say(f"round {k + 1}: server {ours[-1] / 2**20:.0f} MiB, plain session "
                    f"{theirs[-1] / 2**20:.0f} MiB; runs by width: {runs}")
    report = support.Report("memory", args.json)
    unused = [w for w, n in runs.items() if not n]
    used = ", ".join(f"{n} on {w}" for w, n in sorted(runs.items()))
    report.rounds("pss_ratio", support.ratios(ours, theirs), "", goal=("<=", 0.65),
                  note=f"{MODEL}, fixed batch 1; runs by cores: {used or 'unknown'}" +
                  (f"; NOT USED by any request: width {unused}" if unused else ""))
    report.rounds("server_mib", [x / 2**20 for x in ours], "MiB", note="the whole process")
    report.rounds("plain_mib", [x / 2**20 for x in theirs], "MiB",
                  note=f"what one session with {support.cores()} threads adds to its process")
    return report.print()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--plain"]:
        plain(sys.argv[2])
    else:
        sys.exit(main())
