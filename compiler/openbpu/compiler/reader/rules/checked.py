"""Arguments that onnx's own shape inference does not survive, or does not look at, are refused before it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from openbpu.compiler.ir.graph import Node
from openbpu.compiler.reader.problem import problem
from openbpu.compiler.reader.rules.table import form, input_at
from openbpu.compiler.reader.scope import Scope

_EQUATION = re.compile(r"[A-Za-z., ]*(->[A-Za-z. ]*)?")
_FIX = "export the model again"
_REACH = 1 << 24


def _where(node: Node) -> str:
    return f"node '{node.name}' ({node.op})"


@form("Einsum")
def einsum(node: Node, _: Scope) -> Sequence[Node]:
    """Shape inference never returns from an equation with other characters."""
    equation = str(node.attrs["equation"])
    if not _EQUATION.fullmatch(equation):
        raise problem(_where(node), "equation", "letters like 'ij,jk->ik'", repr(equation), _FIX)
    return [node]


@form("LayerNormalization", "RMSNormalization")
def layer_normalization(node: Node, scope: Scope) -> Sequence[Node]:
    """Shape inference reads memory that is not its own at an axis the input does not have."""
    rank, axis = scope.rank(node.inputs[0]), node.attrs.get("axis", -1)
    if rank is not None and not -rank <= axis < max(rank, 1):
        raise problem(_where(node), "axis", f"{-rank}..{rank - 1}", axis, _FIX)
    x = scope.shape(node.inputs[0])
    for what, position in (("scale", 1), ("bias", 2)):
        shape = scope.shape(input_at(node, position))
        if x is not None and shape is not None and not _spreads(shape, x):
            raise problem(_where(node), f"shape of its {what}", f"one that spreads to {x}", shape, _FIX)
    return [node]


def _spreads(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether `shape` broadcasts to `to` without widening it."""
    return len(shape) <= len(to) and all(
        a in (1, b) for a, b in zip(reversed(shape), reversed(to), strict=False)
    )


@form("Gather", "GatherElements", "ScatterElements")
def indexed(node: Node, scope: Scope) -> Sequence[Node]:
    """Shape inference takes the axis modulo 2³²."""
    rank, axis = scope.rank(node.inputs[0]), node.attrs.get("axis", 0)
    if rank is not None and not -rank <= axis < rank:
        raise problem(_where(node), "axis", f"{-rank}..{rank - 1}", axis, _FIX)
    return [node]


@form("Transpose")
def transpose(node: Node, scope: Scope) -> Sequence[Node]:
    """Shape inference takes a permutation that leaves axes out."""
    rank, perm = scope.rank(node.inputs[0]), node.attrs.get("perm")
    if rank is not None and perm is not None and sorted(perm) != list(range(rank)):
        raise problem(_where(node), "perm", f"the axes 0..{rank - 1}, each once", tuple(perm), _FIX)
    return [node]


@form("Reshape")
def reshape(node: Node, scope: Scope) -> Sequence[Node]:
    """Shape inference does not count elements."""
    x, wanted = scope.shape(node.inputs[0]), scope.ints(node.inputs[1])
    if x is None or wanted is None:
        return [node]
    keeps = not node.attrs.get("allowzero", 0)
    if any(d == 0 and keeps and axis >= len(x) for axis, d in enumerate(wanted)):
        raise problem(_where(node), "the new shape", f"without a 0 behind axis {len(x) - 1}", wanted, _FIX)
    sizes = [x[axis] if d == 0 and keeps else d for axis, d in enumerate(wanted)]
    if min(sizes, default=0) < -1 or sizes.count(-1) > 1:
        raise problem(_where(node), "the new shape", "sizes and at most one -1", wanted, _FIX)
    known, total = math.prod(sizes), math.prod(x)  # by -1 it is negative and divides the same
    if known != total if -1 not in sizes else bool(total % known if known else total):
        raise problem(_where(node), "the new shape", f"one of {total} elements, as {x}", wanted, _FIX)
    return [node]


@form("SpaceToDepth", "DepthToSpace")
def blocks(node: Node, scope: Scope) -> Sequence[Node]:
    """Shape inference rounds what does not divide."""
    x, size = scope.shape(node.inputs[0]), int(node.attrs["blocksize"])
    if size < 1:
        raise problem(_where(node), "blocksize", "1 or more", size, _FIX)
    if x is None or len(x) != 4:
        return [node]
    unit, parts = (size * size, x[1:2]) if node.op == "DepthToSpace" else (size, x[2:])
    if any(part % unit for part in parts):
        what = "channels" if node.op == "DepthToSpace" else "height and width"
        raise problem(_where(node), what, f"multiples of {unit} (blocksize {size})", parts, _FIX)
    return [node]


@form("GatherND")
def gather_nd(node: Node, _: Scope) -> Sequence[Node]:
    """Shape inference reads memory that is not its own with a negative number of batch axes."""
    count = node.attrs.get("batch_dims", 0)
    if count < 0:
        raise problem(_where(node), "batch_dims", "0 or more", count, _FIX)
    return [node]


_OPERANDS = {
    "Conv": (0, 1, 2),
    "ConvTranspose": (0, 1, 2),
    "ConvInteger": (0, 1, 9),
    "QLinearConv": (0, 3, 8),
}
"""Where input, weight and bias of a convolution stand among its inputs."""


