"""The Quantize/Dequantize pairs of a model: what they round, to which codes, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, numpy_helper

from openbpu.arch.arrays import Array
from openbpu.evaluation.analysis.cut import Graph
from openbpu.quantization.onnx.nodes import reads

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
_CODES = ("int8", "uint8", "int16", "uint16")


@dataclass(frozen=True, slots=True)
class Rounding:
    """A pair: `source` becomes `codes`, and these the float tensor `result`.

    scale: float32, of shape () or one per entry of `axis`, None where it is computed · zero: the zero point ·
    dtype: that of the codes.
    """

    source: str
    codes: str
    result: str
    scale: Array | None
    zero: Array
    dtype: np.dtype[Any]
    axis: int

    @property
    def step(self) -> float | None:
        """The one scale; None where there is one per channel, or a computed one."""
        return float(self.scale.reshape(())) if self.scale is not None and self.scale.size == 1 else None

    @property
    def counted(self) -> bool:
        """Whether codes can be counted: one known scale, codes of 8 or 16 bits."""
        return bool(self.step) and self.zero.size == 1 and self.dtype.name in _CODES

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the largest code, counted from the zero point."""
        info, zero = np.iinfo(self.dtype), int(self.zero.reshape(-1)[0])
        return int(info.min) - zero, int(info.max) - zero

    @property
    def symmetric(self) -> bool:
        """Whether the zero point is in the middle of the codes."""
        low, high = self.limits
        return -low == high + 1

    def same_grid(self, other: Rounding) -> bool:
        """Whether both round to the same values."""
        if self.scale is None or other.scale is None or self.dtype != other.dtype:
            return False
        return np.array_equal(self.scale, other.scale) and np.array_equal(self.zero, other.zero)


def roundings(graph: Graph) -> dict[str, Rounding]:
    """Return by tensor the pair behind it, the first of several; none of constants, none of pairs."""
    constants = constant_arrays(graph)
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.nodes:
        for name in reads(node):
            readers.setdefault(name, []).append(node)
    found: dict[str, Rounding] = {}
    for node in graph.nodes:
        source = node.input[0] if node.op_type == QUANTIZE else ""
        maker = graph.made.get(source)
        again = maker is not None and graph.nodes[maker].op_type == DEQUANTIZE
        if not source or source in constants or source in found or again:
            continue
        back = [r for r in readers.get(node.output[0], []) if r.op_type == DEQUANTIZE]
        if back:
            found[source] = _rounding(node, back[0], constants)
    return found


def _rounding(node: NodeProto, back: NodeProto, constants: Mapping[str, Array]) -> Rounding:
    zero = constants.get(node.input[2]) if len(node.input) > 2 else None
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    if zero is None:
        zero = np.zeros((), dtype=np.uint8)
    scale = constants.get(node.input[1])
    return Rounding(node.input[0], node.output[0], back.output[0], scale, zero, zero.dtype, axis)


def constant_arrays(graph: Graph) -> Mapping[str, Array]:
    """Return the constants that nodes read, as arrays that are made when asked for."""
    return _Arrays(graph)


class _Arrays(Mapping[str, Array]):
    def __init__(self, graph: Graph) -> None:
        self._tensors = dict(graph.constants)
        for node in graph.nodes:
            if node.op_type == "Constant":
                self._tensors.update((node.output[0], a.t) for a in node.attribute if a.name == "value")

    def __getitem__(self, name: str) -> Array:
        return numpy_helper.to_array(self._tensors[name])

    def __iter__(self) -> Any:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)
