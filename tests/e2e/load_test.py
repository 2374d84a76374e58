# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Many requests at once: batching, overload, deadlines, a stop under load, the sums of metrics."""

import concurrent.futures
import http.client
import json
import signal
import tempfile
import threading
import time
import unittest

import numpy as np

import models
from serving import Server

X = {"x": ("FP32", [1, 4], [1, 2, 3, 4])}


def on_threads(n, work):
    """work(i) on n threads at once; the results in order."""
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        return list(pool.map(work, range(n)))


def metric(server, name, model):
    found = [v for k, v in server.metrics().items()
             if k.startswith(name + "{") and f'model="{model}"' in k]
    return sum(found)


class Load(unittest.TestCase):
    def start(self, zoo, *arguments, configs=None, **more):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        models.write_repository(directory.name, zoo, configs)
        return Server(["--models", directory.name, *arguments], **more)

    def until(self, met, seconds=60):
        deadline = time.monotonic() + seconds
        while not met():
            self.assertLess(time.monotonic(), deadline, "it does not come to that")
            time.sleep(0.005)

    def test_batching(self):
        """Answers are right and not mixed up, and there are fewer runs than requests."""
        config = "max_batch_size: 16 dynamic_batching { max_queue_delay_microseconds: 3000 }"
        with self.start({"mlp": models.mlp(width=256, depth=6)}, configs={"mlp": config}) as server:
            rng = np.random.default_rng(5)
            xs = [rng.normal(0, 1, (1 + i % 4, 16)).astype(np.float32) for i in range(32)]

            def ask(x):
                status, answer, _ = server.infer(
                    "mlp", {"x": ("FP32", x.shape, x.flatten().tolist())})
                self.assertEqual(status, 200, answer)
                return np.float32(answer["outputs"][0]["data"]).reshape(len(x), 4)

            want = [ask(x) for x in xs]
            before = server.stats("mlp")

            def client(i):
                for k in range(8):
                    n = (i + 5 * k) % len(xs)
                    np.testing.assert_allclose(ask(xs[n]), want[n], rtol=1e-4, atol=1e-5)

            on_threads(24, client)
            after = server.stats("mlp")
            requests = (after["inference_stats"]["success"]["count"]
                        - before["inference_stats"]["success"]["count"])
            runs = after["execution_count"] - before["execution_count"]
            self.assertEqual(requests, 24 * 8)
            self.assertLess(runs, requests)
            samples = sum(len(xs[(i + 5 * k) % len(xs)]) for i in range(24) for k in range(8))
            self.assertEqual(after["inference_count"] - before["inference_count"], samples)
            self.assertEqual(
                sum(b["compute_infer"]["count"] for b in after["batch_stats"]),
                after["execution_count"])
            self.assertLessEqual(max(b["batch_size"] for b in after["batch_stats"]), 16)

    def test_bad_value_in_a_batch(self):
        """An index that the model refuses fails its own request, not those in the same batch."""
        config = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 20000 }"
        table = [2.5 * i for i in range(16)]
        with self.start({"table": models.look_up(table)}, configs={"table": config}) as server:

            def client(i):
                for k in range(10):
                    index = 99 if i == 0 else (i + k) % 16
                    status, answer, _ = server.infer("table", {"i": ("INT64", [1, 1], [index])})
                    self.assertEqual(status, 400 if i == 0 else 200, answer)
                    if i:
                        self.assertEqual(answer["outputs"][0]["data"], [table[index]])

            on_threads(8, client)
            stats = server.stats("table")
            self.assertEqual(stats["inference_stats"]["success"]["count"], 7 * 10)
            self.assertEqual(stats["inference_stats"]["fail"]["count"], 10)
            self.assertGreater(max(b["batch_size"] for b in stats["batch_stats"]), 1)

    def test_not_a_batch(self):
        """What a model finds in one request is not handed to another, whatever its shapes say."""
        zoo = {"named": models.find("m"), "unnamed": models.find(None)}
        with self.start(zoo) as server:

            def client(i):
                for k in range(10):
                    x = [float((i >> b) & 1) for b in range(4)]
                    want = [n for b in range(4) if x[b] for n in (0, b)]
                    for name in zoo:
                        status, answer, _ = server.infer(name, {"x": ("FP32", [1, 4], x)})
                        self.assertEqual(status, 200, answer)
                        self.assertEqual(answer["outputs"][0]["data"], want)

            on_threads(16, client)
            for name, size in ("named", 0), ("unnamed", 4):
                config = json.loads(server.get(f"/v2/models/{name}/config")[2])
                self.assertEqual(config["max_batch_size"], size)
            self.assertIn("'x' counts n, 'y' counts m", server.text())
            self.assertIn("output 'y' has not a row for each sample", server.text())

    def test_too_large_a_batch(self):
        with self.start({"two": models.scale(2)}, configs={"two": "max_batch_size: 4"}) as server:
            for n, status in (4, 200), (5, 400), (0, 400):
                got, answer, _ = server.infer("two", {"x": ("FP32", [n, 4], [1] * 4 * n)})
                self.assertEqual(got, status, answer)

    def test_full_queue(self):
        """More than may wait: refused early with 503 and Retry-After; the others are answered."""
        config = ("max_batch_size: 0 dynamic_batching { default_queue_policy "
                  "{ max_queue_size: 4 } }")
        zoo = {"slow": models.slow(steps=120), "two": models.scale(2)}
        with self.start(zoo, configs={"slow": config}) as server:
            results = on_threads(32, lambda _: (*server.infer("slow", X), time.monotonic()))
            codes = [status for status, *_ in results]
            self.assertLessEqual(set(codes), {200, 503})
            self.assertGreaterEqual(codes.count(200), 4)
            self.assertGreaterEqual(codes.count(503), 10)
            for status, answer, headers, _ in results:
                if status == 503:
                    self.assertGreaterEqual(int(headers["retry-after"]), 1)
                    self.assertIn("Exceeds maximum queue size", answer["error"])
            self.assertEqual(server.infer("slow", X)[0], 200)
            self.assertEqual(metric(server, "nv_inference_request_success", "slow"),
                             codes.count(200) + 1)
            self.assertEqual(metric(server, "nv_inference_request_failure", "slow"),
                             codes.count(503))

    def test_timeouts(self):
        """A request that cannot be done in time is answered early, in the clients' words."""
        with self.start({"slow": models.slow(steps=80)}) as server:
            times = []
            for _ in range(5):
                begin = time.monotonic()
                self.assertEqual(server.infer("slow", X)[0], 200)
                times.append(time.monotonic() - begin)
            timeout = int(6e6 * sorted(times)[2])
            results = on_threads(
                24, lambda _: server.infer("slow", X, parameters={"timeout": timeout}))
            codes = [status for status, *_ in results]
            self.assertLessEqual(set(codes), {200, 503})
            self.assertIn(200, codes)
            self.assertIn(503, codes)
            for status, answer, _ in results:
                if status == 503:
                    self.assertIn("Request timeout expired", answer["error"])
            for wrong in -1, "x", 1.5:
                self.assertEqual(server.infer("slow", X, parameters={"timeout": wrong})[0], 400)
            self.assertEqual(server.infer("slow", X, parameters={"timeout": 0})[0], 200)

    def test_stop_under_load(self):
        """Every request that was taken is answered, once; the rest is refused or not connected."""
        server = self.start({"slow": models.slow(steps=60)})
        answered, refused, broken, closed = [], [], [], []
        stop = threading.Event()
        body = json.dumps({"inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]})

        def client(_):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            sent = False
            while not stop.is_set():
                try:
                    sent = False
                    connection.request("POST", "/v2/models/slow/infer", body)
                    sent = True
                    response = connection.getresponse()
                    data = json.loads(response.read())
                except http.client.RemoteDisconnected:
                    closed.append(1)  # an idle connection, closed as the request was sent
                    return
                except (OSError, http.client.HTTPException, ValueError) as error:
                    (broken if sent and not stopping.is_set() else closed).append(error)
                    return
                (answered if response.status == 200 else refused).append((response.status, data))
                if response.status != 200 or response.will_close:
                    return

        stopping = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            clients = [pool.submit(client, i) for i in range(16)]
            self.until(lambda: len(answered) >= 64)
            stopping.set()
            server.process.send_signal(signal.SIGTERM)
            code = server.wait()
            stop.set()
            for c in clients:
                c.result()
        self.assertEqual(code, 0)
        self.assertEqual(broken, [])
        self.assertGreater(len(answered), 0)
        for status, answer in refused:
            self.assertEqual(status, 503, answer)

    def test_stop_answers_what_was_admitted(self):
        """All that waits and runs when the signal comes gets its result."""
        server = self.start({"slow": models.slow(size=512, steps=80)})
        n = 12
        with concurrent.futures.ThreadPoolExecutor(n) as pool:
            asked = [pool.submit(server.infer, "slow", X) for _ in range(n)]
            self.until(lambda: metric(server, "nv_inference_pending_request_count", "slow")
                       + metric(server, "staronnx_running_requests", "slow")
                       + metric(server, "nv_inference_request_success", "slow") == n)
            self.assertFalse(all(a.done() for a in asked))
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(server.wait(), 0)
            self.assertEqual([a.result()[0] for a in asked], [200] * n)

    def test_second_signal(self):
        server = self.start({"slow": models.slow(size=1024, steps=1500)}, "--exit-timeout-secs", "60")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            def ask():
                try:
                    return server.infer("slow", X)
                except (OSError, http.client.HTTPException):
                    return None
            pending = pool.submit(ask)
            self.until(lambda: any(v == 1 for k, v in server.metrics().items()
                                   if k.startswith("staronnx_running_requests{")))
            server.process.send_signal(signal.SIGINT)
            self.until(lambda: "stopping, waiting" in server.text())
            self.assertFalse(pending.done())
            self.assertIsNone(server.process.poll())
            server.process.send_signal(signal.SIGINT)
            self.assertEqual(server.wait(), 1)
            pending.result()

    def test_sums(self):
        """Metrics and statistics agree with what was sent."""
        with self.start({"two": models.scale(2), "mlp": models.mlp()}) as server:
            n_good, n_bad = 30, 7
            for _ in range(n_good):
                self.assertEqual(server.infer("two", X)[0], 200)
            for _ in range(n_bad):
                self.assertEqual(server.infer("two", {"x": ("FP64", [1, 4], [1, 2, 3, 4])})[0], 400)
            stats = server.stats("two")
            times = stats["inference_stats"]
            self.assertEqual(times["success"]["count"], n_good)
            self.assertEqual(stats["inference_count"], n_good)
            for part in "queue", "compute_input", "compute_infer", "compute_output":
                self.assertEqual(times[part]["count"], n_good)
            parts = sum(times[part]["ns"] for part in
                        ("queue", "compute_input", "compute_infer", "compute_output"))
            self.assertLessEqual(parts, times["success"]["ns"] * 1.001)
            self.assertEqual(metric(server, "nv_inference_request_success", "two"), n_good)
            self.assertEqual(metric(server, "nv_inference_count", "two"), n_good)
            self.assertEqual(metric(server, "nv_inference_request_success", "mlp"), 0)
            self.assertEqual(metric(server, "nv_inference_pending_request_count", "two"), 0)
            self.assertAlmostEqual(metric(server, "nv_inference_request_duration_us", "two"),
                                   times["success"]["ns"] / 1000, delta=n_good + 1)


if __name__ == "__main__":
    unittest.main()
