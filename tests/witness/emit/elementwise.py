"""Element-wise operators of two operands, comparison and logic."""

from __future__ import annotations

from witness.builder import GraphBuilder, Style
from witness.emit.registry import emitter


def operand(
    b: GraphBuilder,
    x: str,
    other: str,
    shape: tuple[int, ...] | None,
    positive: bool = False,
    style: Style | None = None,
) -> str:
    """The second operand.

    ``self`` is x, ``branch`` a second quantized input, ``constant`` a quantized initializer,
    ``float`` a float initializer, ``scalar`` a float number; anything else names a tensor.
    """
    shape = b.shape(x) if shape is None else shape
    low = 0.5 if positive else -1.0
    if other == "self":
        return x
    if other == "branch":
        outer, b.style = b.style, style or b.style
        made = b.quantized_input(shape, low=low * 2, high=2.0)
        b.style = outer
        return made
    if other == "constant":
        return b.weight(b.rng.uniform(low, 1.0, shape))
    if other == "float":
        return b.constant(b.rng.uniform(low, 1.0, shape))
    if other == "scalar":
        return b.constant(0.37)
    return other


@emitter("Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean")
def binary(
    b: GraphBuilder,
    x: str,
    *,
    op: str,
    other: str = "branch",
    other_shape: tuple[int, ...] | None = None,
    swap: bool = False,
    style: Style | None = None,
) -> tuple[str, ...]:
    """``x op y``, or ``y op x`` with ``swap``."""
    y = operand(b, x, other, other_shape, style=style)
    return (b.node(op, y, x) if swap else b.node(op, x, y),)


@emitter("Div")
def div(
    b: GraphBuilder, x: str, *, other: str = "branch", other_shape: tuple[int, ...] | None = None
) -> tuple[str, ...]:
    """The divisor is positive and away from zero."""
    y = operand(b, x, other, other_shape, positive=True)
    if other not in ("branch", "constant", "float", "scalar"):
        y = away_from_zero(b, y)
    return (b.node("Div", x, y),)


def away_from_zero(b: GraphBuilder, x: str) -> str:
    """Clip to [max/5, max] and quantize again, so that Log, Div and the like are defined."""
    top = float(abs(b.values[x]).max()) or 1.0
    if b.values[x].min() >= top / 6:
        return x
    low, high = b.constant(top / 5), b.constant(top)
    return b.qdq(b.node("Clip", x, low, high))


@emitter("Pow")
def power(b: GraphBuilder, x: str, *, exponent: float = 2.0) -> tuple[str, ...]:
    """A constant exponent; x is made positive for a fractional one."""
    if exponent != round(exponent) or exponent < 0:
        x = away_from_zero(b, x)
    return (b.node("Pow", x, b.constant(exponent)),)


@emitter("Where", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or")
def choose(
    b: GraphBuilder, x: str, *, op: str, other: str = "branch", other_shape: tuple[int, ...] | None = None
) -> tuple[str, ...]:
    """``Where(condition, x, y)`` with the operator in the condition."""
    y = operand(b, x, other, other_shape)
    if op == "Where":
        condition = b.constant(b.rng.random(b.shape(x)) < 0.5)
    elif op == "Not":
        condition = b.node("Not", b.node("Greater", x, y))
    elif op in ("And", "Or"):
        low, high = b.constant(-0.2501), b.constant(0.2501)
        condition = b.node(op, b.node("Greater", x, low), b.node("Less", x, high))
    else:
        condition = b.node(op, x, y)
    return (b.node("Where", condition, x, y),)
