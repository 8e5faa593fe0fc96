"""Boxes of tensors to LOAD and STORE instructions."""

from __future__ import annotations

from functools import lru_cache

from openbpu.arch.isa import Load, Store
from openbpu.compiler.schedule.axes import Box, Ints
from openbpu.compiler.schedule.job import Operand, View
from openbpu.compiler.schedule.strided import collapse, nests

_DEPTH = 4
Nest = tuple[Ints, int, Ints, Ints, Ints]  # (ddr, chip) offset, row_bytes, counts, ddr strides, chip strides


@lru_cache(maxsize=4096)
def transfers(shape: Ints, element: int, ddr: Ints, chip: Ints) -> tuple[Nest, ...]:
    """Cut the copy of a box into nests of rows: the longest run that is contiguous on both sides is a row."""
    counts, (far, near) = collapse((*shape, element), ((*ddr, 1), (*chip, 1)))
    row = 1
    if counts and far[-1] == near[-1] == 1:
        row, counts, far, near = counts[-1], counts[:-1], far[:-1], near[:-1]
    return tuple((at, row, n, f, c) for at, n, (f, c) in nests(counts, (far, near), _DEPTH))


def box_shape(region: Box) -> Ints:
    """Lengths of a region."""
    return tuple([hi - lo for lo, hi in region])


def loads(index: int, operand: Operand, ddr: int, view: View) -> list[Load]:
    """Load the view's region of a tensor at DDR address `ddr` into the view."""
    base = ddr + operand.offset(view.region)
    parts = transfers(box_shape(view.region), operand.element, operand.strides, view.strides)
    return [
        Load(
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


def stores(index: int, operand: Operand, ddr: int, view: View) -> list[Store]:
    """Store the view into its region of a tensor at DDR address `ddr`."""
    base = ddr + operand.offset(view.region)
    parts = transfers(box_shape(view.region), operand.element, operand.strides, view.strides)
    return [
        Store(
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


def ddr_rows(shape: Ints, operand: Operand) -> int:
    """Contiguous runs that a region of this shape has in DDR."""
    rows, run = 1, True
    for n, full in zip(reversed(shape), reversed(operand.shape), strict=True):
        if not run:
            rows *= n
        elif n != full:
            run = False
    return rows
