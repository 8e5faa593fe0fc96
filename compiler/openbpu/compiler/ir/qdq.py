"""What QuantizeLinear and DequantizeLinear nodes say, read once: scale, zero point, dtype, axis."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from openbpu.arch.errors import QuantizationError, must
from openbpu.compiler.ir import Graph, Node, Rewriter

QUANTIZE = "QuantizeLinear"
DEQUANTIZE = "DequantizeLinear"
SIGNED = {"uint8": "int8", "uint16": "int16"}
BPU_CODES = ("int8", "int16", "int32")


@dataclass(frozen=True, slots=True)
class Scaling:
    """Scale (float32, [1] or one per `axis`) and zero point (int64, same length) of a Q or DQ node.

    `offset` (float32, same length) is added to what the Dequantize of an accumulator makes: its fourth input,
    which ONNX has not and `spell_offsets` writes out.
    """

    scale: npt.NDArray[np.float32]
    zero: npt.NDArray[np.int64]
    dtype: str
    axis: int = -1
    offset: npt.NDArray[np.float32] | None = None

    @property
    def per_tensor(self) -> bool:
        """Whether one scale holds for all elements."""
        return self.scale.size == 1

    @property
    def s(self) -> float:
        """The scale of a per-tensor scaling, as the float64 value of its float32."""
        return float(self.scale[0])

    @property
    def z(self) -> int:
        """The zero point of a per-tensor scaling."""
        return int(self.zero[0])

    def same(self, other: Scaling) -> bool:
        """Whether both map integers to reals alike."""
        return (
            self.dtype == other.dtype
            and (self.per_tensor or self.axis == other.axis)
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero, other.zero)
            and _same_arrays(self.offset, other.offset)
        )


def is_quantize(node: Node | None) -> bool:
    """Whether `node` is an ONNX QuantizeLinear."""
    return node is not None and node.op == QUANTIZE and not node.is_bpu


def is_dequantize(node: Node | None) -> bool:
    """Whether `node` is an ONNX DequantizeLinear."""
    return node is not None and node.op == DEQUANTIZE and not node.is_bpu


def scaling(graph: Graph, node: Node) -> Scaling | None:
    """Return the scaling of a Q or DQ node; None when its scale or zero point is computed, or it is blocked.

    None, too, for a negative scale, but for those of constants, which `positive_scales` leaves to weights
    alone, and of accumulators. Raises QuantizationError for a scale that is NaN, infinite or zero, or of the
    wrong length.
    """
    scale = graph.const(node.inputs[1])
    has_zero = len(node.inputs) > 2 and bool(node.inputs[2])
    zero = graph.const(node.inputs[2]) if has_zero else None
    if scale is None or (has_zero and zero is None) or node.attrs.get("block_size", 0):
        return None
    flat = np.atleast_1d(np.asarray(scale, dtype=np.float32)).reshape(-1)
    _check_scale(node, flat)
    codes = node.outputs[0] if is_quantize(node) else node.inputs[0]
    if (flat < 0).any() and graph.const(codes) is None and graph.values[codes].dtype != "int32":
        return None
    dtype = str(zero.dtype) if zero is not None else graph.values[codes].dtype
    zeros = (
        np.zeros(flat.size, np.int64) if zero is None else np.atleast_1d(zero).astype(np.int64).reshape(-1)
    )
    axis = _axis(graph, node, flat.size, np.ndim(scale))
    if zeros.size != flat.size:
        raise QuantizationError(
            must(f"node '{node.name}'", "its zero point", f"of the scale's length {flat.size}", zeros.size)
        )
    offset = graph.const(node.inputs[3]) if len(node.inputs) > 3 else None
    return Scaling(flat, zeros, dtype, axis, None if offset is None else offset.reshape(-1))


def _same_arrays(a: npt.NDArray[np.float32] | None, b: npt.NDArray[np.float32] | None) -> bool:
    return a is b if a is None or b is None else np.array_equal(a, b)


def spell_offsets(graph: Graph) -> Graph:
    """Write what is left of offsets as ONNX: DQ(codes, scale, –, offset) becomes DQ(codes, scale) → Add."""
    if not any(is_dequantize(n) and len(n.inputs) > 3 for n in graph.nodes):
        return graph
    rw = Rewriter(graph)
    for node in graph.nodes:
        scale = scaling(graph, node) if is_dequantize(node) and len(node.inputs) > 3 else None
        if scale is None or scale.offset is None:
            rw.nodes.append(node)
            continue
        out = node.outputs[0]
        shape = graph.values[out].shape or ()
        product = rw.value(f"{out}/product", shape, graph.values[out].dtype)
        along = [-1 if i == scale.axis else 1 for i in range(len(shape))] if scale.offset.size > 1 else []
        offset = rw.constant(f"{out}/offset", scale.offset.reshape(along))
        rw.nodes.append(replace(node, inputs=node.inputs[:2], outputs=(product,)))
        rw.add("Add", (product, offset), (out,), node.origins)
    return rw.finish()


def _check_scale(node: Node, scale: npt.NDArray[np.float32]) -> None:
    bad = scale[~(np.isfinite(scale) & (scale != 0))]
    if bad.size:
        raise QuantizationError(
            must(
                f"node '{node.name}' ({node.op})",
                "its scale",
                "finite and not 0",
                float(bad[0]),
                "calibrate again, or quantize the model anew",
            )
        )


def _axis(graph: Graph, node: Node, length: int, rank: int) -> int:
    shape = graph.values[node.inputs[0]].shape
    if length == 1 and (rank == 0 or shape is None):
        return -1
    axis = int(node.attrs.get("axis", 1))
    if shape is None:
        return axis
    if length == 1 and (rank == 0 or not -len(shape) <= axis < len(shape) or shape[axis] != 1):
        return -1
    if not -len(shape) <= axis < max(len(shape), 1):
        raise QuantizationError(must(f"node '{node.name}'", "its axis", f"inside rank {len(shape)}", axis))
    axis %= len(shape)
    if shape[axis] != length:
        raise QuantizationError(
            must(
                f"node '{node.name}' ({node.op})",
                "the length of its scale",
                f"1 or {shape[axis]} (axis {axis} of {list(shape)})",
                length,
                "quantize per tensor or along an axis of that length",
            )
        )
    return axis
