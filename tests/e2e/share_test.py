# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Several models in one server: the plan at its endpoint, in `explain --server`, in the metrics."""

import concurrent.futures
import json
import socket
import tempfile
import threading
import unittest

import models
from serving import Server, run

X = {"x": ("FP32", [1, 16], [0.5] * 16)}


def parameters(**pairs):
    return "".join(f'parameters {{ key: "{k}" value {{ string_value: "{v}" }} }}\n'
                   for k, v in pairs.items())


class Share(unittest.TestCase):
    def start(self, configs, *arguments):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        zoo = {name: models.mlp(width=32 * (i + 1), depth=3) for i, name in enumerate(configs)}
        models.write_repository(directory.name, zoo, configs)
        return Server(["--models", directory.name, *arguments])

    def plan(self, server):
        status, _, body = server.get("/v2/plan")
        self.assertEqual(status, 200, body)
        return json.loads(body)

    def test_plan(self):
        """Two models are asked at once; the plan knows them, their rates and their settings."""
        configs = {"a": parameters(objective_ms=200, weight=2),
                   "b": parameters(objective_ms=400, priority=3)}
        with self.start(configs) as server:
            stop = threading.Event()

            def client(name):
                n = 0
                while not stop.is_set() or n < 50:
                    status, answer, _ = server.infer(name, X)
                    self.assertEqual(status, 200, answer)
                    n += 1
                return n

            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                clients = [pool.submit(client, name) for name in configs]
                while not all(m["rate"] > 1 and m["asked"] > 50
                              for m in self.plan(server)["models"]):
                    self.assertFalse(any(c.done() for c in clients))
                stop.set()
                asked = [c.result() for c in clients]
            plan = self.plan(server)
            self.assertTrue(plan["sharing"])
            self.assertEqual(plan["policy"], "fair")
            self.assertEqual(plan["session_ms"], 400)
            self.assertGreaterEqual(plan["replans"], 1)
            a, b = plan["models"]
            self.assertEqual((a["weight"], b["priority"], a["objective_ms"]), (2, 3, 200))
            for model, n in zip((a, b), asked):
                self.assertEqual(model["asked"], n)
                self.assertTrue(model["admitted"], model)
                self.assertTrue(1 <= model["units"] <= plan["units"] and model["batch"] >= 1)
                self.assertTrue(0 <= model["attainment"] <= 1 and model["why"])
            text = run("explain", "--server", f"127.0.0.1:{server.port}")
            self.assertEqual(text.returncode, 0, text.stderr)
            for word in "Policy fair", "a: admitted", "b: admitted", "objective ms":
                self.assertIn(word, text.stdout)
            same = run("explain", "--server", f"127.0.0.1:{server.port}", "--json")
            self.assertEqual([m["name"] for m in json.loads(same.stdout)["models"]], ["a", "b"])
            metrics = server.metrics()
            self.assertEqual(metrics['staronnx_plan_units{model="a",version="1"}'], a["units"])
            self.assertIn("staronnx_plan_demand", metrics)
            self.assertGreaterEqual(metrics["staronnx_replans_total"], plan["replans"])

    def test_one_model(self):
        with self.start({"only": ""}) as server:
            plan = self.plan(server)
            self.assertFalse(plan["sharing"])
            self.assertIn("nothing to share", plan["verdict"])
            text = run("explain", "--server", f"127.0.0.1:{server.port}")
            self.assertIn("nothing to share", text.stdout)

    def test_policies(self):
        with self.start({"a": "", "b": ""}, "--policy", "max-min") as server:
            self.assertEqual(self.plan(server)["policy"], "max-min")
            self.assertEqual(server.infer("a", X)[0], 200)

    def test_mistakes(self):
        with socket.socket() as s:  # bound, and nobody listens
            s.bind(("127.0.0.1", 0))
            nobody = f"127.0.0.1:{s.getsockname()[1]}"
            for arguments, code, word in (
                (["serve", "x.onnx", "--policy", "fairest"], 2, "'fairest'"),
                (["explain"], 2, "--server"),
                (["explain", "x.plan", "--server", nobody], 2, "--server"),
                (["explain", "--server", nobody], 4, nobody.split(":")[1]),
                (["explain", "--server", "https://x"], 3, "plain HTTP"),
            ):
                with self.subTest(arguments):
                    done = run(*arguments)
                    self.assertEqual(done.returncode, code, done.stderr)
                    self.assertIn(word, done.stderr)


if __name__ == "__main__":
    unittest.main()
