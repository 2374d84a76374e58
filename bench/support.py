# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: servers, a client, models, plain ONNX Runtime, reports.

A benchmark is an executable `bench/NAME.py`.  It makes a Report, adds a Check for each figure and
ends with `report.print()`.  Progress goes to stderr, so that --json leaves one object on stdout.
"""

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

import numpy as np

TOP = pathlib.Path(__file__).resolve().parent.parent
DATA = pathlib.Path("/usr/share/libonnx-testdata/data")
LIGHT = ("bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet",
         "squeezenet", "vgg19", "zfnet512")
GENERATED = ("unet", "bert_base", "mobilenet_v2", "lstm2")


def die(text):
    sys.exit(f"{pathlib.Path(sys.argv[0]).stem}: {text}")


def say(text):
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def program():
    path = pathlib.Path(os.environ.get("STARONNX") or TOP / "build/staronnx")
    if not path.exists():
        die(f"there is no program {path}: run ./run build")
    return str(path)


def helper_program(name):
    """A program of bench/meson.build, next to `staronnx` in the build directory."""
    path = pathlib.Path(program()).parent / "bench" / name
    if not path.exists():
        die(f"there is no program {path}: run ./run build")
    # it is looked for beside the running program, which is not where these are
    os.environ.setdefault("STARONNX_METIS", str(path.parent.parent / "staronnx-metis"))
    return str(path)


def cache_dir():
    for variable, below in (("STARONNX_CACHE", ""), ("XDG_CACHE_HOME", "staronnx"),
                            ("HOME", ".cache/staronnx")):
        if os.environ.get(variable):
            return pathlib.Path(os.environ[variable]) / below
    return pathlib.Path(tempfile.gettempdir()) / "staronnx"


def cores():
    return len(os.sched_getaffinity(0))


# --- the machine --------------------------------------------------------------------------------

def cpu_model():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            for line in f:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def machine():
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        system = platform.system()
    try:
        runtime = ort().__version__
    except ImportError:
        runtime = "unknown"
    return {"cpu": cpu_model(), "cores": cores(), "memory_gib": round(memory, 1), "os": system,
            "kernel": platform.release(), "onnxruntime": runtime}


# --- figures ------------------------------------------------------------------------------------

def median(values):
    return statistics.median(values)


def spread(values):
    """(max - min) / median of rounds: 0.03 says that they lie within 3 % of each other."""
    middle = statistics.median(values)
    return (max(values) - min(values)) / abs(middle) if middle else max(values) - min(values)


def ratios(ours, theirs):
    """Of rounds that alternated: what was slow in both cancels."""
    return [a / b for a, b in zip(ours, theirs)]


class Check:
    """One figure.  `goal` is ("<=", 1.05), (">=", 30000), ("==", 9) or None."""

    def __init__(self, name, value, unit="", spread_=None, n=1, note="", goal=None):
        self.name, self.value, self.unit = name, value, unit
        self.spread, self.n, self.note, self.goal = spread_, n, note, goal

    def verdict(self):
        if self.goal is None:
            return ""
        if self.value is None:
            return "short"
        how, bound = self.goal
        held = {"<=": self.value <= bound, ">=": self.value >= bound, "<": self.value < bound,
                ">": self.value > bound, "==": self.value == bound}[how]
        return "ok" if held else "short"

    def data(self):
        return {"name": self.name, "value": self.value, "unit": self.unit, "spread": self.spread,
                "n": self.n, "note": self.note}


def number(value):
    if value is None:
        return "-"
    if isinstance(value, int) or float(value).is_integer() and abs(value) >= 1000:
        return str(int(value))
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


class Report:
    def __init__(self, name, as_json):
        self.name, self.as_json, self.checks, self.lines = name, as_json, [], []

    def add(self, *args, **kwargs):
        self.checks.append(Check(*args, **kwargs))
        return self.checks[-1]

    def rounds(self, name, values, unit="", note="", goal=None):
        """The median of several rounds."""
        wide = spread(values) if len(values) > 1 else None
        return self.add(name, median(values), unit, wide, len(values), note, goal)

    def detail(self, text=""):
        """A line below the table; not in the JSON."""
        self.lines.append(text)

    def table(self, rows, left=(0,)):
        """Rows of texts below the table, the head first; columns in `left` begin alike."""
        width = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
        for r in rows:
            self.detail("  ".join(c.ljust(w) if i in left else c.rjust(w)
                                  for i, (c, w) in enumerate(zip(r, width))).rstrip())

    def print(self):
        """Prints the result; the exit status says whether every goal was reached."""
        short = any(c.verdict() == "short" for c in self.checks)
        if self.as_json:
            print(json.dumps({"name": self.name, "machine": machine(),
                              "checks": [c.data() for c in self.checks]}))
            return 0
        m = machine()
        print(f"{self.name} on {m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB, {m['os']}, "
              f"ONNX Runtime {m['onnxruntime']}\n")
        rows = [("check", "value", "unit", "to reach", "", "spread", "n")]
        for c in self.checks:
            goal = f"{c.goal[0]} {number(c.goal[1])}" if c.goal else ""
            wide = "" if c.spread is None else f"{100 * c.spread:.1f} %"
            rows.append((c.name, number(c.value), c.unit, goal, c.verdict(), wide, str(c.n)))
        width = [max(len(r[i]) for r in rows) for i in range(7)]
        for r in rows:
            cells = [r[i].rjust(width[i]) if i in (1, 5, 6) else r[i].ljust(width[i])
                     for i in range(7)]
            print("  ".join(cells).rstrip())
        notes = [c for c in self.checks if c.note]
        if notes:
            print()
        for c in notes:
            print(f"{c.name}: {c.note}")
        if self.lines:
            print()
        for line in self.lines:
            print(line)
        return 1 if short else 0


def arguments(doc, **defaults):
    """The command line: --json and, for each default, an option of its name and type."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    for name, default in defaults.items():
        parser.add_argument("--" + name.replace("_", "-"), default=default, type=type(default),
                            help=f"default: {default}")
    return parser.parse_args()


