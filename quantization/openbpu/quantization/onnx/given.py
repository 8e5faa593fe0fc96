"""The quantization that a model brings along: what has a pair already, and which steps it has.

x → Quantize → Dequantize → Conv          x is rounded: whoever computes with x reads this pair
codes → Dequantize → Conv.weight          quantized: a constant of codes stays what it is
QLinearConv → Dequantize → Reshape → …    quantized: movement needs no pair of its own behind a Dequantize
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, helper

from openbpu.arch.arrays import Array
from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx.classes import Kind, kind_of
from openbpu.quantization.onnx.net import Names, Net
from openbpu.quantization.onnx.nodes import attribute, rename_reads

_DOMAINS = ("", "ai.onnx", "com.microsoft")


@dataclass(frozen=True, slots=True)
class Step:
    """A symmetric step of a tensor that the model quantizes itself."""

    scale: float
    dtype: DType

    @property
    def range(self) -> float:
        """The range of which this scale is made."""
        return self.scale * (self.dtype.qmax - self.dtype.qmin) / 2


@dataclass(frozen=True, slots=True)
class Given:
    """`quantized`: tensors that come from codes, moved or not. `rounded`: those that a Quantize reads.

    `rounded` maps to the step, None where it is not symmetric. `scales`: of what a Dequantize makes, with the
    axis (None: one scale), where the model stores it.
    """

    quantized: frozenset[str]
    rounded: Mapping[str, Step | None]
    scales: Mapping[str, tuple[Array, int | None]]

    @property
    def present(self) -> frozenset[str]:
        """All tensors that need no pair."""
        return self.quantized | frozenset(self.rounded)


def is_quantize(node: NodeProto) -> bool:
    """Whether the node is a QuantizeLinear, of ONNX or of ONNX Runtime."""
    return node.op_type == "QuantizeLinear" and node.domain in _DOMAINS


def is_dequantize(node: NodeProto) -> bool:
    """Whether the node is a DequantizeLinear, of ONNX or of ONNX Runtime."""
    return node.op_type == "DequantizeLinear" and node.domain in _DOMAINS


def find_given(net: Net, constants: Collection[str] = ()) -> Given:
    """Return what is quantized in `net`; `constants`: computed ones beside those that are stored."""
    quantized, rounded = set[str](), dict[str, Step | None]()
    scales: dict[str, tuple[Array, int | None]] = {}
    for node in net.nodes:
        if is_dequantize(node):
            quantized.update(node.output)
            if node.input[1] in net.consts:
                scales[node.output[0]] = net.consts[node.input[1]], _axis(node, net)
        elif is_quantize(node):
            rounded.setdefault(node.input[0], _step(node, net))
        elif keeps(node, net, constants) and node.input[0] in quantized:
            quantized.update(node.output)
            moved = _moved(node, scales.get(node.input[0]))
            scales.update(dict.fromkeys(node.output, moved) if moved else {})
    return Given(frozenset(quantized), rounded, scales)


def keeps(node: NodeProto, net: Net, constants: Collection[str]) -> bool:
    """Whether a node moves values in a way that the compiler knows: not, for one, by computed indices."""
    fixed = all(not name or name in net.consts or name in constants for name in node.input[1:])
    return fixed and kind_of(node, net) is Kind.KEEP


def _moved(node: NodeProto, scale: tuple[Array, int | None] | None) -> tuple[Array, int | None] | None:
    """Return the scale of what a movement makes of a tensor with `scale`; None where that is unclear."""
    if scale is None or scale[1] is None:
        return scale
    perm = list(attribute(node, "perm", [])) if node.op_type == "Transpose" else []
    return (scale[0], perm.index(scale[1])) if scale[1] in perm else None


def _axis(node: NodeProto, net: Net) -> int | None:
    scale = net.consts[node.input[1]]
    if scale.size == 1:
        return None
    axis: int = attribute(node, "axis", 1)
    rank = len(net.shapes.get(node.output[0], ()))
    return axis + rank if axis < 0 else axis


def _step(node: NodeProto, net: Net) -> Step | None:
    scale = net.consts.get(node.input[1])
    zero = net.consts.get(node.input[2]) if len(node.input) > 2 else None
    if scale is None or zero is None or scale.size != 1 or zero.any():
        return None
    if zero.dtype not in {np.dtype(np.int8), np.dtype(np.int16)}:
        return None
    return Step(float(scale.reshape(())), DType.of(zero.dtype))


def read_given_pairs(net: Net) -> Net:
    """Return `net` with those that compute on the BPU reading the pair that a tensor has, not the tensor.

    Conv → x → Quantize → Dequantize → Conv         Conv → x → Quantize → Dequantize ┬ Conv
           └ Add                             becomes                                 └ Add
    """
    quantizers = {node.input[0]: node for node in reversed(net.nodes) if is_quantize(node)}
    if all(quantizers.keys().isdisjoint(_computed_with(node, net)) for node in net.nodes):
        return net
    ends = {node.input[0]: node for node in reversed(net.nodes) if is_dequantize(node)}
    names, nodes, emitted = Names(net), list[NodeProto](), set[str]()

    def emit(node: NodeProto) -> None:
        if node.output[0] not in emitted:
            emitted.add(node.output[0])
            nodes.append(node)

    def pair_of(name: str) -> str:
        quantize = quantizers[name]
        if quantize.output[0] not in ends:
            ends[quantize.output[0]] = _end_of(quantize, names)
        end = ends[quantize.output[0]]
        emit(quantize)
        emit(end)
        return str(end.output[0])

    for node in net.nodes:
        renamed = {name: pair_of(name) for name in _computed_with(node, net) if name in quantizers}
        emit(rename_reads(node, renamed))
    return net.with_nodes(nodes)


def _computed_with(node: NodeProto, net: Net) -> Sequence[str]:
    """Return what a node reads that may run on the BPU and is no pair itself."""
    return [] if is_quantize(node) or kind_of(node, net) is Kind.CPU else node.input


def _end_of(quantize: NodeProto, names: Names) -> NodeProto:
    """Return the Dequantize of a Quantize that only operators on codes read."""
    out = names.fresh(f"{quantize.input[0]}_DequantizeLinear_Output")
    made = helper.make_node(
        "DequantizeLinear",
        [quantize.output[0], *quantize.input[1:]],
        [out],
        names.fresh(f"{quantize.input[0]}_DequantizeLinear"),
        domain=quantize.domain,
    )
    made.attribute.extend(a for a in quantize.attribute if a.name in {"axis", "block_size"})
    return made
