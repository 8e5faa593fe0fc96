"""Index maps: which indices of one axis of an operand a tile of the iteration space needs.

A job iterates over a box (its output, mostly). Every axis of every operand is one of the maps below:
`span(box)` is the part of that axis that the box needs, `size(tile)` an upper bound of its length for any
box of that tile shape, `dims` the iteration axes it depends on. From these follow loads, footprints and
which operand stays while which loop turns.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from openbpu.arch.arrays import Int64
from openbpu.arch.shapes import Ints

Span = tuple[int, int]
"""The first index and the last + 1."""
Box = tuple[Span, ...]
"""A part of an iteration space or of a tensor: a span per axis."""
Spans = tuple[Int64, Int64]
"""Many spans at once: the first indices and the last + 1, [boxes] or one for all."""
Boxes = tuple[Spans, ...]
"""Many boxes at once: their spans per axis."""
Tiles = Int64
"""Candidate tile shapes, [iteration axes, candidates]."""


class IndexMap(Protocol):
    """The indices of one axis of an operand as a function of the iteration box."""

    @property
    def dims(self) -> Ints:
        """The iteration axes this axis depends on."""

    @property
    def uniform(self) -> bool:
        """Whether parts of the iterations of equal length need as many indices, wherever they begin."""

    def span(self, box: Box) -> Span:
        """First and last + 1 index that `box` needs; never empty."""

    def spans(self, boxes: Boxes) -> Spans:
        """`span` of many boxes at once."""

    def size(self, tile: Tiles) -> Int64:
        """Upper bound of the length of `span` over all boxes of shape `tile`, per candidate (or one for
        all).
        """


class OneAxis:
    """What maps have in common that depend on iteration axis `dim` alone, and on lengths only."""

    __slots__ = ()
    dim: int

    @property
    def dims(self) -> Ints:
        """`dim` alone."""
        return (self.dim,)

    @property
    def uniform(self) -> bool:
        """True: the bound follows from the length of a part, not from where it begins."""
        return True


@dataclass(frozen=True, slots=True)
class Whole:
    """All `length` elements, whatever the box."""

    length: int
    dims: Ints = ()

    @property
    def uniform(self) -> bool:
        """True: all is needed, wherever a part begins."""
        return True

    def span(self, box: Box) -> Span:  # noqa: ARG002 - the same for every box
        """0..length."""
        return (0, self.length)

    def spans(self, boxes: Boxes) -> Spans:  # noqa: ARG002
        """0..length."""
        return np.array(0), np.array(self.length)

    def size(self, tile: Tiles) -> Int64:  # noqa: ARG002
        """The length."""
        return np.array(self.length)


@dataclass(frozen=True, slots=True)
class Along(OneAxis):
    """Index i + offset for iteration index i of axis `dim`."""

    dim: int
    offset: int = 0

    def span(self, box: Box) -> Span:
        """The box's span, shifted."""
        lo, hi = box[self.dim]
        return (lo + self.offset, hi + self.offset)

    def spans(self, boxes: Boxes) -> Spans:
        """The boxes' spans, shifted."""
        lo, hi = boxes[self.dim]
        return lo + self.offset, hi + self.offset

    def size(self, tile: Tiles) -> Int64:
        """The tile's length."""
        length: Int64 = tile[self.dim]
        return length


