# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Cutting models: profile, plan, explain, split."""

import json
import os
import signal
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import models
from serving import PROGRAM, run

DEVICES = "--device", "cpu:0", "--device", "cpu:1@3"
CORES = len(os.sched_getaffinity(0))


def network(layers=6, channels=16, size=24, batch=1):
    """Convolutions with a shortcut round every other one, and a classifier."""
    rng = np.random.default_rng(5)
    nodes, weights, last = [], [], "x"
    for i in range(layers):
        inputs = 3 if i == 0 else channels
        w = rng.standard_normal((channels, inputs, 3, 3)).astype(np.float32) / 3 / inputs**0.5
        weights.append(numpy_helper.from_array(w, f"w{i}"))
        nodes.append(helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], f"conv{i}", pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"], f"relu{i}"))
        if i % 2:
            nodes.append(helper.make_node("Add", [last, f"r{i}"], [f"a{i}"], f"add{i}"))
        last = f"a{i}" if i % 2 else f"r{i}"
    w = rng.standard_normal((channels, 10)).astype(np.float32)
    weights.append(numpy_helper.from_array(w, "classes"))
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], "flat"),
        helper.make_node("MatMul", ["flat", "classes"], ["y"], "classify"),
    ]
    graph = helper.make_graph(
        nodes, "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 10])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


class Cut(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.at = lambda name: os.path.join(directory.name, name)
        before = os.environ.get("STARONNX_CACHE")
        os.environ["STARONNX_CACHE"] = self.at("cache")
        self.addCleanup(
            lambda: os.environ.update(STARONNX_CACHE=before)
            if before is not None else os.environ.pop("STARONNX_CACHE", None))
        self.model = self.write("network.onnx", network())

    def write(self, name, model):
        onnx.save(model, self.at(name))
        return self.at(name)

    def good(self, *arguments):
        done = run(*arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def json(self, *arguments):
        return json.loads(self.good(*arguments, "--json").stdout)

    def refused(self, code, word, *arguments):
        done = run(*arguments)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertIn(word, done.stderr)
        self.assertEqual(done.stdout, "")
        return done

    def profiles(self):
        directory = self.at("cache/profiles")
        return sorted(os.listdir(directory)) if os.path.isdir(directory) else []


class Profile(Cut):
    def test_measures(self):
        about = self.json("profile", self.model, "--device", "cpu:0", "--runs", "5")
        table, = about["tables"]  # the model's batch is fixed
        self.assertEqual([table["device"], table["cores"], table["batch"], table["runs"]],
                         ["cpu", 1, 1, 5])
        self.assertGreater(table["ms"], 0)
        self.assertAlmostEqual(sum(o["ms"] for o in table["operators"]), table["ms"],
                               delta=1e-3 * table["ms"])
        self.assertGreater(max(o["ms"] for o in table["operators"] if "Conv" in o["type"]), 0)
        self.assertEqual(about["links"][0]["from"], "cpu")
        self.assertEqual([os.path.basename(about["profile"])], self.profiles())
        text = self.good("profile", self.model, "--device", "cpu:0", "--runs", "2").stdout
        self.assertIn("slowest operators", text)

    def test_batches_and_output(self):
        model = self.write("free.onnx", network(layers=2, batch="n"))
        out = self.at("there/p.json")
        about = self.json("profile", model, "--device", "cpu:0", "--runs", "3", "--batch", "4,1,4",
                          "--output", out)
        self.assertEqual([t["batch"] for t in about["tables"]], [1, 4])
        self.assertEqual(self.profiles(), [])
        with open(out, encoding="utf-8") as f:
            self.assertEqual([t["batch"] for t in json.load(f)["tables"]], [1, 4])
        about = self.json("profile", model, "--device", "cpu:0", "--runs", "2")
        self.assertEqual([t["batch"] for t in about["tables"]], [1, 2, 4, 8])

    @unittest.skipIf(CORES < 2, "needs two cores")
    def test_keeps_other_devices(self):
        """Devices of the same kind are measured once; those of another number of cores stay."""
        done = self.good("profile", self.model, "--device", "cpu:0", "--device", "cpu:1@2", "--runs",
                         "2")
        self.assertEqual(done.stderr.count("measuring"), 1)
        about = self.json("profile", self.model, "--device", "cpu:0-1", "--units", "2", "--runs",
                          "3")
        self.assertEqual([(t["cores"], t["runs"]) for t in about["tables"]], [(1, 2), (2, 3)])

    @unittest.skipIf(CORES < 2, "needs two cores")
    def test_knees(self):
        """The knee table of a model: as text, as data, as a picture, and read back as a file."""
        model = self.write("free.onnx", network(layers=2, batch="n"))
        picture, table = self.at("curves.svg"), self.at("table.json")
        about = self.json("profile", model, "--device", "cpu:0-1", "--units", "1,2", "--batch",
                          "1,4", "--runs", "3", "--curves", picture, "--save-table", table,
                          "--objective", "1000", "--rate", "100")
        knees, = about["knees"]
        shown = knees["table"]
        self.assertEqual([shown["units"], shown["batches"]], [[1, 2], [1, 4]])
        measured = {(t["batch"], t["cores"]): t["ms"] for t in about["tables"]}
        for b, row in zip(shown["batches"], shown["ms"]):
            for u, ms in zip(shown["units"], row):
                self.assertAlmostEqual(ms, measured[b, u], delta=1e-4 * ms)
        for knee in shown["knees"]:
            self.assertIn(knee["efficacy_units"], (1, 2))
            self.assertGreaterEqual(knee["speedup"], 1)
        self.assertTrue(knees["choice"]["feasible"])
        self.assertIn(knees["choice"]["batch"], (1, 4))
        drawn = xml.etree.ElementTree.parse(picture).getroot()
        words = [t.text for t in drawn.iter() if t.tag.endswith("}text")]
        self.assertIn("batch 4", words)
        self.assertEqual(sum("knee" in w or w == "flat" for w in words), 4)  # with rims
        again = self.json("profile", "--table", table)["knees"][0]["table"]
        for before, after in zip(shown["knees"], again["knees"]):
            self.assertEqual(before["efficacy_units"], after["efficacy_units"])
        text = self.good("profile", model, "--device", "cpu:0-1", "--runs", "2").stdout
        self.assertIn("knees of free on cpu", text)

    def test_table(self):
        """Times of another machine, with a hole; what would make an objective feasible."""
        with open(self.at("gpu.json"), "w", encoding="utf-8") as f:
            json.dump({"name": "made-up", "units": [10, 20, 40, 80], "batches": [1, 16],
                       "ms": [[8, 4, 2, 1.9], [80, None, 20, 18]]}, f)
        text = self.good("profile", "--table", self.at("gpu.json"), "--objective", "1").stdout
        self.assertIn("made-up", text)
        self.assertIn("not feasible", text)
        self.assertIn("1.9 ms", text)
        about = self.json("profile", "--table", self.at("gpu.json"), "--objective", "50",
                          "--half-rule")["knees"][0]
        self.assertEqual(about["table"]["knees"][0]["efficacy_units"], 40)
        self.assertEqual(about["table"]["filled"], 1)
        self.assertEqual([about["choice"]["units"], about["choice"]["batch"]], [40, 1])
        with open(self.at("bad.json"), "w", encoding="utf-8") as f:
            f.write('{"units": [1, 2],\n "batches": [1],\n "ms": [[1, -2]]}')
        self.refused(3, '"ms"[0][1]', "profile", "--table", self.at("bad.json"))
        self.refused(3, "nowhere", "profile", "--table", self.at("nowhere.json"))
        self.refused(2, "--batch", "profile", "--table", self.at("gpu.json"), "--batch", "3")
        self.refused(2, "model", "profile")

    def test_interrupted(self):
        """Ctrl-C leaves the old profile and nothing else."""
        self.good("profile", self.model, "--device", "cpu:0", "--runs", "2")
        path = os.path.join(self.at("cache/profiles"), self.profiles()[0])
        with open(path, "rb") as f:
            before = f.read()
        with subprocess.Popen(
            [PROGRAM, "profile", self.model, "--device", "cpu:0", "--runs", "100000"],
            stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as process:
            line = process.stderr.readline()
            self.assertIn("measuring", line)
            process.send_signal(signal.SIGINT)
            output, error = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 1, error)
        self.assertIn("interrupted", error)
        self.assertEqual(output, "")
        with open(path, "rb") as f:
            self.assertEqual(f.read(), before)
        self.assertEqual(len(self.profiles()), 1)

    def test_mistakes(self):
        for arguments, word in (
            (["--batch", "0"], "--batch"), (["--batch", "1,x"], "--batch"), (["--batch", ""], "--batch"),
            (["--runs", "0"], "--runs"), (["--device", "cpu:9999"], "9999"),
            (["--units", "0"], "--units"), (["--units", "1024"], "1024"),
            (["--curves", "x.png"], ".svg"), (["--rate", "3"], "--objective"),
            (["--table", "x.json"], "not both"), (["--objective", "-1"], "--objective"),
        ):
            with self.subTest(arguments):
                done = run("profile", self.model, *arguments)
                self.assertIn(done.returncode, (2, 3))
                self.assertIn(word, done.stderr)
        self.refused(3, "nowhere", "profile", self.at("nowhere.onnx"))
        with open(self.at("bad.onnx"), "wb") as f:
            f.write(b"\x08\x09 this is no model")
        self.refused(3, "bad.onnx", "profile", self.at("bad.onnx"))


@unittest.skipIf(CORES < 2, "needs two cores")
class Plan(Cut):
    def plan(self, *more):
        self.good("plan", self.model, *DEVICES, "--stages", "2", "-o", self.at("p.plan"), *more)
        return self.at("p.plan")

    def test_variants(self):
        first = self.good("plan", self.model, *DEVICES, "--json")
        self.assertIn("measuring", first.stderr)
        second = self.good("plan", self.model, *DEVICES, "--json")
        self.assertEqual(second.stderr, "")  # from the cache
        self.assertEqual(first.stdout, second.stdout)
        model, = json.loads(first.stdout)["models"]
        plans, best = model["plans"], model["plans"][model["best"]]
        whole = {p["name"]: p for p in plans if len(p["stages"]) == 1}
        fast, slow = whole["whole on cpu:0"], whole["whole on cpu:1@3"]
        ratio = slow["latency_ns"] / fast["latency_ns"]  # what a task costs is not slowed
        self.assertTrue(1.5 < ratio < 3.01, ratio)
        for p in plans:
            times = [s["ns"] + s["transfer_ns"] for s in p["stages"]]
            self.assertAlmostEqual(p["slowest_ns"] / max(times), 1, delta=1e-3)
            self.assertLessEqual(p["throughput"], best["throughput"])
            self.assertEqual(sum(s["n_nodes"] for s in p["stages"]), p["key"]["nodes"])
        self.assertIn("=>", self.good("plan", self.model, *DEVICES).stdout)

    def test_objective(self):
        model, = self.json("plan", self.model, *DEVICES)["models"]
        least = min(p["latency_ns"] for p in model["plans"]) * 1e-6
        for objective, kept in (least * 0.5, False), (least * 1.001, True), (least * 1000, True):
            again, = self.json("plan", self.model, *DEVICES, "--objective", f"{objective:.9f}")["models"]
            best = again["plans"][again["best"]]
            self.assertEqual(best["keeps_objective"], kept)
            self.assertEqual(any(p["keeps_objective"] for p in again["plans"]), kept)
            if not kept:
                self.assertAlmostEqual(best["latency_ns"] * 1e-6, least, delta=1e-6 * least)

    def test_shares(self):
        model, = self.json("plan", self.model, "--device", "cpu:0", "--shares", "75,25")["models"]
        plan, = model["plans"]
        self.assertEqual(len(plan["stages"]), 2)
        first, second = (s["ns"] for s in plan["stages"])
        self.assertGreater(first, second)

    def test_memory(self):
        """Stages that fit; a whole model that does not fit is no plan."""
        model = self.write("wide.onnx", network(layers=8, channels=64, size=12))
        whole, = self.json("plan", model, "--device", "cpu:0")["models"]
        mib = sum(s["weight_bytes"] for s in whole["plans"][0]["stages"]) / 2**20
        self.assertGreater(mib, 0.5)
        free, = self.json("plan", model, *DEVICES, "--stages", "2")["models"]
        first = [s["weight_bytes"] / 2**20 for s in free["plans"][0]["stages"]]
        self.assertGreater(max(first), 0.6 * mib)  # the fast device has more of it, if it may
        limit = 0.6 * mib
        for stages in [], ["--stages", "2"]:
            made, = self.json("plan", model, *DEVICES, "--memory", f"{limit},{limit}", *stages)["models"]
            for plan in made["plans"]:
                self.assertEqual(len(plan["stages"]), 2)
                for stage in plan["stages"]:
                    self.assertLessEqual(stage["weight_bytes"] / 2**20, limit)
        names = [p["name"] for p in self.json(
            "plan", model, *DEVICES, "--memory", f"0,{limit}")["models"][0]["plans"]]
        self.assertIn("whole on cpu:0", names)
        self.assertNotIn("whole on cpu:1@3", names)
        self.refused(3, "do not fit", "plan", model, *DEVICES, "--memory", f"{mib / 4},{mib / 4}")
        self.refused(3, "each of 2 devices", "plan", model, *DEVICES, "--memory", "1")
        self.refused(2, "--shares", "plan", model, "--shares", "50,50", "--memory", "1")

    def test_explain(self):
        path, svg = self.plan(), self.at("g.svg")
        text = self.good("explain", path, "--gantt", svg).stdout
        for word in "cpu:1@3", "emulation", "method", "transfer ms":
            self.assertIn(word, text)
        picture = xml.etree.ElementTree.parse(svg).getroot()
        self.assertTrue(picture.tag.endswith("svg"))
        text = self.good("explain", path, "--model", self.model).stdout
        self.assertIn("Conv", text)
        self.assertIn("stage", self.good("explain", self.model, *DEVICES).stdout)

    def test_measure(self):
        path, svg = self.plan(), self.at("g.svg")
        about = self.json("explain", path, "--model", self.model, "--measure", "--seconds", "0.5",
                          "--gantt", svg)
        measured = about["measured"]
        self.assertGreaterEqual(measured["jobs"], 8)
        self.assertGreater(measured["throughput"], 0)
        self.assertEqual(len(measured["stages"]), len(about["plan"]["stages"]))
        for stage in measured["stages"]:
            self.assertGreater(stage["ns"], 0)
            self.assertLessEqual(stage["busy"], 1.0001)
        self.assertLessEqual(measured["all_busy"], min(s["busy"] for s in measured["stages"]) + 1e-6)
        with open(svg, encoding="utf-8") as f:
            self.assertIn("measured:", f.read())
        text = self.good("explain", path, "--model", self.model, "--measure", "--seconds", "0.1").stdout
        self.assertIn("measured ms", text)

    def test_measure_whole(self):
        about = self.json("explain", self.model, "--device", "cpu:0", "--measure", "--seconds", "0.2")
        self.assertEqual(len(about["plan"]["stages"]), 1)
        self.assertGreater(about["measured"]["stages"][0]["busy"], 0.5)

    def test_refusals(self):
        path = self.plan()
        with open(path, encoding="utf-8") as f:
            text = f.read()
        other = self.write("other.onnx", network(layers=4))
        self.refused(3, "was made for", "explain", path, "--model", other)
        made = json.loads(text)
        made["key"]["machine"] = "elsewhere"
        with open(self.at("far.plan"), "w", encoding="utf-8") as f:
            json.dump(made, f)
        self.refused(3, "machine elsewhere", "explain", self.at("far.plan"), "--model", self.model)
        with open(self.at("cut.plan"), "w", encoding="utf-8") as f:
            f.write(text[: len(text) // 2])
        self.refused(3, "damaged", "explain", self.at("cut.plan"))
        # a cut that goes back
        made = json.loads(text)
        made["stages"].reverse()
        with open(self.at("back.plan"), "w", encoding="utf-8") as f:
            json.dump(made, f)
        self.refused(3, "back", "explain", self.at("back.plan"), "--model", self.model)
        self.refused(2, "--model", "explain", path, "--measure")
        self.refused(2, "--shares", "plan", self.model, "--shares", "80")
        self.refused(3, "devices", "plan", self.model, *DEVICES, "--stages", "3")
        self.refused(2, "--output", "plan", self.model, self.model, "-o", self.at("x"))

    def test_damaged_profile(self):
        """A profile that a crash cut off is measured again, and said to be."""
        self.good("plan", self.model, *DEVICES)
        path = os.path.join(self.at("cache/profiles"), self.profiles()[0])
        os.truncate(path, os.path.getsize(path) // 2)
        done = self.good("plan", self.model, *DEVICES)
        self.assertIn("damaged", done.stderr)
        self.assertIn("measuring", done.stderr)
        self.assertEqual(self.good("plan", self.model, *DEVICES).stderr, "")

    def test_several_models(self):
        other = self.write("other.onnx", network(layers=3))
        self.assertEqual(len(self.json("plan", self.model, other, *DEVICES)["models"]), 2)


class Split(Cut):
    def check(self, model, directory, stages, feed):
        """Chained, the stages give what the whole model gives."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = lambda path: onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"])
        whole = session(model)
        names = [o.name for o in whole.get_outputs()]
        want = dict(zip(names, whole.run(names, feed)))
        with open(os.path.join(directory, "pipeline.json"), encoding="utf-8") as f:
            pipeline = json.load(f)
        self.assertEqual(len(pipeline["stages"]), stages)
        have, maker = dict(feed), {name: "input" for name in feed}
        for number, stage in enumerate(pipeline["stages"], 1):
            path = os.path.join(directory, stage["file"])
            onnx.checker.check_model(path)
            part = session(path)
            inputs = [i.name for i in part.get_inputs()]
            outputs = [o.name for o in part.get_outputs()]
            self.assertEqual(inputs, [i["name"] for i in stage["inputs"]])
            self.assertEqual(outputs, [o["name"] for o in stage["outputs"]])
            self.assertEqual([maker[n] for n in inputs], [i["from"] for i in stage["inputs"]])
            have.update(zip(outputs, part.run(outputs, {n: have[n] for n in inputs})))
            maker.update((n, number) for n in outputs)
        identical = True
        for name in names:
            scale = np.abs(want[name]).max()
            self.assertLessEqual(np.abs(have[name] - want[name]).max(), 1e-5 * scale, name)
            identical = identical and np.array_equal(have[name], want[name])
        print(f"{os.path.basename(model)}, {stages} stages:",
              "bit-identical" if identical else "equal within 1e-5")

    def test_shares(self):
        feed = {"x": np.random.default_rng(1).standard_normal((1, 3, 24, 24)).astype(np.float32)}
        for more, stages in ((), 2), (("--stages", "3"), 3), (("--shares", "80,20"), 2):
            with self.subTest(more):
                out = self.at("parts")
                self.good("split", self.model, "--output", out, "--device", "cpu:0", *more)
                self.check(self.model, out, stages, feed)
                self.assertEqual(sum(n.startswith("stage-") for n in os.listdir(out)), stages)

    def test_free_batch(self):
        model = self.write("free.onnx", network(layers=4, batch="n"))
        out = self.at("parts")
        self.good("split", model, "--output", out, "--device", "cpu:0")
        rng = np.random.default_rng(2)
        for n in 1, 3:
            self.check(model, out, 2, {"x": rng.standard_normal((n, 3, 24, 24)).astype(np.float32)})

    def test_plan(self):
        plan, out = self.at("p.plan"), self.at("parts")
        self.good("plan", self.model, "--portable", "--device", "cpu:0", "--shares", "60,40",
                  "-o", plan)
        about = self.json("split", self.model, "--output", out, "--plan", plan)
        self.assertEqual(len(about["stages"]), 2)
        feed = {"x": np.ones((1, 3, 24, 24), np.float32)}
        self.check(self.model, out, 2, feed)
        self.good("plan", self.model, "--device", "cpu:0", "--shares", "60,40", "-o", plan)
        self.refused(3, "was made for", "split", self.model, "--output", out, "--plan", plan)

    def test_keeps_together_what_is_fused(self):
        """ONNX Runtime makes one operator of each of these blocks: no cut lies in one."""
        rng = np.random.default_rng(4)
        nodes, weights, last, ends = [], [], "x", set()
        for name, number in ("root", 2**0.5), ("one", 1), ("half", 0.5):
            weights.append(numpy_helper.from_array(np.float32(number), name))
        for i in range(6):
            w = rng.standard_normal((64, 64)).astype(np.float32) / 8
            weights.append(numpy_helper.from_array(w, f"w{i}"))
            for kind, inputs, output in (
                ("MatMul", [last, f"w{i}"], f"m{i}"), ("Div", [f"m{i}", "root"], f"d{i}"),
                ("Erf", [f"d{i}"], f"e{i}"), ("Add", [f"e{i}", "one"], f"p{i}"),
                ("Mul", [f"m{i}", f"p{i}"], f"t{i}"), ("Mul", [f"t{i}", "half"], f"g{i}"),
            ):
                nodes.append(helper.make_node(kind, inputs, [output], output))
            last = f"g{i}"
            ends |= {f"m{i}", f"g{i}"}
        graph = helper.make_graph(
            nodes, "gelus",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
            [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", 64])], weights)
        model = self.write("gelus.onnx", helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
        for shares in "1,1", "5,1,3", "1,1,1,1,1":
            about = self.json("split", model, "--output", self.at("parts"), "--shares", shares,
                              "--device", "cpu:0")
            cut = {i["name"] for s in about["stages"] for i in s["inputs"] if i["from"] != "input"}
            self.assertTrue(cut)
            self.assertLessEqual(cut, ends)
            self.check(model, self.at("parts"), len(about["stages"]),
                       {"x": rng.standard_normal((4, 64)).astype(np.float32)})

    def test_mlp(self):
        model = self.write("mlp.onnx", models.mlp())
        self.good("split", model, "--output", self.at("parts"), "--device", "cpu:0")
        x = np.random.default_rng(3).standard_normal((2, 16)).astype(np.float32)
        self.check(model, self.at("parts"), 2, {"x": x})

    def test_mistakes(self):
        self.refused(2, "--output", "split", self.model)
        out = self.at("parts")
        self.refused(2, "--shares", "split", self.model, "--output", out, "--shares", "1,0")
        self.refused(2, "--stages", "split", self.model, "--output", out, "--shares", "1,1", "--stages", "3")
        self.refused(3, "nowhere", "split", self.at("nowhere.onnx"), "--output", out)
        self.assertFalse(os.path.exists(out))


if __name__ == "__main__":
    unittest.main()
