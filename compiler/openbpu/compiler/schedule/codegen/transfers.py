"""Transfers: regions of tensors to LOAD and STORE instructions."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

from openbpu.arch.isa import Load, Store
from openbpu.arch.shapes import Ints, collapse
from openbpu.compiler.schedule.problem.job import Operand, View
from openbpu.compiler.schedule.problem.loop_nests import nests

Move = TypeVar("Move", Load, Store)
Nest = tuple[Ints, int, Ints, Ints, Ints]
"""(ddr, chip) offset, row_bytes, counts, ddr strides, chip strides."""
_DEPTH = 4


@lru_cache(maxsize=4096)
def transfers(shape: Ints, element: int, ddr: Ints, chip: Ints) -> tuple[Nest, ...]:
    """Cut the copy of a box into nests of rows: the longest run that is contiguous on both sides is a row."""
    counts, (far, near) = collapse((*shape, element), ((*ddr, 1), (*chip, 1)))
    row = 1
    if counts and far[-1] == near[-1] == 1:
        row, counts, far, near = counts[-1], counts[:-1], far[:-1], near[:-1]
    return tuple((at, row, n, f, c) for at, n, (f, c) in nests(counts, (far, near), _DEPTH))


def loads(index: int, operand: Operand, ddr: int, view: View) -> list[Load]:
    """LOADs of the view's region of an operand, whose root is at flat address `ddr`, into the view."""
    return _moves(Load, index, operand, ddr, view)


def stores(index: int, operand: Operand, ddr: int, view: View) -> list[Store]:
    """STOREs of the view into its region of an operand, whose root is at flat address `ddr`."""
    return _moves(Store, index, operand, ddr, view)


def _moves(kind: type[Move], index: int, operand: Operand, ddr: int, view: View) -> list[Move]:
    base = ddr + operand.start(view.region)
    parts = transfers(view.shape(), operand.element, operand.strides, view.strides)
    return [
        kind(
            operator=index,
            ddr=base + far,
            chip=view.at + near,
            row_bytes=row,
            counts=counts,
            ddr_strides=far_strides,
            chip_strides=near_strides,
        )
        for (far, near), row, counts, far_strides, near_strides in parts
    ]
