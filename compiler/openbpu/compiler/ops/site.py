"""Where an operator stands in the quantized graph: its inputs, the Quantize behind it, what it may emit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.arrays import Float64
from openbpu.arch.dtypes import DType
from openbpu.arch.march import March
from openbpu.arch.shapes import along
from openbpu.compiler.ir import Array, Graph, Node, Origin, Quant, Rewriter
from openbpu.compiler.ir.qdq import BPU_CODES, Scaling, is_dequantize, scaling
from openbpu.compiler.ops.advice import no_codes, no_shape
from openbpu.compiler.ops.mechanical import PAIR
from openbpu.compiler.ops.refused import Refused as Refused  # noqa: PLC0414 - what rows raise

FLAG = Quant((1.0,))
FLAGS = Scaling(np.ones(1, np.float32), np.zeros(1, np.int64), "int8")
"""What the codes of a bool mean: 0 is false, 1 true."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A float value that is a dequantized tensor: codes, scaling, shape; `const` holds constant codes."""

    codes: str
    scaling: Scaling
    shape: tuple[int, ...]
    const: Array | None = None
    origins: tuple[Origin, ...] = ()

    @property
    def dtype(self) -> str:
        """Type of the codes."""
        return self.scaling.dtype

    @property
    def s(self) -> float:
        """The scale, per tensor."""
        return self.scaling.s

    @property
    def z(self) -> int:
        """The zero point, per tensor."""
        return self.scaling.z

    @property
    def reach(self) -> int:
        """Largest |code − zero point|."""
        info = np.iinfo(self.dtype)
        return max(info.max - self.z, self.z - info.min)


@dataclass(slots=True)
class Site:
    """One float operator to be lowered.

    `node` is the operator, `out` the scaling of the Quantize behind it (None: its float result is used as it
    is), `target` the value to produce (codes of `out`, or the float value), `clamp` the float bounds that
    Relu and Clip between the operator and the Quantize impose, `residual` the other operand of a fused Add,
    `affine` a fused BatchNormalization (gain, bias per channel), `origins` all fused nodes, `flags` the codes
    of bools that the BPU makes, `moves_indices` says that input 0 holds integers that the BPU has found.
    """

    graph: Graph
    rw: Rewriter
    march: March
    producers: dict[str, Node]
    node: Node
    out: Scaling | None
    target: str
    clamp: tuple[float, float] = (-np.inf, np.inf)
    residual: Leaf | None = None
    affine: tuple[Float64, Float64] | None = None
    origins: tuple[Origin, ...] = ()
    is_output: bool = False
    flags: Mapping[str, str] = field(default_factory=dict)
    moves_indices: bool = False
    memo: dict[str, Any] = field(default_factory=dict)

    # --- reading -------------------------------------------------------------------------------------------

    def limit(self, key: str) -> int:
        """A number of the march's operator limits."""
        return int(self.march.limits[key])

    def has(self, index: int) -> bool:
        """Whether the operator has input `index`."""
        return index < len(self.node.inputs) and bool(self.node.inputs[index])

    def shape(self, index: int = 0) -> tuple[int, ...]:
        """Static shape of input `index`; refuses a dynamic one."""
        return self.shape_of(self.node.inputs[index])

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Static shape of a value; refuses a dynamic one."""
        shape = self.rw.values[name].shape
        if shape is None:
            raise no_shape(self.graph, self.producers, name)
        return shape

    def out_shape(self) -> tuple[int, ...]:
        """Static shape of the operator's output."""
        return self.shape_of(self.node.outputs[0])

    def leaf_or_none(self, name: str) -> Leaf | None:
        """The dequantized tensor behind a float value, or None."""
        dq = self.producers.get(name)
        if dq is None or not is_dequantize(dq):
            return None
        scale = scaling(self.graph, dq)
        if scale is None or scale.dtype not in BPU_CODES:
            return None
        value = self.graph.values[dq.inputs[0]]
        if value.shape is None:
            return None
        return Leaf(dq.inputs[0], scale, value.shape, value.const, dq.origins)

    def flag(self, name: str) -> str:
        """Codes 0 and 1 of a bool: those that the BPU makes, a constant, or the bytes of any other.

        "" for what is no bool of static shape, and for what the operator itself is to make.
        """
        value = self.graph.values[name]
        if name in self.node.outputs:
            return ""
        if name in self.flags:
            return self.flags[name]
        if value.dtype != "bool" or value.shape is None:
            return ""
        if value.const is not None:
            return self.rw.constant(f"{name}/codes", value.const.astype(np.int8), FLAG)
        bits = f"{name}/bytes"
        if bits not in self.rw.values:
            self.rw.bpu("Retype", self.rw.value(bits, value.shape, "int8", FLAG), x=name)
        return bits

    def flag_leaf(self, name: str) -> Leaf | None:
        """A bool, or one that is cast, as a tensor of the scale 1: tables read it so, arithmetic does not.

        None for what is none.
        """
        name = bool_behind(self.graph, self.producers, name)
        codes = self.flag(name) if name else ""
        if not codes:
            return None
        value = self.rw.values[codes]
        return Leaf(codes, FLAGS, value.shape or (), value.const)

    def leaf(self, index: int, dtypes: Sequence[str] = ("int8", "int16")) -> Leaf:
        """The quantized tensor at input `index`: per tensor, of one of `dtypes`; refuses anything else."""
        name = self.node.inputs[index]
        leaf = self.leaf_or_none(name)
        if leaf is None and self.graph.values[name].dtype == "bool":
            leaf = self.flag_leaf(name)
        if leaf is None:
            self.shape_of(name)
            producer = self.producers.get(name)
            if producer is not None and is_dequantize(producer):
                raise scales_refused(self.graph, producer, f"its input '{name}'")
            of = "" if len(dtypes) > 1 else f"of {dtypes[0]} "
            pair = f"{PAIR}{of}on that tensor"
            raise no_codes(self.graph, self.producers, self.node, name, pair)
        if not leaf.scaling.per_tensor:
            raise Refused(f"its input '{name}' is quantized per channel", "quantize activations per tensor")
        if leaf.dtype not in dtypes:
            raise Refused(
                f"its input '{name}' is {leaf.dtype} (allowed {', '.join(dtypes)})",
                f"quantize that tensor to {' or '.join(dtypes)}",
            )
        return leaf

    def constant(self, index: int) -> Array | None:
        """Float value of a constant input, dequantized when it is quantized; None when it is computed."""
        if not self.has(index):
            return None
        name = self.node.inputs[index]
        data = self.graph.const(name)
        if data is not None:
            return doubles(data)
        leaf = self.leaf_or_none(name)
        return None if leaf is None or leaf.const is None else dequantized(leaf)

    # --- results -------------------------------------------------------------------------------------------

    @property
    def out_dtype(self) -> str:
        """Type of the codes to produce."""
        return "int32" if self.out is None else self.out.dtype

    def out_quant(self) -> Scaling:
        """The scaling of the result; refuses an operator whose result is not quantized."""
        if self.out is None:
            raise Refused(
                f"its output '{self.node.outputs[0]}' is not quantized (passive quantization)",
                f"{PAIR}behind it",
            )
        return self.out

    def bounds(self) -> tuple[int, int]:
        """Codes lo..hi that the result is clamped to: the type's range and the fused Relu or Clip."""
        out = self.out_quant()
        return numerics.code_bounds(self.clamp, out.s, out.z, DType(out.dtype))

    def quant(self) -> Quant:
        """What the codes of the result mean."""
        out = self.out_quant()
        return Quant((out.s,), out.z)

    def declare(self, stem: str, shape: Sequence[int], dtype: str = "") -> str:
        """Declare an intermediate integer value."""
        return self.rw.value(stem, shape, dtype or self.out_dtype)

    def emit(self, op: str, output: str, **parts: Any) -> None:
        """Emit a BPU node that belongs to this operator; its operands and attributes by name."""
        self.rw.bpu(op, output, self.origins, self.node.name if output == self.target else "", **parts)

    def finish(self, op: str, **parts: Any) -> None:
        """Emit the BPU node that makes the target."""
        self.rw.set_quant(self.target, self.quant())
        self.emit(op, self.target, **parts)


