#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""ONNX's operator tests through the HTTP server: every one that plain ONNX Runtime gets right.

Each case of libonnx-testdata (node, simple, pytorch-converted, pytorch-operator) is run by plain
ONNX Runtime and through the server, and both are judged by the expected outputs: within
1e-3 + 1e-7 for floats, exactly for all else.  What plain ONNX Runtime refuses or gets wrong, and
what the protocol has no words for, is listed with its reason.
"""

import collections
import json
import os
import subprocess
import sys

import numpy as np

import support

GROUPS = ("node", "simple", "pytorch-converted", "pytorch-operator")
RTOL, ATOL = 1e-3, 1e-7
CONFIG = 'name: "{}"\nbackend: "onnxruntime"\nmax_batch_size: 0\n'


def cases(pattern):
    """(name, folder) of every case."""
    for group in GROUPS:
        if not (support.DATA / group).is_dir():
            support.die(f"there is no {support.DATA / group}: install libonnx-testdata")
        for folder in sorted((support.DATA / group).iterdir()):
            if (folder / "model.onnx").is_file() and pattern in f"{group}/{folder.name}":
                yield f"{group}.{folder.name}", folder


def why_not(model):
    """Why the protocol cannot carry this model's inputs and outputs; '' when it can."""
    from onnx import TensorProto
    carried = {"FLOAT", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "STRING", "BOOL",
               "FLOAT16", "DOUBLE", "UINT32", "UINT64"}
    for port in list(model.graph.input) + list(model.graph.output):
        kind = port.type.WhichOneof("value")
        if kind != "tensor_type":
            return f"the protocol has no {(kind or 'untyped value').removesuffix('_type')}s"
        name = TensorProto.DataType.Name(port.type.tensor_type.elem_type)
        if name not in carried:
            return f"the protocol has no {name}"
    return ""


def load_tensors(folder, what):
    import onnx
    from onnx import numpy_helper
    tensors = []
    while (folder / f"{what}_{len(tensors)}.pb").exists():
        t = onnx.load_tensor(str(folder / f"{what}_{len(tensors)}.pb"))
        array = numpy_helper.to_array(t)
        if array.dtype.kind in "OSU":
            array = np.array([i.decode() if isinstance(i, bytes) else str(i)
                              for i in array.reshape(-1)], object).reshape(array.shape)
        tensors.append(array)
    return tensors


def differs(got, expected):
    """'' when `got` is right, else what is wrong with it."""
    got = np.asarray(got)
    if got.shape != expected.shape:
        return f"shape {list(got.shape)}, not {list(expected.shape)}"
    if support.datatype(got) != support.datatype(expected):
        return f"{support.datatype(got)}, not {support.datatype(expected)}"
    if expected.dtype.kind == "f":
        same = np.isclose(got.astype(np.float64), expected.astype(np.float64), RTOL, ATOL,
                          equal_nan=True)
    else:
        same = got == expected
    return "" if np.all(same) else f"{np.size(same) - np.count_nonzero(same)} values differ"


def data_sets(folder):
    return sorted(f for f in folder.iterdir() if f.is_dir() and f.name.startswith("test_data_set"))


def judge(folder, run):
    """Runs every data set; '' or the first thing that is wrong.  `run` takes a list of arrays."""
    for data in data_sets(folder):
        outputs = run(load_tensors(data, "input"))
        expected = load_tensors(data, "output")
        if len(outputs) < len(expected):
            return f"{len(outputs)} outputs, not {len(expected)}"
        for got, want in zip(outputs, expected):
            wrong = differs(got, want)
            if wrong:
                return wrong
    return ""


# --- plain ONNX Runtime, in a process of its own that a test may crash ---------------------------

def plain_worker():
    """Reads folders, one a line; answers each with a line of JSON: [names of inputs, wrong]."""
    import pathlib
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    for line in sys.stdin:
        folder, names = pathlib.Path(line.rstrip("\n")), []
        try:
            session = support.plain_session(folder / "model.onnx", 1)
            names = [i.name for i in session.get_inputs()]
            wrong = judge(folder, lambda arrays: session.run(None, dict(zip(names, arrays))))
            wrong = wrong and "wrong: " + wrong
        except Exception as e:  # whatever it is, it is plain ONNX Runtime's answer
            wrong = "refused: " + short_reason(str(e))
        answers.write(json.dumps([names, wrong]) + "\n")
        answers.flush()


def short_reason(text):
    """What kind of refusal it is, so that they can be counted."""
    text = text.replace("\n", " ")
    for mark, reason in (("NOT_IMPLEMENTED", "an operator or type that it does not implement"),
                         ("is under development", "an opset newer than it knows"),
                         ("is not a registered function/op", "an operator that it does not know"),
                         ("No opset import for domain", "a domain that it does not know"),
                         ("Unrecognized attribute", "an attribute that it does not know"),
                         ("Unsupported model IR version", "a newer IR version"),
                         ("Unexpected input data type", "inputs of another type"),
                         ("Type Error", "types that it finds inconsistent"),
                         ("INVALID_GRAPH", "a graph that it finds invalid"),
                         ("during initialization", "it fails while it initialises the model"),
                         ("RUNTIME_EXCEPTION", "it fails while it runs")):
        if mark in text:
            return reason
    return text[:100]


