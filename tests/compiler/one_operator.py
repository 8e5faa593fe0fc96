"""Networks around one operator: a quantized input, the operator, and one more layer behind it."""

from __future__ import annotations

from typing import Any

import numpy as np

from compiler.networks import Network
from witness.builder import Style

Shape = tuple[int, ...]


def ended(b: Network, y: str, *, last: bool = False) -> Network:
    """The model ends at y, or behind one more operator, so that y is no last layer."""
    y = b.qdq(y)
    b.finished(y if last else b.qdq(b.node("Sigmoid", y)))
    return b


def conv(
    shape: Shape, weight: Shape, *, style: str = "int8", last: bool = False, add: bool = False, **attrs: Any
) -> Network:
    b = Network(shape, 21, Style(style))
    y = b.node("Conv", b.x, b.weight(np.ones(weight), axis=0), **attrs)
    return ended(b, b.node("Add", y, b.quantized_input(b.shape(y))) if add else y, last=last)


def deconv(shape: Shape, weight: Shape, **attrs: Any) -> Network:
    b = Network(shape)
    return ended(b, b.node("ConvTranspose", b.x, b.weight(np.ones(weight)), **attrs))


def pool(op: str, shape: Shape, kernel: Shape, *, style: str = "int8", **attrs: Any) -> Network:
    b = Network(shape, 21, Style(style))
    return ended(b, b.node(op, b.x, kernel_shape=list(kernel), **attrs))


def product(op: str, left: Shape, right: Shape) -> Network:
    b = Network(left)
    return ended(b, b.node(op, b.x, b.weight(np.ones(right), axis=1)))


def unary(op: str, shape: Shape, **attrs: Any) -> Network:
    b = Network(shape, 23)
    return ended(b, b.node(op, b.x, **attrs))


def axes(op: str, shape: Shape, over: list[int]) -> Network:
    b = Network(shape)
    return ended(b, b.node(op, b.x, b.constant(np.array(over))))


def binary(op: str, shape: Shape) -> Network:
    b = Network(shape)
    return ended(b, b.node(op, b.x, b.quantized_input(shape, low=0.5, high=1.0)))


def normalization(op: str, length: int) -> Network:
    b = Network((1, length), 23)
    return ended(b, b.node(op, b.x, b.constant(np.ones(length)), axis=-1))


def move(op: str, rank: int) -> Network:
    """A moving operator on a tensor of this rank, axes of one not counted (its result, where it makes it)."""
    front = {"Expand": (1,), "Squeeze": (1, 2)}.get(op, (2,))
    b = Network((*front, *(2,) * (rank - 1)), 21)
    ints = {
        "Reshape": [2] * (rank - 1) + [1, 2],
        "Squeeze": [0],
        "Unsqueeze": [0],
        "Slice": [0],
        "Expand": [3, *(2,) * (rank - 1)],
        "Tile": [1] * rank,
        "Gather": [0],
        "Pad": [1] * 2 * rank,
    }
    if op == "Split":
        return ended(b, b.nodes("Split", [b.x], 2, axis=0, num_outputs=2)[0])
    if op == "Resize":
        scales = b.constant(np.array(([2, 1] * rank)[:rank], np.float32))  # no two neighbours alike
        return ended(b, b.node(op, b.x, "", scales, mode="nearest"))
    more = [b.constant(np.array(ints[op]))] if op in ints else []
    if op == "Slice":
        more.append(b.constant(np.array([1])))
    return ended(b, b.node(op, b.x, *more))
