# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Broken and hostile input: a clear error, and nothing else is harmed."""

import json
import os
import socket
import tempfile
import time
import unittest

import models
from serving import Server, run


def ask(**changes):
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    tensor.update(changes)
    return {"inputs": [{k: v for k, v in tensor.items() if v is not None}]}


class Requests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        zoo = {"two": models.scale(2), "text": models.identity("BYTES"), "slow": models.slow()}
        models.write_repository(cls.directory.name, zoo)
        cls.server = Server(["--models", cls.directory.name])

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)
        cls.directory.cleanup()

    def tearDown(self):
        status, answer, _ = self.server.infer("two", {"x": ("FP32", [1, 4], [1, 2, 3, 4])})
        self.assertEqual(status, 200, answer)
        self.assertEqual(answer["outputs"][0]["data"], [2, 4, 6, 8])

    def refused(self, body, status=400, name="two", headers=None):
        if not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        got, _, data = self.server.request(
            "POST", f"/v2/models/{name}/infer", body, headers or {})
        self.assertEqual(got, status, data)
        message = json.loads(data)["error"]
        self.assertTrue(message)
        self.assertLess(len(message), 1000)
        return message

    def test_broken_json(self):
        bodies = ["", "{", "}", "null", "[]", "5", '"x"', '{"inputs":}', '{"inputs":[}', "{'a':1}",
                  '{"inputs":[{"name":"x"', "\0", "\xff\xfe", '{"inputs":[{}]} trailing',
                  '{"inputs":{}}', '{"inputs":[]}', '{"inputs":[1]}', "{}", '{"inputs":null}',
                  b'{"inputs":[{"name":"\xff\xfe"}]}', '{"inputs":[{"name":"x\\ud800"}]}']
        for body in bodies:
            with self.subTest(body):
                self.refused(body.encode("latin-1") if isinstance(body, str) else body)

    def test_deep_json(self):
        for depth in 100, 10_000, 1_000_000:
            self.refused("[" * depth)
            self.refused('{"a":' * depth)
            self.refused(json.dumps(ask())[:-2].replace("[1, 2, 3, 4]", "[" * depth, 1))
            self.refused('{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":'
                         + "[" * depth + "1" + "]" * depth + "}]}")

    def test_huge_json(self):
        self.refused('{"inputs":[' + '{"name":"x"},' * 200_000 + "{}]}")
        self.refused('{"' + "k" * 5_000_000 + '":1}')
        self.refused(ask(name="n" * 3_000_000))
        self.refused(ask(data=[1] * 1_000_000))

    def test_wrong_tensors(self):
        wrong = {
            "name": ask(name="nope"), "no name": ask(name=None), "name type": ask(name=3),
            "datatype": ask(datatype="FP64"), "no datatype": ask(datatype=None),
            "unknown datatype": ask(datatype="FP8"), "datatype type": ask(datatype=7),
            "no shape": ask(shape=None), "shape type": ask(shape="1,4"), "negative": ask(shape=[-1, 4]),
            "shape of text": ask(shape=["1", 4]), "fraction": ask(shape=[1.5, 4]),
            "rank": ask(shape=[4]), "second dimension": ask(shape=[1, 5], data=[1] * 5),
            "overflow": ask(shape=[2**62, 2**62]), "huge": ask(shape=[2**63 - 1, 4]),
            "huge but empty": ask(shape=[0, 2**33], data=[]),
            "many dimensions": ask(shape=[1] * 10_000), "no data": ask(data=None),
            "few": ask(data=[1, 2, 3]), "many": ask(data=[1, 2, 3, 4, 5]), "ragged": ask(data=[[1, 2], [3]]),
            "data type": ask(data="1234"), "text in data": ask(data=[1, 2, 3, "4"]),
            "null in data": ask(data=[1, 2, 3, None]), "object in data": ask(data=[{}, {}, {}, {}]),
        }
        for name, body in wrong.items():
            with self.subTest(name):
                self.refused(body)
        self.assertIn("nope", self.refused(ask(name="nope")))

    def test_twice(self):
        body = ask()
        body["inputs"] *= 2
        self.refused(body)

    def test_unknown_fields(self):
        """They are parameters of other servers: ignored, as the protocol says, or refused."""
        body = {**ask(), "zzz": {"deep": [1, {"x": None}]}, "parameters": {"mine": 1}}
        status, _, data = self.server.request("POST", "/v2/models/two/infer", json.dumps(body))
        self.assertIn(status, (200, 400), data)

    def test_byte_counts(self):
        for size, sent in (16, 12), (16, 20), (12, 12), (20, 20), (0, 0), (2**63, 16), (-1, 16):
            with self.subTest(size=size, sent=sent):
                head = json.dumps(ask(data=None, parameters={"binary_data_size": size}))
                self.refused(head.encode() + bytes(sent),
                             headers={"Inference-Header-Content-Length": str(len(head))})
        for size in "16", 1.5, None, [], True:
            head = json.dumps(ask(data=None, parameters={"binary_data_size": size}))
            self.refused(head.encode() + bytes(16),
                         headers={"Inference-Header-Content-Length": str(len(head))})

    def test_broken_strings(self):
        for packed in (b"\xff\xff\xff\xff", b"\4\0\0\0abc", b"\1\0\0\0ab", b"\0\0\0", b""):
            head = json.dumps({"inputs": [{
                "name": "x", "datatype": "BYTES", "shape": [1, 1],
                "parameters": {"binary_data_size": len(packed)}}]})
            self.refused(head.encode() + packed, name="text",
                         headers={"Inference-Header-Content-Length": str(len(head))})

    def connection(self):
        return socket.create_connection(("127.0.0.1", self.server.port), 20)

    def test_not_http(self):
        for text in b"\0" * 100, b"GET\r\n\r\n", b"\x16\x03\x01\x02\0", b"POST / HTTP/9.9\r\n\r\n":
            with self.connection() as s:
                s.sendall(text)
                s.shutdown(socket.SHUT_WR)
                try:
                    while s.recv(4096):
                        pass
                except ConnectionError:
                    pass

    def test_slow_and_half_closed(self):
        """Slow senders hold nobody up; a half-closed one still gets its answer or an end."""
        body = json.dumps(ask()).encode()
        head = (f"POST /v2/models/two/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
                "\r\n\r\n").encode()
        slow = [self.connection() for _ in range(20)]
        for s in slow:
            s.sendall(head[:30])
        self.tearDown()
        for s in slow:
            s.sendall(head[30:] + body[:5])
        self.tearDown()
        for s in slow[:10]:
            s.close()
        for s in slow[10:]:
            s.sendall(body[5:])
            self.assertIn(b"200", s.recv(4096).split(b"\r\n")[0])
            s.close()
        with self.connection() as s:
            s.sendall(head + body)
            s.shutdown(socket.SHUT_WR)
            got = s.recv(4096)  # the answer, or a closed connection
            self.assertTrue(not got or b" 200 " in got.split(b"\r\n")[0], got)

    def test_large_bodies_in_pieces(self):
        """Whole, refused and small requests in turn on one connection, in pieces of any size."""
        def answer(s):
            got = b""
            while b"\r\n\r\n" not in got:
                got += s.recv(65536)
            head, rest = got.split(b"\r\n\r\n", 1)
            size = int(next(line.split(b":")[1] for line in head.split(b"\r\n")
                            if line.lower().startswith(b"content-length")))
            while len(rest) < size:
                rest += s.recv(65536)
            self.assertEqual(len(rest), size)
            return head.split(b"\r\n")[0]

        def request(rows, wrong=0):
            tensor = {"name": "x", "datatype": "FP32", "shape": [rows, 4],
                      "parameters": {"binary_data_size": 16 * rows}}
            outputs = [{"name": "y", "parameters": {"binary_data": True}}]
            head = json.dumps({"inputs": [tensor], "outputs": outputs}).encode()
            body = head + bytes(16 * rows + wrong)
            return (f"POST /v2/models/two/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
                    f"\r\nInference-Header-Content-Length: {len(head)}\r\n\r\n").encode() + body

        with self.connection() as s:
            for rows, wrong, piece in ((1, 0, 9999), (4, 0, 9999), (4, 600_000, 7001), (1, 0, 1),
                                       (4, 400_000, 131_072), (4, 262_144, 300_001), (2, 0, 50)):
                whole = request(rows, wrong)
                for at in range(0, len(whole), piece):
                    s.sendall(whole[at:at + piece])
                self.assertIn(b" 400 " if wrong else b" 200 ", answer(s))

    def test_clients_that_leave(self):
        body = json.dumps({"inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}).encode()
        head = (f"POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
                "\r\n\r\n").encode()
        for _ in range(30):
            s = self.connection()
            s.sendall(head + body)
            time.sleep(0.002)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            s.close()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            pending = [v for k, v in self.server.metrics().items()
                       if k.startswith("nv_inference_pending_request_count") and '"slow"' in k]
            if pending == [0]:
                return
            time.sleep(0.05)
        self.fail(f"requests of clients that left are still waiting: {pending}")


class Files(unittest.TestCase):
    """What cannot be served: one line, the right exit code."""

    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def serve(self, *arguments):
        return run("serve", "--http-port", "0", "--metrics-port", "0", *arguments)

    def check(self, done, code, word):
        self.assertEqual(done.returncode, code, done.stderr)
        lines = [line for line in done.stderr.splitlines() if line.startswith("staronnx")]
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertIn(word.lower(), lines[0].lower())

    def path(self, name, data):
        path = os.path.join(self.directory.name, name)
        with open(path, "wb") as f:
            f.write(data)
        return path

    def test_missing(self):
        self.check(self.serve("/nonexistent/model.onnx"), 3, "/nonexistent/model.onnx")
        self.check(self.serve("--models", "/nonexistent"), 3, "/nonexistent")

    def test_not_a_repository(self):
        self.check(self.serve("--models", self.directory.name), 3, "not a model repository")
        self.check(self.serve("--models", self.path("file", b"x")), 3, "not a directory")

    def test_broken_files(self):
        whole = models.mlp().SerializeToString()
        for name, data in {"empty": b"", "text": b"hello", "zeros": bytes(1000),
                           "half": whole[: len(whole) // 2], "short": whole[:-1],
                           "ones": b"\xff" * 1000}.items():
            with self.subTest(name):
                path = self.path(f"{name}.onnx", data)
                self.check(self.serve(path), 3, name)
                self.assertEqual(run("inspect", path).returncode, 3)

    def test_broken_model_beside_good_one(self):
        models.write_repository(self.directory.name, {
            "good": models.scale(2), "broken": models.mlp().SerializeToString()[:100]})
        with Server(["--models", self.directory.name]) as server:
            self.assertEqual(server.infer("good", {"x": ("FP32", [1, 4], [1, 2, 3, 4])})[0], 200)
            status, answer, _ = server.infer("broken", {"x": ("FP32", [1, 4], [1, 2, 3, 4])})
            self.assertIn(status, (400, 404, 503), answer)
            index = {m["name"]: m for m in json.loads(
                server.request("POST", "/v2/repository/index")[2])}
            self.assertEqual(index["good"]["state"], "READY")
            self.assertEqual(index["broken"]["state"], "UNAVAILABLE")
            self.assertTrue(index["broken"]["reason"])

    def test_broken_config(self):
        for name, text in {"syntax": "max_batch_size: {", "unknown": "no_such_field: 1",
                           "not_batchable": "max_batch_size: 8"}.items():
            models.write_repository(self.directory.name, {name: models.add()}, {name: text})
        done = self.serve("--models", self.directory.name, "--exit-on-error", "true")
        self.assertEqual(done.returncode, 3, done.stderr)

    def test_port_in_use(self):
        path = self.path("m.onnx", models.scale(2).SerializeToString())
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen()
            port = str(s.getsockname()[1])
            for option in "--http-port", "--metrics-port":
                begin = time.monotonic()
                done = self.serve(path, option, port)
                self.assertLess(time.monotonic() - begin, 20)
                self.check(done, 4, port)


if __name__ == "__main__":
    unittest.main()