# --- models -------------------------------------------------------------------------------------

def made_once(name, key, command):
    """The path NAME.onnx in the cache, made by `command` with a path at its end, if need be.

    Large weights lie beside the file: they come to their place first."""
    home = cache_dir() / "models" / hashlib.sha256(key).hexdigest()[:16]
    path = home / f"{name}.onnx"
    if path.exists():
        return path
    say(f"making {name} with random weights")
    part = home.with_name(f"{home.name}.{os.getpid()}.part")
    part.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run([sys.executable, *map(str, command), str(part / path.name)], check=True)
        home.mkdir(exist_ok=True)
        for made in sorted(part.iterdir(), key=lambda p: p.name == path.name):
            made.rename(home / made.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return path


def light_model(name, batch=False, seed=1):
    """The path of a zoo graph with random weights; made once, kept in the cache directory."""
    script = TOP / "tools/fill-weights.py"
    source = DATA / "light" / f"light_{name}.onnx"
    if not source.exists():
        die(f"there is no {source}: install libonnx-testdata")
    return made_once(name, script.read_bytes() + source.read_bytes() + f"{seed} {batch}".encode(),
                     [script, *["--batch"] * batch, "--seed", seed, source])


def generated_model(name, batch=False, seed=1):
    """The path of a model of tools/make-models.py; made once, kept in the cache directory."""
    script = TOP / "tools/make-models.py"
    return made_once(name, script.read_bytes() + f"{name} {seed} {batch}".encode(),
                     [script, *["--batch"] * batch, "--seed", seed, name])


def model(name, batch=False):
    """Either of them, by its name."""
    return (light_model if name in LIGHT else generated_model)(name, batch)


def add_model(directory):
    """A tiny model: c = a + b on [batch, 4] floats."""
    from onnx import TensorProto, helper, save
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 4]) for n in "abc"]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "add", ports[:2],
                              ports[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    path = pathlib.Path(directory) / "add.onnx"
    save(model, str(path))
    return path


def repository(directory, models):
    """Make a model repository: {name: (path of the model, text of config.pbtxt or None)}.

    A prepared model is known by the path it was opened by: for large models name a `directory`
    that stays (below cache_dir()), or each run leaves another copy in the cache."""
    directory = pathlib.Path(directory)
    for name, (path, config) in models.items():
        version = directory / name / "1"
        version.mkdir(parents=True, exist_ok=True)
        link = version / "model.onnx"
        link.unlink(missing_ok=True)
        os.symlink(path, link)
        if config is not None:
            (version.parent / "config.pbtxt").write_text(config, encoding="utf-8")
    return directory


# --- plain ONNX Runtime -------------------------------------------------------------------------

@contextlib.contextmanager
def silence(fd=2):
    """Nothing that is written to a file descriptor inside is seen, libraries' output included."""
    sys.stderr.flush()
    saved, sink = os.dup(fd), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, fd)
    try:
        yield
    finally:
        os.dup2(saved, fd)
        os.close(saved)
        os.close(sink)


