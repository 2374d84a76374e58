#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Fill an ONNX model with seeded random weights.

The `light` model-zoo graphs have constants for weights (ConstantOfShape operators over initializers
of shapes), so their output is the same whatever the input.  This writes the same graph with weights
of a sensible scale (He et al., 2015), in which outputs depend on inputs and do not overflow:

  * ConstantOfShape over a constant shape becomes an initializer;
  * what feeds Conv, Gemm, MatMul, BatchNormalization, Add, Mul, ... is filled by its role;
  * initializers leave the graph's inputs (IR version 3 lists them there);
  * with --batch the first dimension of inputs and outputs is free, and Reshape targets that
    fix it are made relative; a graph where that is not possible is refused.
"""

import argparse
import sys
import zlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPES = {"Reshape", "ConstantOfShape", "Expand", "Tile", "Slice", "Unsqueeze", "Squeeze", "Resize"}


def attribute(node, name, default=None):
    for a in node.attribute:
        if a.name == name:
            return helper.get_attribute_value(a)
    return default


def fold_constants(graph):
    """Make initializers of ConstantOfShape operators; return those that were made."""
    known = {i.name: i for i in graph.initializer}
    made, keep, used_shapes = {}, [], set()
    for node in graph.node:
        if node.op_type == "ConstantOfShape" and node.input[0] in known:
            shape = numpy_helper.to_array(known[node.input[0]])
            value = attribute(node, "value")
            dtype = numpy_helper.to_array(value).dtype if value is not None else np.float32
            made[node.output[0]] = (tuple(int(d) for d in shape), dtype)
            used_shapes.add(node.input[0])
        else:
            keep.append(node)
    del graph.node[:]
    graph.node.extend(keep)
    still = {name for node in graph.node for name in node.input}
    left = [i for i in graph.initializer if i.name not in used_shapes or i.name in still]
    del graph.initializer[:]
    graph.initializer.extend(left)
    return made


def roles(graph, aliases):
    """For each value, how it is used first: (operator, which input)."""
    use = {}
    for node in graph.node:
        if node.output[0] in aliases:
            continue
        for k, name in enumerate(node.input):
            use.setdefault(aliases.get(name, name), (node, k))
    return use


def through_views(graph):
    """Names that only view a weight (Unsqueeze, Reshape, Transpose of it) -> the weight."""
    constants = {i.name for i in graph.initializer}
    aliases = {}
    for node in graph.node:
        if node.op_type in ("Unsqueeze", "Reshape", "Transpose", "Squeeze", "Identity"):
            root = aliases.get(node.input[0], node.input[0])
            if root in constants:
                aliases[node.output[0]] = root
    return aliases


def fill(rng, shape, node, k, power, residual, soft):
    """Random values for a weight that is input `k` of `node`, whose input has mean square `power`.

    `residual`: its output is added to another branch, which must not grow with every block.
    `soft`: names that a Softmax takes, which must not saturate it."""
    op = node.op_type if node is not None else ""
    if op == "BatchNormalization":
        if k == 4:  # variance
            return rng.uniform(0.8, 1.25, shape) * power
        if k == 1:  # scale
            return rng.uniform(0.8, 1.25, shape) * (0.3 if residual else 1)
        return rng.normal(0, 0.1 * (np.sqrt(power) if k == 3 else 1), shape)
    if op in ("Mul", "Div"):
        return rng.uniform(0.8, 1.25, shape)
    if op == "PRelu":
        return rng.uniform(0.05, 0.3, shape)
    if op in ("Conv", "Gemm", "MatMul", "ConvTranspose") and k == 1:
        flat = [d for d in shape if d > 1] if op == "Gemm" else shape  # some are kept as 4-D
        if op == "Conv":
            fan_in = int(np.prod(shape[1:]))
        elif op == "Gemm":
            fan_in = flat[-1] if attribute(node, "transB", 0) else flat[0]
        else:
            fan_in = shape[-2] if len(shape) > 1 else shape[0]
        gain = 0.1 if node.output[0] in soft else 2.0
        return rng.normal(0, np.sqrt(gain / max(fan_in, 1) / power), shape)
    return rng.normal(0, 0.05, shape)  # biases and whatever else


def residuals(graph):
    """Names that are added to another value that is not a weight."""
    constants = {i.name for i in graph.initializer} | set(through_views(graph))
    return {name for node in graph.node if node.op_type in ("Sum", "Add")
            and not any(n in constants for n in node.input) for name in node.input}


def powers(graph, added):
    """A rough mean square of each value, so that deep graphs neither fade nor blow up."""
    power = {}
    for v in graph.input:
        power[v.name] = 1 / 3  # uniform in [0, 1)
    for node in graph.node:
        ins = [power[n] for n in node.input if n in power]
        if not ins:
            continue  # a view of a weight
        out = ins[0]
        if node.op_type in ("Conv", "Gemm", "MatMul", "ConvTranspose"):
            out = 2.0
        elif node.op_type == "BatchNormalization":
            out = 0.09 if node.output[0] in added else 1.0
        elif node.op_type == "Relu":
            out = ins[0] / 2
        elif node.op_type in ("Sum", "Add"):
            out = sum(ins)
        elif node.op_type == "Concat":
            out = sum(ins) / len(ins)
        for name in node.output:
            power[name] = out
    return power


def free_batch(model):
    graph = model.graph
    constants = {i.name: i for i in graph.initializer}
    aliases = through_views(graph)
    batch = None
    for v in list(graph.input) + list(graph.output):
        dims = v.type.tensor_type.shape.dim
        if not dims:
            sys.exit(f"'{v.name}' is a scalar: the batch cannot be free")
        batch = dims[0].dim_value
        dims[0].dim_param = "batch"
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[0] in constants or node.input[0] in aliases:
            continue
        target = constants.get(node.input[1])
        if target is None:
            continue
        shape = numpy_helper.to_array(target).copy()
        if shape[0] != batch:
            if shape[0] in (0, -1):
                continue
            sys.exit(f"Reshape '{node.output[0]}' to {shape.tolist()}: the batch cannot be free")
        shape[0] = 0  # "as in the input"
        name = node.input[1] + "__free"
        if name not in constants:
            constants[name] = numpy_helper.from_array(shape, name)
            graph.initializer.append(constants[name])
        node.input[1] = name
    del graph.value_info[:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", action="store_true", help="free the first dimension")
    args = parser.parse_args()

    model = onnx.load(args.input)
    graph = model.graph
    constants = {i.name for i in graph.initializer}
    made = fold_constants(graph)
    for name, (shape, dtype) in made.items():  # placeholders, so that roles() sees them
        graph.initializer.append(
            TensorProto(name=name, dims=shape, data_type=helper.np_dtype_to_tensor_dtype(dtype)))
    aliases = through_views(graph)
    use = roles(graph, aliases)
    inputs = [i for i in graph.input if i.name not in constants]
    del graph.input[:]
    graph.input.extend(inputs)
    added = residuals(graph)
    soft = {n.input[0] for n in graph.node if n.op_type == "Softmax"}
    power = powers(graph, added)
    shape_names = {n.input[1] for n in graph.node if n.op_type in SHAPES and len(n.input) > 1}

    floats = {TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64,
              TensorProto.FLOAT16: np.float16}
    done = []
    for init in graph.initializer:
        dtype = floats.get(init.data_type)
        if init.name not in made and (dtype is None or init.name in shape_names):
            done.append(init)
            continue
        node, k = use.get(init.name, (None, 0))
        shape = tuple(init.dims)
        rng = np.random.default_rng([args.seed, zlib.crc32(init.name.encode())])
        data = power.get(node.input[0], 1.0) if node is not None else 1.0
        residual = node is not None and node.output[0] in added
        values = fill(rng, shape, node, k, data, residual, soft).astype(dtype or np.float32)
        done.append(numpy_helper.from_array(values, init.name))
    del graph.initializer[:]
    graph.initializer.extend(done)

    model.ir_version = max(model.ir_version, 4)  # where initializers need not be inputs
    if args.batch:
        free_batch(model)
    onnx.save(model, args.output)


if __name__ == "__main__":
    main()
