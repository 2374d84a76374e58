# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""The part of ./run demo with unequal devices: one core, one that is made slower, and both.

The slow device is emulated: a core that computes for real and then waits until K times that have
passed.  What it shows is how work is placed and cut, not how fast some hardware is."""

import contextlib
import json
import pathlib
import subprocess

import support

MODEL = "resnet50"
K = 2
CLIENTS = 4
SECONDS = 1.0
ROUNDS = 2
FAST, SLOW = "cpu:0", f"cpu:1@{K}"
NAMES = {"fast": f"whole model on {FAST}", "slow": f"whole model on {SLOW}",
         "pair": f"StarONNX on {FAST} and {SLOW}"}
DEVICES = {"fast": [FAST], "slow": [SLOW], "pair": [FAST, SLOW]}


def options(who):
    return [o for d in DEVICES[who] for o in ("--device", d)]


def measure(path, at):
    """What each of the three carries, in rounds that alternate, and which variants ran."""
    with contextlib.ExitStack() as stack:
        processes = {who: stack.enter_context(support.Compare(
            path, "--warmup", 0.3, "--max-batch", 1, *options(who), "staronnx")) for who in NAMES}
        found = {who: [] for who in NAMES}
        for r in range(ROUNDS):
            for who in NAMES if r % 2 == 0 else reversed(NAMES):
                at(f"{sum(map(len, found.values())) + 1} of {ROUNDS * len(NAMES)}")
                found[who].append(processes[who].measure(f"closed:{CLIENTS}", SECONDS, r + 1))
        variants = [v["name"] for v in processes["pair"].ready["variants"]]
    runs = [sum(n) for n in zip(*(m["runs"] for m in found["pair"]))]
    rows = [{"name": NAMES[who], "ours": who == "pair",
             "rps": support.median([m["throughput"] for m in rounds]),
             "p50_ms": support.median([m["p50_us"] for m in rounds]) / 1e3,
             "failed": sum(m["lost"] + m["rejected"] for m in rounds),
             "spread": support.spread([m["throughput"] for m in rounds])}
            for who, rounds in found.items()]
    return {"rows": rows, "clients": CLIENTS, "k": K, "slow": SLOW,
            "runs": {v: n for v, n in zip(variants, runs) if n},
            "both": support.median([m["all_busy"] for m in found["pair"]]),
            "best": 1 + 1 / K, "gain": support.median(support.ratios(
                [m["throughput"] for m in found["pair"]],
                [m["throughput"] for m in found["fast"]]))}


def picture(path):
    """The best cut in two, run for a moment: (its Gantt picture as SVG, what it says), or (None,
    why not)."""
    with support.workspace() as home:
        svg = pathlib.Path(home) / "gantt.svg"
        done = subprocess.run(
            [support.program(), "explain", str(path), *options("pair"), "--stages", "2",
             "--measure", "--seconds", "1", "--jobs", "6", "--gantt", str(svg), "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode or not svg.exists():
            return None, done.stderr.strip()
        return svg.read_text(encoding="utf-8"), json.loads(done.stdout)


def shares(runs):
    """In words: which variants ran."""
    total = sum(runs.values()) or 1
    return ", ".join(f"{100 * n / total:.0f} % {name}" for name, n in runs.items())


def tell(data, say):
    """The table."""
    width = max(len(r["name"]) for r in data["rows"]) + 2
    say()
    say(f"{'ResNet-50 on unequal devices':<{width}}{'requests/s':>12}{'latency':>12}")
    for r in data["rows"]:
        failed = f"  {r['failed']} failed" if r["failed"] else ""
        say(f"{r['name']:<{width}}{r['rps']:>12.1f}{r['p50_ms']:>9.1f} ms{failed}")
    say(f"  EMULATED: {data['slow']} is a core that computes, then waits until {data['k']} times that "
        "have passed.")
    say(f"  {data['clients']} clients; {data['gain']:.2f} times the fast core alone, {data['best']:g} "
        f"would be the most.\n  Runs: {shares(data['runs'])}")
