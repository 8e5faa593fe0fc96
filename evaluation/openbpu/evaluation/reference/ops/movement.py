"""Operators that move elements and change none."""

from __future__ import annotations

import numpy as np

from openbpu.evaluation.reference.kernel import Array, Call, kernel


@kernel("Identity", "Dropout")
def identity(call: Call) -> Array:
    """The input (Dropout at inference)."""
    return call[0]


@kernel("Reshape")
def reshape(call: Call) -> Array:
    """0 copies a size unless ``allowzero``; -1 is what remains."""
    x, wanted = call[0], call.ints(1, "shape") or []
    if not call.attr("allowzero", 0):
        wanted = [x.shape[i] if size == 0 else size for i, size in enumerate(wanted)]
    return x.reshape(wanted)


@kernel("Flatten")
def flatten(call: Call) -> Array:
    """Two axes: those before ``axis`` and those from it on."""
    x, axis = call[0], call.attr("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(int(np.prod(x.shape[:axis])), -1)


@kernel("Squeeze")
def squeeze(call: Call) -> Array:
    """Drop axes of size one."""
    axes = call.ints(1, "axes")
    return np.squeeze(call[0], None if axes is None else tuple(axes))


@kernel("Unsqueeze")
def unsqueeze(call: Call) -> Array:
    """Insert axes of size one."""
    return np.expand_dims(call[0], tuple(call.ints(1, "axes") or ()))


@kernel("Transpose")
def transpose(call: Call) -> Array:
    """Reverse the axes when no permutation is given."""
    return np.transpose(call[0], call.attr("perm"))


@kernel("Concat")
def concat(call: Call) -> Array:
    """Join along one axis."""
    return np.concatenate([call[i] for i in range(len(call.inputs))], axis=call.attrs["axis"])


@kernel("Split")
def split(call: Call) -> tuple[Array, ...]:
    """Sizes by input, by attribute, or equal parts with a smaller last one."""
    x, axis = call[0], call.attr("axis", 0)
    sizes = call.ints(1, "split")
    if sizes is None:
        parts = call.attr("num_outputs", call.n_outputs)
        chunk = -(-x.shape[axis] // parts)
        sizes = [min(chunk, x.shape[axis] - i * chunk) for i in range(parts)]
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis=axis))


@kernel("Slice")
def slice_(call: Call) -> Array:
    """Numpy's slices, per axis; bounds are attributes before opset 10."""
    x = call[0]
    starts, ends = call.ints(1, "starts") or [], call.ints(2, "ends") or []
    axes = call.ints(3, "axes") or list(range(len(starts)))
    steps = call.ints(4, "steps") or [1] * len(starts)
    where = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        where[axis] = slice(start, _end(end, x.shape[axis], step), step)
    return x[tuple(where)]


def _end(end: int, size: int, step: int) -> int | None:
    """A backward slice that ends before the first element has no numpy index for its end."""
    return None if step < 0 and end < -size else end


@kernel("Pad")
def pad(call: Call) -> Array:
    """Negative pads crop; the constant is an input since opset 11."""
    x, mode = call[0], call.attr("mode", "constant")
    pads = call.ints(1, "pads") or []
    axes = call.ints(3, "axes") or list(range(x.ndim))
    widths, where = [(0, 0)] * x.ndim, [slice(None)] * x.ndim
    for i, axis in enumerate(axes):
        before, after = pads[i], pads[i + len(axes)]
        widths[axis] = (max(0, before), max(0, after))
        where[axis] = slice(max(0, -before), x.shape[axis] - max(0, -after))
    x = x[tuple(where)]
    if mode != "constant":
        return np.asarray(np.pad(x, widths, mode=mode))
    value = call.get(2)
    fill = call.attr("value", 0.0) if value is None else value.reshape(())
    return np.asarray(np.pad(x, widths, constant_values=fill))


@kernel("DepthToSpace")
def depth_to_space(call: Call) -> Array:
    """``DCR`` takes blocks from the outer part of the channels, ``CRD`` from the inner."""
    x, b = call[0], call.attrs["blocksize"]
    n, c, h, w = x.shape
    if call.attr("mode", "DCR") == "DCR":
        blocks = x.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        blocks = x.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return blocks.reshape(n, c // b**2, h * b, w * b)


@kernel("SpaceToDepth")
def space_to_depth(call: Call) -> Array:
    """The inverse of DepthToSpace, in mode DCR unless the newest opsets say CRD."""
    x, b = call[0], call.attrs["blocksize"]
    n, c, h, w = x.shape
    order = (0, 3, 5, 1, 2, 4) if call.attr("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    blocks = x.reshape(n, c, h // b, b, w // b, b).transpose(order)
    return blocks.reshape(n, c * b**2, h // b, w // b)


@kernel("Gather")
def gather(call: Call) -> Array:
    """``take`` along an axis."""
    return np.take(call[0], call[1].astype(np.int64), axis=call.attr("axis", 0))


@kernel("GatherElements")
def gather_elements(call: Call) -> Array:
    """``take_along_axis``."""
    axis = call.attr("axis", 0)
    indices = call[1].astype(np.int64)
    return np.take_along_axis(call[0], indices % call[0].shape[axis], axis=axis)


@kernel("Expand")
def expand(call: Call) -> Array:
    """Broadcast both ways."""
    x, wanted = call[0], tuple(int(v) for v in call[1])
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, wanted)).copy()


@kernel("Tile")
def tile(call: Call) -> Array:
    """Repeat along each axis."""
    return np.tile(call[0], tuple(int(v) for v in call[1]))
