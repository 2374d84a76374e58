#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Nine model-zoo graphs through the server, bit by bit the same as plain ONNX Runtime.

The graphs have seeded random weights, so that outputs depend on inputs.  On one core, and on all
cores, every output is compared with that of a plain session with as many threads."""

import sys

import numpy as np

import support


def inputs_of(session, n):
    """`n` seeded inputs for a model, as {name: array}."""
    rng = np.random.default_rng(7)
    made = []
    for _ in range(n):
        made.append({i.name: rng.random([d if isinstance(d, int) else 1 for d in i.shape],
                                        dtype=np.float32) for i in session.get_inputs()})
    return made


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def main():
    args = support.arguments(__doc__, inputs=4)
    paths = {name: support.light_model(name) for name in support.LIGHT}
    ours, wrong = {}, {}
    widths = sorted({1, support.cores()})
    expected = {}
    for threads in widths:
        for name, path in paths.items():
            support.say(f"plain ONNX Runtime, {threads} threads: {name}")
            session = support.plain_session(path, threads)
            expected[threads, name] = [(i, session.run(None, i)) for i in inputs_of(session, args.inputs)]
            del session
    for threads in widths:
        support.say(f"server on {threads} cores")
        device = ["--device", "cpu:0"] if threads == 1 else []
        with support.Server(paths.values(), *device, settle=True) as server:
            client = server.client()
            for name in paths:
                worst = 0.0
                for given, outputs in expected[threads, name]:
                    got = list(client.infer(name, given).values())
                    for a, b in zip(got, outputs, strict=True):
                        if not same(a, b):
                            worst = max(worst, float(np.max(np.abs(a.astype(float) - b)) /
                                                     np.max(np.abs(b))) if a.shape == b.shape
                                        else np.inf)
                            wrong.setdefault(name, []).append(threads)
                    ours.setdefault(name, []).append(got[0])
                support.say(f"  {name}: " + ("identical" if threads not in wrong.get(name, [])
                                            else f"differs by {worst:.2g} of the largest value"))
                if threads in wrong.get(name, []):
                    ours.setdefault("difference", {})[name, threads] = worst
            client.close()
    difference = ours.pop("difference", {})
    constant = [name for name, outputs in ours.items()
                if any(np.array_equal(outputs[0], o) for o in outputs[1:args.inputs])]
    good = [name for name in paths if name not in wrong and name not in constant]
    report = support.Report("zoo", args.json)
    notes = [f"{n} on {t} cores: differs by {d:.2g} of the largest value"
             for (n, t), d in difference.items()]
    notes += [f"{n}: the output does not depend on the input" for n in constant]
    report.add("identical", len(good), "models", n=len(paths), goal=("==", len(paths)),
               note="; ".join(notes) or
               f"{args.inputs} inputs each, on {' and '.join(map(str, widths))} cores")
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