def ort():
    """onnxruntime, without the complaints of Debian's build when it is loaded or first used."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    if "onnxruntime" not in sys.modules:
        with silence():
            import onnxruntime
            onnxruntime.set_default_logger_severity(4)
    return sys.modules["onnxruntime"]


def plain_session(path, threads):
    """A session as ONNX Runtime makes it by default, with `threads` threads."""
    options = ort().SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    with silence():
        return ort().InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


# --- the server ---------------------------------------------------------------------------------

def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


class Server:
    """A `staronnx serve` process; ready when entered, stopped when left.

    `models`: a repository, or a list of .onnx files.  `env`: variables on top of ours.
    `until`: "live" starts with models that could not be loaded, too."""

    def __init__(self, models, *options, deadline=120, env=None, settle=False, pause=0.002,
                 until="ready"):
        self.deadline, self.settle, self.pause, self.until = deadline, settle, pause, until
        self.port, self.metrics_port = free_ports(2)
        self.log = tempfile.NamedTemporaryFile("w+", prefix="staronnx-bench-", suffix=".log")
        served = ["--models", str(models)] if isinstance(models, (str, pathlib.Path)) \
            else [str(m) for m in models]
        self.command = [program(), "serve", *served, "--http-port", str(self.port),
                        "--metrics-port", str(self.metrics_port), *map(str, options)]
        self.env = {**os.environ, **(env or {})}
        self.process = None

    def start(self):
        self.started = time.perf_counter()
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, env=self.env)
        self.wait_ready()
        return self

    def wait_ready(self):
        """Polls until the server is ready; `ready_s` is then how long that took."""
        while True:
            if self.process.poll() is not None:
                die(f"the server ended with status {self.process.returncode}:\n{self.tail()}")
            try:
                c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                c.request("GET", f"/v2/health/{self.until}")
                ready = c.getresponse().status == 200
                c.close()
            except (OSError, http.client.HTTPException):
                ready = False
            self.ready_s = time.perf_counter() - self.started
            if ready:
                return
            if self.ready_s > self.deadline:
                text = self.tail()
                self.stop()
                die(f"the server was not ready after {self.deadline} s:\n{text}")
            time.sleep(self.pause)

    def wait_settled(self, deadline=300, quiet=3):
        """Waits until it has used no CPU time to speak of (2 % of a core) for some seconds."""
        end, since = time.monotonic() + deadline, time.monotonic()
        last = self.cpu_seconds()
        while time.monotonic() - since < quiet:
            if time.monotonic() > end:
                say(f"the server still computes after {deadline} s without a request")
                return False
            time.sleep(0.5)
            now = self.cpu_seconds()
            if now - last > 0.5 * 0.02:
                since = time.monotonic()
            last = now
        return True

    def stop(self, grace=40):
        """SIGTERM, as an operator would; returns the exit status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(grace)
            except subprocess.TimeoutExpired:
                say(f"the server did not stop within {grace} s of SIGTERM")
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def __enter__(self):
        self.start()
        if self.settle:
            self.wait_settled()
        return self

    def __exit__(self, *_):
        self.stop()

    def tail(self, lines=20):
        with open(self.log.name, encoding="utf-8", errors="replace") as f:
            return "".join(f.readlines()[-lines:])

    def alive(self):
        return self.process.poll() is None

    def client(self, **kwargs):
        return Client(self.port, **kwargs)

    @property
    def url(self):
        return f"127.0.0.1:{self.port}"

    def cpu_seconds(self):
        """User and system time since the start; to the nanosecond where the kernel counts so.

        What a thread used that has ended is only in the coarser count."""
        try:
            total = 0
            for task in os.scandir(f"/proc/{self.process.pid}/task"):
                with open(f"{task.path}/schedstat", encoding="utf-8") as f:
                    total += int(f.read().split()[0])
            return 1e-9 * total
        except (OSError, ValueError):
            pass
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metrics(self):
        """The text of /metrics."""
        c = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=10)
        try:
            c.request("GET", "/metrics")
            return c.getresponse().read().decode()
        finally:
            c.close()

    def pss(self):
        return pss(self.process.pid)


