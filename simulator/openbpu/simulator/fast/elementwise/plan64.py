"""Element-wise operators on bytes, on processors that permute bytes: see elementwise.vector64.

Each function returns whether it appended the step; where it did not, any other kernel does the same.
"""

from __future__ import annotations

from math import prod

import numpy as np

from openbpu.arch.dtypes import DType
from openbpu.arch.program import Binary, Lut
from openbpu.arch.shapes import Ints
from openbpu.simulator.fast.elementwise import arguments
from openbpu.simulator.fast.jit.cpu import permutes_bytes
from openbpu.simulator.fast.layer.requant import Requant, choose_finish, packed_consts
from openbpu.simulator.fast.plan.steps import Lowering, Symbol
from openbpu.simulator.fast.scratch import CHUNK


def binary_packed(op: Binary, low: Lowering, sizes: Ints, strides: tuple[Ints, ...]) -> bool:
    """Bytes with bytes in dense rows: an epilogue whose accumulator is a, or a·b, and whose residual is b."""
    (a, b), (y,) = op.inputs, op.outputs
    dense = len(sizes) <= 2 and strides[0][-1] == strides[1][-1] == 1
    if not dense or op.fn not in {"add", "mul"} or any(low.dtype(t) is not DType.INT8 for t in (a, b)):
        return False
    requant = _byte_requant(op)
    table = low.constant(op.table_id) if op.table_id >= 0 else None
    if max(abs(op.mult_a), abs(op.mult_b)) >= 2**44:
        return False
    finish = choose_finish(requant, low.mode, 1, low.kind(y), table)
    if not finish.packed:
        return False
    consts = finish.consts.copy()
    consts[24:40] = np.array([op.a_zero, op.b_zero], dtype=np.int64).view(np.uint8)
    pitches = [s[0] if len(sizes) == 2 else 0 for s in strides]
    rows, length = (sizes[0] if len(sizes) == 2 else 1), sizes[-1]
    pieces = -(-length // CHUNK)
    made = arguments.BinaryPacked(
        code=Symbol(f"{op.fn}64_{int(table is not None)}"), a=low.read(a), a_pitch=pitches[0],
        b=low.read(b), b_pitch=pitches[1], params=requant.params(real=True), y=low.write(y), length=length,
        per_row=pieces, consts=consts,
    )  # fmt: skip
    low.add(made, rows * pieces, rows * (20 + length * 0.15))
    return True


def _byte_requant(op: Binary) -> Requant:
    one = np.ones(16, dtype=np.int64)
    if op.fn == "mul":
        reach = (128 + abs(op.a_zero)) * (128 + abs(op.b_zero))
        terms = op.offset * one, op.shift * one, 0 * one, reach * one, 0
    else:
        offset = op.offset - op.a_zero * op.mult_a - op.b_zero * op.mult_b
        terms = offset * one, op.shift * one, op.mult_b * one, 128 * one, 128
    return Requant(op.mult_a * one, *terms, op.zero, op.lo, op.hi)


def lut_packed(op: Lut, low: Lowering) -> bool:
    """A table of 256 bytes, held in registers."""
    (x,), (y,) = op.inputs, op.outputs
    if low.mode != "vnni512" or not permutes_bytes() or low.kind(y) != 1:
        return False
    count = prod(low.tensor(x).shape)
    consts = packed_consts(0, -128, 127, low.constant(op.table_id))
    pieces = -(-count // CHUNK)
    made = arguments.LutPacked(
        code=Symbol("lut64"), x=low.read(x), y=low.write(y), count=count, consts=consts
    )
    low.add(made, pieces, count * 0.05)
    return True
