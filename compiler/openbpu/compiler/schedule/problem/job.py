"""Jobs: an operator (or one input of a concat) as a loop nest that can be tiled, with its operands.

A job is what others call a structured operation: an iteration space, one index map per axis of every operand,
and how a tile becomes instructions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass, field
from math import prod

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Int64
from openbpu.arch.isa import Engine, Instr
from openbpu.arch.march import March
from openbpu.arch.shapes import Ints
from openbpu.compiler.schedule.problem.index_maps import Box, Boxes, IndexMap, Span, Spans, Tiles


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor as a job accesses it: any `shape` of the same size, bytes per `element`, a map per axis.

    The bytes are in the memory of tensor `root` from `offset` on, with byte `strides` per axis: dense, or
    inside the rows of a wider tensor.
    """

    tensor: int
    root: int
    offset: int
    shape: Ints
    strides: Ints
    element: int
    axes: tuple[IndexMap, ...]
    output: bool = False
    constant: bool = False
    dims: frozenset[int] = field(init=False)  # iteration axes that its region depends on

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", frozenset(d for a in self.axes for d in a.dims))

    def region(self, box: Box) -> Box:
        """The part of the tensor that the iteration box `box` touches."""
        return tuple([axis.span(box) for axis in self.axes])

    def regions(self, boxes: Boxes) -> Boxes:
        """`region` of many boxes at once."""
        return tuple([axis.spans(boxes) for axis in self.axes])

    def tile_shape(self, tile: Tiles) -> list[Int64]:
        """Upper bound of the region's shape for boxes of shape `tile`, per axis."""
        return [axis.size(tile) for axis in self.axes]

    def start(self, region: Box) -> int:
        """Byte offset of the first element of a region in the memory of the root."""
        return self.offset + sum([span[0] * k for span, k in zip(region, self.strides, strict=True)])

    def interval(self, region: Box) -> Span:
        """The bytes in the memory of the root from the first of a region to its last + 1, gaps included."""
        start = self.start(region)
        reach = sum([(hi - lo - 1) * k for (lo, hi), k in zip(region, self.strides, strict=True)])
        return start, start + reach + self.element

    def intervals(self, regions: Boxes) -> Spans:
        """`interval` of many regions at once."""
        start = reach = np.array(0)
        for (lo, hi), stride in zip(regions, self.strides, strict=True):
            start, reach = start + lo * stride, reach + (hi - lo - 1) * stride
        return start + self.offset, start + self.offset + reach + self.element

    @property
    def cost_key(self) -> Hashable:
        """A key that operands share which are accessed alike, whatever their tensors."""
        return self.offset, self.shape, self.strides, self.element, self.axes, self.output, self.constant

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return prod(self.shape) * self.element


@dataclass(frozen=True, slots=True)
class View:
    """A region of an operand in on-chip memory: the address of its first element, byte strides per axis."""

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
    """A loop nest of `extent` iterations per axis over `operands`: inputs and constants, the output last.

    index: the operator's index in the segment · engine: the one that computes · steps: tile lengths per axis
    should be multiples of these · caps: tile lengths must not exceed these (() for no limit) · copy: the tile
    of the first operand, dense, is the tile of the output, so LOAD and STORE do all the work when either side
    is in DDR.
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
    def cost_key(self) -> Hashable:
        """A key that jobs share if their tiles cost the same: all but which tensors they access."""
        operands = tuple([o.cost_key for o in self.operands])
        shape = (self.extent, self.steps, self.caps, self.engine, self.copy)
        return type(self), shape, operands, self.cost_details()

    def cost_details(self) -> Hashable:
        """What `cycles` and `legal` read beside the fields of every job; unless a job says it, only itself
        is like itself.
        """
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
