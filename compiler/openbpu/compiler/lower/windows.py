"""How many elements an element of a result is made from: what pools and interpolations cost a CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, prod
from typing import TypeAlias

from openbpu.compiler.ir import Node, Value

Rule: TypeAlias = Callable[[Node, Mapping[str, Value]], int]

_TAPS = {"linear": 2, "bilinear": 2, "cubic": 4, "bicubic": 4}
"""Samples along an axis that an interpolation takes; the nearest is one."""


def window(node: Node, values: Mapping[str, Value]) -> int:
    """Return the elements of the input behind one of the output; 1 where each is made of its own."""
    rule = _RULES.get(node.op) if node.domain in {"", "com.microsoft"} else None
    return max(rule(node, values), 1) if rule is not None else 1


def _shape(values: Mapping[str, Value], name: str) -> tuple[int, ...]:
    value = values.get(name)
    return (value.shape or ()) if value is not None else ()


def _kernel(node: Node, _: Mapping[str, Value]) -> int:
    return prod(int(k) for k in node.attrs.get("kernel_shape", ()))


def _channels(node: Node, _: Mapping[str, Value]) -> int:
    """An LRN adds the squares of this many channels."""
    return int(node.attrs.get("size", 1))


def _region(node: Node, _: Mapping[str, Value]) -> int:
    """A cell of a RoiAlign is the mean of ratio² samples, each between four elements; 0: as many as fit."""
    return 4 * max(int(node.attrs.get("sampling_ratio", 0)), 1) ** 2


def _grid(node: Node, values: Mapping[str, Value]) -> int:
    return int(
        _TAPS.get(node.attrs.get("mode", "linear"), 1) ** max(len(_shape(values, node.inputs[0])) - 2, 0)
    )


def _resized(node: Node, values: Mapping[str, Value]) -> int:
    """An interpolation samples along every axis that it changes, more often where it smooths."""
    old, new = _shape(values, node.inputs[0]), _shape(values, node.outputs[0])
    taps = _TAPS.get(node.attrs.get("mode", "nearest"), 1)
    if taps == 1:
        return 1
    smooth = bool(node.attrs.get("antialias", 0))
    pairs = [(a, b) for a, b in zip(old, new, strict=False) if a != b and b]
    return prod(taps * (ceil(a / b) if smooth else 1) for a, b in pairs)


_RULES: dict[str, Rule] = {
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool", "QLinearAveragePool", "NhwcMaxPool"), _kernel),
    "LRN": _channels,
    "RoiAlign": _region,
    "GridSample": _grid,
    **dict.fromkeys(("Resize", "Upsample"), _resized),
}
