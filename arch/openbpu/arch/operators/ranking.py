"""The first elements along an axis, in order of size: what the scalar unit is for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from openbpu.arch.definition.boxes import volume
from openbpu.arch.definition.checked import Checked
from openbpu.arch.definition.instruction import Instr, i32, u32
from openbpu.arch.definition.integers import Count
from openbpu.arch.definition.layers import Layers, Records, column
from openbpu.arch.definition.needs import INTEGERS, need, need_geometry, need_sizes
from openbpu.arch.definition.operator import Ints, Operator
from openbpu.arch.definition.registry import instruction, operator
from openbpu.arch.engines import Engine
from openbpu.arch.errors import MarchError, must
from openbpu.arch.march import March
from openbpu.arch.operators.reduce import PLACES


@instruction
@dataclass(frozen=True, slots=True, kw_only=True)
class TopKTile(Instr):
    """y[a, k, b] = TopK over r, the whole axis, of x[a, r, b]; counts are (a, r, b, k), strides in bytes."""

    OPCODE: ClassVar[int] = 0x60
    ENGINE: ClassVar[Engine] = Engine.SPU
    x: int = u32()
    y: int = u32()
    counts: tuple[int, ...] = u32(4)
    x_strides: tuple[int, ...] = i32(3)
    y_strides: tuple[int, ...] = i32(3)

    @staticmethod
    def cycles(rows: Records, layers: Layers) -> Count:
        """See `top_k_cycles`."""
        volume(column(rows, "counts"))
        a, r, b, k = column(rows, "counts").T
        return top_k_cycles(layers.march, rows=a * b, r=r, k=k)


@operator(30, TopKTile, onnx="TopK")
@dataclass(frozen=True, slots=True, kw_only=True)
class TopK(Operator):
    """SPU. x [A,R,B] → y [A,K,B]: the K largest (or smallest) x[a, r, b], in that order, equal ones by r.

    `indices`: the r of each, as any integers, in place of the codes.
    """

    ANY_DTYPE: ClassVar[bool] = True  # int64, too; `check` says which

    shape: Ints  # A, R, B
    k: int
    largest: bool = True
    indices: bool = False

    def check(self, program: Checked) -> None:
        """The sizes agree, codes are read, and codes of that type, or indices that fit, are written."""
        need_geometry("shape", self.shape, 3)
        a, r, b = self.shape
        need(1 <= self.k <= r, f"k of an axis of {r}", self.k)
        need_sizes(program, self, math.prod(self.shape), a * self.k * b)
        x, y = (program.tensors[i].dtype for i in (self.inputs[0], self.outputs[0]))
        need(x in INTEGERS, "dtype of what is ordered", x.value)
        if not self.indices:
            need(y is x, f"dtype of elements of {x.value}", y.value)
            return
        need(y in PLACES, "dtype of an index", y.value)
        need(r - 1 <= y.qmax, f"length of an axis with indices of {y.value}", r)


def top_k_cycles(march: March, *, rows: Count, r: Count, k: Count) -> Count:
    """Return the cycles of a TopKTile: each element is met once and each result written once, one at a time.

    Raises MarchError on a march without SPU.
    """
    if march.spu.cycles_per_element == 0:
        fix = "compile for this march with TopK on the CPU"
        raise MarchError(must(f"march {march.name}", "an SPU instruction", "absent (no SPU)", "present", fix))
    return march.spu.issue_cycles + rows * (r + k) * march.spu.cycles_per_element
