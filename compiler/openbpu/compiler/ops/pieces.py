"""Views, borders, cuts and joins of codes, emitted on the way by operators that compute something else.

Every function takes the name of a value and returns that of the value it makes: of the same type and meaning,
called after its source. What changes nothing emits nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from openbpu.compiler.ops.site import Site

Ints = tuple[int, ...]


def _made(site: Site, op: str, x: str, shape: Sequence[int], stem: str, **parts: Any) -> str:
    """Emit a node of one operand `x`."""
    value = site.rw.values[x]
    out = site.rw.value(f"{_base(x)}/{stem}", shape, value.dtype, value.quant)
    site.rw.bpu(op, out, site.origins, x=x, **parts)
    return out


def _base(name: str) -> str:
    """A name without what a view or move has put behind it."""
    return name.rpartition("/")[0] or name


def _shape(site: Site, x: str) -> Ints:
    return site.rw.values[x].shape or ()


def viewed(site: Site, x: str, shape: Ints, stem: str = "nhwc") -> str:
    """The same elements in another shape."""
    return x if _shape(site, x) == shape else _made(site, "Reshape", x, shape, stem)


def turned(site: Site, x: str, perm: Ints, stem: str = "turned") -> str:
    """The axes in another order."""
    shape = _shape(site, x)
    return _made(site, "Transpose", x, [shape[p] for p in perm], stem, perm=perm)


def bordered(site: Site, x: str, axis: int, border: tuple[int, int], value: int) -> str:
    """`value` in front of and behind all elements along an axis, so many of them."""
    if not any(border):
        return x
    shape = list(_shape(site, x))
    before, after = ([n if i == axis else 0 for i in range(len(shape))] for n in border)
    shape[axis] += sum(border)
    return _made(site, "Pad", x, shape, "bordered", before=tuple(before), after=tuple(after), value=value)


def taken(site: Site, x: str, axis: int, index: Sequence[int]) -> str:
    """The elements at these positions of an axis; what is evenly spaced is a Slice, and all of them `x`."""
    shape = _shape(site, x)
    if list(index) == list(range(shape[axis])):
        return x
    cut, gaps = (*shape[:axis], len(index), *shape[axis + 1 :]), {b - a for a, b in pairwise(index)}
    if len(gaps) > 1 or 0 in gaps:
        table = site.rw.constant(f"{_base(x)}/indices", np.array(index, np.int32))
        return _made(site, "Gather", x, cut, "taken", indices=table, axis=axis)
    starts = tuple(index[0] if i == axis else 0 for i in range(len(shape)))
    steps = tuple(min(gaps, default=1) if i == axis else 1 for i in range(len(shape)))
    return _made(site, "Slice", x, cut, "cut", starts=starts, steps=steps)


def joined(site: Site, parts: Sequence[str], axis: int, stem: str) -> str:
    """Parts of one scale side by side along an axis."""
    if len(parts) == 1:
        return parts[0]
    value, shapes = site.rw.values[parts[0]], [_shape(site, part) for part in parts]
    whole = (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])
    out, zeros = (
        site.rw.value(f"{_base(parts[0])}/{stem}", whole, value.dtype, value.quant),
        (0,) * len(parts),
    )
    copied: dict[str, Any] = {"x_zeros": zeros, "mults": zeros, "shifts": zeros, "zero": 0, "lo": 0, "hi": 0}
    site.rw.bpu("Concat", out, site.origins, xs=list(parts), axis=axis, **copied)
    return out
