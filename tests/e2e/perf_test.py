# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""staronnx perf: in this process and over HTTP; reports, searches, scenarios, exit codes."""

import csv
import json
import os
import signal
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree

import models
from serving import PROGRAM, SANITIZER, Server, run

SHORT = ("--quiet", "--request-count", "40", "--warmup", "0")


def write(directory, made, name="mlp.onnx"):
    path = os.path.join(directory, name)
    with open(path, "wb") as f:
        f.write(made.SerializeToString())
    return path


class Perf(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.model = write(cls.directory, models.mlp())

    def file(self, name):
        return os.path.join(self.directory, f"{self.id()}-{name}")

    def points(self, *arguments, code=0):
        done = run("perf", "--json", *arguments)
        self.assertEqual(done.returncode, code, done.stderr)
        return json.loads(done.stdout)["series"][0]["points"]

    def test_in_process(self):
        points = self.points(self.model, "--concurrency-range", "1:4:3", *SHORT)
        self.assertEqual([p["load"] for p in points], [1, 4])
        for p in points:
            self.assertGreaterEqual(p["requests"]["ok"], 40)
            self.assertEqual(sum(n for k, n in p["requests"].items() if k != "ok"), 0)
            self.assertLessEqual(p["p50_us"], p["p95_us"])
            self.assertLessEqual(p["p95_us"], p["p99_us"])
            self.assertGreater(p["throughput"], 0)
            self.assertGreaterEqual(p["server"]["requests"], 40)

    def test_open_loops(self):
        trace = self.file("trace")
        with open(trace, "w", encoding="utf-8") as f:
            f.writelines(f"{10 * i}\n" for i in range(12))
        [p] = self.points(self.model, "--trace", trace, "--trace-unit", "ms", "--quiet")
        self.assertEqual(p["requests"]["ok"], 12)
        for kind in "constant", "poisson", "gamma":
            with self.subTest(kind):
                [p] = self.points(self.model, "--request-rate-range", "200",
                                  "--request-distribution", kind, *SHORT)
                self.assertGreaterEqual(p["requests"]["ok"], 40)

    def test_http_and_files(self):
        page, sheet, kept = self.file("page.html"), self.file("sheet.csv"), self.file("kept.json")
        with Server([self.model]) as server:
            done = run("perf", "-m", "mlp", "-u", server.url, "--concurrency-range", "2",
                       "--html", page, "--csv", sheet, "--output", kept, *SHORT)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertRegex(done.stdout, r"Request concurrency: 2\n[^$]*p99 latency: \d+ usec")
            self.assertRegex(done.stdout, r"Server:\n    Inference count: \d+ in \d+ runs\n")
            answered = server.metrics()['nv_inference_request_success{model="mlp",version="1"}']
            self.assertGreaterEqual(answered, 40)
        with open(page, encoding="utf-8") as f:
            text = f.read()
        self.assertIn("<svg", text)
        self.assertNotRegex(text, r'(src|href)="https?:')  # a page that needs nothing else
        svg = text[text.index("<svg"):text.index("</svg>") + 6]
        xml.etree.ElementTree.fromstring(svg)
        with open(sheet, encoding="utf-8") as f:
            [row] = csv.DictReader(f)
        self.assertEqual(row["Concurrency"], "2")
        self.assertTrue(row["Server Compute Infer"].isdigit())
        with open(kept, encoding="utf-8") as f:
            [point] = json.load(f)["series"][0]["points"]
        self.assertEqual(point["load"], 2)
        said = point["server"]
        self.assertGreaterEqual(said["requests"], 40)
        self.assertLessEqual(said["runs"], said["inferences"])
        inside = sum(v for k, v in said.items() if k.endswith("_us"))
        self.assertTrue(0 < inside < 1.5 * point["mean_us"])  # of nearly the same requests
        both = self.file("both.html")
        done = run("perf", "--compare", f"a={kept}", f"b={kept}", "--html", both)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(os.path.getsize(both))
        judged = self.file("judged.json")
        done = run("perf", self.model, "--objective", "10000", "--output", judged, *SHORT)
        self.assertEqual(done.returncode, 0, done.stderr)
        done = run("perf", "--compare", kept, judged, "--html", both)
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertIn("10000 ms", done.stderr)

    def test_a_server_that_dies(self):
        """What it did until then is reported, and the rest of the ten minutes is not waited for."""
        kept = self.file("kept.json")
        with Server([self.model], check=False) as server:
            process = subprocess.Popen(
                [PROGRAM, "perf", "-m", "mlp", "-u", server.url, "--concurrency-range", "2",
                 "--duration", "600", "--warmup", "0", "-o", kept],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            name = 'nv_inference_request_success{model="mlp",version="1"}'
            while server.metrics().get(name, 0) < 40:
                self.assertIsNone(process.poll())
            server.kill()
            _, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 4, err)
        with open(kept, encoding="utf-8") as f:
            [point] = json.load(f)["series"][0]["points"]
        self.assertGreaterEqual(point["requests"]["ok"], 40)
        self.assertGreater(point["requests"]["connect"], 0)
        self.assertFalse(point["met"])

    def test_verdicts(self):
        self.points(self.model, "--objective", "10000", *SHORT)
        self.points(self.model, "--objective", "0.000001", *SHORT, code=1)

    def test_threshold(self):
        done = run("perf", "--json", "--quiet", self.model, "--find-threshold", "--objective", "1000",
                   "--duration", "0.2", "--precision", "50")
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(done.stdout)["series"][0]
        self.assertGreater(found["found"]["value"], 0)
        self.assertIn(found["found"]["value"], [p["load"] for p in found["points"]])

    def test_scenarios(self):
        for name in "SingleStream", "MultiStream", "Offline":
            with self.subTest(name):
                [p] = self.points(self.model, "--quiet", "--scenario", name, "--min-duration", "0.2")
                self.assertGreater(p["requests"]["ok"], 0)

    def test_mistakes(self):
        trace = self.file("dates")
        with open(trace, "w", encoding="utf-8") as f:
            f.write("1764460000\n1764460001\n")
        for arguments, code, word in (
            (["-m", "x", "-u", "127.0.0.1:1"], 4, "127.0.0.1:1"),
            ([self.file("missing.onnx")], 3, "missing.onnx"),
            ([self.model, "--trace", self.file("none")], 3, "none"),
            ([self.model, "--find-threshold"], 2, "--objective"),
            ([self.model, "--scenario", "Nothing"], 2, "Nothing"),
            ([self.model, "--concurrency-range", "1:x"], 2, "1:x"),
            ([], 2, "FILE.onnx"),
            ([self.model, "-m", "mlp"], 2, "in this process"),
            ([self.model, "-p", "0"], 2, "-p"),
            ([self.model, "--timeout", "0"], 2, "--timeout"),
            ([self.model, "--concurrency-range", "8:1"], 2, "8:1"),
            ([self.model, "--concurrency-range", "100000"], 2, "65535"),
            ([self.model, "--request-rate-range", "1", "--max-connections", "4294967296"], 2, "65535"),
            ([self.model, "--measurement-mode", "sometimes"], 2, "count_windows"),
            ([self.model, "--json=1"], 2, "takes no value"),
            ([self.model, "--trace", trace, "--trace-unit", "ns"], 2, "'ns'"),
            ([self.model, "--trace", trace], 3, "from the start of the run"),
            ([self.model, "-o", "/nowhere/r.json"], 3, "/nowhere/r.json"),
        ):
            with self.subTest(arguments):
                done = run("perf", *arguments)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertIn(word, done.stderr)
                self.assertEqual(done.stdout, "")

    def test_interrupt(self):
        """What was measured until then is printed."""
        process = subprocess.Popen([PROGRAM, "perf", self.model, "--concurrency-range", "1:500",
                                    *SHORT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(500):  # the first load has a line of its own when it is over
            line = process.stdout.readline()
            if not line or line.split()[:1] == ["1"]:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, out + err)
        self.assertNotRegex(err, SANITIZER)


if __name__ == "__main__":
    unittest.main()
