"""Ranks as the march sees them: axes that an operator keeps together are one, and views cost nothing.

window partition [1, 8, 7, 8, 7, 16], perm 0 1 3 2 4 5    moves    [8, 7, 8, 112], perm 0 2 1 3
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

from openbpu.arch.onnx_ops import ONNX_OPS, VIEWS, Does
from openbpu.arch.shapes import Ints, broadcast_strides, collapse, dense_strides
from openbpu.compiler.ops.axes import axes_of
from openbpu.compiler.ops.site import Site

_CUT = frozenset({"Split", "Pad", "Resize", "Slice"})
_IMAGES = frozenset({"AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "MaxPool"})
_SIDE_BY_SIDE = (Does.ELEMENTWISE, Does.DECIDE)
_ROWS = frozenset({"Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization"})


def merged_rank(site: Site) -> int:
    """Return the least rank of views on which the operator does the same; axes of length 1 do not count."""
    node = site.node
    if node.op in VIEWS:
        return 0
    row = ONNX_OPS.get(node.op)
    if (row is not None and row.does in _SIDE_BY_SIDE) or node.op in ("Where", "Expand"):
        return _broadcast(site)
    if node.op == "Transpose":
        strides = dense_strides(site.shape())
        perm = node.attrs.get("perm") or tuple(reversed(range(len(strides))))
        return len(collapse(site.out_shape(), [[strides[p] for p in perm]])[0])
    if node.op == "MatMul":
        own = [site.shape(0)[:-2], site.shape(1)[:-2]]
        total = math.prod(site.out_shape()[:-2])
        spread = any(math.prod(batch) not in (1, total) for batch in own)
        return 2 + (_rank(site.out_shape()[:-2]) if spread else 1)
    if node.op in _ROWS:
        return 3  # in front of the axis, the axis, behind it
    if node.op in _IMAGES and len(site.shape()) == 5:
        return 4  # the slices of a volume are images of a batch
    labels = _labels(site)
    return max(map(_rank, _shapes(site))) if labels is None else _runs(site.shape(), labels)


def _broadcast(site: Site) -> int:
    out = site.out_shape()
    operands = [broadcast_strides(shape, out) for shape in _shapes(site) if len(shape) <= len(out)]
    return len(collapse(out, operands)[0])


def _shapes(site: Site) -> list[Ints]:
    names = [n for n in site.node.inputs if n and site.rw.values[n].shape is not None]
    return [site.shape_of(n) for n in (*names, site.node.outputs[0])]


def _rank(shape: Ints) -> int:
    return sum(n != 1 for n in shape)


def _labels(site: Site) -> list[Hashable] | None:
    """What an operator does with each axis of its input: neighbours of one label stay together."""
    node, shape = site.node, site.shape()
    if node.op.startswith(("Reduce", "Global")):
        axes = axes_of(site)
        return [axis in axes for axis in range(len(shape))]
    if node.op in ("Concat", "Gather"):
        touched = int(node.attrs.get("axis", 0)) % max(len(shape), 1)
        return [axis if axis == touched else "kept" for axis in range(len(shape))] if shape else None
    out = site.out_shape()
    if node.op not in _CUT or len(out) != len(shape):
        return None
    if node.op == "Slice" and any(step != 1 for step in _steps(site)):
        return None
    return [axis if a != b else "kept" for axis, (a, b) in enumerate(zip(shape, out, strict=True))]


def _steps(site: Site) -> Sequence[int]:
    data = site.graph.const(site.node.inputs[4]) if site.has(4) else None
    return () if data is None else [int(step) for step in data.reshape(-1)]


def _runs(shape: Ints, labels: Sequence[Hashable]) -> int:
    """Count runs of equal labels; a label that is a number stands for its axis alone."""
    kept = [label for size, label in zip(shape, labels, strict=True) if size != 1]
    return sum(i == 0 or label != kept[i - 1] for i, label in enumerate(kept))


def of_rank(shape: Ints, rank: int) -> Ints:
    """Return a view of `shape` with `rank` axes: ones in front, or the first axes merged."""
    spare = len(shape) - rank
    return (1,) * -spare + shape if spare <= 0 else (math.prod(shape[: spare + 1]), *shape[spare + 1 :])


def on_view(site: Site, codes: str, shape: Ints, lower: Callable[[str], None]) -> None:
    """Let `lower` make the site's target of a view of `codes`: the result has that shape, too."""
    target, value = site.target, site.rw.values[codes]
    if value.shape == shape:
        lower(codes)
        return
    source = site.rw.value(f"{codes}/view", shape, value.dtype, value.quant)
    site.rw.bpu("Reshape", source, site.origins, x=codes)
    site.target = site.rw.value(f"{target}/view", shape, site.out_dtype, site.quant())
    lower(source)
    made, site.target = site.target, target
    site.rw.set_quant(target, site.quant())
    site.rw.bpu("Reshape", target, site.origins, x=made)