def pss(pid="self"):
    """Proportional set size in bytes: shared pages count in parts."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as f:
        for line in f:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    raise OSError("no Pss in smaps_rollup")


# --- the client ---------------------------------------------------------------------------------

DATATYPES = {"bool": "BOOL", "uint8": "UINT8", "int8": "INT8", "uint16": "UINT16",
             "int16": "INT16", "uint32": "UINT32", "int32": "INT32", "uint64": "UINT64",
             "int64": "INT64", "float16": "FP16", "float32": "FP32", "float64": "FP64"}
DTYPES = {v: np.dtype(k) for k, v in DATATYPES.items()}


def datatype(array):
    """What the protocol calls the type of an array; None: it has no name for it."""
    return "BYTES" if array.dtype.kind in "OSU" else DATATYPES.get(array.dtype.name)


def encode(array):
    if datatype(array) != "BYTES":
        return np.ascontiguousarray(array).tobytes()
    parts = []
    for item in array.reshape(-1):
        raw = item if isinstance(item, bytes) else str(item).encode()
        parts += [len(raw).to_bytes(4, "little"), raw]
    return b"".join(parts)


def decode(raw, kind, shape):
    if kind != "BYTES":
        return np.frombuffer(raw, DTYPES[kind]).reshape(shape)
    items, at = [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at:at + 4], "little")
        items.append(raw[at + 4:at + 4 + size].decode())
        at += 4 + size
    out = np.empty(len(items), object)
    out[:] = items
    return out.reshape(shape)


class Refused(Exception):
    """An answer that is not 200."""

    def __init__(self, status, text):
        super().__init__(f"HTTP {status}: {text}")
        self.status, self.text = status, text


class Client:
    """The Open Inference Protocol with binary tensors over one connection that stays open."""

    def __init__(self, port, timeout=60):
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def close(self):
        self.http.close()

    def get(self, path):
        self.http.request("GET", path)
        answer = self.http.getresponse()
        return answer.status, answer.read()

    def input_of(self, model):
        """The name of a model's first input."""
        status, body = self.get(f"/v2/models/{model}")
        if status != 200:
            raise Refused(status, body[:200])
        return json.loads(body)["inputs"][0]["name"]

    def infer(self, model, inputs, parameters=None):
        """`inputs`: {name: array}; returns {name: array}, in the server's order."""
        tensors, blobs = [], []
        for name, array in inputs.items():
            blobs.append(encode(array))
            tensors.append({"name": name, "datatype": datatype(array), "shape": list(array.shape),
                            "parameters": {"binary_data_size": len(blobs[-1])}})
        head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True,
                                                             **(parameters or {})}}).encode()
        body = b"".join([head, *blobs])
        try:
            self.http.request("POST", f"/v2/models/{urllib.parse.quote(model, safe='')}/infer",
                              body, {"Inference-Header-Content-Length": str(len(head)),
                                     "Content-Type": "application/octet-stream"})
            answer = self.http.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException):
            self.http.close()  # the next request opens a new one
            raise
        if answer.status != 200:
            try:
                text = json.loads(data)["error"]
            except (ValueError, KeyError, TypeError):
                text = repr(data[:200])
            raise Refused(answer.status, text)
        size = int(answer.getheader("Inference-Header-Content-Length") or len(data))
        outputs, at = {}, size
        for t in json.loads(data[:size])["outputs"]:
            length = t.get("parameters", {}).get("binary_data_size")
            if length is None:
                kind = object if t["datatype"] == "BYTES" else DTYPES[t["datatype"]]
                outputs[t["name"]] = np.array(t["data"], kind).reshape(t["shape"])
                continue
            outputs[t["name"]] = decode(data[at:at + length], t["datatype"], t["shape"])
            at += length
        if at != len(data):
            raise ValueError(f"the answer has {len(data) - at} bytes that no tensor claims")
        return outputs


# --- other programs -----------------------------------------------------------------------------

def perf(*options):
    """Runs `staronnx perf --json`; returns the one series of its result."""
    command = [program(), "perf", "--json", "--quiet", *map(str, options)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1) or not done.stdout.strip():
        die(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr.strip()}")
    return json.loads(done.stdout)["series"][0]


