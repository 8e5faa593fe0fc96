"""Between floats and codes, at the ends of a model: VPU, the float-capable vector unit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from openbpu.arch.definition.checked import Checked
from openbpu.arch.definition.instruction import Instr, i32, u32
from openbpu.arch.definition.integers import Count, ceil_div
from openbpu.arch.definition.layers import Layers, Records, box, column
from openbpu.arch.definition.needs import (
    INTEGERS,
    constant_of,
    need,
    need_geometry,
    need_same_size,
    need_sizes,
)
from openbpu.arch.definition.operator import Ints, Operator
from openbpu.arch.definition.registry import instruction, operator
from openbpu.arch.dtypes import DType
from openbpu.arch.engines import Engine
from openbpu.arch.errors import MarchError, must
from openbpu.arch.march import March


def _box_cycles(rows: Records, layers: Layers) -> Count:
    """Return the cycles of boxes that are read from x and written to y."""
    ids = column(rows, "operator")
    x, y = layers.of(ids, layers.input_size), layers.of(ids, layers.output_size)
    count, run = box(rows, ("x_strides", x), ("y_strides", y))
    return vpu_cycles(layers.march, rows=count, run=run)


@instruction
@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeTile(Instr):
    """A box of a Quantize: y[i] = quantize(x[i]) for i over counts; strides in bytes."""

    OPCODE: ClassVar[int] = 0x40
    ENGINE: ClassVar[Engine] = Engine.VPU
    x: int = u32()
    y: int = u32()
    counts: tuple[int, ...] = u32(4)
    x_strides: tuple[int, ...] = i32(4)
    y_strides: tuple[int, ...] = i32(4)

    @staticmethod
    def cycles(rows: Records, layers: Layers) -> Count:
        """See `vpu_cycles`."""
        return _box_cycles(rows, layers)


@operator(15, QuantizeTile, onnx="")
@dataclass(frozen=True, slots=True, kw_only=True)
class Quantize(Operator):
    """VPU. y = clamp(rhe(x / scale) + zero) of float32 x, divided in float32; `scale` is a float32."""

    ANY_DTYPE: ClassVar[bool] = True

    scale: float
    zero: int = 0
    lo: int = -128
    hi: int = 127

    def check(self, program: Checked) -> None:
        """float32 goes in, codes come out, and the scale can divide."""
        need_same_size(program, self)
        dtype = program.tensors[self.inputs[0]].dtype
        need(dtype is DType.FLOAT32, "dtype of the input", dtype.value)
        with np.errstate(over="ignore", under="ignore"):
            divisor = float(np.float32(self.scale))
        need(0 < divisor < np.inf, "scale", self.scale)
        dtype = program.tensors[self.outputs[0]].dtype
        need(dtype in INTEGERS, "dtype of the output", dtype.value)
        need(dtype.qmin <= self.zero <= dtype.qmax, "zero", self.zero)


@instruction
@dataclass(frozen=True, slots=True, kw_only=True)
class DequantizeTile(Instr):
    """y[a, c, b] of a Dequantize for a, c, b over counts; strides in bytes.

    `scales` points at the scale of the tile's first c, its offset, if there is one, right behind it;
    scale_stride is 4 or 8 bytes, or 0 for a single scale.
    """

    OPCODE: ClassVar[int] = 0x41
    ENGINE: ClassVar[Engine] = Engine.VPU
    x: int = u32()
    y: int = u32()
    scales: int = u32()
    scale_stride: int = u32()
    counts: tuple[int, ...] = u32(3)
    x_strides: tuple[int, ...] = i32(3)
    y_strides: tuple[int, ...] = i32(3)

    @staticmethod
    def cycles(rows: Records, layers: Layers) -> Count:
        """See `vpu_cycles`."""
        return _box_cycles(rows, layers)


@operator(16, DequantizeTile, onnx="")
@dataclass(frozen=True, slots=True, kw_only=True)
class Dequantize(Operator):
    """VPU. y[a,c,b] = float32(x[a,c,b] − x_zero)·scale[c] + offset[c], each step in float32.

    scales_id: float32 [C] = scale, or [C,2] = scale, offset where there are offsets (what a bias has left
    beside whole steps of an accumulator); C may be 1.
    """

    ANY_DTYPE: ClassVar[bool] = True

    scales_id: int
    shape: Ints  # A, C, B
    x_zero: int = 0

    def check(self, program: Checked) -> None:
        """Codes go in, float32 comes out, and there is a finite scale for every channel."""
        need_geometry("shape", self.shape, 3, least=0)
        need_sizes(program, self, math.prod(self.shape), math.prod(self.shape))
        channels = self.shape[1]
        scales = constant_of(program, self.scales_id, DType.FLOAT32, (1,), (channels,), (1, 2), (channels, 2))
        need(bool(np.isfinite(scales).all()), "scales", "NaN or infinite")
        x, y = program.tensors[self.inputs[0]].dtype, program.tensors[self.outputs[0]].dtype
        need(x in INTEGERS, "dtype of the input", x.value)
        need(y is DType.FLOAT32, "dtype of the output", y.value)


def vpu_cycles(march: March, *, rows: Count, run: Count) -> Count:
    """Return the cycles of a QuantizeTile or DequantizeTile; raises MarchError on a march without VPU."""
    if march.vpu.lanes == 0:
        fix = "compile for this march with float inputs and outputs on the CPU"
        raise MarchError(must(f"march {march.name}", "a VPU instruction", "absent (no VPU)", "present", fix))
    return march.vpu.issue_cycles + rows * ceil_div(run, march.vpu.lanes)
