"""Code without a compiler: LOAD, compute and STORE of one operator after the other.

Every step waits for all instructions of the step before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from openbpu.arch import isa
from openbpu.arch.isa import ENGINES, Instr
from openbpu.arch.program import BpuSegment, Operator, Program, Space

ALIGNMENT = 64
Ints = tuple[int, ...]
At = dict[int, int]  # tensor id → on-chip address
Tiles = Mapping[type[Operator], Callable[..., list[Instr]]]


def up(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT


def dense(shape: Sequence[int], size: int) -> Ints:
    """Byte strides of a row-major tensor."""
    return tuple(size * prod(shape[i + 1 :]) for i in range(len(shape)))


def padded(values: Sequence[int], count: int, fill: int) -> Ints:
    """`values` behind enough `fill` to make `count`."""
    return (*[fill] * (count - len(values)), *values)


def with_code(program: Program, *instrs: Sequence[Instr], chip_bytes: int | None = None) -> Program:
    """The program with other code (one sequence per core)."""
    (segment,) = program.segments
    assert isinstance(segment, BpuSegment)
    size = segment.chip_bytes if chip_bytes is None else chip_bytes
    coded = replace(segment, code=tuple(isa.encode(i) for i in instrs), chip_bytes=size)
    return replace(program, segments=(coded,))


class Coder:
    """Emits the instructions of one segment."""

    def __init__(self, program: Program, segment: BpuSegment, tiles: Tiles) -> None:
        self.program = program
        self.tiles = tiles
        self.segment = segment
        self.instrs: list[Instr] = []
        self.done = [0] * ENGINES
        self.index = 0
        self.top = 0

    def all(self) -> tuple[isa.Code, int]:
        chip_bytes = 0
        for index, op in enumerate(self.segment.operators):
            self.index, self.top = index, 0
            self.operator(op)
            chip_bytes = max(chip_bytes, self.top)
        return isa.encode(self.instrs), chip_bytes

    def operator(self, op: Operator) -> None:
        ids = dict.fromkeys((*(i for i in op.inputs if i >= 0), *op.constants()))
        at = {i: self.room(i) for i in ids}
        self.step([self.transfer(isa.Load, i, at[i]) for i in ids])
        y = self.room(op.outputs[0])
        self.step(self.tiles[type(op)](self, op, at, y))
        self.step([self.transfer(isa.Store, op.outputs[0], y)])

    def room(self, tensor: int) -> int:
        address = self.top
        self.top += up(self.program.tensors[tensor].nbytes)
        return address

    def step(self, instrs: Sequence[Instr]) -> None:
        """Append instructions that wait for everything before them."""
        wait = tuple(self.done)
        for instr in instrs:
            self.instrs.append(replace(instr, wait=wait))
            self.done[instr.ENGINE] += 1

    def transfer(self, cls: Any, tensor: int, chip: int) -> Instr:
        root = self.program.tensors[self.program.root(tensor)]
        base = 0 if root.space is Space.CONST else up(len(self.program.constants))
        zeros = (0, 0, 0, 0)
        made: Instr = cls(
            operator=self.index,
            ddr=base + root.address,
            chip=chip,
            row_bytes=root.nbytes,
            counts=(1, 1, 1, 1),
            ddr_strides=zeros,
            chip_strides=zeros,
        )
        return made

    def size(self, tensor: int) -> int:
        return self.program.tensors[tensor].dtype.nbytes
