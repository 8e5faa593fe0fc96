"""Models in QOperator form: input -> QuantizeLinear -> QLinearConv or the like -> DequantizeLinear.

``QOPERATOR_CASES`` maps an id to a function that makes ``(ModelProto, inputs)``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from openbpu.evaluation.reference.kernel import Array
from witness.builder import MICROSOFT, GraphBuilder, Style
from witness.single_op import Model
from witness.variations import STYLES

Build = Callable[[GraphBuilder, str, dict[str, Any]], str]
"""From the builder, the quantized input and the attributes to the quantized output."""


def _start(style: str, shape: tuple[int, ...], opset: int) -> tuple[GraphBuilder, str]:
    b = GraphBuilder(opset, 0, STYLES[style])
    return b, b.quantize(b.input(b.rng.uniform(-1, 1, shape)))


def _triple(b: GraphBuilder, q: str) -> list[str]:
    p = b.parameters[q]
    return [q, p.scale, p.zero]


def _weight(b: GraphBuilder, shape: tuple[int, ...], axis: int | None) -> tuple[str, str, str]:
    """An int8 weight with its scale and zero point."""
    others = None if axis is None else tuple(i for i in range(len(shape)) if i != axis)
    value = b.rng.normal(size=shape)
    scale = np.abs(value).max(axis=others, keepdims=axis is not None) / 127.5
    integers = np.clip(np.rint(value / scale), -128, 127).astype(np.int8)
    flat = scale.reshape(-1) if axis is not None else scale.reshape(())
    zero = b.constant(np.zeros(flat.shape, np.int8), "zero")
    return b.constant(integers, "weight"), b.constant(flat.astype(np.float32), "scale"), zero


def _output(b: GraphBuilder, real: Array) -> list[str]:
    """Names of a scale and zero point that hold these values."""
    q = b.quantize(b.constant(real, "range"))
    p = b.parameters[q]
    return [p.scale, p.zero]


def _linear(op: str, b: GraphBuilder, inputs: list[str], real: Array, domain: str, **attrs: Any) -> str:
    """Add the node with output parameters that hold ``real``, and remember them."""
    scale, zero = _output(b, real)
    q = b.node(op, *inputs[:6], scale, zero, *inputs[6:], domain=domain, **attrs)
    return b.name_parameters(q, scale, zero)


def _conv(b: GraphBuilder, q: str, v: dict[str, Any]) -> str:
    channels = b.shape(q)[1]
    group = v.get("group", 1)
    weight = _weight(b, (6, channels // group, 3, 3), 0 if v.get("per_channel", True) else None)
    step = b.scale_of(q) * b.values[weight[1]]
    bias = [b.constant(np.rint(b.rng.uniform(-0.5, 0.5, 6) / step).astype(np.int32), "bias")]
    bias = bias if v.get("bias", True) else []
    attrs = {"pads": [1, 1, 1, 1], "strides": v.get("strides", [1, 1]), "group": group}
    return _linear("QLinearConv", b, [*_triple(b, q), *weight, *bias], np.array([-6.0, 6.0]), "", **attrs)


def _matmul(b: GraphBuilder, q: str, v: dict[str, Any]) -> str:
    weight = _weight(b, (b.shape(q)[-1], 5), None)
    return _linear("QLinearMatMul", b, [*_triple(b, q), *weight], np.array([-6.0, 6.0]), "")


def _gemm(b: GraphBuilder, q: str, v: dict[str, Any]) -> str:
    axis = 0 if v.get("per_channel", True) else None
    weight = _weight(b, (5, b.shape(q)[1]), axis)
    step = b.scale_of(q) * b.values[weight[1]]
    bias = b.constant(np.rint(b.rng.uniform(-0.5, 0.5, 5) / step).astype(np.int32), "bias")
    scale, zero = _output(b, np.array([-6.0, 6.0]))
    inputs = [*_triple(b, q), *weight, bias, scale, zero]
    return b.name_parameters(b.node("QGemm", *inputs, domain=MICROSOFT, transB=1), scale, zero)


def _binary(op: str, b: GraphBuilder, q: str, v: dict[str, Any]) -> str:
    other = b.quantize(b.input(b.rng.uniform(-2, 2, v.get("other_shape", b.shape(q)))))
    return _linear(op, b, [*_triple(b, q), *_triple(b, other)], np.array([-2.5, 2.5]), MICROSOFT)


def _concat(b: GraphBuilder, q: str, v: dict[str, Any]) -> str:
    other = b.quantize(b.input(b.rng.uniform(-2, 2, b.shape(q))))
    scale, zero = _output(b, np.array([-2.0, 2.0]))
    inputs = [scale, zero, *_triple(b, q), *_triple(b, other)]
    return b.name_parameters(b.node("QLinearConcat", *inputs, domain=MICROSOFT, axis=1), scale, zero)


def _unary(op: str, b: GraphBuilder, q: str, v: dict[str, Any]) -> str:
    scale, zero = _output(b, np.array(v.pop("range", [-1.0, 1.0])))
    if op == "QLinearSoftmax":
        v["opset"] = v.pop("version", b.opset)
    return b.name_parameters(b.node(op, *_triple(b, q), scale, zero, domain=MICROSOFT, **v), scale, zero)


def _build(
    build: Build, style: str = "uint8", shape: tuple[int, ...] = (1, 4, 6, 5), opset: int = 13, **v: Any
) -> Model:
    b, q = _start(style, shape, opset)
    b.output(b.dequantize(build(b, q, v)))
    return b.model(), b.inputs


def _integer_model(op: str) -> Model:
    """DynamicQuantizeLinear -> ConvInteger or MatMulInteger -> Cast -> Mul by the scales."""
    b = GraphBuilder(13, 0, Style("uint8", symmetric=False))
    conv = op == "ConvInteger"
    x = b.input(b.rng.uniform(-1, 1, (1, 3, 5, 5) if conv else (3, 7)))
    q, scale, zero = b.nodes("DynamicQuantizeLinear", [x], 3)
    weight, weight_scale, weight_zero = _weight(b, (4, 3, 3, 3) if conv else (7, 4), None)
    total = b.node(op, q, weight, zero, weight_zero)
    b.output(b.node("Mul", b.node("Cast", total, to=1), b.node("Mul", scale, weight_scale)))
    return b.model(), b.inputs


_MATRIX = (3, 9)

QOPERATOR_CASES: dict[str, Callable[[], Model]] = {
    "QLinearConv-uint8": partial(_build, _conv),
    "QLinearConv-int8": partial(_build, _conv, style="int8"),
    "QLinearConv-per-tensor": partial(_build, _conv, per_channel=False),
    "QLinearConv-groups": partial(_build, _conv, group=2, strides=[2, 2]),
    "QLinearConv-no-bias": partial(_build, _conv, bias=False),
    "QLinearMatMul-uint8": partial(_build, _matmul, shape=_MATRIX),
    "QLinearMatMul-int8": partial(_build, _matmul, style="int8", shape=_MATRIX),
    "QLinearMatMul-rank3": partial(_build, _matmul, shape=(2, 4, 9)),
    "QGemm-uint8": partial(_build, _gemm, shape=_MATRIX),
    "QGemm-per-tensor": partial(_build, _gemm, per_channel=False, shape=_MATRIX),
    "QLinearAdd-uint8": partial(_build, partial(_binary, "QLinearAdd")),
    "QLinearAdd-int8": partial(_build, partial(_binary, "QLinearAdd"), style="int8"),
    "QLinearAdd-broadcast": partial(_build, partial(_binary, "QLinearAdd"), other_shape=(1, 4, 1, 1)),
    "QLinearMul-uint8": partial(_build, partial(_binary, "QLinearMul")),
    "QLinearMul-int8": partial(_build, partial(_binary, "QLinearMul"), style="int8"),
    "QLinearConcat-uint8": partial(_build, _concat),
    "QLinearConcat-int8": partial(_build, _concat, style="int8"),
    "QLinearSigmoid-uint8": partial(_build, partial(_unary, "QLinearSigmoid"), range=[0.0, 1.0]),
    "QLinearSigmoid-int8": partial(_build, partial(_unary, "QLinearSigmoid"), style="int8"),
    "QLinearLeakyRelu-uint8": partial(_build, partial(_unary, "QLinearLeakyRelu"), alpha=0.1),
    "QLinearGlobalAveragePool-uint8": partial(_build, partial(_unary, "QLinearGlobalAveragePool")),
    "QLinearAveragePool-uint8": partial(
        _build, partial(_unary, "QLinearAveragePool"), kernel_shape=[2, 2], strides=[2, 2]
    ),
    "QLinearSoftmax-uint8": partial(
        _build, partial(_unary, "QLinearSoftmax"), range=[0.0, 1.0], axis=-1, shape=_MATRIX
    ),
    **{
        f"QLinearSoftmax-axis{axis}-of-opset{version}": partial(
            _build, partial(_unary, "QLinearSoftmax"), range=[0.0, 1.0], axis=axis, version=version
        )
        for axis, version in ((0, 11), (1, 11), (2, 12), (-2, 11), (3, 11), (1, 13), (-3, 13))
    },
    "ConvInteger": partial(_integer_model, "ConvInteger"),
    "MatMulInteger": partial(_integer_model, "MatMulInteger"),
}
