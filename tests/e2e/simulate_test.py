# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Simulations: scenarios, options, traces, the picture, a profile of this machine as a table."""

import json
import os
import tempfile
import unittest
import xml.etree.ElementTree

import onnx
from onnx import TensorProto, helper

from serving import run

TABLE = {"units": [1, 2], "batches": [1, 4], "ms": [[10, 6], [32, 18]]}
SVG = "{http://www.w3.org/2000/svg}"


def scenario(**more):
    return {"units": 2, "fit": "aligned", "seconds": 20, "seed": 3, "models": [
        {"name": "a", "table": "a.json", "objective_ms": 80, "noise": 0.1, "run_ms": 0.2,
         "request_ms": 0.1, "way_ms": 0.5, "load": {"rate": 40}},
        {"name": "b", "table": TABLE, "objective_ms": 150, "load": {"kind": "gamma", "rate": 20,
                                                                    "cv": 2}}], **more}


class Simulate(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.at = lambda name: os.path.join(directory.name, name)
        self.write("a.json", json.dumps(TABLE))

    def write(self, name, text):
        with open(self.at(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.at(name)

    def simulate(self, *arguments):
        done = run("simulate", *arguments, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(done.stdout)
        self.assertTrue(result["simulated"])
        for r in result["results"]:
            for f in [r["all"], *r["models"]]:
                self.assertEqual(f["offered"], sum(f[k] for k in (
                    "in_time", "late", "refused_late", "refused_full", "dropped", "waiting")))
        return result

    def test_scenario(self):
        path = self.write("s.json", json.dumps(scenario()))
        one = self.simulate(path, "--policy", "fair,fixed,temporal")
        again = self.simulate(path, "--policy", "fair,fixed,temporal")
        other = self.simulate(path, "--policy", "fair", "--seed", "4")
        hashes = [r["hash"] for r in one["results"]]
        self.assertEqual(hashes, [r["hash"] for r in again["results"]])
        self.assertNotIn(other["results"][0]["hash"], hashes)
        self.assertEqual([r["policy"] for r in one["results"]], ["fair", "temporal", "fixed"])
        fair = one["results"][0]
        self.assertEqual([m["name"] for m in fair["models"]], ["a", "b"])
        self.assertGreater(fair["models"][0]["p99_ms"], fair["models"][0]["p50_ms"])
        self.assertAlmostEqual(fair["all"]["offered"] / 20, 60, delta=9)
        self.assertFalse(one["recalled"])

    def test_text(self):
        path = self.write("s.json", json.dumps(scenario(policy="all")))
        done = run("simulate", path)
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stdout.splitlines()
        self.assertIn("imulated", lines[0])
        self.assertIn("(simulated)", lines[-1])
        table = [line for line in lines[2:] if line][:17]
        self.assertEqual(len({len(line) for line in table}), 1, table)  # it lines up
        self.assertEqual(done.stderr, "")

    def test_options_are_a_scenario(self):
        by_file = self.simulate(self.write("s.json", json.dumps({
            "units": 4, "seconds": 5, "models": [
                {"name": "a", "table": "a.json", "objective_ms": 50, "weight": 2,
                 "load": {"rate": 30}}]})))
        by_options = self.simulate("-m", f"a={self.at('a.json')},objective=50,weight=2,rate=30",
                                   "--units", "4", "--seconds", "5")
        self.assertEqual(by_file["results"][0]["hash"], by_options["results"][0]["hash"])

    def test_machines(self):
        for router in "round-robin", "least-finish", "two-choices":
            result = self.simulate(self.write("s.json", json.dumps(scenario(machines=5))),
                                   "--router", router, "--seconds", "4")
            machines = result["results"][0]["machines"]
            self.assertEqual(len(machines), 5)
            self.assertEqual(sum(m["offered"] for m in machines),
                             result["results"][0]["all"]["offered"])

    def test_schedule(self):
        done = run("simulate", "--mix", "c4", "--seconds", "1", "--schedule", self.at("s.svg"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("recalled", done.stdout)
        root = xml.etree.ElementTree.parse(self.at("s.svg")).getroot()
        self.assertEqual(root.tag, SVG + "svg")
        runs = [g.find(SVG + "title").text for g in root.iter(SVG + "g")]
        self.assertGreater(len(runs), 30)
        self.assertTrue(any("mandatory" in r for r in runs) and any("filler" in r for r in runs))
        self.assertEqual(list(root.iter(SVG + "style")), [])
        words = {t.text for t in root.iter(SVG + "text")}
        self.assertLessEqual({"AlexNet", "MobileNet", "ResNet-50", "VGG-19", "units", "ms"}, words)

    def test_ideal(self):
        result = self.simulate("--kernels", "a=30@10,objective=50", "--kernels",
                               "b=40@15,objective=80", "--ideal", "--seconds", "5")
        self.assertGreater(result["ideal"]["utilisation"], 0.5)
        self.assertEqual(result["ideal"]["missed"], 0)

    def test_trace(self):
        minutes = self.write("2019.csv", "HashOwner,HashApp,HashFunction,Trigger,1,2\n"
                                         "o,a,f,http,30,60\no,a,g,timer,10,0\n")
        calls = self.write("2021.csv", "app,func,end_timestamp,duration\n"
                                       "a,f,1.5,0.5\na,g,2,0.25\na,f,3,1\n")
        path = self.write("s.json", json.dumps(scenario()))
        result = self.simulate(path, "--trace", minutes, "--seconds", "120")["results"][0]
        self.assertEqual([m["offered"] for m in result["models"]], [90, 10])
        result = self.simulate(path, "--trace", calls, "--trace-scale", "2")["results"][0]
        self.assertEqual([m["offered"] for m in result["models"]], [4, 2])
        bad = self.write("bad.csv", "app,func,end_timestamp,duration\na,f,x,1\n")
        done = run("simulate", path, "--trace", bad)
        self.assertEqual(done.returncode, 3)
        self.assertRegex(done.stderr, r"line 2, column 5.*seconds")

    def test_profile_is_a_table(self):
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])], "m",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])],
            [helper.make_tensor("w", TensorProto.FLOAT, [64, 64], [0.5] * 4096)])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, self.at("m.onnx"))
        done = run("profile", self.at("m.onnx"), "--device", "cpu:0", "--batch", "1,4",
                   "--output", self.at("m.profile"),
                   environment={"STARONNX_CACHE": self.at("cache")})
        self.assertEqual(done.returncode, 0, done.stderr)
        result = self.simulate("-m", f"m={self.at('m.profile')},objective=100,rate=20", "--units",
                               "1", "--seconds", "5")["results"][0]
        self.assertEqual(result["all"]["in_time"], result["all"]["offered"])
        self.assertGreater(result["all"]["p50_ms"], 0)

    def test_mistakes(self):
        self.write("s.json", json.dumps(scenario(unit=3)))
        for arguments, code, word in (
            ([], 2, "--mix"), (["--mix", "c5"], 2, "c5"), (["--mix", "c4", "x.json"], 2, "several"),
            (["--mix", "c4", "--policy", "best"], 2, "best"), (["--mix", "c4", "--fit", "x"], 2, "x"),
            (["--mix", "c4", "--machines", "1001"], 2, "1000"),
            (["--mix", "c4", "--router", "x"], 2, "round-robin"),
            (["-m", "a"], 2, "NAME="), (["-m", "a=VGG-19,rate=x"], 2, "rate"),
            (["-m", "a=VGG-19,speed=1"], 2, "speed"), (["-m", "a=" + self.at("a.json")], 2, "objective"),
            (["-m", f"a={self.at('a.json')},objective=9"], 2, "--units"),
            (["-m", "a=nowhere.json,objective=9", "--units", "2"], 3, "nowhere"),
            (["-m", "a=VGG-19", "-m", "a=VGG-19"], 3, "'a'"),
            (["-m", "a=VGG-19", "--ideal"], 2, "--ideal"),
            (["--kernels", "a=33@5,objective=9"], 3, "33"),
            ([self.at("none.json")], 3, "none.json"), ([self.at("s.json")], 3, "unit"),
            (["--mix", "c4", "--seconds", "1", "--warm", "2"], 3, "seconds"),
            (["--mix", "c4", "--seconds", "1", "--schedule", "/nowhere/x.svg"], 3, "/nowhere"),
        ):
            done = run("simulate", *arguments)
            self.assertEqual(done.returncode, code, (arguments, done.stderr))
            self.assertIn(word, done.stderr, arguments)
            self.assertEqual(done.stdout, "")


if __name__ == "__main__":
    unittest.main()