def compare(model, *options):
    """Runs bench/compare; returns its measurements."""
    done = subprocess.run([helper_program("compare"), str(model), *map(str, options)],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        die(f"compare ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


class Compare:
    """A running bench/compare that measures what it is told, one line at a time.

    Several may be loaded at once, as long as one measures: what waits sleeps."""

    def __init__(self, model, *arguments):
        self.log = tempfile.TemporaryFile("w+", prefix="staronnx-bench-")
        self.process = subprocess.Popen(
            [helper_program("compare"), str(model), *map(str, arguments)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.ready = self.answer()  # loading takes all cores: nobody should measure beside it
        self.targets = [str(a) for a in arguments]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            die(f"{self.process.args[0]} ended early:\n{self.log.read()[-2000:]}")
        return json.loads(line)

    def measure(self, load, seconds, seed, target=None, warmup=""):
        """The last of the arguments is the target, where there is but one."""
        try:
            print(target or self.targets[-1], load, f"{seconds:.3f}", seed, warmup,
                  file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass  # `answer` says why
        return self.answer()

    def poisson(self, rate, samples, seed):
        """So many requests after a tenth of them: the same gaps at any rate, but for their scale."""
        return self.measure(f"poisson:{rate:.4f}", samples / rate, seed,
                            warmup=f"{samples / 10 / rate:.3f}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Mix:
    """A running bench/mix: several models in one server, told what to do one line at a time.

    `models`: (path, objective in ms) of each."""

    ANSWERED, REFUSED, GONE, FAILED = range(4)

    def __init__(self, models, *options):
        self.log = tempfile.TemporaryFile("w+", prefix="staronnx-bench-")
        self.process = subprocess.Popen(
            [helper_program("mix"), *map(str, options), *(f"{p}:{o:.4f}" for p, o in models)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.objectives = [o for _, o in models]
        self.costs = self.answer()["models"]

    answer = Compare.answer
    close = Compare.close

    def tell(self, *words):
        try:
            print(*words, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass  # `answer` says why

    def ask(self, *words):
        self.tell(*words)
        return self.answer()

    def run(self, seconds, warmup, seed, rates, events=()):
        """Poisson at these rates; events are lines of bench/mix without the leading "at"."""
        for event in events:
            self.tell("at", event)
        return self.ask("run", f"{seconds:.3f}", f"{warmup:.3f}", seed,
                        *(f"{r:.5f}" for r in rates))

    def tally(self, run):
        """Of each model: (asked, answered within the objective, answered late, refused, failed)."""
        counts = [[0] * 5 for _ in self.objectives]
        for model, _, latency, outcome in run["requests"]:
            c = counts[model]
            c[0] += 1
            if outcome == self.ANSWERED:
                c[1 if latency <= 1000 * self.objectives[model] else 2] += 1
            else:
                c[3 if outcome == self.REFUSED else 4] += 1
        return counts

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def jain(values):
    """1: all alike; 1/n: one has everything."""
    squares = sum(v * v for v in values)
    return sum(values)**2 / (len(values) * squares) if squares else 1.0


def lone_ms(path, runs=30):
    """What a lone Run of plain ONNX Runtime takes on one thread: the median, in ms."""
    session = plain_session(path, 1)
    feed = {i.name: np.ones([d if isinstance(d, int) else 1 for d in i.shape],
                            np.float32 if i.type == "tensor(float)" else np.int64)
            for i in session.get_inputs()}
    times = []
    for _ in range(runs):
        at = time.perf_counter()
        session.run(None, feed)
        times.append(1000 * (time.perf_counter() - at))
    return median(times)


# --- devices that are not equal -----------------------------------------------------------------

def emulated(k):
    """For notes: what a device pair really is."""
    return f"EMULATED: cpu:1@{k} is a core that computes, then waits until {k} times that have passed"


def pair(k):
    """Options: a core at full speed and one slowed down k times."""
    return ["--device", "cpu:0", "--device", f"cpu:1@{k}"]


FAST = ["--device", "cpu:0"]


def two_cores():
    if cores() < 2:
        die("two cores are needed: one is the slow device")


@contextlib.contextmanager
def workspace():
    path = tempfile.mkdtemp(prefix="staronnx-bench-")
    try:
        yield pathlib.Path(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)
