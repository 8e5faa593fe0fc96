"""Pooling, reduction and resizing."""

from __future__ import annotations

from typing import Any

import numpy as np

from witness.builder import GraphBuilder
from witness.emit.registry import emitter, pair


@emitter("MaxPool", "AveragePool")
def pool(
    b: GraphBuilder,
    x: str,
    *,
    op: str,
    kernel: int | tuple[int, ...] = 2,
    strides: int | tuple[int, ...] | None = None,
    pads: int | tuple[int, ...] | None = None,
    dilations: int | tuple[int, ...] | None = None,
    ceil_mode: int | None = None,
    count_include_pad: int | None = None,
    auto_pad: str | None = None,
) -> tuple[str, ...]:
    """Attributes as in ONNX."""
    rank = len(b.shape(x)) - 2
    return (
        b.node(
            op,
            x,
            kernel_shape=pair(kernel, rank),
            strides=pair(strides, rank),
            pads=pair(pads, 2 * rank),
            dilations=pair(dilations, rank),
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
            auto_pad=auto_pad,
        ),
    )


@emitter("GlobalAveragePool", "GlobalMaxPool")
def global_pool(b: GraphBuilder, x: str, *, op: str) -> tuple[str, ...]:
    """No attributes."""
    return (b.node(op, x),)


REDUCTIONS = (
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "ReduceMin",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
)


@emitter(*REDUCTIONS)
def reduce(
    b: GraphBuilder, x: str, *, op: str, axes: tuple[int, ...] | None = (1,), keepdims: int = 1
) -> tuple[str, ...]:
    """Axes as an input since opset 13 (ReduceSum) or 18 (the others)."""
    if axes is None:
        return (b.node(op, x, keepdims=keepdims),)
    if b.opset >= (13 if op == "ReduceSum" else 18):
        return (b.node(op, x, b.constant(np.array(axes, np.int64)), keepdims=keepdims),)
    return (b.node(op, x, axes=list(axes), keepdims=keepdims),)


@emitter("Resize")
def resize(
    b: GraphBuilder,
    x: str,
    *,
    scales: tuple[float, ...] | None = (2.0, 2.0),
    sizes: tuple[int, ...] | None = None,
    mode: str = "nearest",
    coordinates: str | None = None,
    nearest_mode: str | None = None,
) -> tuple[str, ...]:
    """Scales or sizes of the spatial axes."""
    attrs: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": coordinates,
        "nearest_mode": nearest_mode,
    }
    shape = b.shape(x)
    if sizes is not None:
        target = b.constant(np.array([*shape[:2], *sizes], np.int64))
        return (b.node("Resize", x, "", "", target, **attrs),)
    factors = b.constant(np.array([1.0, 1.0, *(scales or ())], np.float32))
    if b.opset < 11:
        return (b.node("Resize", x, factors, mode=mode),)
    return (b.node("Resize", x, "" if b.opset > 12 else b.constant(np.zeros(0)), factors, **attrs),)
