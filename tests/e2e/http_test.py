# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Every route and its errors, with curl and with plain sockets."""

import http.client
import json
import socket
import struct
import subprocess
import tempfile
import unittest

import numpy as np

import models
from serving import Server

ADD = {
    "inputs": [
        {"name": "a", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]},
        {"name": "b", "datatype": "FP32", "shape": [1, 4], "data": [[10, 20, 30, 40]]},
    ]
}


def infer_path(name="add"):
    return f"/v2/models/{name}/infer"


class Http(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        zoo = {
            "add": models.add(),
            "identity": models.identity(),
            "raw": models.identity(shape=("n", 4)),
            "text": models.identity("BYTES"),
            "two": models.scale(2),
        }
        models.write_repository(
            cls.directory.name,
            zoo,
            versions={"two": [1, 3]},
            configs={"two": "version_policy { all {} }"},
        )
        cls.server = Server(["--models", cls.directory.name, "--http-max-input-size", "100000"])

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)
        cls.directory.cleanup()

    def tearDown(self):
        """Whatever a test did, the next request works."""
        status, answer, _ = self.server.infer("add", {
            "a": ("FP32", [1, 4], [1, 2, 3, 4]), "b": ("FP32", [1, 4], [1, 1, 1, 1])})
        self.assertEqual(status, 200, answer)
        self.assertEqual(answer["outputs"][0]["data"], [2, 3, 4, 5])

    def curl(self, path, *arguments, stdin=None):
        """Status, headers and body."""
        done = subprocess.run(
            ["curl", "-sS", "-i", "--max-time", "30", *arguments,
             f"http://{self.server.url}{path}"],
            input=stdin, capture_output=True, check=True,
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        while head.startswith(b"HTTP/1.1 100"):
            head, _, body = body.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        return int(lines[0].split()[1]), headers, body

    def error(self, path, want, word, *arguments, **more):
        status, _, body = self.curl(path, *arguments, **more)
        self.assertEqual(status, want, body)
        message = json.loads(body)["error"]
        self.assertIn(word.lower(), message.lower())
        return message

    def post(self, body, path=None, headers=None):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        status, got, data = self.server.request("POST", path or infer_path(), body, headers or {})
        return status, got, data

    # --- routes ---

    def test_get_routes(self):
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/add/ready",
                     "/v2/models/two/versions/3/ready"):
            with self.subTest(path):
                self.assertEqual(self.curl(path)[0], 200)
        for path, key in (("/v2", "extensions"), ("/v2/", "name"), ("/v2/models/add", "inputs"),
                          ("/v2/models/two/versions/1", "platform"),
                          ("/v2/models/add/config", "max_batch_size"),
                          ("/v2/models/add/stats", "model_stats"),
                          ("/v2/models/stats", "model_stats")):
            with self.subTest(path):
                status, headers, body = self.curl(path)
                self.assertEqual(status, 200)
                self.assertIn("application/json", headers["content-type"])
                self.assertIn(key, json.loads(body))

    def test_versions(self):
        self.assertEqual(
            sorted(json.loads(self.curl("/v2/models/two")[2])["versions"]), ["1", "3"])
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
        for path, version in ((infer_path("two"), "3"), ("/v2/models/two/versions/1/infer", "1")):
            status, _, data = self.post(body, path)
            self.assertEqual(status, 200)
            self.assertEqual(json.loads(data)["model_version"], version)

    def test_index_is_post(self):
        status, _, body = self.curl("/v2/repository/index", "-X", "POST")
        self.assertEqual(status, 200)
        self.assertEqual({m["name"] for m in json.loads(body)},
                         {"add", "identity", "raw", "text", "two"})
        status, _, body = self.curl("/v2/repository/index", "-d", '{"ready": true}')
        self.assertEqual(status, 200)

    def test_unknown(self):
        self.error("/v2/models/nope", 404, "unknown model")
        self.error("/v2/models/add/versions/9", 404, "version")
        self.assertEqual(self.curl("/v2/models/nope/ready")[0], 400)
        self.error(infer_path("nope"), 404, "unknown model", "-d", json.dumps(ADD))
        for path in "/", "/v3", "/v2/models/add/nope", "/v2/models/add/versions/x", "/v2/health":
            with self.subTest(path):
                self.assertEqual(self.curl(path)[0], 404)

    def test_method(self):
        self.assertEqual(self.curl(infer_path())[0], 405)
        self.assertEqual(self.curl("/v2", "-X", "POST")[0], 405)
        self.assertEqual(self.curl("/v2/health/live", "-X", "DELETE")[0], 405)
        for method, path, allow in (("GET", infer_path(), "POST"), ("HEAD", infer_path(), "POST"),
                                    ("POST", "/v2", "GET, HEAD")):
            status, headers, _ = self.server.request(method, path)
            self.assertEqual((status, headers["allow"]), (405, allow))

    def test_head(self):
        """The headers of GET, and no body: the connection goes on with the next answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        self.addCleanup(connection.close)
        for path, status in (("/v2/health/ready", 200), ("/v2/models/add", 200), ("/v3", 404)):
            got = []
            for method in "HEAD", "GET":
                connection.request(method, path)
                response = connection.getresponse()
                self.assertEqual(response.status, status)
                got.append((response.getheader("content-length"), len(response.read())))
            self.assertEqual(got[0], (got[1][0], 0))
            self.assertGreater(got[1][1], 0)

    def test_metrics_port(self):
        status, headers, body = self.server.get("/metrics", port=self.server.metrics_port)
        self.assertEqual(status, 200)
        self.assertIn("text/plain", headers["content-type"])
        self.assertIn(b"nv_inference_request_success", body)

    # --- bodies ---

    def test_json(self):
        status, headers, body = self.curl(
            infer_path(), "-d", json.dumps({**ADD, "id": "seven \u00e9 \"x\""}))
        self.assertEqual(status, 200)
        answer = json.loads(body)
        self.assertEqual(answer["id"], "seven \u00e9 \"x\"")
        self.assertEqual(answer["model_name"], "add")
        outputs = {o["name"]: o for o in answer["outputs"]}
        self.assertEqual(outputs["sum"]["data"], [11, 22, 33, 44])
        self.assertEqual(outputs["difference"]["shape"], [1, 4])
        self.assertNotIn("parameters", outputs["sum"])  # perf_analyzer takes that for binary

    def test_chunked(self):
        status, _, body = self.curl(
            infer_path(), "-H", "Transfer-Encoding: chunked", "--data-binary", "@-",
            stdin=json.dumps(ADD).encode())
        self.assertEqual(status, 200, body)

    def test_binary(self):
        data = np.float32([1, 2, 3, 4]).tobytes()
        head = json.dumps({
            "inputs": [
                {"name": n, "datatype": "FP32", "shape": [1, 4],
                 "parameters": {"binary_data_size": 16}} for n in "ab"],
            "outputs": [{"name": "sum", "parameters": {"binary_data": True}},
                        {"name": "difference"}],
        }).encode()
        for _ in range(3):
            status, headers, body = self.post(
                head + 2 * data, headers={"Inference-Header-Content-Length": str(len(head))})
            self.assertEqual(status, 200, body)
            size = int(headers["inference-header-content-length"])
            answer = json.loads(body[:size])
            self.assertEqual(answer["outputs"][0]["parameters"]["binary_data_size"], 16)
            self.assertEqual(np.frombuffer(body[size:], np.float32).tolist(), [2, 4, 6, 8])
            self.assertEqual(answer["outputs"][1]["data"], [0, 0, 0, 0])

    def test_raw_request(self):
        data = np.arange(4, dtype=np.float32)  # a raw request is a batch of one
        status, headers, body = self.post(
            data.tobytes(), infer_path("raw"), {"Inference-Header-Content-Length": "0"})
        self.assertEqual(status, 200, body)
        size = int(headers["inference-header-content-length"])
        self.assertEqual(np.frombuffer(body[size:], np.float32).tolist(), data.tolist())

    def test_strings(self):
        words = ["", "a", "h\u00e9llo \u2603 \U0001f600", 'quote " and \\ and \n']
        status, answer, _ = self.server.infer("text", {"x": ("BYTES", [2, 2], words)})
        self.assertEqual(status, 200)
        self.assertEqual(answer["outputs"][0]["data"], words)
        packed = b"".join(struct.pack("<I", len(w.encode())) + w.encode() for w in words)
        head = json.dumps({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [2, 2],
                                       "parameters": {"binary_data_size": len(packed)}}],
                           "parameters": {"binary_data_output": True}}).encode()
        status, headers, body = self.post(
            head + packed, infer_path("text"), {"Inference-Header-Content-Length": str(len(head))})
        self.assertEqual(status, 200)
        self.assertEqual(body[int(headers["inference-header-content-length"]):], packed)

    def test_special_numbers(self):
        body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,3],"data":[NaN,Infinity,-0.0]}]}'
        status, _, data = self.post(body, infer_path("identity"))
        if status == 200:  # Triton writes them, too
            values = json.loads(data)["outputs"][0]["data"]
            self.assertNotEqual(values[0], values[0])
            self.assertEqual(values[1], float("inf"))
        else:
            self.assertEqual(status, 400)
        x = np.float32([[np.nan, np.inf, -np.inf]])
        head = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3],
                                       "parameters": {"binary_data_size": 12}}]}).encode()
        status, _, data = self.post(head + x.tobytes(), infer_path("identity"),
                                    {"Inference-Header-Content-Length": str(len(head))})
        self.assertEqual(status, 200)
        self.assertTrue(np.array_equal(
            np.float32(json.loads(data)["outputs"][0]["data"]), x[0], equal_nan=True))

    def test_keep_alive_and_pipelining(self):
        body = json.dumps(ADD).encode()
        one = (f"POST {infer_path()} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
               ).encode() + body
        with socket.create_connection(("127.0.0.1", self.server.port), 10) as s:
            s.sendall(3 * one)
            got = b""
            while got.count(b'"sum"') < 3:
                part = s.recv(65536)
                self.assertTrue(part, got)
                got += part
        self.assertEqual(got.count(b"HTTP/1.1 200"), 3)

    # --- errors ---

    def test_too_large(self):
        message = self.error(infer_path(), 413, "--http-max-input-size", "--data-binary", "@-",
                             stdin=b"x" * 200000)
        self.assertIn("100000", message)

    def test_encoding(self):
        status, _, body = self.curl(infer_path(), "-H", "Content-Encoding: br", "-d", "x")
        self.assertIn(status, (415, 501), body)
        self.assertIn("error", json.loads(body))

    def test_header_length(self):
        for value in "-1", "99999", "x", "1e3", "18446744073709551616", "":
            with self.subTest(value):
                status, _, body = self.post(
                    ADD, headers={"Inference-Header-Content-Length": value})
                self.assertIn(status, (400,) if value else (200, 400), body)


if __name__ == "__main__":
    unittest.main()
