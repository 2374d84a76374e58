# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""The command line: help, mistakes, inspect, infer."""

import json
import os
import re
import tempfile
import unittest
import xml.etree.ElementTree

import numpy as np
from onnx import numpy_helper

import models
from serving import run

MANUAL = os.path.join(os.path.dirname(__file__), "../../docs/staronnx.1")
LIGHT = "/usr/share/libonnx-testdata/data/light"
COMMANDS = "serve", "infer", "inspect", "perf", "profile", "plan", "explain", "split", "simulate"


class CommandLine(unittest.TestCase):
    def test_help(self):
        for arguments in ["--help"], ["-h"], ["help"], *(["help", c] for c in COMMANDS), *(
            [c, "--help"] for c in COMMANDS
        ):
            done = run(*arguments)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("usage: staronnx", done.stdout)
            self.assertEqual(done.stderr, "")
            self.assertLessEqual(max(map(len, done.stdout.splitlines())), 100)
        self.assertRegex(run("--version").stdout, r"^staronnx \d+\.\d+\.\d+\n$")

    def test_manual(self):
        """Every option that --help shows is in the manual."""
        with open(MANUAL, encoding="utf-8") as f:
            manual = f.read().replace("\\-", "-")
        for command in COMMANDS:
            shown = re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", run(command, "--help").stdout, re.M)
            self.assertGreater(len(shown), 3)
            for option in shown:
                if option != "--help" and not re.search(re.escape(option) + r"\b", manual):
                    self.fail(f"{command} {option}")

    def test_mistakes(self):
        for arguments, word in (
            ([], "usage"), (["serv"], "'serve'"), (["nonsense"], "nonsense"), (["--nope"], "--nope"),
            (["inspect"], "MODEL"), (["inspect", "a", "b"], "'b'"), (["inspect", "--jso", "x"], ""),
            (["inspect", "--graph", "x.png", "m"], "'x.png'"),
            (["infer", "--repeat", "x", "m"], "--repeat"), (["infer", "--repeat"], "--repeat"),
            (["serve", "--http-prt", "1"], "--http-port"), (["serve"], "--models"),
            (["serve", "--http-port", "70000", "x.onnx"], "65535"),
        ):
            with self.subTest(arguments):
                done = run(*arguments)
                if arguments[1:2] == ["--jso"]:  # an abbreviation that is not ambiguous
                    self.assertEqual(done.returncode, 3)
                    continue
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn(word, done.stderr)
                self.assertEqual(done.stdout, "")

    def test_full_disk(self):
        if os.path.exists("/dev/full"):
            code = os.system(f"{os.environ.get('STARONNX', 'build/staronnx')} --help >/dev/full 2>/dev/null")
            self.assertEqual(os.waitstatus_to_exitcode(code), 1)


