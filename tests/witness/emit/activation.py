"""Functions of one operand."""

from __future__ import annotations

from typing import Any

from witness.builder import GraphBuilder
from witness.emit.elementwise import away_from_zero
from witness.emit.registry import emitter

UNARY = (
    "Relu",
    "Sigmoid",
    "Tanh",
    "Exp",
    "Erf",
    "Abs",
    "Neg",
    "Softplus",
    "Softsign",
    "Mish",
    "HardSwish",
    "HardSigmoid",
    "LeakyRelu",
    "Elu",
    "Selu",
    "Celu",
    "Gelu",
    "Swish",
    "Identity",
    "Sin",
    "Cos",
    "Atan",
    "Sinh",
    "Cosh",
    "Asinh",
)
JUMPS = ("Floor", "Ceil", "Round", "Sign", "Shrink", "ThresholdedRelu")
"""Functions with a jump: behind a tie that went the other way they tell nothing."""
POSITIVE = ("Log", "Sqrt", "Reciprocal")


@emitter(*UNARY, *JUMPS)
def unary(b: GraphBuilder, x: str, *, op: str, **attrs: Any) -> tuple[str, ...]:
    """Attributes go to the node."""
    return (b.node(op, x, **attrs),)


@emitter(*POSITIVE)
def positive_unary(b: GraphBuilder, x: str, *, op: str) -> tuple[str, ...]:
    """x is clipped away from zero first."""
    return (b.node(op, away_from_zero(b, x)),)


@emitter("Clip")
def clip(b: GraphBuilder, x: str, *, low: float | None = -0.3, high: float | None = 0.6) -> tuple[str, ...]:
    """Bounds as attributes before opset 11, as inputs since."""
    if b.opset < 11:
        return (b.node("Clip", x, min=low, max=high),)
    bounds = ["" if v is None else b.constant(v) for v in (low, high)]
    return (b.node("Clip", x, *bounds),)


@emitter("PRelu")
def prelu(b: GraphBuilder, x: str, *, per_channel: bool = True, quantized: bool = False) -> tuple[str, ...]:
    """A slope per channel or one for all, float or quantized."""
    shape = b.shape(x)
    slope_shape = (shape[1], *([1] * (len(shape) - 2))) if per_channel and len(shape) > 1 else (1,)
    value = b.rng.uniform(0.0, 0.5, slope_shape)
    return (b.node("PRelu", x, b.weight(value) if quantized else b.constant(value)),)


@emitter("SwishQdq")
def swish_qdq(b: GraphBuilder, x: str) -> tuple[str, ...]:
    """``x * sigmoid(x)`` with a quantizer after the sigmoid: a chain that is one exact table."""
    return (b.node("Mul", x, b.qdq(b.node("Sigmoid", x))),)


@emitter("Cast")
def cast(b: GraphBuilder, x: str) -> tuple[str, ...]:
    """To float32, which it is."""
    return (b.node("Cast", x, to=1),)
