"""The epilogue of `layer.vector` for AVX-512, int8 results and sums below 2^31: four registers at a time
(`vector_pack`).

Same signature; tables are fused. A tile row is 1..4 registers of 16 channels: rows are taken 4, 2 or 1 at a
time.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from openbpu.simulator.fast.layer.arguments import LANES, PARAM_BYTES
from openbpu.simulator.fast.layer.vector_pack import Pack64
from openbpu.simulator.fast.vector.loops import counted
from openbpu.simulator.fast.vector.types import I8, I32, I64, PTR, at, const, function, load, splat, vec

_SUMS = vec(I32, LANES)


def epilogue64_name(*, residual: bool, table: bool) -> str:
    """The symbol."""
    return f"epilogue64_{int(residual)}_{int(table)}"


class _Epilogue64:
    def __init__(self, module: Any, *, residual: bool, table: bool) -> None:
        self.residual = residual
        arguments = [PTR, I64, I64, PTR, I64, PTR, I64, PTR, I64, PTR]
        self.f = function(module, epilogue64_name(residual=residual, table=table), arguments)
        self.b = ir.IRBuilder(self.f.append_basic_block("entry"))
        self.pack = Pack64(module, self.b, self.f.args[9], table=table)

    def build(self) -> None:
        b, groups = self.b, self.f.args[2]
        other = self.f.append_basic_block("none")
        choose = b.switch(groups, other)
        b.position_at_end(other)
        b.unreachable()
        for count in (1, 2, 3, 4):
            block = self.f.append_basic_block(f"groups{count}")
            choose.add_case(const(I64, count), block)
            b.position_at_end(block)
            self._rows(count)
            b.ret_void()

    def _rows(self, groups: int) -> None:
        b = self.b
        tile, rows, _, params, channels, y, y_pitch, r, r_pitch, _ = self.f.args
        together, width = max(4 // groups, 1), groups * LANES
        factors = [
            self.pack.params(at(b, params, g * PARAM_BYTES, I8), residual=self.residual)
            for g in range(groups)
        ]
        lanes = ir.Constant(vec(I64, width), list(range(width)))
        mask = b.icmp_signed("<", lanes, splat(b, channels, width))
        whole = b.icmp_signed(">=", channels, const(I64, width))
        last = b.sub(rows, const(I64, 1))
        with counted(b, rows, together) as row:
            values = []
            for i in range(together):
                here = b.add(row, const(I64, i))
                inside = b.select(b.icmp_signed("<", here, rows), here, last)
                for g in range(groups):
                    block = b.add(b.mul(here, const(I64, groups)), const(I64, g))
                    acc = load(b, at(b, tile, b.mul(block, const(I64, LANES)), I32), _SUMS, 4)
                    values.append(self.pack.integers(acc, factors[g], self._residual(r, r_pitch, inside, g)))
            values += values[-1:] * (4 - len(values))
            packed = self.pack.natural(self.pack.bytes(values))
            for i in range(together):
                here = b.add(row, const(I64, i))
                place = at(b, y, b.mul(here, y_pitch), I8)
                with b.if_then(b.icmp_signed("<", here, rows)), b.if_else(whole) as (yes, no):
                    with yes:
                        self.pack.store(packed, i * width, width, place, None)
                    with no:
                        self.pack.store(packed, i * width, width, place, mask)

    def _residual(self, r: Any, r_pitch: Any, row: Any, group: int) -> Any:
        if not self.residual:
            return None
        b = self.b
        place = at(b, r, b.add(b.mul(row, r_pitch), const(I64, group * LANES)), I8)
        return load(b, place, vec(I8, LANES))


def add_epilogues64(module: Any, *, tables: bool) -> None:
    """Add the epilogues; with fused tables where the CPU permutes bytes."""
    for residual in (False, True):
        for table in (False, True) if tables else (False,):
            _Epilogue64(module, residual=residual, table=table).build()
