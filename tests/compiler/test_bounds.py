"""The bounds of docs/numerics.md, measured: random scales in both directions, int8 and int16 on both sides.

`python -m pytest -s -m "slow or not slow" tests/compiler/test_bounds.py` prints the worst of every operator.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from compiler.reading import model
from openbpu.compiler import compile as compile_model
from openbpu.runtime import Session

Float64 = npt.NDArray[np.float64]
Shape = tuple[int, ...]
PAGE = (Path(__file__).parents[2] / "docs" / "numerics.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (\w+) \| ([\d.]+) \| ([\d.]+) \|$", re.MULTILINE)
STATED = {op: (float(most), float(seen)) for op, most, seen in ROW.findall(PAGE)}
EXACT = 0.502
"""A value, rounded, where factors have 31 bits: int16 results of up to 32,768 steps add a thousandth."""
RATIOS = (2.0**-12, 0.05, 1.0, 20.0, 3000.0)
TYPES = [("int8", "int8"), ("int8", "int16"), ("int16", "int8"), ("int16", "int16")]


@dataclass(frozen=True)
class Operator:
    """One ONNX operator over tensors of `shapes`: its float64 meaning and what its result's scale may be."""

    body: str
    meaning: Callable[..., Float64]
    shapes: tuple[Shape, ...] = ((40, 6, 5, 8),)
    out: Shape = (40, 6, 5, 8)
    unit: Callable[..., float] = lambda *scales: max(scales)
    constants: str = ""
    kinds: tuple[str, ...] = ("int8", "int16")
    second: str = ""
    outs: tuple[str, ...] = ("int8", "int16")
    scale: float = 0.01
    spans: tuple[float, ...] = field(default=(1.0, 0.05, 0.0005))


def softmax(x: Float64) -> Float64:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


GAIN, SHIFT = np.linspace(0.5, 2, 8), np.linspace(-1, 1, 8)


def normalized(x: Float64, *, centred: bool = True) -> Float64:
    c = x - x.mean(-1, keepdims=True) if centred else x
    y = c / np.sqrt((c * c).mean(-1, keepdims=True) + np.float64(np.float32(1e-5))) * GAIN.astype(np.float32)
    return np.asarray(y + SHIFT.astype(np.float32) if centred else y)


def resized(x: Float64) -> Float64:
    for axis, factor in ((2, 3), (3, 2.5)):
        size = x.shape[axis]
        at = np.clip((np.arange(int(size * factor)) + 0.5) / factor - 0.5, 0, size - 1)
        low = np.floor(at).astype(int)
        part = (at - low).reshape([-1 if a == axis else 1 for a in range(4)])
        x = x.take(low, axis) * (1 - part) + x.take(np.minimum(low + 1, size - 1), axis) * part
    return x


def sampled(x: Float64, grid: Float64) -> Float64:
    (h, w), images = x.shape[2:], np.arange(len(x))[:, None, None]
    right, down = (grid[..., 0] + 1) * w / 2 - 0.5, (grid[..., 1] + 1) * h / 2 - 0.5
    y = np.zeros((*grid.shape[:3], x.shape[1]))
    for i, j in np.ndindex(2, 2):
        row, column = np.floor(down) + i, np.floor(right) + j
        there = (row >= 0) & (row < h) & (column >= 0) & (column < w)
        share = (1 - np.abs(down - row)) * (1 - np.abs(right - column)) * there
        at = (np.clip(v, 0, n - 1).astype(int) for v, n in ((row, h), (column, w)))
        y += share[..., None] * np.moveaxis(x, 1, -1)[(images, *at)]
    return np.moveaxis(y, -1, 1)


def numbers(values: Float64) -> str:
    return ", ".join(f"{v:.9e}" for v in values)