@form("ConvTranspose", "ConvInteger", "QLinearConv")
def convolution(node: Node, scope: Scope) -> Sequence[Node]:
    """Shape inference looks at neither channels nor groups."""
    check_convolution(node, scope)
    return [node]


def check_convolution(node: Node, scope: Scope) -> None:
    """Raise ModelError when channels, groups, kernel or bias of a convolution contradict each other."""
    x, w, b = (scope.shape(input_at(node, i)) for i in _OPERANDS[node.op])
    if x is None or w is None:
        return
    place, group = _where(node), int(node.attrs.get("group", 1))
    if len(w) != len(x) or len(x) < 3:
        raise problem(
            place, "rank of its weight", f"that of its input, {len(x)}, and 3 or more", len(w), _FIX
        )
    check_steps(node)
    if group < 1 or w[0] % group:
        raise problem(place, "group", f"a divisor of {w[0]} (axis 0 of its weight)", group, _FIX)
    transposed = node.op == "ConvTranspose"
    channels, outputs = (w[0], w[1] * group) if transposed else (w[1] * group, w[0])
    if x[1] != channels:
        raise problem(place, "channels of its input", f"{channels} (weight {w}, group {group})", x[1], _FIX)
    kernel = tuple(node.attrs.get("kernel_shape", w[2:]))
    if kernel != w[2:]:
        raise problem(place, "kernel_shape", f"{w[2:]} as its weight", kernel, _FIX)
    if b is not None and b != (outputs,):
        raise problem(place, "shape of its bias", (outputs,), b, _FIX)


_STEPS = {
    "kernel_shape": 1,
    "strides": 1,
    "dilations": 1,
    "pads": -_REACH,
    "output_padding": 0,
    "output_shape": 0,
}
"""Attributes that place a window, and the least number each may hold."""


def check_steps(node: Node) -> None:
    """Raise ModelError when the attributes of a window hold numbers that no window has."""
    for name, least in _STEPS.items():
        values = tuple(node.attrs.get(name, ()))
        if not all(least <= value < _REACH for value in values):
            raise problem(_where(node), name, f"{least}..{_REACH - 1}", values, _FIX)


def check_window(node: Node, shape: tuple[int, ...] | None, window: tuple[int, ...] | None) -> None:
    """Raise ModelError when a window is larger than the padded input: shape inference rounds -1/2 to 0."""
    if shape is None or 0 in shape or window is None or node.attrs.get("ceil_mode", 0):
        return
    count = len(window)
    pads = tuple(node.attrs.get("pads", ())) or (0,) * (2 * count)
    dilations = node.attrs.get("dilations", (1,) * count)
    if not len(shape) - 2 == len(dilations) == len(pads) // 2 == count:
        return  # shape inference says so
    padded = tuple(n + a + b for n, a, b in zip(shape[2:], pads[:count], pads[count:], strict=True))
    spans = tuple((k - 1) * d + 1 for k, d in zip(window, dilations, strict=True))
    if any(span > size for span, size in zip(spans, padded, strict=True)):
        raise problem(_where(node), "the window", f"at most the padded input {padded}", spans, _FIX)


@form("Gemm")
def gemm(node: Node, scope: Scope) -> Sequence[Node]:
    """Shape inference does not look at the bias."""
    a, b, c = (scope.shape(input_at(node, i)) for i in range(3))
    if a is None or b is None or c is None or len(a) != 2 or len(b) != 2:
        return [node]
    result = (a[1 if node.attrs.get("transA") else 0], b[0 if node.attrs.get("transB") else 1])
    if not _spreads(c, result):
        raise problem(_where(node), "shape of its bias", f"one that spreads to {result}", c, _FIX)
    return [node]


@form("InstanceNormalization")
def instance_normalization(node: Node, scope: Scope) -> Sequence[Node]:
    """ONNX Runtime does not survive a tensor without elements here."""
    x = scope.shape(node.inputs[0])
    if x is not None and 0 in x:
        raise problem(_where(node), "its input", "a tensor with elements", x, _FIX)
    return [node]


@form("PRelu")
def prelu(node: Node, scope: Scope) -> Sequence[Node]:
    """Shape inference does not look at the slope."""
    x, slope = scope.shape(node.inputs[0]), scope.shape(node.inputs[1])
    if x is not None and slope is not None and not _spreads(slope, x):
        raise problem(_where(node), "shape of its slope", f"one that spreads to {x}", slope, _FIX)
    return [node]


def check_pads(node: Node, scope: Scope) -> None:
    """Raise ModelError unless there are two pads per axis."""
    rank, pads = scope.rank(node.inputs[0]), scope.ints(input_at(node, 1))
    axes = scope.ints(input_at(node, 3)) if input_at(node, 3) else range(rank or 0)
    if rank is not None and pads is not None and axes is not None and len(pads) != 2 * len(axes):
        raise problem(_where(node), "pads", f"{2 * len(axes)} numbers", pads, _FIX)


def check_parts(node: Node) -> None:
    """Raise ModelError unless a Split makes as many parts as it says: shape inference makes them all."""
    parts = node.attrs.get("num_outputs", len(node.outputs))
    if parts != len(node.outputs):
        raise problem(_where(node), "num_outputs", len(node.outputs), parts, _FIX)
