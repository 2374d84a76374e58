# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Several devices: models cut into stages, profiles in the cache, METIS that fails."""

import concurrent.futures
import os
import pathlib
import tempfile
import unittest

import numpy as np

import models
from serving import Server

TWO = ["--device", "cpu:0", "--device", "cpu:1@2"]


@unittest.skipIf((os.cpu_count() or 1) < 2, "needs two cores")
class Devices(unittest.TestCase):
    def setUp(self):
        self.work = tempfile.TemporaryDirectory()
        self.addCleanup(self.work.cleanup)
        self.store = os.path.join(self.work.name, "store")
        self.cache = os.path.join(self.work.name, "cache")
        os.mkdir(self.store)
        # some milliseconds, and enough weights to be worth optimising once
        self.mlp = models.mlp(width=1024, depth=8)
        models.write_repository(self.store, {"mlp": self.mlp})
        rng = np.random.default_rng(3)
        self.xs = [rng.normal(0, 1, (1, 16)).astype(np.float32) for _ in range(8)]
        self.want = None

    def start(self, *arguments, **environment):
        return Server(["--models", self.store, *arguments],
                      environment={"STARONNX_CACHE": self.cache, **environment})

    def ask(self, server, x):
        status, answer, _ = server.infer("mlp", {"x": ("FP32", x.shape, x.flatten().tolist())})
        self.assertEqual(status, 200, answer)
        return np.float32(answer["outputs"][0]["data"])

    def check(self, server):
        """What comes out is what a server with one device answers, whatever way it went."""
        if self.want is None:
            with self.start("--device", "cpu:0") as plain:
                self.want = [self.ask(plain, x) for x in self.xs]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            order = [n % len(self.xs) for n in range(240)]
            for n, got in zip(order, pool.map(lambda n: self.ask(server, self.xs[n]), order)):
                np.testing.assert_array_equal(got, self.want[n])

    def variants(self, server):
        runs = {}
        for key, value in server.metrics().items():
            if key.startswith("staronnx_variant_runs_total{"):
                runs[key.split('variant="')[1].split('"')[0]] = value
        return runs

    def test_cut_and_whole_answer_the_same(self):
        with self.start(*TWO) as server:
            self.check(server)
            runs = self.variants(server)
            self.assertIn("whole on cpu:0", runs)
            self.assertIn("whole on cpu:1@2", runs)
            self.assertTrue([name for name in runs if "|" in name], runs)
            self.assertEqual(sum(runs.values()), 240)
            self.assertGreater(sum(v for name, v in runs.items() if name != "whole on cpu:0"), 0)

    def test_profile_is_kept_and_a_damaged_one_is_made_anew(self):
        with self.start(*TWO) as server:
            self.assertIn("measuring", server.text())
        with self.start(*TWO) as server:
            self.assertNotIn("measuring", server.text())
        (profile,) = pathlib.Path(self.cache, "profiles").glob("*.json")
        whole = profile.read_bytes()
        for damaged in whole[:len(whole) // 2], b"", whole.replace(b"ONNX Runtime", b"Something else"):
            profile.write_bytes(damaged)
            with self.start(*TWO) as server:
                self.assertIn("measured anew", server.text())
                self.check(server)
            self.assertEqual(len(profile.read_bytes()) > len(whole) // 2, True)

    def test_without_metis_it_cuts_all_the_same(self):
        for helper in "/bin/false", "/no/such/program":
            with self.start(*TWO, STARONNX_METIS=helper) as server:
                self.assertTrue([name for name in self.variants(server) if "|" in name])
                self.check(server)

    def test_a_tiny_model_is_served_too(self):
        models.write_repository(self.store, {"two": models.scale(2)})
        with self.start(*TWO) as server:
            status, answer, _ = server.infer("two", {"x": ("FP32", [1, 4], [1, 2, 3, 4])})
            self.assertEqual(status, 200, answer)
            self.assertEqual(answer["outputs"][0]["data"], [2, 4, 6, 8])


if __name__ == "__main__":
    unittest.main()
