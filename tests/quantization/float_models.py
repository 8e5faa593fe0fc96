"""Small float models written as text, and questions to ask of their quantized form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, numpy_helper, parser

from openbpu.quantization.onnx import quantize

Array = npt.NDArray[Any]

RAW = "_QuantizeLinear_Input"
"""What is computed at a graph output that has a pair carries this suffix."""


def float_model(text: str, weights: Mapping[str, npt.ArrayLike] | None = None, opset: int = 17) -> ModelProto:
    """Return `(inputs) => (outputs) { nodes }` as a model; `weights` become initializers.

    An output written without dimensions has an unknown shape.
    """
    model: ModelProto = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {text}')
    for value in model.graph.output:
        if not value.type.tensor_type.shape.dim:
            value.type.tensor_type.ClearField("shape")
    for name, array in (weights or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return model


def noise(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def samples(model: ModelProto, count: int = 3) -> dict[str, Array]:
    """Return `count` random samples for every float input of `model`."""
    known = {t.name for t in model.graph.initializer}
    fed = [v for v in model.graph.input if v.name not in known]
    shapes = {v.name: [d.dim_value or 1 for d in v.type.tensor_type.shape.dim] for v in fed}
    return {name: noise(count, *shape, seed=7) for name, shape in shapes.items()}


def quantized(
    text: str, weights: Mapping[str, npt.ArrayLike] | None = None, opset: int = 17, **options: Any
) -> ModelProto:
    model = float_model(text, weights, opset)
    made = quantize(model, samples(model), **options)
    onnx.checker.check_model(made, full_check=True)
    return made


def rounded(model: ModelProto) -> set[str]:
    """Return the tensors that have a Quantize/Dequantize pair, by their names in the float model."""
    return {n.input[0].removesuffix(RAW) for n in model.graph.node if n.op_type == "QuantizeLinear"}


def ops(model: ModelProto) -> list[str]:
    """Return the operators of the model in order, without Quantize and Dequantize."""
    return [
        n.op_type
        for n in model.graph.node
        if not n.op_type.endswith("quantizeLinear") and "Quantize" not in n.op_type
    ]


def constant(model: ModelProto, name: str) -> Array:
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


def node_of(model: ModelProto, output: str) -> NodeProto:
    found: NodeProto = next(n for n in model.graph.node if output in n.output)
    return found


def pair_of(model: ModelProto, tensor: str) -> tuple[Array, Array]:
    """Return scale and zero point of the pair behind `tensor`."""
    names = {tensor, tensor + RAW}
    q = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in names)
    return constant(model, q.input[1]), constant(model, q.input[2])


def stored(model: ModelProto, output: str, position: int) -> tuple[Array, Array, int | None]:
    """Return integers, scale and axis of the constant that input `position` of the node of `output` reads."""
    dequantize = node_of(model, node_of(model, output).input[position])
    assert dequantize.op_type == "DequantizeLinear"
    axis = next((a.i for a in dequantize.attribute if a.name == "axis"), None)
    return constant(model, dequantize.input[0]), constant(model, dequantize.input[1]), axis


W = {"w": noise(4, 4, 3, 3), "b": noise(4), "w2": noise(4, 4, 3, 3, seed=1)}
IMAGE = "(float[1,4,8,8] x) => (float[1,4,8,8] y)"
CONV = "Conv <pads = [1, 1, 1, 1]>"
"""A small image, and a convolution with the weights W that keeps its size."""
