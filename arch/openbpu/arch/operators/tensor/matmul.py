"""Matrix products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from openbpu.arch.definition.checked import Checked
from openbpu.arch.definition.instruction import Instr, u32
from openbpu.arch.definition.integers import Count, ceil_div
from openbpu.arch.definition.layers import Layers, Records, column
from openbpu.arch.definition.needs import need, need_geometry, need_sizes
from openbpu.arch.definition.operator import Operator
from openbpu.arch.definition.registry import instruction, operator
from openbpu.arch.engines import Engine
from openbpu.arch.march import March
from openbpu.arch.operators.tensor.array import need_product, passes, tile_cycles


@instruction
@dataclass(frozen=True, slots=True, kw_only=True)
class MatMulTile(Instr):
    """y[i, j] for i < m, j < n over the whole k of one batch of a MatMul (see there for the formula).

    Row strides in bytes; b has k rows of n, or n rows of k when the operator says `b_transposed`.
    """

    OPCODE: ClassVar[int] = 0x11
    ENGINE: ClassVar[Engine] = Engine.TAE
    a: int = u32()
    b: int = u32()
    y: int = u32()
    table: int = u32(default=0)
    a_row: int = u32()
    b_row: int = u32()
    y_row: int = u32()
    m: int = u32()
    n: int = u32()

    @staticmethod
    def cycles(rows: Records, layers: Layers) -> Count:
        """See `matmul_cycles`."""
        ids, march, tensors = column(rows, "operator"), layers.march, layers.tensors

        def step(o: Any) -> int:
            return passes(march, *(tensors[t].dtype for t in o.inputs[:2]))

        return matmul_cycles(
            march,
            m=column(rows, "m"),
            n=column(rows, "n"),
            k=layers.of(ids, lambda o: o.k),
            step=layers.of(ids, step),
            weight_bytes=layers.of(ids, lambda o: layers.size(o.inputs[1])),
            raw=layers.of(ids, lambda o: int(o.raw)),
        )

    @staticmethod
    def macs(rows: Records, layers: Layers) -> Count:
        """Results times what one sums."""
        return column(rows, "m") * column(rows, "n") * layers.of(column(rows, "operator"), lambda o: o.terms)


@operator(1, MatMulTile, onnx="MatMul")
@dataclass(frozen=True, slots=True, kw_only=True)
class MatMul(Operator):
    """TAE. y[b,m,n] = table[clamp(rhe((acc·mult + offset) / 2^shift) + zero)]

    acc = sat32(Σ_k (a[b,m,k] − a_zero)·(b[b,k,n] − b_zero)).
    a [A,M,K], b [B,K,N] or, when `b_transposed`, [B,N,K]; A = B or one of them is 1 (then it is shared).
    `raw`: the output is int32 acc. `wide` as in Conv.
    """

    INPUTS: ClassVar[tuple[int, int]] = (2, 2)

    table_id: int = -1
    a_batch: int
    b_batch: int
    m: int
    k: int
    n: int
    b_transposed: bool = False
    a_zero: int = 0
    b_zero: int = 0
    mult: int = 0
    offset: int = 0
    shift: int = 0
    zero: int = 0
    lo: int = -128
    hi: int = 127
    raw: bool = False
    wide: bool = False

    @property
    def terms(self) -> int:
        """Products that one element of y sums."""
        return self.k

    @property
    def multiply_adds(self) -> int:
        """Products of the whole layer."""
        return max(self.a_batch, self.b_batch) * self.m * self.n * self.terms

    def check(self, program: Checked) -> None:
        """Sizes and batches agree, and the types are those of a product."""
        need_geometry("sizes", (self.a_batch, self.b_batch, self.m, self.k, self.n), 5)
        batch = max(self.a_batch, self.b_batch)
        need({self.a_batch, self.b_batch} <= {1, batch}, "b_batch", self.b_batch)
        a, b = self.a_batch * self.m * self.k, self.b_batch * self.k * self.n
        need_sizes(program, self, a, b, batch * self.m * self.n)
        need_product(program, self.inputs, self.outputs[0], raw=self.raw)


def matmul_cycles(
    march: March, *, m: Count, n: Count, k: Count, step: Count = 1, weight_bytes: Count = 1, raw: Count = 0
) -> Count:
    """Return the cycles of one MatMulTile: rows of `a` are the pixels, columns of `b` the channels.

    `b` was just computed, so it first becomes weights: a fixed time, since it does not follow the clock.
    """
    tae = march.tae
    rows = ceil_div(m, tae.pixel_rows * tae.pixel_cols)
    steps = ceil_div(n, tae.output_lanes) * ceil_div(k, tae.input_lanes)
    turned = march.cycles_in(tae.matrix_ns)
    return turned + tile_cycles(tae, rows * steps * step, (m, n), k * n * weight_bytes, raw)
