"""A job: one operator, or one input of a concat, as an iteration box with operands that can be cut into
tiles.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from math import prod

from openbpu.arch.isa import Instr
from openbpu.compiler.schedule.axes import Axis, Box, Ints
from openbpu.compiler.schedule.strided import dense_strides


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor as a job sees it: `shape` (any shape of the same size), bytes per element, a map per axis."""

    tensor: int
    shape: Ints
    element: int
    axes: tuple[Axis, ...]
    output: bool = False
    constant: bool = False
    strides: Ints = field(init=False)  # bytes, of the whole dense tensor
    dims: frozenset[int] = field(init=False)  # iteration axes its region depends on

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", dense_strides(self.shape, self.element))
        object.__setattr__(self, "dims", frozenset(d for a in self.axes for d in a.dims))

    def region(self, box: Box) -> Box:
        """The part of the tensor that the iteration box `box` touches."""
        return tuple([axis.span(box) for axis in self.axes])

    def tile_shape(self, tile: Ints) -> Ints:
        """Upper bound of the region's shape for boxes of shape `tile`."""
        return tuple([axis.size(tile) for axis in self.axes])

    def offset(self, region: Box) -> int:
        """Byte offset of the first element of a region in the whole tensor."""
        return sum([span[0] * stride for span, stride in zip(region, self.strides, strict=True)])

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return prod(self.shape) * self.element


@dataclass(frozen=True, slots=True)
class View:
    """A region of an operand in on-chip memory: address of its first element, byte strides per axis."""

    at: int
    strides: Ints
    region: Box

    def shape(self) -> Ints:
        """Lengths of the region."""
        return tuple([hi - lo for lo, hi in self.region])

    def extent(self, element: int) -> tuple[int, int]:
        """First and last + 1 byte that the region covers (gaps between its rows included)."""
        last = sum([(s[1] - s[0] - 1) * k for s, k in zip(self.region, self.strides, strict=True)])
        return self.at, self.at + last + element


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(ABC):
    """An iteration box `extent` over `operands` (inputs and constants first, outputs last).

    `steps`: tile lengths per axis should be multiples of these (the extent itself: never cut that axis);
    `caps`: tile lengths must not exceed these. `index` is the operator's index in the segment. `copy`: the
    tile of the first operand, dense, is the tile of the output, so LOAD and STORE do all the work when
    either side is in DDR.
    """

    index: int
    name: str
    extent: Ints
    steps: Ints
    operands: tuple[Operand, ...]
    caps: Ints = ()
    copy: bool = False

    @abstractmethod
    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """The compute instructions of one tile, without tokens; `views` are the operands' regions, in
        order.
        """

    def legal(self, tile: Ints) -> bool:
        """Whether the sizes of a tile fit the instruction's fields."""
        return all(t <= cap for t, cap in zip(tile, self.caps or tile, strict=True))


def lengths(box: Box) -> Ints:
    """The shape of a box."""
    return tuple([hi - lo for lo, hi in box])
