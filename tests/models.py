# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Small ONNX models for tests and benchmarks, made with fixed seeds.

    write_repository(directory, {"add": add(), "mlp": mlp()}, configs={"mlp": "max_batch_size: 8"})
"""

import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IR_VERSION, OPSET = 10, 20  # what ONNX Runtime 1.21 reads

# protocol name -> (ONNX type, NumPy type)
DTYPES = {
    "BOOL": (TensorProto.BOOL, np.bool_),
    "UINT8": (TensorProto.UINT8, np.uint8),
    "UINT16": (TensorProto.UINT16, np.uint16),
    "UINT32": (TensorProto.UINT32, np.uint32),
    "UINT64": (TensorProto.UINT64, np.uint64),
    "INT8": (TensorProto.INT8, np.int8),
    "INT16": (TensorProto.INT16, np.int16),
    "INT32": (TensorProto.INT32, np.int32),
    "INT64": (TensorProto.INT64, np.int64),
    "FP16": (TensorProto.FLOAT16, np.float16),
    "FP32": (TensorProto.FLOAT, np.float32),
    "FP64": (TensorProto.DOUBLE, np.float64),
    "BYTES": (TensorProto.STRING, np.object_),
}


def model(nodes, inputs, outputs, initializers=(), name="test"):
    graph = helper.make_graph(nodes, name, inputs, outputs, list(initializers))
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.checker.check_model(made)
    return made


def value(name, datatype="FP32", shape=("n", 4)):
    return helper.make_tensor_value_info(name, DTYPES[datatype][0], list(shape))


def constant(name, array):
    return numpy_helper.from_array(np.ascontiguousarray(array), name)


def identity(datatype="FP32", shape=("n", "m")):
    """y = x, any element type."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return model([node], [value("x", datatype, shape)], [value("y", datatype, shape)])


def add(shape=(1, 4)):
    """sum = a + b, difference = a - b: two inputs and two outputs."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["difference"]),
    ]
    inputs = [value("a", shape=shape), value("b", shape=shape)]
    return model(nodes, inputs, [value("sum", shape=shape), value("difference", shape=shape)])


def scale(factor, shape=("n", 4)):
    """y = factor * x."""
    node = helper.make_node("Mul", ["x", "k"], ["y"])
    k = constant("k", np.float32(factor))
    return model([node], [value("x", shape=shape)], [value("y", shape=shape)], [k])


def look_up(table):
    """y[n, 1] = table[i[n, 1]]: an index out of range is refused by the run."""
    k = constant("k", np.float32(table))
    node = helper.make_node("Gather", ["k", "i"], ["y"])
    return model([node], [value("i", "INT64", ("n", 1))], [value("y", shape=("n", 1))], [k])


def find(found):
    """x[n, 4] -> y[m, 2], where its elements are over 0: first dimensions that look like a batch.
    `found`: the name of m, or None."""
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["over"]),
        helper.make_node("NonZero", ["over"], ["at"]),
        helper.make_node("Transpose", ["at"], ["y"]),
    ]
    return model(nodes, [value("x")], [value("y", "INT64", (found, 2))],
                 [constant("zero", np.float32(0))])


def mlp(width=64, depth=3, inputs=16, outputs=4, seed=7):
    """Dense layers with a free batch: x[n, inputs] -> y[n, outputs]."""
    rng = np.random.default_rng(seed)
    nodes, weights, last, size = [], [], "x", inputs
    for i in range(depth):
        to = outputs if i == depth - 1 else width
        w = rng.normal(0, (2 / size) ** 0.5, (size, to)).astype(np.float32)
        b = rng.normal(0, 0.1, to).astype(np.float32)
        weights += [constant(f"w{i}", w), constant(f"b{i}", b)]
        out = "y" if i == depth - 1 else f"h{i}"
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [out + ("" if out == "y" else "_")]))
        if out != "y":
            nodes.append(helper.make_node("Relu", [out + "_"], [out]))
        last, size = out, to
    return model(
        nodes, [value("x", shape=("n", inputs))], [value("y", shape=("n", outputs))], weights
    )


def slow(size=512, steps=60, seed=3):
    """A chain of matrix products over x[n, size]: some milliseconds even for one row of `size`.

    Each step multiplies a [size, size] matrix that depends on x, so its cost does not shrink with
    the batch and the engine cannot fold it.
    """
    rng = np.random.default_rng(seed)
    w = rng.normal(0, 1 / size**0.5, (size, size)).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], keepdims=0),
        helper.make_node("Add", ["w", "m"], ["s0"]),
    ]
    for i in range(steps):
        nodes.append(helper.make_node("MatMul", [f"s{i}", "w"], [f"p{i}"]))
        nodes.append(helper.make_node("Tanh", [f"p{i}"], [f"s{i + 1}"]))
    nodes += [
        helper.make_node("ReduceMean", [f"s{steps}"], ["r"], keepdims=0),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    return model(nodes, [value("x", shape=(1, 4))], [value("y", shape=(1, 4))], [constant("w", w)])


def write_repository(directory, models, configs=None, versions=None):
    """Write models in Triton's layout; `versions`: name -> list of version numbers."""
    configs, versions = configs or {}, versions or {}
    for name, made in models.items():
        for version in versions.get(name, [1]):
            path = os.path.join(directory, name, str(version))
            os.makedirs(path, exist_ok=True)
            with open(os.path.join(path, "model.onnx"), "wb") as f:
                f.write(made if isinstance(made, bytes) else made.SerializeToString())
        if name in configs:
            with open(os.path.join(directory, name, "config.pbtxt"), "w", encoding="utf-8") as f:
                f.write(configs[name])
    return directory