TWO: dict[str, Any] = {"shapes": ((40, 6, 5, 8), (40, 6, 5, 8))}
NORM = f"float[8] g = {{{numbers(GAIN)}}}, float[8] b = {{{numbers(SHIFT)}}}"
OPERATORS = {
    "Softmax": Operator("o = Softmax(d0)", softmax, unit=lambda s: 1 / 65536, scale=0.003),
    "LayerNormalization": Operator(
        "o = LayerNormalization(d0, g, b)", normalized, unit=lambda s: 0.0003, constants=NORM
    ),
    "RMSNormalization": Operator(
        "o = RMSNormalization(d0, g)", lambda x: normalized(x, centred=False), unit=lambda s: 0.0003,
        constants=NORM,
    ),
    "Div": Operator(
        "o = Div(d0, d1)", lambda a, b: a / b, **TWO, unit=lambda a, b: a / b, second="int8"
    ),
    "Resize": Operator(
        'o = Resize<mode = "linear">(d0, , f)', resized, out=(40, 6, 15, 20),
        constants="float[4] f = {1, 1, 3, 2.5}",
    ),
    "GridSample": Operator(
        "o = GridSample(d0, d1)", sampled, shapes=((40, 6, 5, 8), (40, 9, 7, 2)), out=(40, 6, 9, 7),
        unit=lambda a, b: a, kinds=("int8",), second="int16", scale=3e-5,
    ),
    "ReduceL2": Operator(
        "o = ReduceL2(d0, a)", lambda x: np.sqrt((x * x).sum(3, keepdims=True)), out=(40, 6, 5, 1),
        constants="int64[1] a = {3}", kinds=("int8",), outs=("int8",),
    ),
    "Add": Operator("o = Add(d0, d1)", np.add, **TWO),
    "Sub": Operator("o = Sub(d0, d1)", np.subtract, **TWO),
    "Mul": Operator("o = Mul(d0, d1)", np.multiply, **TWO, unit=lambda a, b: a * b * 1000),
    "Max": Operator("o = Max(d0, d1)", np.maximum, **TWO),
    "Min": Operator("o = Min(d0, d1)", np.minimum, **TWO),
    "PRelu": Operator(
        "o = PRelu(d0, d1)", lambda x, s: np.where(x < 0, x * s, x), **TWO, unit=lambda a, b: a
    ),
    "Mean": Operator("o = Mean(d0, d1)", lambda a, b: (a + b) / 2, **TWO),
    "Concat": Operator(
        "o = Concat<axis = 1>(d0, d1)", lambda a, b: np.concatenate([a, b], 1), **TWO, out=(40, 12, 5, 8)
    ),
    "ReduceMean": Operator(
        "o = ReduceMean(d0, a)", lambda x: x.mean(3, keepdims=True), out=(40, 6, 5, 1),
        constants="int64[1] a = {3}",
    ),
    "ReduceSum": Operator(
        "o = ReduceSum(d0, a)", lambda x: x.sum(3, keepdims=True), out=(40, 6, 5, 1),
        constants="int64[1] a = {3}",
    ),
    "ReduceMax": Operator(
        "o = ReduceMax(d0, a)", lambda x: x.max(3, keepdims=True), out=(40, 6, 5, 1),
        constants="int64[1] a = {3}",
    ),
    "AveragePool": Operator(
        "o = AveragePool<kernel_shape = [5, 8]>(d0)", lambda x: x.mean((2, 3), keepdims=True),
        out=(40, 6, 1, 1),
    ),
    "square": Operator("o = Pow(d0, c)", np.square, constants="float c = {2.0}", unit=lambda s: s * s * 1000),
    "quotient": Operator("o = Div(d0, c)", lambda x: x / 3, constants="float c = {3.0}"),
    "MatMul": Operator(
        "o = MatMul(d0, d1)", np.matmul, shapes=((40, 6, 5, 8), (40, 6, 8, 5)), out=(40, 6, 5, 5),
        unit=lambda a, b: a * b * 1000, kinds=("int8",),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Draw:
    """Types, zero points and scales of a case."""

    kind: str
    out: str
    ratio: float
    seed: int

    def operands(self, op: Operator) -> Iterator[tuple[str, float, int]]:
        """Type, scale and zero point of every input."""
        rng = np.random.default_rng(self.seed)
        for i in range(len(op.shapes)):
            kind = op.second if i and op.second else self.kind
            scale = op.scale * float(rng.uniform(0.5, 2)) * (float(rng.choice([0.02, 1, 50])) if i else 1)
            yield kind, float(np.float32(scale)), self.zero(kind, rng)

    def zero(self, kind: str, rng: np.random.Generator) -> int:
        info = np.iinfo(kind)
        return (0, 0, int(info.min), int(rng.integers(info.min // 2, info.max // 2)))[int(rng.integers(4))]


def spread(op: Operator, shape: Shape, kind: str, zero: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Codes of all sizes: a share of the images has few of them."""
    info = np.iinfo(kind)
    share: Float64 = np.resize(np.array(op.spans), shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    span = share * (info.max - info.min)
    codes = np.rint(rng.uniform(-1, 1, shape) * np.maximum(span, 3)) + zero
    found: npt.NDArray[Any] = np.clip(codes, info.min, info.max).astype(kind)
    return found


def measured(op: Operator, draw: Draw) -> float | None:
    """The largest error in steps of the output; None where the operator is on the CPU."""
    rng = np.random.default_rng(draw.seed + 1)
    operands = list(draw.operands(op))
    unit = float(np.float32(op.unit(*(s for _, s, _ in operands)) / draw.ratio))
    zero, info = draw.zero(draw.out, rng), np.iinfo(draw.out)
    feeds = {
        f"x{i}": spread(op, shape, k, z, rng)
        for i, (shape, (k, _, z)) in enumerate(zip(op.shapes, operands, strict=True))
    }
    numbers = [f"float s{i} = {{{s:.9e}}}, {k} z{i} = {{{z}}}" for i, (k, s, z) in enumerate(operands)]
    numbers += [
        f"float sy = {{{unit:.9e}}}, {draw.out} zy = {{{zero}}}",
        *([op.constants] if op.constants else []),
    ]
    inputs = ", ".join(f"{x.dtype}{list(x.shape)} {name}" for name, x in feeds.items())
    pairs = " ".join(f"d{i} = DequantizeLinear(x{i}, s{i}, z{i})" for i in range(len(operands)))
    head = f"g ({inputs}) => ({draw.out}{list(op.out)} r) <{', '.join(numbers)}>"
    program = compile_model(
        model(f"{head} {{ {pairs} {op.body} r = QuantizeLinear(o, sy, zy) }}", 23), march="nash-p", opt=0
    )
    if any(row.on == "CPU" for row in program.placement):
        return None
    got = Session(program).run(feeds).outputs["r"]
    reals = [(x.astype(np.float64) - z) * s for x, (_, s, z) in zip(feeds.values(), operands, strict=True)]
    with np.errstate(all="ignore"):
        real = op.meaning(*reals)
        ideal = np.clip(real / unit + zero, info.min, info.max)
        off = np.abs(got - ideal)[np.isfinite(real)]
    return float(off.max())


def cases() -> Iterator[Any]:
    """Every operator and pair of types; without the slow ones, a few draws of what is approximated."""
    for name, op in OPERATORS.items():
        if name in STATED:
            yield name, op.kinds[-1], op.outs[-1], (1.0, 20.0), 1
        for kind, out in TYPES:
            if kind in op.kinds and out in op.outs:
                yield pytest.param(name, kind, out, RATIOS, 3, marks=pytest.mark.slow)


@pytest.mark.parametrize(("name", "kind", "out", "ratios", "seeds"), list(cases()))
def test_error_stays_within_the_stated_bound(
    name: str, kind: str, out: str, ratios: tuple[float, ...], seeds: int
) -> None:
    op = OPERATORS[name]
    draws = [Draw(kind, out, ratio, seed) for ratio in ratios for seed in range(seeds)]
    errors = [error for draw in draws if (error := measured(op, draw)) is not None]
    print(f"{name} {kind} → {out}: {max(errors):.4f} steps")  # noqa: T201 - what the page's command shows
    most, seen = STATED.get(name, (EXACT, EXACT))
    assert max(errors) <= seen <= most