@dataclass(frozen=True, slots=True)
class Window(OneAxis):
    """Input positions of outputs lo..hi of a sliding window: u / upsample for u = o·stride + k − pad, 0 <=
    k <= reach.

    Clipped to 0..length−1; where nothing is left, the nearest single position (its values are not used).
    """

    dim: int
    length: int
    stride: int
    reach: int
    pad: int
    upsample: int = 1

    def span(self, box: Box) -> Span:
        """Positions inside the input that some output of the box reads."""
        lo, hi = box[self.dim]
        first = -(-(lo * self.stride - self.pad) // self.upsample)
        last = ((hi - 1) * self.stride - self.pad + self.reach) // self.upsample
        first = min(max(first, 0), self.length - 1)
        return (first, max(min(last + 1, self.length), first + 1))

    def spans(self, boxes: Boxes) -> Spans:
        """Positions inside the input that some output of each box reads."""
        lo, hi = boxes[self.dim]
        first = -(-(lo * self.stride - self.pad) // self.upsample)
        last = ((hi - 1) * self.stride - self.pad + self.reach) // self.upsample
        first = np.minimum(np.maximum(first, 0), self.length - 1)
        return first, np.maximum(np.minimum(last + 1, self.length), first + 1)

    def size(self, tile: Tiles) -> Int64:
        """The longest span, when the window lies inside the input."""
        u = (tile[self.dim] - 1) * self.stride + self.reach
        longest: Int64 = np.minimum(self.length, u // self.upsample + 1)
        return longest


@dataclass(frozen=True, slots=True)
class Grouped:
    """Input channels of the groups that output channels lo..hi, counted from `low`, belong to: `per_out`
    outputs and `per_in` inputs each.
    """

    dim: int
    per_out: int
    per_in: int
    groups: int
    low: int = 0

    @property
    def dims(self) -> Ints:
        """`dim` alone, or nothing when there is one group."""
        return (self.dim,) if self.groups > 1 else ()

    @property
    def uniform(self) -> bool:
        """Whether the counting begins at the first output of a group."""
        return self.low % self.per_out == 0

    def span(self, box: Box) -> Span:
        """All channels of every group touched."""
        lo, hi = box[self.dim]
        lo, hi = lo + self.low, hi + self.low
        return (lo // self.per_out * self.per_in, -(-hi // self.per_out) * self.per_in)

    def spans(self, boxes: Boxes) -> Spans:
        """All channels of every group touched by each box."""
        lo, hi = (bound + self.low for bound in boxes[self.dim])
        return lo // self.per_out * self.per_in, -(-hi // self.per_out) * self.per_in

    def size(self, tile: Tiles) -> Int64:
        """Groups touched at worst, times their channels."""
        t = tile[self.dim]
        whole = (t % self.per_out == 0) & (self.low % self.per_out == 0)
        touched = np.where(whole, t // self.per_out, (t - 2) // self.per_out + 2)
        channels: Int64 = np.clip(touched, 1, self.groups) * self.per_in
        return channels


@dataclass(frozen=True, slots=True)
class Affine:
    """Index offset + Σ factor·i over `terms` (iteration axis, factor); factors may be negative."""

    terms: tuple[tuple[int, int], ...]
    offset: int
    dims: Ints = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", tuple(d for d, _ in self.terms))

    @property
    def uniform(self) -> bool:
        """True: the length of the hull depends on lengths alone."""
        return True

    def span(self, box: Box) -> Span:
        """The hull of the indices."""
        lo = hi = self.offset
        for dim, factor in self.terms:
            a, b = box[dim][0] * factor, (box[dim][1] - 1) * factor
            lo, hi = lo + min(a, b), hi + max(a, b)
        return (lo, hi + 1)

    def spans(self, boxes: Boxes) -> Spans:
        """The hulls of the indices."""
        lo = hi = np.array(self.offset)
        for dim, factor in self.terms:
            a, b = boxes[dim][0] * factor, (boxes[dim][1] - 1) * factor
            lo, hi = lo + np.minimum(a, b), hi + np.maximum(a, b)
        return lo, hi + 1

    def size(self, tile: Tiles) -> Int64:
        """The length of the hull."""
        length = np.array(1)
        for dim, factor in self.terms:
            length = length + abs(factor) * (tile[dim] - 1)
        return length


@dataclass(frozen=True, slots=True, eq=False)
class Indexed(OneAxis):
    """Indices named by a constant table: outputs lo..hi read first[lo..hi] to last[lo..hi], both included."""

    dim: int
    first: Int64
    last: Int64

    @property
    def uniform(self) -> bool:
        """False: the table may name anything."""
        return False

    def span(self, box: Box) -> Span:
        """The hull of the named indices."""
        lo, hi = box[self.dim]
        return (int(self.first[lo:hi].min()), int(self.last[lo:hi].max()) + 1)

    def spans(self, boxes: Boxes) -> Spans:
        """The hulls of the indices that each box names."""
        parts = [slice(lo, hi) for lo, hi in zip(*np.atleast_1d(*boxes[self.dim]), strict=True)]
        first = np.array([self.first[part].min() for part in parts])
        return first, np.array([self.last[part].max() for part in parts]) + 1

    def size(self, tile: Tiles) -> Int64:
        """The longest hull over boxes that start at multiples of the tile."""
        lengths, back = np.unique(tile[self.dim], return_inverse=True)
        return np.array([self._longest(t) for t in lengths.tolist()])[back]

    def _longest(self, tile: int) -> int:
        starts = np.arange(0, len(self.first), tile)
        spans = np.maximum.reduceat(self.last, starts) - np.minimum.reduceat(self.first, starts)
        return int(spans.max()) + 1


@dataclass(frozen=True, slots=True)
class Shifted:
    """Another map, for iterations of axis `dim` that are counted from `low`."""

    axis: IndexMap
    dim: int
    low: int

    @property
    def dims(self) -> Ints:
        """The iteration axes that the other map depends on."""
        return self.axis.dims

    @property
    def uniform(self) -> bool:
        """True: so are all maps that this one is made of."""
        return True

    def span(self, box: Box) -> Span:
        """What the other map needs of the box, counted from 0."""
        lo, hi = box[self.dim]
        moved = (*box[: self.dim], (lo + self.low, hi + self.low), *box[self.dim + 1 :])
        return self.axis.span(moved)

    def spans(self, boxes: Boxes) -> Spans:
        """What the other map needs of the boxes, counted from 0."""
        lo, hi = boxes[self.dim]
        moved = (*boxes[: self.dim], (lo + self.low, hi + self.low), *boxes[self.dim + 1 :])
        return self.axis.spans(moved)

    def size(self, tile: Tiles) -> Int64:
        """The bound of the other map."""
        return self.axis.size(tile)


def shifted(axis: IndexMap, dim: int, low: int, length: int) -> IndexMap:
    """The map for the iterations low..low + length of axis `dim` alone, counted from 0."""
    if dim not in axis.dims:
        return axis
    if isinstance(axis, Along):
        return replace(axis, offset=axis.offset + low)
    if isinstance(axis, Window):
        return replace(axis, pad=axis.pad - low * axis.stride)
    if isinstance(axis, Grouped):
        return replace(axis, low=axis.low + low)
    if isinstance(axis, Affine):
        start = sum([factor for d, factor in axis.terms if d == dim]) * low
        return Affine(axis.terms, axis.offset + start)
    if isinstance(axis, Indexed):
        return Indexed(dim, axis.first[low : low + length], axis.last[low : low + length])
    return Shifted(axis, dim, low)
