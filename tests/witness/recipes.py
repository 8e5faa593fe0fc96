"""How random graphs draw the arguments of each emitter: when it applies, and with what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from witness.builder import GraphBuilder
from witness.emit.activation import JUMPS, POSITIVE, UNARY
from witness.emit.spatial import REDUCTIONS

MAX_ELEMENTS = 4096
TAME = 30.0
"""Operators that can grow without bound are kept to inputs of this magnitude."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Site:
    """Where an operator is to be added: the builder, the operand, and the tensors to join with."""

    draw: st.DrawFn
    b: GraphBuilder
    x: str
    pool: tuple[str, ...]

    @property
    def shape(self) -> Shape:
        """The operand's."""
        return self.b.shape(self.x)

    def integer(self, low: int, high: int) -> int:
        """One of low..high, shrinking to low."""
        return self.draw(st.integers(low, max(low, high)))

    def one_of(self, *values: Any) -> Any:
        """One of these, shrinking to the first."""
        return self.draw(st.sampled_from(values))

    def some_of(self, low: int, high: int, most: int, *, unique: bool) -> tuple[int, ...]:
        """One to ``most`` of low..high."""
        return tuple(self.draw(st.lists(st.integers(low, high), min_size=1, max_size=most, unique=unique)))

    def order_of(self, n: int) -> tuple[int, ...]:
        """The first n integers in some order."""
        return tuple(self.draw(st.permutations(range(n))))

    def room(self) -> int:
        """By how much the operand may grow."""
        return max(1, MAX_ELEMENTS // max(1, int(np.prod(self.shape))))


@dataclass(frozen=True, slots=True)
class Recipe:
    """``applies(shape, magnitude)`` says where the operator can go, ``arguments`` draws the rest."""

    arguments: Callable[[Site], dict[str, Any]]
    applies: Callable[[Shape, float], bool] = lambda shape, magnitude: True


def _spatial(shape: Shape, _: float) -> bool:
    return len(shape) in (3, 4) and min(shape) > 0


def _matrix(shape: Shape, _: float) -> bool:
    return len(shape) == 2


def _image(shape: Shape, _: float) -> bool:
    return len(shape) == 4


def _tame(_: Shape, magnitude: float) -> bool:
    return magnitude <= TAME


# --- Convolution and matrix products ----------------------------------------------------------------------


def _window(s: Site, pads_below_kernel: bool) -> dict[str, Any]:
    """Kernel, pads, strides and dilations that fit the spatial axes."""
    sizes = s.shape[2:]
    kernel = tuple(s.integer(1, min(4, size)) for size in sizes)
    dilations = tuple(
        s.integer(1, 2) if (k - 1) * 2 + 1 <= size else 1 for k, size in zip(kernel, sizes, strict=True)
    )
    most = [k - 1 if pads_below_kernel else k for k in kernel]
    return {
        "kernel": kernel,
        "dilations": dilations,
        "pads": tuple(s.integer(0, m) for m in [*most, *most]),
        "strides": tuple(s.integer(1, 3) for _ in kernel),
    }


def _group(s: Site) -> int:
    return int(s.one_of(*[d for d in range(1, s.shape[1] + 1) if s.shape[1] % d == 0]))


def _weights(s: Site) -> dict[str, Any]:
    wide = s.b.style.dtype not in ("int16", "uint16") and s.integer(0, 9) == 9
    return {
        "weights": "int16" if wide else "int8",
        "per_channel": s.one_of(True, False),
    }


def _conv(s: Site) -> dict[str, Any]:
    group = _group(s)
    most = max(1, min(3, s.room() * s.shape[1] // group))
    return {
        **_window(s, pads_below_kernel=False),
        **_weights(s),
        "group": group,
        "channels": group * s.integer(1, most),
        "bias": s.one_of("int32", None, "float"),
    }


def _conv_transpose(s: Site) -> dict[str, Any]:
    rank = len(s.shape) - 2
    kernel = tuple(s.integer(2, 3) for _ in range(rank))
    group = _group(s)
    # Pads of at most half a kernel leave an output of at least one element.
    return {
        **_weights(s),
        "kernel": kernel,
        "strides": s.integer(1, 2) if s.room() >= 16 else 1,
        "pads": tuple(s.integer(0, 1 if min(s.shape[2:]) > 1 else 0) for _ in range(2 * rank)),
        "group": group,
        "channels": group * s.integer(1, 2 if s.room() >= 32 else 1),
        "bias": s.one_of("int32", None, "float"),
    }


def _gemm(s: Site) -> dict[str, Any]:
    return {
        **_weights(s),
        "features": s.integer(1, 17),
        "trans_b": s.integer(0, 1),
        "bias": s.one_of("int32", None, "float"),
    }


def _matmul(s: Site) -> dict[str, Any]:
    if s.shape[-2] ** 2 <= MAX_ELEMENTS // max(1, int(np.prod(s.shape[:-2]))) and s.integer(0, 2) == 2:
        return {"other": "self"}
    return {**_weights(s), "features": s.integer(1, 9), "bias": s.one_of(False, True)}


# --- Element-wise -----------------------------------------------------------------------------------------


def _broadcast_shape(s: Site) -> Shape:
    """The operand's shape with some axes of one and leading axes dropped."""
    shape = tuple(1 if s.integer(0, 1) else n for n in s.shape)
    return shape[s.integer(0, len(shape) - 1) :]


def _other(s: Site) -> dict[str, Any]:
    """A tensor of the graph with this shape where there is one; else a new operand."""
    same = [n for n in s.pool if n != s.x and s.b.shape(n) == s.shape]
    if same and s.integer(0, 3) < 3:
        return {"other": s.one_of(*same)}
    kind = s.one_of("branch", "self", "constant", "float", "scalar")
    if kind in ("self", "scalar") or s.integer(0, 1) == 0:
        return {"other": kind}
    return {"other": kind, "other_shape": _broadcast_shape(s)}


def _divisor(s: Site) -> dict[str, Any]:
    found = _other(s)
    return {"other": "branch"} if found["other"] == "self" else found


def _ordered(s: Site) -> dict[str, Any]:
    return {**_other(s), "swap": s.one_of(False, True)}


def _clip(s: Site) -> dict[str, Any]:
    top = float(np.abs(s.b.values[s.x]).max(initial=0.0)) or 1.0
    low = s.one_of(0.0, -top / 3, None)
    return {"low": low, "high": s.one_of(top / 2, top / 5, None)}


# --- Pooling, reduction, resizing -------------------------------------------------------------------------


def _pool(s: Site) -> dict[str, Any]:
    window = _window(s, pads_below_kernel=True)
    # Neither pool has dilations in every opset; where ceil mode would start a window past the
    # input, shape inference before opset 22 is wrong.
    window.pop("dilations")
    axes = zip(s.shape[2:], window["kernel"], window["strides"], window["pads"], strict=False)
    spatial = len(s.shape) - 2
    room = [
        (n + before + window["pads"][i + spatial] - k, stride, n + before)
        for i, (n, k, stride, before) in enumerate(axes)
    ]
    fits = all(-(-free // stride) * stride < end for free, stride, end in room)
    return {**window, "ceil_mode": s.integer(0, 1) if fits else 0}


def _average_pool(s: Site) -> dict[str, Any]:
    return {**_pool(s), "count_include_pad": s.integer(0, 1)}


def _reduce(s: Site) -> dict[str, Any]:
    rank = len(s.shape)
    return {"axes": s.some_of(1, rank - 1, rank, unique=True), "keepdims": s.one_of(1, 0)}


def _resize(s: Site) -> dict[str, Any]:
    most = min(3.0, s.room() ** 0.5)
    scales = tuple(s.one_of(*[f for f in (1.0, 2.0, 0.5, 1.5, 3.0) if f <= most]) for _ in range(2))
    scales = tuple(f if n > 1 else max(1.0, f) for f, n in zip(scales, s.shape[2:], strict=True))
    mode = s.one_of("nearest", "linear")
    coordinates = s.one_of("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    rounding = s.one_of("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
    nearest = rounding if mode == "nearest" else None
    return {"scales": scales, "mode": mode, "coordinates": coordinates, "nearest_mode": nearest}


# --- Movement ---------------------------------------------------------------------------------------------


def _concat(s: Site) -> dict[str, Any]:
    axis = s.integer(1, len(s.shape) - 1)

    def joins(name: str) -> bool:
        other = s.b.shape(name)
        same_rank = len(other) == len(s.shape)
        return same_rank and all(
            a == o for i, (a, o) in enumerate(zip(s.shape, other, strict=True)) if i != axis
        )

    partners = [n for n in s.pool if n != s.x and joins(n)]
    other = s.one_of(*partners) if partners else s.one_of("branch", "self", "constant")
    return {"axis": axis, "other": other, "swap": s.one_of(False, True)}


def _split(s: Site) -> dict[str, Any]:
    axis = s.one_of(*[i for i, n in enumerate(s.shape) if n > 1])
    first = s.integer(1, s.shape[axis] - 1)
    return {"axis": axis, "sizes": (first, s.shape[axis] - first)}


def _slice(s: Site) -> dict[str, Any]:
    axis = s.integer(0, len(s.shape) - 1)
    start = s.integer(0, s.shape[axis] - 1)
    end = s.integer(start + 1, s.shape[axis])
    return {"starts": (start,), "ends": (end,), "axes": (axis,), "steps": (s.integer(1, 2),)}


def _pad(s: Site) -> dict[str, Any]:
    rank = len(s.shape)
    spatial = [0 if i % rank < 2 else s.integer(0, 2) for i in range(2 * rank)]
    return {"pads": tuple(spatial), "value": s.one_of(None, 0.25)}


def _reshape(s: Site) -> dict[str, Any]:
    return {"to": s.one_of((0, -1), (0, 0, -1), (-1, s.shape[-1]))}


def _squeezable(shape: Shape, _: float) -> bool:
    return 1 in shape[1:] and len(shape) > 2


def _gather(s: Site) -> dict[str, Any]:
    axis = s.integer(0, len(s.shape) - 1)
    return {"axis": axis, "indices": s.some_of(0, s.shape[axis] - 1, s.shape[axis], unique=False)}


def _grow(s: Site) -> Shape:
    """A factor for each axis, within the room."""
    return tuple(s.integer(1, 2 if s.room() >= 16 else 1) for _ in s.shape)


def _expand(s: Site) -> dict[str, Any]:
    return {"to": tuple(n * f if n == 1 else n for n, f in zip(s.shape, _grow(s), strict=True))}


def _nothing(_: Site) -> dict[str, Any]:
    return {}


def _several(shape: Shape, _: float) -> bool:
    return len(shape) >= 2


RECIPES: dict[str, Recipe] = {
    **{op: Recipe(_nothing) for op in (*UNARY, *POSITIVE, "Cast", "SwishQdq")},
    **{op: Recipe(_nothing, lambda *_: False) for op in JUMPS},
    **{op: Recipe(_nothing, lambda _, magnitude: magnitude <= 5) for op in ("Exp", "Sinh", "Cosh")},
    "Conv": Recipe(_conv, _spatial),
    "ConvTranspose": Recipe(_conv_transpose, lambda shape, m: _spatial(shape, m) and max(shape) <= 12),
    "Gemm": Recipe(_gemm, _matrix),
    "MatMul": Recipe(_matmul, lambda shape, m: len(shape) >= 2 and _tame(shape, m)),
    **{op: Recipe(_other) for op in ("Add", "Max", "Min", "Sum", "Mean")},
    "Sub": Recipe(_ordered),
    "Mul": Recipe(_other, _tame),
    "Div": Recipe(_divisor, _tame),
    "Pow": Recipe(lambda s: {"exponent": s.one_of(2.0, 3.0, 0.5)}, _tame),
    **{
        op: Recipe(lambda s: {"other": s.one_of("branch", "constant", "self")})
        for op in ("Where", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or")
    },
    "Clip": Recipe(_clip),
    "PRelu": Recipe(lambda s: {"per_channel": s.one_of(True, False), "quantized": s.one_of(False, True)}),
    "BatchNormalization": Recipe(_nothing, _several),
    "InstanceNormalization": Recipe(_nothing, lambda shape, _: len(shape) >= 3 and min(shape[2:]) > 2),
    "GroupNormalization": Recipe(
        lambda s: {"groups": _group(s)}, lambda shape, _: len(shape) == 4 and min(shape[2:]) > 2
    ),
    "LayerNormalization": Recipe(lambda s: {"bias": s.one_of(True, False)}, lambda shape, _: shape[-1] > 2),
    "RMSNormalization": Recipe(_nothing, lambda shape, _: shape[-1] > 2),
    "Softmax": Recipe(lambda s: {"axis": s.integer(0, len(s.shape) - 1)}),
    "LogSoftmax": Recipe(lambda s: {"axis": s.integer(0, len(s.shape) - 1)}),
    "MaxPool": Recipe(_pool, _spatial),
    "AveragePool": Recipe(_average_pool, _spatial),
    "GlobalAveragePool": Recipe(_nothing, _spatial),
    "GlobalMaxPool": Recipe(_nothing, _spatial),
    **{op: Recipe(_reduce, _several) for op in REDUCTIONS},
    "Resize": Recipe(_resize, _image),
    "Concat": Recipe(_concat, lambda shape, _: len(shape) >= 2 and int(np.prod(shape)) <= MAX_ELEMENTS // 2),
    "Split": Recipe(_split, lambda shape, _: max(shape) > 1),
    "Slice": Recipe(_slice),
    "Pad": Recipe(_pad, lambda shape, _: len(shape) in (3, 4) and int(np.prod(shape)) <= MAX_ELEMENTS // 6),
    "Reshape": Recipe(_reshape, lambda shape, _: len(shape) >= 3),
    "Flatten": Recipe(lambda s: {"axis": s.integer(0, len(s.shape))}),
    "Unsqueeze": Recipe(lambda s: {"axes": (s.integer(0, len(s.shape)),)}, lambda shape, _: len(shape) <= 3),
    "Squeeze": Recipe(
        lambda s: {"axes": (s.one_of(*[i for i, n in enumerate(s.shape) if n == 1 and i]),)}, _squeezable
    ),
    "Transpose": Recipe(lambda s: {"perm": s.order_of(len(s.shape))}),
    "DepthToSpace": Recipe(
        lambda s: {"mode": s.one_of("DCR", "CRD")}, lambda shape, _: len(shape) == 4 and shape[1] % 4 == 0
    ),
    "SpaceToDepth": Recipe(
        _nothing, lambda shape, _: len(shape) == 4 and shape[2] % 2 == 0 and shape[3] % 2 == 0
    ),
    "Gather": Recipe(_gather),
    "Expand": Recipe(_expand, lambda shape, _: 1 in shape),
    "Tile": Recipe(lambda s: {"repeats": _grow(s)}),
}
"""One recipe per emitter; a test holds the two tables together."""
