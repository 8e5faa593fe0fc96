"""A job: one operator, or one input of a concat, as an iteration box with operands that can be cut."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass, field
from math import prod

import numpy as np
import numpy.typing as npt

from openbpu.arch.isa import Engine, Instr
from openbpu.arch.march import March
from openbpu.compiler.schedule.problem.index_maps import Axis, Box, Int64, Ints, Tiles


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor as a job sees it: `shape` (any shape of the same size), bytes per element, a map per axis.

    The bytes are in the memory of tensor `root` from `offset` on, with byte `strides` per axis: dense, or
    inside the rows of a wider tensor.
    """

    tensor: int
    root: int
    offset: int
    shape: Ints
    strides: Ints
    element: int
    axes: tuple[Axis, ...]
    output: bool = False
    constant: bool = False
    dims: frozenset[int] = field(init=False)  # iteration axes its region depends on

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", frozenset(d for a in self.axes for d in a.dims))

    def region(self, box: Box) -> Box:
        """The part of the tensor that the iteration box `box` touches."""
        return tuple([axis.span(box) for axis in self.axes])

    def tile_shape(self, tile: Tiles) -> list[Int64]:
        """Upper bound of the region's shape for boxes of shape `tile`, per axis."""
        return [axis.size(tile) for axis in self.axes]

    def start(self, region: Box) -> int:
        """Byte offset of the first element of a region in the memory of the root."""
        return self.offset + sum([span[0] * k for span, k in zip(region, self.strides, strict=True)])

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
    """An iteration box `extent` over `operands` (inputs and constants first, the output last).

    `steps`: tile lengths per axis should be multiples of these; `caps`: tile lengths must not exceed these
    (() for no limit). `index` is the operator's index in the segment. `copy`: the tile of the first
    operand, dense, is the tile of the output, so LOAD and STORE do all the work when either side is in DDR.
    `engine`: the one that computes.
    """

    index: int
    name: str
    extent: Ints
    steps: Ints
    operands: tuple[Operand, ...]
    engine: Engine
    caps: Ints = ()
    copy: bool = False

    @property
    def alike(self) -> Hashable:
        """The same for jobs whose tiles cost the same."""
        return id(self)

    @abstractmethod
    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """The compute instructions of one tile, without tokens; `views` are the operands' regions, in
        order.
        """

    @abstractmethod
    def cycles(self, march: March, tile: Tiles) -> Int64:
        """Engine cycles of one tile, per candidate tile shape."""

    def legal(self, tile: Tiles) -> npt.NDArray[np.bool_]:
        """Whether the sizes of a tile fit the instruction's fields, per candidate."""
        caps = np.array(self.caps or self.extent)[:, None]
        return np.asarray((tile <= caps).all(axis=0))


def lengths(box: Box) -> Ints:
    """The shape of a box."""
    return tuple([hi - lo for lo, hi in box])