class Inspect(unittest.TestCase):
    def inspect(self, path, *more):
        done = run("inspect", path, "--json", *more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_zoo(self):
        """Published sizes: parameters in millions, multiply-adds in billions."""
        for name, parameters, macs in (
            ("bvlc_alexnet", 60.97, 0.656), ("densenet121", 8.15, 2.86), ("resnet50", 25.61, 4.1),
            ("squeezenet", 1.235, 0.352), ("vgg19", 143.67, 19.65), ("inception_v1", 7.0, 1.43),
        ):
            with self.subTest(name):
                about = self.inspect(f"{LIGHT}/light_{name}.onnx")
                self.assertAlmostEqual(about["parameters"] / 1e6, parameters, delta=0.01 * parameters)
                self.assertAlmostEqual(about["flops"] / 2e9, macs, delta=0.02 * macs)
                self.assertEqual(about["unknown_operators"], 0)
                self.assertEqual(run("inspect", f"{LIGHT}/light_{name}.onnx").returncode, 0)

    def test_exact(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "mlp.onnx")
            with open(path, "wb") as f:
                f.write(models.mlp().SerializeToString())
            about = self.inspect(path, "--free-dim", "3")
            self.assertEqual(about["parameters"], 16 * 64 + 64 + 64 * 64 + 64 + 64 * 4 + 4)
            gemms = 3 * ((2 * 16 + 1) * 64 + (2 * 64 + 1) * 64 + (2 * 64 + 1) * 4)
            self.assertEqual(about["flops"], gemms + 3 * 2 * 64)
            self.assertEqual(about["inputs"],
                             [{"name": "x", "datatype": "FP32", "shape": [-1, 16]}])

    def test_graph(self):
        with tempfile.TemporaryDirectory() as d:
            path, dot, svg = (os.path.join(d, name) for name in ("mlp.onnx", "g.dot", "g.svg"))
            with open(path, "wb") as f:
                f.write(models.mlp().SerializeToString())
            for file in dot, svg:
                done = run("inspect", path, "--graph", file)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("operators", done.stdout)
            with open(dot, encoding="utf-8") as f:
                text = f.read()
            self.assertEqual(len(re.findall(r"^  n\d+ \[label=\"(Gemm|Relu)", text, re.M)), 5)
            self.assertEqual(text.count(" -> "), 6)
            drawn = xml.etree.ElementTree.parse(svg).getroot()
            kinds = [g.get("class") for g in drawn.iter("{http://www.w3.org/2000/svg}g")]
            self.assertEqual((kinds.count("node"), kinds.count("edge")), (7, 6))

            # without Graphviz, and with one that fails: a hint, and no file
            fake = os.path.join(d, "dot")
            other = os.path.join(d, "other.svg")
            for script in None, "#!/bin/sh\necho broken >&2\nexit 3\n":
                if script:
                    with open(fake, "w", encoding="utf-8") as f:
                        f.write(script)
                    os.chmod(fake, 0o755)
                done = run("inspect", path, "--graph", other, environment={"PATH": d})
                self.assertEqual(done.returncode, 4, done.stderr)
                self.assertIn("broken" if script else "install Graphviz", done.stderr)
                self.assertIn(".dot", done.stderr)
                self.assertEqual((len(done.stderr.splitlines()), done.stdout), (1, ""))
                self.assertFalse(os.path.exists(other))
            done = run("inspect", path, "--graph", os.path.join(d, "missing", "g.dot"))
            self.assertEqual(done.returncode, 3)
            self.assertIn("missing", done.stderr)

    def test_missing(self):
        done = run("inspect", "/nonexistent.onnx")
        self.assertEqual(done.returncode, 3)
        self.assertEqual(len(done.stderr.splitlines()), 1)


class Infer(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.at = lambda name: os.path.join(directory.name, name)

    def write(self, name, made):
        with open(self.at(name), "wb") as f:
            f.write(made if isinstance(made, bytes) else made.SerializeToString())
        return self.at(name)

    def infer(self, *arguments):
        done = run("infer", *arguments, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return {o["name"]: o for o in json.loads(done.stdout)["outputs"]}

    def test_formats(self):
        model = self.write("add.onnx", models.add(("n", 4)))
        a, b = np.float32([[1, 2, 3, 4]] * 2), np.float32([[5, 6, 7, 8]] * 2)
        np.save(self.at("a.npy"), a)
        pb = self.write("b.pb", numpy_helper.from_array(b, "b"))
        raw = self.write("b.raw", b.tobytes())
        for other in pb, raw:
            got = self.infer(model, "--input", f"a={self.at('a.npy')}", "--input", f"b={other}",
                             "--output-dir", self.at("out"))
            self.assertEqual(got["sum"]["shape"], [2, 4])
            self.assertEqual(got["sum"]["data"], (a + b).flatten().tolist())
            self.assertTrue(np.array_equal(np.load(self.at("out/sum.npy")), a + b))

    def test_types(self):
        for datatype, (_, kind) in models.DTYPES.items():
            with self.subTest(datatype):
                model = self.write("m.onnx", models.identity(datatype))
                if datatype == "BYTES":
                    x = np.array([[b"ab", b""], [b"long one", b"\xc3\xa9"]])
                else:
                    x = np.arange(6).reshape(2, 3).astype(kind)
                for version in (1, 0), (2, 0), (3, 0):
                    with open(self.at("x.npy"), "wb") as f:
                        np.lib.format.write_array(f, x, version=version)
                    self.infer(model, "--input", self.at("x.npy"), "--output-dir", self.at("out"))
                    self.assertTrue(np.array_equal(np.load(self.at("out/y.npy")), x))

    def test_random(self):
        model = self.write("mlp.onnx", models.mlp())
        first = self.infer(model, "--random", "1", "--shape", "x:3,16")
        self.assertEqual(first["y"]["shape"], [3, 4])
        self.assertEqual(first, self.infer(model, "--random", "1", "--shape", "x:3,16"))
        self.assertNotEqual(first, self.infer(model, "--random", "2", "--shape", "x:3,16"))
        self.assertEqual(run("infer", model, "--random", "1", "--repeat", "3").returncode, 0)

    def test_mistakes(self):
        model = self.write("add.onnx", models.add())
        np.save(self.at("f8.npy"), np.zeros((1, 4)))
        np.save(self.at("f4.npy"), np.zeros((1, 4), np.float32))
        np.save(self.at("order.npy"), np.asfortranarray(np.zeros((2, 4), np.float32)))
        np.save(self.at("big.npy"), np.zeros((1, 4), ">f4"))
        with open(self.at("f4.npy"), "rb") as f:
            broken = f.read()
        self.write("short.npy", broken[:-3])
        self.write("head.npy", broken[:30])
        self.write("not.npy", b"hello")
        self.write("bad.pb", b"\xff\xff\xff")
        self.write("odd.raw", b"12345")
        ok = f"b={self.at('f4.npy')}"
        for arguments in (
            ["--input", ok], ["--input", "zz=x"], ["--input", ok, "--input", ok],
            *(["--input", ok, "--input", f"a={self.at(name)}"] for name in (
                "f8.npy", "order.npy", "big.npy", "short.npy", "head.npy", "not.npy", "bad.pb",
                "odd.raw", "missing.npy")),
            ["--device", "gpu:77", "--random", "1"],
            ["--device", "cpu:0@0", "--random", "1"],
            ["--random", "1", "--shape", "aa:2,4"],
        ):
            with self.subTest(arguments):
                done = run("infer", model, *arguments)
                self.assertEqual(done.returncode, 3, done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        done = run("infer", model, "--random", "one")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("'one'", done.stderr)

    def test_not_finite(self):
        """JSON has no such numbers: they are strings, which strict readers take."""
        model = self.write("m.onnx", models.identity("FP32"))
        np.save(self.at("x.npy"), np.float32([[np.nan, np.inf, -np.inf]]))
        got = self.infer(model, "--input", self.at("x.npy"))
        self.assertEqual(got["y"]["data"], ["NaN", "Infinity", "-Infinity"])


if __name__ == "__main__":
    unittest.main()
