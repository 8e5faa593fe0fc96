"""Functions of one tensor: look-ups of 256 entries, or of straight lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from openbpu.arch.definition.checked import Checked
from openbpu.arch.definition.needs import NARROW, constant_of, need, need_same_size, need_within
from openbpu.arch.definition.operator import Operator
from openbpu.arch.definition.registry import operator
from openbpu.arch.dtypes import DType
from openbpu.arch.numerics import MAX_SEGMENTS, MAX_SHIFT
from openbpu.arch.operators.elementwise import UnaryTile


@operator(3, UnaryTile, onnx="")
@dataclass(frozen=True, slots=True, kw_only=True)
class Lut(Operator):
    """VAE. y = table[x + 128] for int8 x; 256 entries of the output's dtype (any quantized one)."""

    LOOKS_UP: ClassVar[bool] = True

    table_id: int

    def check(self, program: Checked) -> None:
        """int8 goes in, and there is a table."""
        need_same_size(program, self)
        dtype = program.tensors[self.inputs[0]].dtype
        need(dtype is DType.INT8, "dtype of the input", dtype.value)
        need(self.table_id >= 0, "table", "absent")


@operator(4, UnaryTile, onnx="")
@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentLut(Operator):
    """VAE. int16 x to int8|int16 y: `numerics.segment_lut(x, segments)`, at most 64 lines.

    segments_id: int64 [S,4] = first x of the segment, base, slope, shift; segment s covers
    first[s] <= x < first[s+1] and the last one the rest:
    y = clamp(rhe((base[s] + (x − first[s])·slope[s]) / 2^shift[s]), lo, hi).
    """

    LOOKS_UP: ClassVar[bool] = True

    segments_id: int
    lo: int
    hi: int

    def check(self, program: Checked) -> None:
        """int16 goes in, and the segments cover it in order."""
        need_same_size(program, self)
        dtype = program.tensors[self.inputs[0]].dtype
        need(dtype is DType.INT16, "dtype of the input", dtype.value)
        made = program.tensors[self.outputs[0]].dtype
        need(made in NARROW, "dtype of the output", made.value)
        shapes = [(rows, 4) for rows in range(1, MAX_SEGMENTS + 1)]
        segments = constant_of(program, self.segments_id, DType.INT64, *shapes)
        need(
            int(segments[0, 0]) == DType.INT16.qmin and bool((np.diff(segments[:, 0]) > 0).all()),
            "segments",
            "unsorted",
        )
        need_within(program, "shifts", self.segments_id, range(3, 4), 0, MAX_SHIFT)
