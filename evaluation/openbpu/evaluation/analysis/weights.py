"""Constant weights by output channel: which channels have too few steps of a scale that they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from onnx import NodeProto

from openbpu.arch.arrays import Array
from openbpu.arch.onnx_ops import PRODUCTS
from openbpu.compiler.reader.origin import origin_of
from openbpu.evaluation.analysis.cut import Graph
from openbpu.evaluation.analysis.foreseen import Product
from openbpu.evaluation.analysis.result import WeightRange
from openbpu.evaluation.analysis.rounding import DEQUANTIZE, constant_arrays
from openbpu.quantization.onnx.corrections.reach import corrections_of_weights
from openbpu.quantization.onnx.nodes import attribute

NARROW = 8.0
"""Steps that the largest weight of a channel should have: fewer leave less than four bits."""

_SUFFIXES = ("_quantized", "_DequantizeLinear_Output")


class Weights:
    """The quantized weights of a model, and how far they are from those of the float one."""

    def __init__(self, model: Graph, quantized: Graph) -> None:
        self._float, self._ours = constant_arrays(model), constant_arrays(quantized)
        self._graph = quantized
        self.ranges: dict[int, WeightRange] = {}
        self.foreign: dict[int, float] = {}
        self.corrections: dict[int, tuple[str, ...]] = {}
        self._second: dict[int, tuple[NodeProto, NodeProto]] = {}
        for index, node in enumerate(quantized.nodes):
            for slot in (0, 1) if node.op_type in PRODUCTS else ():
                back = self._dequantize(node, slot)
                if back is not None:
                    self._add(index, node, slot, back)

    def _dequantize(self, node: NodeProto, slot: int) -> NodeProto | None:
        maker = self._graph.made.get(node.input[slot]) if slot < len(node.input) else None
        back = None if maker is None else self._graph.nodes[maker]
        if back is None or back.op_type != DEQUANTIZE or not set(back.input) - {""} <= set(self._ours):
            return None
        return back

    def product(self, index: int) -> Product | None:
        """Return the product with this index and its weights; None where these are no second operand."""
        if index not in self._second:
            return None
        node, back = self._second[index]
        _, steps, real, scale = self._read(back)
        info = np.iinfo(self._ours[back.input[0]].dtype)
        return Product(node, real, steps, scale, (int(info.min), int(info.max)))

    def _read(self, back: NodeProto) -> tuple[str | None, Array, Array, Array]:
        """Return the float model's name of weights, their codes, they in steps, the scale."""
        codes, scale = self._ours[back.input[0]], self._ours[back.input[1]].astype(np.float64)
        zero = self._ours[back.input[2]] if len(back.input) > 2 and back.input[2] else np.zeros(())
        axis = attribute(back, "axis", 1)
        steps = codes.astype(np.float64) - _along(zero, axis, codes.ndim)
        name = self._original(back, codes.shape)
        real = self._float[name] / _along(scale, axis, codes.ndim) if name and scale.ndim < 2 else steps
        return name, steps, real, scale

    def _add(self, index: int, node: NodeProto, slot: int, back: NodeProto) -> None:
        name, steps, real, scale = self._read(back)
        if scale.ndim > 1:
            return
        self.ranges[index] = _range(node, name or back.input[0], real, scale, _channel_axis(node, slot))
        if slot:
            self._second[index] = (node, back)
            self.corrections[index] = tuple(corrections_of_weights(node, steps.shape, self._followers(node)))
        if name is not None:
            off = np.abs(steps - real)
            edge = np.abs(steps) >= np.abs(steps).max(initial=0)  # what was clipped is no other weight
            self.foreign[index] = float(off[~edge].max(initial=0.0)) - 0.5

    def _followers(self, node: NodeProto) -> list[NodeProto]:
        return [n for n in self._graph.nodes if node.output[0] in n.input] if node.op_type == "MatMul" else []

    def _original(self, back: NodeProto, shape: tuple[int, ...]) -> str | None:
        """Return the float model's name of weights, where it has them in this shape."""
        for name in (back.input[0], back.output[0]):
            for suffix in _SUFFIXES:
                stem = str(name).removesuffix(suffix)
                if stem != name and stem in self._float and self._float[stem].shape == shape:
                    return stem
        return None


def _along(values: Array, axis: int, rank: int) -> Array:
    if values.size == 1:
        return values.reshape(())
    return values.reshape([-1 if i == axis % rank else 1 for i in range(rank)])


def _channel_axis(node: NodeProto, slot: int) -> int:
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) == (slot == 1) else 1
    return {"Conv": 0, "ConvTranspose": 1}.get(node.op_type, -1 if slot else -2)


def _range(node: NodeProto, tensor: str, steps: Array, scale: Array, axis: int) -> WeightRange:
    rank = steps.ndim
    axis = axis % rank if rank > 1 else 0
    others = tuple(i for i in range(rank) if i != axis)
    peaks = np.abs(steps).max(axis=others) if rank > 1 and steps.size else np.abs(steps).reshape(-1)[:1]
    shared = scale.size == 1
    values = peaks * scale.reshape(-1) if scale.size in {1, peaks.size} else peaks
    used = np.flatnonzero((values > 0) & np.isfinite(values))
    least = int(used[np.argmin(values[used])]) if used.size else 0
    said = origin_of(node, node.name)
    return WeightRange(
        node=node.name or node.output[0],
        tensor=tensor,
        module=said.scope,
        source=said.source,
        channels=int(peaks.size),
        shared=shared,
        narrow=int(np.count_nonzero(peaks[used] < NARROW)) if shared else 0,
        narrowest=least,
        steps=float(peaks[least]) if peaks.size else 0.0,
        unevenness=float(values[used].max() / values[least]) if used.size else 1.0,
        stacked=node.op_type == "MatMul" and rank > 2,
    )


def ranges(found: Mapping[int, WeightRange]) -> Iterator[WeightRange]:
    """Yield the weights with channels that cannot share their scale, the worst first."""
    yield from sorted((w for w in found.values() if w.shared and w.narrow), key=lambda w: w.steps)
