"""Convolutions and matrix products with quantized weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from witness.builder import GraphBuilder
from witness.emit.registry import emitter, pair


def _weight(b: GraphBuilder, shape: tuple[int, ...], fan_in: int, dtype: str, axis: int | None) -> str:
    """Weights that keep the magnitude; channels differ in range, as trained ones do."""
    value = b.rng.normal(0.0, 1.0 / np.sqrt(fan_in), shape)
    if axis is not None:
        spread = [1] * len(shape)
        spread[axis] = -1
        value = value * np.exp(b.rng.uniform(-2, 2, shape[axis])).reshape(spread)
    return b.weight(value, dtype, axis)


@emitter("Conv")
def conv(
    b: GraphBuilder,
    x: str,
    *,
    channels: int = 4,
    kernel: int | tuple[int, ...] = 3,
    pads: int | tuple[int, ...] | None = None,
    strides: int | tuple[int, ...] | None = None,
    dilations: int | tuple[int, ...] | None = None,
    group: int = 1,
    auto_pad: str | None = None,
    bias: str | None = "int32",
    weights: str = "int8",
    per_channel: bool = True,
) -> tuple[str, ...]:
    """``group=-1`` is depthwise."""
    n_in, rank = b.shape(x)[1], len(b.shape(x)) - 2
    size = pair(kernel, rank) or []
    group = n_in if group == -1 else group
    fan_in = n_in // group * int(np.prod(size))
    shape = (channels, n_in // group, *size)
    w = _weight(b, shape, fan_in, weights, 0 if per_channel else None)
    attrs = _geometry(rank, size, pads, strides, dilations, group, auto_pad)
    return (b.node("Conv", x, w, *b.bias(channels, x, w, bias), **attrs),)


def _geometry(
    rank: int,
    size: list[int],
    pads: int | tuple[int, ...] | None,
    strides: int | tuple[int, ...] | None,
    dilations: int | tuple[int, ...] | None,
    group: int,
    auto_pad: str | None,
) -> dict[str, Any]:
    return {
        "kernel_shape": size,
        "pads": pair(pads, 2 * rank),
        "strides": pair(strides, rank),
        "dilations": pair(dilations, rank),
        "group": group,
        "auto_pad": auto_pad,
    }


@emitter("ConvTranspose")
def conv_transpose(
    b: GraphBuilder,
    x: str,
    *,
    channels: int = 4,
    kernel: int | tuple[int, ...] = 3,
    pads: int | tuple[int, ...] | None = None,
    strides: int | tuple[int, ...] | None = 2,
    dilations: int | tuple[int, ...] | None = None,
    group: int = 1,
    auto_pad: str | None = None,
    output_padding: int | tuple[int, ...] | None = None,
    bias: str | None = "int32",
    weights: str = "int8",
    per_channel: bool = True,
) -> tuple[str, ...]:
    """Weights are (C, M/group, *kernel); per channel along axis 1 needs group 1."""
    n_in, rank = b.shape(x)[1], len(b.shape(x)) - 2
    size = pair(kernel, rank) or []
    group = n_in if group == -1 else group
    axis = 1 if per_channel and group == 1 else None
    w = _weight(b, (n_in, channels // group, *size), n_in // group * int(np.prod(size)), weights, axis)
    attrs = _geometry(rank, size, pads, strides, dilations, group, auto_pad)
    attrs["output_padding"] = pair(output_padding, rank)
    return (b.node("ConvTranspose", x, w, *b.bias(channels, x, w, bias), **attrs),)


@emitter("Gemm")
def gemm(
    b: GraphBuilder,
    x: str,
    *,
    features: int = 5,
    trans_b: int = 1,
    bias: str | None = "int32",
    weights: str = "int8",
    per_channel: bool = True,
    alpha: float | None = None,
    beta: float | None = None,
) -> tuple[str, ...]:
    """x is (N, F)."""
    n_in = b.shape(x)[1]
    shape, axis = ((features, n_in), 0) if trans_b else ((n_in, features), 1)
    w = _weight(b, shape, n_in, weights, axis if per_channel else None)
    c = b.bias(features, x, w, bias)
    return (b.node("Gemm", x, w, *c, transB=trans_b or None, alpha=alpha, beta=beta),)


@emitter("MatMul")
def matmul(
    b: GraphBuilder,
    x: str,
    *,
    features: int = 5,
    other: str = "weight",
    weights: str = "int8",
    per_channel: bool = True,
    bias: bool = False,
) -> tuple[str, ...]:
    """With a weight (K, features), with ``other="self"`` as x @ x^T, or with a named tensor."""
    rank = len(b.shape(x))
    if other == "weight":
        n_in = b.shape(x)[-1]
        w = _weight(b, (n_in, features), n_in, weights, 1 if per_channel else None)
        y = b.node("MatMul", x, w)
        return (b.node("Add", y, *b.bias(features, x, w, "int32")) if bias else y,)
    if other == "self":
        swapped = [*range(rank - 2), rank - 1, rank - 2]
        other = b.qdq(b.node("Transpose", x, perm=swapped), like=x if x in b.parameters else None)
    return (b.node("MatMul", x, other),)
