# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""The official Python client (tritonclient.http) against the server."""

import tempfile
import unittest

import numpy as np

import models
from serving import Server

try:
    import tritonclient.http as triton
    from tritonclient.utils import InferenceServerException
except (ImportError, RuntimeError) as missing:
    raise unittest.SkipTest(f"tritonclient is not installed: {missing}") from missing


def sample(datatype, shape, rng):
    kind = models.DTYPES[datatype][1]
    if datatype == "BYTES":
        words = [f"w{i}-é".encode() for i in range(int(np.prod(shape)))]
        return np.array(words, dtype=np.object_).reshape(shape)
    if datatype == "BOOL":
        return rng.integers(0, 2, shape).astype(kind)
    if datatype.startswith("FP"):
        return rng.normal(0, 1, shape).astype(kind)
    info = np.iinfo(kind)
    return rng.integers(info.min, info.max, shape, dtype=kind, endpoint=True)


def tensor(name, array, datatype, binary=True):
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


class TritonClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        zoo = {f"identity_{d.lower()}": models.identity(d) for d in models.DTYPES}
        zoo.update(add=models.add(), mlp=models.mlp())
        models.write_repository(cls.directory.name, zoo)
        cls.server = Server(["--models", cls.directory.name])
        cls.client = triton.InferenceServerClient(cls.server.url, concurrency=4)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.server.__exit__(None, None, None)
        cls.directory.cleanup()

    def test_health(self):
        self.assertTrue(self.client.is_server_live())
        self.assertTrue(self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready("add"))
        self.assertTrue(self.client.is_model_ready("add", "1"))
        self.assertFalse(self.client.is_model_ready("nothing"))
        self.assertFalse(self.client.is_model_ready("add", "7"))

    def test_metadata(self):
        about = self.client.get_server_metadata()
        self.assertEqual(about["name"], "staronnx")
        self.assertIn("binary_tensor_data", about["extensions"])
        model = self.client.get_model_metadata("mlp")
        self.assertEqual(model["name"], "mlp")
        self.assertEqual(model["versions"], ["1"])
        self.assertEqual(model["inputs"], [{"name": "x", "datatype": "FP32", "shape": [-1, 16]}])
        self.assertEqual(model["outputs"], [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}])

    def test_config(self):
        config = self.client.get_model_config("mlp")
        self.assertEqual(config["name"], "mlp")
        self.assertGreaterEqual(config["max_batch_size"], 1)
        self.assertEqual([i["name"] for i in config["input"]], ["x"])
        self.assertEqual(self.client.get_model_config("add")["max_batch_size"], 0)

    def test_index_and_statistics(self):
        index = {m["name"]: m for m in self.client.get_model_repository_index()}
        self.assertEqual(index["add"]["state"], "READY")
        stats = self.client.get_inference_statistics("add")["model_stats"]
        self.assertEqual(stats[0]["name"], "add")
        for key in "success", "fail", "queue", "compute_input", "compute_infer", "compute_output":
            self.assertIn("ns", stats[0]["inference_stats"][key])

    def test_all_types_binary(self):
        rng = np.random.default_rng(1)
        for datatype in models.DTYPES:
            for shape in (1, 1), (3, 5), (2, 0), (1, 1000):
                with self.subTest(datatype=datatype, shape=shape):
                    x = sample(datatype, shape, rng)
                    name = f"identity_{datatype.lower()}"
                    y = self.client.infer(name, [tensor("x", x, datatype)]).as_numpy("y")
                    self.assertEqual(y.shape, x.shape)
                    self.assertTrue(np.array_equal(x, y))

    def test_all_types_json(self):
        rng = np.random.default_rng(2)
        for datatype in models.DTYPES:
            if datatype == "FP16":
                continue  # the protocol has no JSON form for it
            with self.subTest(datatype=datatype):
                x = sample(datatype, (2, 3), rng)
                wanted = [triton.InferRequestedOutput("y", binary_data=False)]
                answer = self.client.infer(
                    f"identity_{datatype.lower()}",
                    [tensor("x", x, datatype, binary=False)],
                    outputs=wanted,
                )
                y = answer.as_numpy("y")
                if datatype == "BYTES":  # JSON strings come back as text
                    y = np.array([s if isinstance(s, bytes) else s.encode() for s in y.flat])
                    x = x.flatten()
                self.assertTrue(np.array_equal(x, y), f"{x} {y}")

    def test_mixed(self):
        a, b = np.float32([[1, 2, 3, 4]]), np.float32([[10, 20, 30, 40]])
        for binary_in in (True, False), (False, True), (False, False), (True, True):
            for binary_out in (True, False), (False, True):
                inputs = [
                    tensor("a", a, "FP32", binary_in[0]),
                    tensor("b", b, "FP32", binary_in[1]),
                ]
                outputs = [
                    triton.InferRequestedOutput("difference", binary_data=binary_out[0]),
                    triton.InferRequestedOutput("sum", binary_data=binary_out[1]),
                ]
                answer = self.client.infer("add", inputs, outputs=outputs, request_id="r-1")
                self.assertTrue(np.array_equal(answer.as_numpy("sum"), a + b))
                self.assertTrue(np.array_equal(answer.as_numpy("difference"), a - b))
                self.assertEqual(answer.get_response()["id"], "r-1")
                self.assertEqual(answer.get_response()["model_version"], "1")

    def test_one_output(self):
        a = np.float32([[1, 2, 3, 4]])
        inputs = [tensor("a", a, "FP32"), tensor("b", a, "FP32")]
        answer = self.client.infer(
            "add", inputs, outputs=[triton.InferRequestedOutput("difference")]
        )
        self.assertEqual([o["name"] for o in answer.get_response()["outputs"]], ["difference"])

    def test_async(self):
        rng = np.random.default_rng(3)
        xs = [rng.normal(0, 1, (1 + i % 3, 16)).astype(np.float32) for i in range(40)]
        alone = [self.client.infer("mlp", [tensor("x", x, "FP32")]).as_numpy("y") for x in xs]
        futures = [self.client.async_infer("mlp", [tensor("x", x, "FP32")]) for x in xs]
        for future, want in zip(futures, alone):
            got = future.get_result().as_numpy("y")
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)

    def test_compression(self):
        x = np.zeros((1, 1000), dtype=np.float32)
        for algorithm in "gzip", "deflate":
            try:
                answer = self.client.infer(
                    "identity_fp32",
                    [tensor("x", x, "FP32")],
                    request_compression_algorithm=algorithm,
                )
            except InferenceServerException as refused:  # a clear refusal is fine, too
                self.assertIn("encoding", str(refused).lower())
                continue
            self.assertTrue(np.array_equal(answer.as_numpy("y"), x))

    def test_errors(self):
        a = np.float32([[1, 2, 3, 4]])
        good = [tensor("a", a, "FP32"), tensor("b", a, "FP32")]
        bad = {
            "unknown model": ("nothing", good, "unknown model"),
            "missing input": ("add", good[:1], "b"),
            "unknown input": ("add", [*good, tensor("c", a, "FP32")], "c"),
            "twice": ("add", [good[0], good[0]], "a"),
            "wrong type": ("add", [good[0], tensor("b", a.astype(np.float64), "FP64")], "FP64"),
            "wrong shape": ("add", [good[0], tensor("b", a[:, :3], "FP32")], "b"),
            "wrong rank": ("add", [good[0], tensor("b", a[0], "FP32")], "b"),
        }
        for name, (model, inputs, word) in bad.items():
            with self.subTest(name):
                with self.assertRaises(InferenceServerException) as caught:
                    self.client.infer(model, inputs)
                self.assertIn(word, str(caught.exception))
        with self.assertRaises(InferenceServerException):
            self.client.infer("add", good, outputs=[triton.InferRequestedOutput("nope")])
        self.assertTrue(np.array_equal(self.client.infer("add", good).as_numpy("sum"), 2 * a))


if __name__ == "__main__":
    unittest.main()
