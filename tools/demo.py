#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Serve real models, and measure them next to plain ONNX Runtime.

What `./run demo` does after the build: starts `staronnx serve` with three graphs of the ONNX model
zoo (with random weights), sends one request, measures two models with one client and with many,
over HTTP, in turn with ONNX Runtime alone in a process of its own; then a model on unequal devices
(one of them emulated) next to whole-model runs on each; then prints tables and writes a page.  Nothing is fetched, nothing is asked; ports are free ones of 127.0.0.1.
"""

import contextlib
import http.client
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import demo_fleet
import demo_page
import numpy as np
import support

TOP = pathlib.Path(__file__).resolve().parent.parent
PAGE = TOP / "build/demo.html"
MODELS = {"resnet50": "ResNet-50", "inception_v1": "Inception v1", "squeezenet": "SqueezeNet"}
# of what is measured: seconds with one client, with many, and to settle down before the latter
MEASURED = {"resnet50": (0.8, 1.2, 0.4), "squeezenet": (0.6, 0.8, 0.3)}
ROUNDS = 2
ENOUGH = 7  # seconds; no further round of a load that took so long
MANY = 16  # clients


def say(text=""):
    print(text, flush=True)


class Progress:
    """One line for a step; on a terminal it also tells how far the step is."""

    def __init__(self, text):
        self.text, self.begin = text, time.monotonic()
        print(f"{text} ... ", end="", flush=True)

    def at(self, how_far):
        if sys.stdout.isatty():
            print(f"\r{self.text} ... {how_far}\033[K", end="", flush=True)

    def done(self, text=""):
        again = f"\r\033[K{self.text} ... " if sys.stdout.isatty() else ""
        seconds = time.monotonic() - self.begin
        say(again + (f"{text}, {seconds:.1f} s" if text else f"{seconds:.1f} s"))


# --- plain ONNX Runtime ---------------------------------------------------------------------------

def plain_settings(cores):
    """Sessions x threads as people choose them: one session with all cores, one for each core."""
    sessions = min(cores, 16)  # each has the weights in memory once more
    settings = [(1, cores)]
    if sessions > 1:
        settings.append((sessions, cores // sessions))
    return settings


def plain_name(sessions, threads):
    s, t = "s" * (sessions != 1), "s" * (threads != 1)
    return f"ONNX Runtime, {sessions} session{s} x {threads} thread{t}"


class Plain:
    """bench/compare with plain targets: a process that measures what it is told, line by line."""

    def __init__(self, model, settings):
        self.log = tempfile.TemporaryFile("w+", prefix="staronnx-demo-")
        self.process = subprocess.Popen(
            [support.helper_program("compare"), "--warmup", "0.3", str(model),
             *[f"{s}x{t}x1" for s, t in settings]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.process.stdout.readline()  # ready: loading beside a measurement would disturb it

    def measure(self, setting, clients, seconds, seed):
        line = f"{setting[0]}x{setting[1]}x1 closed:{clients} {seconds} {seed}\n"
        try:
            self.process.stdin.write(line)
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self.log.seek(0)
            support.die(f"compare ended early:\n{self.log.read()[-2000:]}")
        m = json.loads(answer)
        return m["p50_us"], m["throughput"], m["lost"] + m["rejected"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


# --- StarONNX ---------------------------------------------------------------------------------------

def measure_ours(server, model, clients, seconds, warmup):
    series = support.perf("-u", server.url, "-m", model, "--concurrency-range",
                          f"{clients}:{clients}", "--duration", seconds, "--warmup", warmup)
    point = series["points"][0]
    failed = sum(n for kind, n in point["requests"].items() if kind != "ok")
    return point["p50_us"], point["throughput"], failed


def width_runs(server, model):
    """{number of cores: how many runs used them}, so far."""
    runs = {}
    _, _, text = request(server.metrics_port, "GET", "/metrics")
    for line in text.decode().splitlines():
        if line.startswith(f'staronnx_width_runs_total{{model="{model}"'):
            runs[int(line.split('width="')[1].split('"')[0])] = float(line.rsplit(" ", 1)[1])
    return runs


def request(port, method, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def show_request(server, path, model):
    """One request, and whether ONNX Runtime alone answers the same."""
    with support.silence():
        session = support.plain_session(path, 1)
    port = session.get_inputs()[0]
    shape = [d if isinstance(d, int) else 1 for d in port.shape]
    picture = np.random.default_rng(7).random(shape, np.float32)
    client = server.client()
    client.infer(model, {port.name: picture})
    begin = time.monotonic()
    ours = client.infer(model, {port.name: picture})
    ms = 1e3 * (time.monotonic() - begin)
    client.close()
    theirs = dict(zip([o.name for o in session.get_outputs()], session.run(None, {port.name: picture})))
    name = next(iter(ours))
    scores = ours[name].reshape(-1)
    off = float(np.max(np.abs(scores - theirs[name].reshape(-1))) / np.max(np.abs(scores)))
    same = "to the last bit" if off == 0 else f"within {off:.0e}"
    say(f"one request to {model}: class {int(scores.argmax())} of {scores.size} with probability "
        f"{scores.max():.3f}, in {ms:.0f} ms;\n  ONNX Runtime alone answers the same {same} "
        "(weights are random, so the class means nothing)")


# --- measuring --------------------------------------------------------------------------------------

def measure(server, models, cores):
    """{model: {(target, clients): [(p50 in us, requests/s, failed), ...]}} and widths used."""
    settings = plain_settings(cores)
    results, widths = {}, {}
    for model, (low, high, settle) in MEASURED.items():
        results[model], widths[model] = {}, {}
        step = Progress(f"measuring {MODELS[model]}")
        left = total = ROUNDS * 2 * (1 + len(settings))
        with Plain(models[model], settings) as plain:
            for clients, seconds in ((1, low), (MANY, high)):
                begin = time.monotonic()
                for n in range(ROUNDS):
                    if time.monotonic() - begin > ENOUGH:
                        break
                    # in turn, so that a noisy moment hurts all of them
                    targets = [None, *settings]
                    for target in targets if n % 2 == 0 else reversed(targets):
                        step.at(f"{total - left} of {total}")
                        left -= 1
                        if target is None:
                            before = width_runs(server, model)
                            one = measure_ours(server, model, clients, seconds, settle)
                            after = width_runs(server, model)
                            used = widths[model].setdefault(clients, {})
                            for w in after:
                                used[w] = used.get(w, 0) + after[w] - before.get(w, 0)
                        else:
                            one = plain.measure(target, clients, seconds, n + 1)
                        results[model].setdefault((target, clients), []).append(one)
        step.done()
    return results, widths


def middle(rounds, what):
    return support.median([r[what] for r in rounds])


def usual_width(used):
    """The width of most runs and its share in percent."""
    total = sum(used.values())
    width = max(used, key=used.get)
    return (width, round(100 * used[width] / total)) if total else (0, 0)


def summary(results, widths, cores, busy):
    """What table and page show."""
    rows = {}
    for model in results:
        rows[model] = []
        for target in [None, *plain_settings(cores)]:
            one, many = results[model][target, 1], results[model][target, MANY]
            rows[model].append({
                "name": "StarONNX over HTTP" if target is None else plain_name(*target),
                "ours": target is None,
                "p50_ms": middle(one, 0) / 1e3, "one_rps": middle(one, 1),
                "many_p50_ms": middle(many, 0) / 1e3, "many_rps": middle(many, 1),
                "failed": sum(r[2] for r in one + many),
                "rounds": min(len(one), len(many)),
                "spread": max(support.spread([r[0] for r in one]),
                              support.spread([r[1] for r in many]))})
    used = {m: {c: usual_width(widths[m][c]) for c in widths[m]} for m in widths}
    noise = max(r["spread"] for m in rows for r in rows[m])
    rounds = min(r["rounds"] for m in rows for r in rows[m])
    return {"rows": rows, "widths": used, "noise": noise, "many": MANY, "rounds": rounds,
            "busy": busy, "titles": MODELS}


def print_table(data):
    width = max(len(r["name"]) for rows in data["rows"].values() for r in rows) + 2
    for model, rows in data["rows"].items():
        say()
        say(f"{MODELS[model]:<{width}}{'one client':>12}{f'{MANY} clients':>14}{f'{MANY} clients':>14}")
        say(f"{'':<{width}}{'latency':>12}{'latency':>14}{'requests/s':>14}")
        for r in rows:
            failed = f"  {r['failed']} failed" if r["failed"] else ""
            say(f"{r['name']:<{width}}{r['p50_ms']:>9.1f} ms{r['many_p50_ms']:>11.1f} ms"
                f"{r['many_rps']:>14.1f}{failed}")
        parts = []
        for clients, (cores, share) in data["widths"][model].items():
            who = "one client" if clients == 1 else f"{clients} clients"
            parts.append(f"with {who} {share} % of runs on {cores} core" + "s" * (cores != 1))
        say("  StarONNX, one deployment throughout: " + ", ".join(parts))
    say()
    say("Median latencies; closed loop, one sample in a request. " + demo_page.doubt(data))
    say("StarONNX is measured through HTTP with its client on the same cores; ONNX Runtime is called "
        "in its own process.")


def unequal(path):
    """What a fast core, a slow one and both carry; and how the best cut in two runs."""
    step = Progress("measuring ResNet-50 on unequal devices")
    fleet = demo_fleet.measure(path, step.at)
    step.done()
    step = Progress("cutting it in two and running the pipeline")
    fleet["gantt"], fleet["cut"] = demo_fleet.picture(path)
    step.done("" if fleet["gantt"] else f"no picture: {fleet['cut']}")
    return fleet


def busy_share(seconds=0.5):
    """How much of the machine's CPU time is used by whatever runs now."""
    def times():
        with open("/proc/stat", encoding="utf-8") as f:
            t = [int(x) for x in f.readline().split()[1:9]]
        return sum(t), t[3] + t[4]  # all; idle and waiting for disks
    all_before, idle_before = times()
    time.sleep(seconds)
    all_after, idle_after = times()
    return 1 - (idle_after - idle_before) / max(1, all_after - all_before)


