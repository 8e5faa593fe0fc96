"""Operators that move elements."""

from __future__ import annotations

import numpy as np

from witness.builder import GraphBuilder
from witness.emit.elementwise import operand
from witness.emit.registry import emitter


def _ints(b: GraphBuilder, values: tuple[int, ...]) -> str:
    return b.constant(np.array(values, np.int64))


@emitter("Concat")
def concat(
    b: GraphBuilder,
    x: str,
    *,
    axis: int = 1,
    other: str = "branch",
    other_shape: tuple[int, ...] | None = None,
    swap: bool = False,
) -> tuple[str, ...]:
    """With a second operand of its own scale."""
    y = operand(b, x, other, other_shape)
    return (b.node("Concat", *((y, x) if swap else (x, y)), axis=axis),)


@emitter("Split")
def split(
    b: GraphBuilder, x: str, *, axis: int = 1, sizes: tuple[int, ...] | None = None, parts: int = 2
) -> tuple[str, ...]:
    """Given sizes, or equal parts."""
    if sizes is not None:
        if b.opset < 13:
            return b.nodes("Split", [x], len(sizes), axis=axis, split=list(sizes))
        return b.nodes("Split", [x, _ints(b, sizes)], len(sizes), axis=axis)
    count = parts if b.opset >= 18 else None
    return b.nodes("Split", [x], parts, axis=axis, num_outputs=count)


@emitter("Slice")
def slice_(
    b: GraphBuilder,
    x: str,
    *,
    starts: tuple[int, ...] = (1,),
    ends: tuple[int, ...] = (1000,),
    axes: tuple[int, ...] = (-1,),
    steps: tuple[int, ...] | None = None,
) -> tuple[str, ...]:
    """Bounds as inputs (opset 10 and later)."""
    inputs = [_ints(b, v) for v in (starts, ends, axes)]
    return (b.node("Slice", x, *inputs, *([] if steps is None else [_ints(b, steps)])),)


@emitter("Pad")
def pad(
    b: GraphBuilder,
    x: str,
    *,
    pads: tuple[int, ...],
    value: float | None = None,
    mode: str | None = None,
) -> tuple[str, ...]:
    """Pads as an input since opset 11."""
    if b.opset < 11:
        return (b.node("Pad", x, pads=list(pads), value=value, mode=mode),)
    fill = [] if value is None else [b.constant(value)]
    return (b.node("Pad", x, _ints(b, pads), *fill, mode=mode),)


@emitter("Reshape")
def reshape(b: GraphBuilder, x: str, *, to: tuple[int, ...] = (0, -1)) -> tuple[str, ...]:
    """0 copies a size, -1 takes the rest."""
    return (b.node("Reshape", x, _ints(b, to)),)


@emitter("Flatten")
def flatten(b: GraphBuilder, x: str, *, axis: int = 1) -> tuple[str, ...]:
    """To two axes."""
    return (b.node("Flatten", x, axis=axis),)


@emitter("Unsqueeze", "Squeeze")
def squeeze(b: GraphBuilder, x: str, *, op: str, axes: tuple[int, ...] = (0,)) -> tuple[str, ...]:
    """Axes as an input since opset 13."""
    if b.opset < 13:
        return (b.node(op, x, axes=list(axes)),)
    return (b.node(op, x, _ints(b, axes)),)


@emitter("Transpose")
def transpose(b: GraphBuilder, x: str, *, perm: tuple[int, ...] | None = None) -> tuple[str, ...]:
    """Reversed axes by default."""
    return (b.node("Transpose", x, perm=None if perm is None else list(perm)),)


@emitter("DepthToSpace", "SpaceToDepth")
def blocks(
    b: GraphBuilder, x: str, *, op: str, blocksize: int = 2, mode: str | None = None
) -> tuple[str, ...]:
    """``mode`` is SpaceToDepth's, too, from opset 28 on."""
    return (b.node(op, x, blocksize=blocksize, mode=mode),)


@emitter("Gather")
def gather(
    b: GraphBuilder, x: str, *, axis: int = 1, indices: tuple[int, ...] | int = (1, 0)
) -> tuple[str, ...]:
    """Constant indices."""
    return (b.node("Gather", x, b.constant(np.array(indices, np.int64)), axis=axis),)


@emitter("Expand")
def expand(b: GraphBuilder, x: str, *, to: tuple[int, ...]) -> tuple[str, ...]:
    """Broadcast to a shape."""
    return (b.node("Expand", x, _ints(b, to)),)


@emitter("Tile")
def tile(b: GraphBuilder, x: str, *, repeats: tuple[int, ...]) -> tuple[str, ...]:
    """Repeat along each axis."""
    return (b.node("Tile", x, _ints(b, repeats)),)
