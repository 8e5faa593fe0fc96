"""Products of unsigned and signed bytes on the CPU, brought to one sign.

Where an x86 processor has no VNNI instructions, ONNX Runtime multiplies such pairs with an instruction that
saturates sums of two products to 16 bits: 64 products of 255 · 127 come out as half of what they are. Of one
sign they are exact everywhere:

    (b − zero) = ((b + 128) − (zero + 128))          int8 weights beside uint8 activations become uint8
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import onnx

from openbpu.compiler.ir import Node, Value

_MS = "com.microsoft"
_OFFSET = {"uint8": 128, "int8": -128}  # what moves codes of the other sign to this one
_ONNX = {
    "int8": onnx.TensorProto.INT8,
    "uint8": onnx.TensorProto.UINT8,
    "int32": onnx.TensorProto.INT32,
}


class _Weight(NamedTuple):
    """Positions among the inputs; activations None: floats that the node itself quantizes to uint8."""

    activations: int | None
    weights: int
    zero: int


_PRODUCTS: dict[tuple[str, str], tuple[_Weight, ...]] = {
    ("", "MatMulInteger"): (_Weight(0, 1, 3),),
    ("", "ConvInteger"): (_Weight(0, 1, 3),),
    ("", "QLinearConv"): (_Weight(0, 3, 5),),
    ("", "QLinearMatMul"): (_Weight(0, 3, 5),),
    (_MS, "QLinearConv"): (_Weight(0, 3, 5),),
    (_MS, "QGemm"): (_Weight(0, 3, 5),),
    (_MS, "MatMulIntegerToFloat"): (_Weight(0, 1, 5),),
    (_MS, "DynamicQuantizeMatMul"): (_Weight(None, 1, 3),),
    (_MS, "DynamicQuantizeLSTM"): (_Weight(None, 1, 9), _Weight(None, 2, 11)),
    (_MS, "QAttention"): (_Weight(0, 1, 7),),
}


def of_one_sign(nodes: Sequence[Node], values: dict[str, Value]) -> tuple[tuple[Node, ...], dict[str, Value]]:
    """Return the nodes with weights of their activations' sign, and the values that this adds."""
    out: list[Node] = []
    fresh: dict[str, Value] = {}
    for node in nodes:
        for weight in _PRODUCTS.get((node.domain, node.op), ()):
            sign = _sign(node, values, weight)
            if sign is not None and values[node.inputs[weight.weights]].dtype != sign:
                change = _Change(values, sign)
                node = change.node(node, weight)  # noqa: PLW2901  # an LSTM has two weights
                out += change.before
                fresh.update(change.fresh)
        out.append(node)
    return tuple(out), fresh


def _sign(node: Node, values: dict[str, Value], weight: _Weight) -> str | None:
    """Return the byte type that the weights should have; None where a type is not known."""
    of = "uint8" if weight.activations is None else values[node.inputs[weight.activations]].dtype
    return of if of in _OFFSET and values[node.inputs[weight.weights]].dtype in _OFFSET else None


@dataclass(slots=True)
class _Change:
    """Weights and zero points on their way to the type `to`; `before` computes what is not constant."""

    values: dict[str, Value]
    to: str
    before: list[Node] = field(default_factory=list)
    fresh: dict[str, Value] = field(default_factory=dict)

    def node(self, node: Node, weight: _Weight) -> Node:
        inputs = [*node.inputs, *[""] * (weight.zero + 1 - len(node.inputs))]
        inputs[weight.weights] = self.moved(inputs[weight.weights])
        zero = inputs[weight.zero]
        inputs[weight.zero] = (
            self.moved(zero) if zero else self.constant("zero", np.zeros((), np.int32), self.to)
        )
        return replace(node, inputs=tuple(inputs))

    def moved(self, name: str) -> str:
        """Return the name of the same codes, 128 further."""
        value = self.values[name]
        if value.const is not None:
            return self.constant(name, value.const.astype(np.int32), self.to)
        wide, far = (
            self.declared(f"{name}/wide", value, "int32"),
            self.declared(f"{name}/far", value, "int32"),
        )
        made = self.declared(f"{name}/{self.to}", value, self.to)
        by = self.constant("offset", np.zeros((), np.int32), "int32")
        self.before += [
            self.cast(name, wide),
            Node("Add", (wide, by), (far,), name=far),
            self.cast(far, made),
        ]
        return made

    def constant(self, name: str, codes: np.ndarray, dtype: str) -> str:
        moved = (codes + _OFFSET[self.to]).astype(dtype)
        made = f"{name}/{self.to}/{dtype}"
        self.fresh[made] = Value(made, moved.shape, dtype, moved)
        return made

    def declared(self, name: str, like: Value, dtype: str) -> str:
        self.fresh[name] = Value(name, like.shape, dtype)
        return name

    def cast(self, source: str, target: str) -> Node:
        to = _ONNX[self.fresh[target].dtype]
        return Node("Cast", (source,), (target,), {"to": to}, target)
