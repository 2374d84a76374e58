#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Make a model of a kind that the model zoo's `light` graphs lack, with seeded random weights.

  unet          U-Net (Ronneberger et al., 2015): four levels, long skips, 3 x 128 x 128
  bert_base     encoder of BERT-base (Devlin et al., 2018): 12 layers of 768, 128 tokens
  mobilenet_v2  MobileNetV2 (Sandler et al., 2018): inverted residuals, 3 x 224 x 224
  lstm2         two LSTM operators of 512, 32 steps, and a classifier

Written from the papers, operator by operator as exporters write them: batch normalisation, layer
normalisation and GELU are not fused.  Weights have a scale that keeps each value's mean square
near one, so that outputs depend on inputs and stay finite.  The first dimension of inputs and
outputs is the batch: 1, or free with --batch.
"""

import argparse
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 13
BIG = 1 << 28  # bytes; weights of a larger model go to a file beside it


class Builder:
    """A graph that grows at its end; methods return the name of the tensor they make."""

    def __init__(self, name, batch, seed):
        self.name, self.batch = name, "batch" if batch else 1
        self.rng = np.random.default_rng(seed)
        self.nodes, self.weights, self.inputs, self.outputs, self.made = [], [], [], [], {}

    def input(self, name, dims, dtype=TensorProto.FLOAT):
        self.inputs.append(helper.make_tensor_value_info(name, dtype, [self.batch, *dims]))
        return name

    def output(self, value, name, dims):
        """Call the last operator's output `value` by the name that clients see."""
        assert self.nodes[-1].output[0] == value
        self.nodes[-1].output[0] = name
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT,
                                                          [self.batch, *dims]))
        return name

    def op(self, kind, *inputs, outputs=None, **attributes):
        n = self.made[kind] = self.made.get(kind, 0) + 1
        node = f"{kind}_{n}"
        outputs = outputs or [f"{node}_out"]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, node, **attributes))
        return next(o for o in outputs if o)

    def weight(self, values, hint="w"):
        name = f"{hint}_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def constant(self, values, dtype=np.float32):
        return self.weight(np.array(values, dtype), "c")

    def normal(self, shape, scale, hint="w"):
        return self.weight((scale * self.rng.standard_normal(shape)).astype(np.float32), hint)

    def uniform(self, low, high, shape, hint="w"):
        return self.weight(self.rng.uniform(low, high, shape).astype(np.float32), hint)

    def conv(self, x, c_in, c_out, k, stride=1, group=1, power=0.5, kind="Conv"):
        """`power`: mean square of x; that of what comes out is near 1."""
        transposed = kind == "ConvTranspose"
        shape = (c_in, c_out // group, k, k) if transposed else (c_out, c_in // group, k, k)
        fan_in = c_in // group * (1 if transposed else k * k)
        pad = 0 if transposed else k // 2
        return self.op(kind, x, self.normal(shape, (fan_in * power) ** -0.5),
                       kernel_shape=[k, k], strides=[stride, stride], pads=[pad] * 4, group=group)

    def norm(self, x, channels, scale=1.0):
        return self.op("BatchNormalization", x,
                       self.uniform(0.8 * scale, 1.25 * scale, channels, "scale"),
                       self.normal(channels, 0.1, "bias"), self.normal(channels, 0.1, "mean"),
                       self.uniform(0.8, 1.25, channels, "var"))

    def dense(self, x, n_in, n_out, power=1.0):
        return self.op("Gemm", x, self.normal((n_out, n_in), (n_in * power) ** -0.5),
                       self.normal(n_out, 0.05, "bias"), transB=1)

    def save(self, path):
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)],
                                  producer_name="staronnx-make-models")
        model.ir_version = 8
        big = model.ByteSize() > BIG
        path = pathlib.Path(path)
        if big:
            path.with_name(path.name + ".data").unlink(missing_ok=True)  # it would append
        onnx.save(model, str(path), save_as_external_data=big, location=path.name + ".data")


def unet(b):
    def twice(x, c_in, c_out, power=0.5):
        for k, c in enumerate((c_in, c_out)):
            x = b.op("Relu", b.norm(b.conv(x, c, c_out, 3, power=power if k == 0 else 0.5), c_out))
        return x

    x, skips, c = b.input("image", [3, 128, 128]), [], 32
    x = twice(x, 3, c, power=1 / 3)
    for _ in range(4):
        skips.append((x, c))
        x = b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        x = twice(x, c, 2 * c, power=0.7)
        c *= 2
    for skip, c_skip in reversed(skips):
        x = b.conv(x, c, c_skip, 2, stride=2, kind="ConvTranspose")
        x = b.op("Concat", skip, x, axis=1)
        x = twice(x, 2 * c_skip, c_skip, power=0.75)
        c = c_skip
    b.output(b.op("Sigmoid", b.conv(x, c, 2, 1)), "mask", [2, 128, 128])


