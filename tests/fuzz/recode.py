"""Code made anew from the operators of a program: what both modes must agree on, whatever was forged.

The instructions of a file may have been made from other operators than those that it holds; then each mode
runs its own program. With code from the operators that are there, a difference is a fault of a simulator.
"""

from __future__ import annotations

from dataclasses import replace

from openbpu.arch.isa import EncodingError
from openbpu.arch.program import BpuSegment, Program, Segment, Space
from simulator.coder import Coder, up
from simulator.tiles import TILES


def recoded(program: Program) -> Program | None:
    """The program with tensors at places of their own, every operator one tile; None: it needs more."""
    placed = _placed(program)
    try:
        segments = tuple(_recoded(placed, segment) for segment in placed.segments)
    except (EncodingError, OverflowError):
        return None
    return replace(placed, segments=segments)


def _recoded(program: Program, segment: Segment) -> Segment:
    if not isinstance(segment, BpuSegment):
        return segment
    code, chip = Coder(program, segment, TILES).all()
    return replace(segment, code=(code,), chip_bytes=chip)


def _placed(program: Program) -> Program:
    """Every tensor outside the constants gets bytes of its own in DDR."""
    tensors, end = [], 0
    for t in program.tensors:
        if t.space in {Space.CONST, Space.VIEW} or t.dtype.value == "other":
            tensors.append(t)
            continue
        tensors.append(replace(t, space=Space.DDR, address=end))
        end += up(t.nbytes)
    return replace(program, tensors=tuple(tensors), ddr_bytes=end)
