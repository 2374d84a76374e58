#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""What a server with models costs while nobody asks for anything, in percent of one core."""

import sys
import time

import numpy as np

import support

MODELS = ("resnet50", "squeezenet", "shufflenet")


def main():
    args = support.arguments(__doc__, seconds=20.0, rounds=1)
    paths = [support.light_model(name, batch=name != "shufflenet") for name in MODELS]
    values = []
    with support.Server(paths) as server:
        client = server.client()
        for name in MODELS:  # used once, so that everything that a request starts is there
            client.infer(name, {client.input_of(name): np.ones((1, 3, 224, 224), np.float32)})
        support.say("waiting until the server has measured its models")
        settled = server.wait_settled()
        for _ in range(args.rounds):
            before, at = server.cpu_seconds(), time.monotonic()
            support.say(f"idle for {args.seconds:g} s")
            time.sleep(args.seconds)
            values.append(100 * (server.cpu_seconds() - before) / (time.monotonic() - at))
        client.close()
    report = support.Report("idle", args.json)
    report.rounds("cpu_percent", values, "% of a core", goal=("<", 1),
                  note=f"user and system time over {args.seconds:g} s; {len(MODELS)} models, one "
                       "open connection" + ("" if settled else "; the server had not settled"))
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