def bool_behind(graph: Graph, producers: Mapping[str, Node], name: str) -> str:
    """Return the bool that a value is, through any casts; "" where it is something else."""
    if graph.values[name].dtype == "bool":
        return name
    while (node := producers.get(name)) is not None and node.op == "Cast" and node.domain == "":
        name = node.inputs[0]
        dtype = graph.values[name].dtype
        if dtype == "bool":
            return name
        if not dtype.startswith(("int", "uint", "float", "bfloat")):
            break
    return ""


def scales_refused(graph: Graph, dequantize: Node, what: str) -> Refused:
    """Return why a tensor that a Dequantize makes is none that the BPU reads."""
    size = int(dequantize.attrs.get("block_size", 0))
    if size:
        axis = int(dequantize.attrs.get("axis", 1))
        fix = "quantize it per tensor, or per channel: one block over the whole axis"
        return Refused(f"{what} is quantized in blocks of {size} along axis {axis}", fix)
    dtype = graph.values[dequantize.inputs[0]].dtype
    if dtype not in BPU_CODES:
        return Refused(f"{what} is quantized to {dtype}, no type of the BPU", "quantize it to int8 or int16")
    fix = "give the DequantizeLinear a constant scale and zero point, the scale above 0"
    return Refused(f"the scale or zero point of {what[4:]} is computed, or negative", fix)


def doubles(data: Array) -> Float64:
    """Return a user's numbers in float64; a signalling NaN becomes a quiet one, without NumPy's warning."""
    with np.errstate(invalid="ignore"):
        return data.astype(np.float64)


def dequantized(leaf: Leaf) -> Float64:
    """Return the real values of constant codes in float64."""
    if leaf.const is None:
        raise ValueError(f"'{leaf.codes}' is not a constant")
    scale, zero = leaf.scaling.scale.astype(np.float64), leaf.scaling.zero
    if leaf.scaling.per_tensor:
        return (leaf.const.astype(np.float64) - float(zero[0])) * float(scale[0])
    shape = along(leaf.scaling.axis, leaf.const.ndim)
    return (leaf.const.astype(np.float64) - zero.reshape(shape)) * scale.reshape(shape)