def bert_base(b, layers=12, hidden=768, heads=12, inner=3072, tokens=128):
    head = hidden // heads

    def linear(x, n_in, n_out, gain=1.0):
        y = b.op("MatMul", x, b.normal((n_in, n_out), (gain / n_in) ** 0.5))
        return b.op("Add", y, b.normal(n_out, 0.05, "bias"))

    def layer_norm(x):
        centred = b.op("Sub", x, b.op("ReduceMean", x, axes=[-1]))
        variance = b.op("ReduceMean", b.op("Pow", centred, two), axes=[-1])
        y = b.op("Div", centred, b.op("Sqrt", b.op("Add", variance, epsilon)))
        return b.op("Add", b.op("Mul", y, b.uniform(0.8, 1.25, hidden, "scale")),
                    b.normal(hidden, 0.1, "bias"))

    def split(x, perm):
        return b.op("Transpose", b.op("Reshape", x, by_head), perm=perm)

    def gelu(x):
        y = b.op("Add", b.op("Erf", b.op("Div", x, root2)), one)
        return b.op("Mul", b.op("Mul", x, y), half)

    x = b.input("embedded", [tokens, hidden])
    mask = b.input("attention_mask", [tokens], TensorProto.INT64)
    one, half, two, epsilon, root2, root_head, far = (
        b.constant(v) for v in (1, 0.5, 2, 1e-12, 2 ** 0.5, head ** 0.5, -10000))
    by_head = b.constant([0, 0, heads, head], np.int64)
    together = b.constant([0, 0, hidden], np.int64)

    hidden_from = b.op("Not", b.op("Cast", mask, to=TensorProto.BOOL))
    hidden_from = b.op("Mul", b.op("Cast", hidden_from, to=TensorProto.FLOAT), far)
    hidden_from = b.op("Unsqueeze", hidden_from, b.constant([1, 2], np.int64))
    x = layer_norm(x)
    for _ in range(layers):
        q = split(linear(x, hidden, hidden), [0, 2, 1, 3])
        k = split(linear(x, hidden, hidden), [0, 2, 3, 1])
        v = split(linear(x, hidden, hidden), [0, 2, 1, 3])
        scores = b.op("Div", b.op("MatMul", q, k), root_head)
        weights = b.op("Softmax", b.op("Add", scores, hidden_from), axis=-1)
        y = b.op("Transpose", b.op("MatMul", weights, v), perm=[0, 2, 1, 3])
        y = linear(b.op("Reshape", y, together), hidden, hidden)
        x = layer_norm(b.op("Add", x, y))
        y = linear(gelu(linear(x, hidden, inner)), inner, hidden, gain=2.0)
        x = layer_norm(b.op("Add", x, y))
    b.output(x, "last_hidden_state", [tokens, hidden])
    first = b.op("Gather", "last_hidden_state", b.constant(0, np.int64), axis=1)
    b.output(b.op("Tanh", b.dense(first, hidden, hidden)), "pooled", [hidden])


def mobilenet_v2(b):
    low, high = b.constant(0), b.constant(6)

    def block(x, c_in, c_out, k, stride=1, group=1, power=0.5):
        return b.op("Clip", b.norm(b.conv(x, c_in, c_out, k, stride, group, power), c_out),
                    low, high)

    x, c = block(b.input("image", [3, 224, 224]), 3, 32, 3, stride=2, power=1 / 3), 32
    power = 0.5
    for expand, c_out, repeat, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2),
                                          (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                                          (6, 320, 1, 1)):
        for n in range(repeat):
            inner, step = c * expand, stride if n == 0 else 1
            y = block(x, c, inner, 1, power=power) if expand > 1 else x
            y = block(y, inner, inner, 3, step, group=inner)
            added = step == 1 and c == c_out
            y = b.norm(b.conv(y, inner, c_out, 1), c_out, scale=0.3 if added else 1.0)
            x = b.op("Add", x, y) if added else y
            c, power = c_out, 1.0
    x = b.op("GlobalAveragePool", block(x, c, 1280, 1, power=1.0))
    b.output(b.dense(b.op("Flatten", x, axis=1), 1280, 1000, power=0.2), "scores", [1000])


def lstm2(b, steps=32, features=128, hidden=512, classes=100):
    def layer(x, n_in, outputs):
        return b.op("LSTM", x, b.normal((1, 4 * hidden, n_in), n_in ** -0.5),
                    b.normal((1, 4 * hidden, hidden), hidden ** -0.5),
                    b.normal((1, 8 * hidden), 0.1, "bias"), outputs=outputs, hidden_size=hidden)

    x = b.op("Transpose", b.input("sequence", [steps, features]), perm=[1, 0, 2])
    x = b.op("Squeeze", layer(x, features, ["first", "", ""]), b.constant([1], np.int64))
    x = b.op("Squeeze", layer(x, hidden, ["", "last", ""]), b.constant([0], np.int64))
    b.output(b.dense(x, hidden, classes, power=0.2), "scores", [classes])


MODELS = {f.__name__: f for f in (unet, bert_base, mobilenet_v2, lstm2)}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("output")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", action="store_true", help="free the first dimension")
    args = parser.parse_args()
    builder = Builder(args.model, args.batch, args.seed)
    MODELS[args.model](builder)
    builder.save(args.output)


if __name__ == "__main__":
    main()