def run_plain(folders):
    """{name: (names of inputs, '' or what is wrong)}"""
    results, worker = {}, None
    for at, (name, folder) in enumerate(folders):
        if worker is None:
            worker = subprocess.Popen([sys.executable, __file__, "--plain-worker"], text=True,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        worker.stdin.write(f"{folder}\n")
        worker.stdin.flush()
        line = worker.stdout.readline()
        if line:
            results[name] = tuple(json.loads(line))
        else:
            worker.wait()
            results[name] = ([], f"crashed (status {worker.returncode})")
            worker = None
        if (at + 1) % 250 == 0:
            support.say(f"plain ONNX Runtime: {at + 1} of {len(folders)} cases")
    if worker is not None:
        worker.stdin.close()
        worker.wait()
    return results


# --- the server ---------------------------------------------------------------------------------

def run_served(todo, names, size, options):
    """{name: '' or what is wrong}, with `size` models in a server at a time."""
    results = {}
    queue = list(todo)
    while queue:
        now, queue = queue[:size], queue[size:]
        support.say(f"server: {len(results)} of {len(todo)} cases")
        with support.workspace() as work:
            support.repository(work / "models", {
                name: (folder / "model.onnx", CONFIG.format(name)) for name, folder in now})
            with support.Server(work / "models", "--no-profiling", *options, until="live",
                                env={"STARONNX_CACHE": str(work / "cache")}) as server:
                client = server.client()
                for at, (name, folder) in enumerate(now):
                    def run(arrays):
                        outputs = client.infer(name, dict(zip(names[name], arrays)))
                        return list(outputs.values())
                    try:
                        results[name] = judge(folder, run)
                    except (support.Refused, ValueError, KeyError) as e:
                        results[name] = f"{type(e).__name__}: {e}"
                    except (OSError, support.http.client.HTTPException) as e:
                        support.time.sleep(1)  # a crash takes a moment to show
                        results[name] = f"{type(e).__name__}: {e}; server's log: {server.tail(1)}"
                    if not server.alive():
                        results[name] = f"the server died: {server.tail(3)}"
                        queue = now[at + 1:] + queue
                        break
                client.close()
    return results


def main():
    args = support.arguments(__doc__, models_per_server=200, only="", device="")
    support.ort()
    import onnx
    everything = list(cases(args.only))
    not_run, candidates = collections.defaultdict(list), []
    for name, folder in everything:
        reason = why_not(onnx.load(str(folder / "model.onnx")))
        if not reason and not data_sets(folder):
            reason = "no data set"
        if reason:
            not_run[reason].append(name)
        else:
            candidates.append((name, folder))
    plain = run_plain(candidates)
    right = [(name, folder) for name, folder in candidates if not plain[name][1]]
    for name, _ in candidates:
        if plain[name][1]:
            kind, _, what = plain[name][1].partition(": ")
            if kind == "wrong":
                kind, what = "plain ONNX Runtime gets it wrong", ""
            elif kind == "refused":
                kind = "plain ONNX Runtime refuses"
            else:
                kind = f"plain ONNX Runtime {kind}"
            not_run[f"{kind}: {what}" if what else kind].append(name)
    device = ["--device", args.device] if args.device else []
    served = run_served(right, {name: plain[name][0] for name, _ in right},
                        args.models_per_server, device)
    wrong = {name: what for name, what in served.items() if what}

    report = support.Report("onnx-tests", args.json)
    left = sum(map(len, not_run.values()))
    report.add("expected", len(right) - len(wrong), "tests", n=len(right), goal=("==", len(right)),
               note="right through the server" + ("; wrong: " + "; ".join(
                   f"{n} ({w})" for n, w in list(wrong.items())[:20]) if wrong else ""))
    report.add("plain_ort_ok", len(right), "tests", n=len(candidates),
               note=f"of {len(everything)} cases, {len(candidates)} of them with types that the "
                    "protocol has")
    reasons = sorted(not_run.items(), key=lambda r: -len(r[1]))
    report.add("not_run", left, "tests", n=len(everything),
               note="; ".join(f"{len(names)}: {reason}" for reason, names in reasons))
    for name, what in wrong.items():
        report.detail(f"WRONG {name}: {what}")
    for reason, names in reasons:
        report.detail(f"{reason} ({len(names)})")
        line = "   "
        for name in names:
            if len(line) + len(name) > 100:
                report.detail(line)
                line = "   "
            line += " " + name
        report.detail(line)
    return report.print()


if __name__ == "__main__":
    if sys.argv[1:] == ["--plain-worker"]:
        plain_worker()
    else:
        sys.exit(main())
