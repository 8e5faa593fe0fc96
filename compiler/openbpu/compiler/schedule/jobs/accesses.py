"""Strided reads of a dense tensor as boxes: the shape to see the tensor under, so that tiles are small
boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openbpu.arch.shapes import Ints
from openbpu.compiler.schedule.jobs.context import Context
from openbpu.compiler.schedule.problem.index_maps import Affine
from openbpu.compiler.schedule.problem.job import View


@dataclass(frozen=True, slots=True)
class Access:
    """Element offset + Σ i·strides of a tensor, seen under `shape`.

    `terms[d]` = (axis, factor) of iteration axis d, or None where its stride is 0; `origin` is the index of
    iteration point 0.
    """

    shape: Ints
    terms: tuple[tuple[int, int] | None, ...]
    origin: Ints

    def axes(self) -> tuple[Affine, ...]:
        """A map per axis of the shape."""
        return tuple(
            Affine(tuple((d, t[1]) for d, t in enumerate(self.terms) if t and t[0] == axis), start)
            for axis, start in enumerate(self.origin)
        )

    def strides(self, view: View) -> Ints:
        """Byte stride of every iteration axis in a view of the tensor."""
        return tuple(t[1] * view.strides[t[0]] if t else 0 for t in self.terms)

    def address(self, view: View, starts: Sequence[int]) -> int:
        """Address of iteration point `starts` in a view of the tensor."""
        at = view.at
        for axis, (origin, span) in enumerate(zip(self.origin, view.region, strict=True)):
            at += (origin - span[0]) * view.strides[axis]
        return at + sum(i * k for i, k in zip(starts, self.strides(view), strict=True))

    def keeps_order(self) -> bool:
        """Whether a dense copy of the region of any tile is the tile itself: its axes are axes, in order."""
        axes = [t[0] for t in self.terms if t]
        return all(t and t[1] == 1 for t in self.terms) and axes == sorted(set(axes))


def access(c: Context, tensor: int, counts: Ints, strides: Ints, offset: int) -> Access:
    """See the reads offset + Σ i·strides, i < counts, of a tensor as boxes.

    The shape is a mixed radix: those strides of the tensor and of the reads that divide each other; a radix
    where the reads would carry into the next axis is dropped. (At worst the tensor is one axis, tiles are
    hulls.)
    """
    used = tuple(abs(s) if n > 1 else 0 for n, s in zip(counts, strides, strict=True))
    total = c.elements(tensor)
    chain = _radices(total, (*used, *_steps(c.tensors[tensor].shape), c.rows(tensor)))
    while True:
        shape = tuple(a // b for a, b in zip((total, *chain), chain, strict=False))
        terms = tuple(_term(s if u else 0, chain) for s, u in zip(strides, used, strict=True))
        origin, rest = [], offset
        for radix in chain:
            digit, rest = divmod(rest, radix)
            origin.append(digit)
        axis = _carrying(shape, terms, counts, origin)
        if axis is None or axis == 0:
            return Access(shape, terms, tuple(origin))
        del chain[axis - 1]


def split_at_rows(
    c: Context, shape: Ints, views: Sequence[tuple[int, Ints]]
) -> tuple[Ints, tuple[Ints, ...]]:
    """A loop nest whose axes end where rows of its tensors end; views are (tensor, element strides) pairs.

    shape (100,), strides (1,) of a tensor in rows of 10  →  (10, 10), ((10, 1),)
    """
    counts, strides = list(shape), [list(s) for _, s in views]
    for (tensor, _), own in zip(views, strides, strict=True):
        row, whole = c.rows(tensor), c.elements(tensor)
        for d in range(len(counts)):
            step = abs(own[d])
            inner = row // step if step else 0
            if row < whole and 1 < inner < counts[d] and row % step == 0 and counts[d] % inner == 0:
                counts[d : d + 1] = [counts[d] // inner, inner]
                for s in strides:
                    s[d : d + 1] = [s[d] * inner, s[d]]
                break
    return tuple(counts), tuple(tuple(s) for s in strides)


def in_rows(c: Context, tensor: int, strides: Ints) -> Ints:
    """Element strides of a dense tensor as they are where its bytes are rows inside another tensor."""
    subview, element = c.subview(tensor), c.tensors[tensor].dtype.nbytes
    row, pitch = subview.row // element, subview.pitch // element
    return tuple(s if abs(s) < row or s % row else s // row * pitch for s in strides)


def _steps(shape: Ints) -> Ints:
    out, step = [], 1
    for n in reversed(shape):
        out.append(step)
        step *= n
    return tuple(out)


def _radices(total: int, wanted: Ints) -> list[int]:
    chain: list[int] = []
    for radix in sorted({1, *wanted} - {0}, reverse=True):
        if total % radix == 0 and (radix < total or radix == 1) and (not chain or chain[-1] % radix == 0):
            chain.append(radix)
    return chain


def _term(stride: int, chain: Sequence[int]) -> tuple[int, int] | None:
    if stride == 0:
        return None
    axis = next(j for j, radix in enumerate(chain) if stride % radix == 0)
    return (axis, stride // chain[axis])


def _carrying(
    shape: Ints, terms: tuple[tuple[int, int] | None, ...], counts: Ints, origin: list[int]
) -> int | None:
    """The last axis whose index leaves 0..length−1 somewhere, or None."""
    for axis in reversed(range(len(shape))):
        moves = [t[1] * (n - 1) for t, n in zip(terms, counts, strict=True) if t and t[0] == axis]
        low = origin[axis] + sum(m for m in moves if m < 0)
        high = origin[axis] + sum(m for m in moves if m > 0)
        if low < 0 or high >= shape[axis]:
            return axis
    return None