def main():
    if len(sys.argv) > 1:
        print(__doc__ if sys.argv[1] in ("-h", "--help") else "usage: ./run demo",
              file=sys.stdout if sys.argv[1] in ("-h", "--help") else sys.stderr)
        return 0 if sys.argv[1] in ("-h", "--help") else 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begin = time.monotonic()
    machine = support.machine()
    cores = machine["cores"]
    say(f"StarONNX demo on {machine['cpu']}, {cores} cores, {machine['os']}, "
        f"ONNX Runtime {machine['onnxruntime']}")
    busy = busy_share() > 0.25  # others: we have not begun

    step = Progress("preparing models (zoo graphs, random weights)")
    with contextlib.redirect_stderr(io.StringIO()):  # it names each one that it makes
        models = {name: support.light_model(name, batch=True) for name in MODELS}
    step.done()

    step = Progress("starting staronnx serve")
    with support.Server(list(models.values())) as server:
        step.done(f"{len(models)} models ready at http://{server.url}")
        step = Progress("waiting until it has measured its models in idle time")
        settled = server.wait_settled(20, quiet=1)
        step.done("" if settled else "still at it, going on")
        show_request(server, models["resnet50"], "resnet50")
        results, widths = measure(server, models, cores)
        step = Progress("stopping the server")
        status = server.stop()
        step.done(f"exit status {status}")
    data = summary(results, widths, cores, busy)
    data["fleet"] = unequal(models[demo_fleet.MODEL]) if cores > 1 else None
    data["machine"], data["cores"] = machine, cores
    data["when"] = time.strftime("%Y-%m-%d %H:%M %Z")
    print_table(data)
    if data["fleet"]:
        demo_fleet.tell(data["fleet"], say)
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(demo_page.render(data), encoding="utf-8")
    resnet = os.path.relpath(models["resnet50"], os.getcwd())
    if resnet.startswith("../"):
        resnet = str(models["resnet50"])
    say()
    say(f"Done in {time.monotonic() - begin:.0f} s. Next, try:")
    say(f"  ./run serve {resnet}")
    say("  curl -s localhost:8000/v2/models/resnet50        # while it serves")
    say("  ./run perf -m resnet50 --concurrency-range 1:8   # and put load on it")
    say(f"  ./run inspect {resnet}")
    say(f"The report, with pictures: {PAGE}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ndemo: interrupted, everything is stopped", file=sys.stderr)
        sys.exit(130)
