"""Deterministic models around one operator, for per-operator tests.

``single_op_model("Conv", group=2)`` is input -> Q -> DQ -> Conv -> Q -> DQ -> output, with
weights and bias quantized. ``SINGLE_OP_CASES`` lists every operator in several variations and
in every activation type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx

import operators  # noqa: F401 - registers the units that have a file of their own
from openbpu.arch.definition.rooms import Room, require_total
from openbpu.arch.operators import UNITS
from openbpu.arch.program import Operator
from openbpu.evaluation.reference.kernel import Array
from witness.builder import WIDE, GraphBuilder, Style
from witness.emit import EMITTERS, MIN_OPSET
from witness.recipes import RECIPES
from witness.variations import DEFAULT_SHAPES, KEEPS_SCALE, STYLES, VARIATIONS

_WHERE = "tests/operators/{}.py"
EMITTED: Room[type[Operator], Any] = Room(
    "an emitter", UNITS, "witness", decorator='@emitter("{}")', where=_WHERE
)
VARIED: Room[type[Operator], Any] = Room(
    "variations", UNITS, "witness", decorator='VARIATIONS["{}"]', where=_WHERE
)
DRAWABLE: Room[type[Operator], Any] = Room(
    "a recipe of random graphs", UNITS, "witness", decorator='RECIPES["{}"]', where=_WHERE
)
EMITTED.take(EMITTERS, UNITS)
VARIED.take(VARIATIONS, UNITS)
DRAWABLE.take(RECIPES, UNITS)
require_total("tests", EMITTED, VARIED, DRAWABLE)

Model = tuple[onnx.ModelProto, dict[str, Array]]


def _then(b: GraphBuilder, y: str, then: str | None, x: str) -> str:
    """What follows the operator with no quantizer between."""
    if then is None:
        return y
    if then == "Add":
        same = b.shape(y) == b.shape(x)
        return b.node("Add", y, x if same else b.quantized_input(b.shape(y)))
    return EMITTERS[then](b, y)[0]


def single_op_model(
    op: str,
    *,
    shape: tuple[int, ...] | None = None,
    style: Style | str = "int8",
    output: Style | str | None = None,
    opset: int | None = None,
    seed: int = 0,
    then: str | None = None,
    same_scale: bool | None = None,
    gain: float = 1.0,
    **variation: Any,
) -> Model:
    """The model and its inputs.

    Args:
        op: a key of ``EMITTERS``; ``variation`` goes to that emitter.
        shape: of the first input.
        style: how activations are quantized, a ``Style`` or a key of ``STYLES``.
        output: the style of the outputs; that of the inputs by default.
        opset: the oldest that has the operator (13, or 21 for 16-bit activations) by default.
        seed: of all random numbers.
        then: an operator fused behind, with no rounding between (Relu, Clip, Add, ...).
        same_scale: outputs take the input's scale; by default for operators that move elements.
        gain: the input is uniform in [-gain, gain].
    """
    chosen = STYLES[style] if isinstance(style, str) else style
    target = STYLES[output] if isinstance(output, str) else output
    wide = chosen.dtype in WIDE or (target is not None and target.dtype in WIDE)
    b = GraphBuilder(opset or max(MIN_OPSET.get(op, 13), 21 if wide else 13), seed, chosen)
    x = b.quantized_input(shape or DEFAULT_SHAPES.get(op, (1, 3, 7, 9)), low=-gain, high=gain)
    keep = op in KEEPS_SCALE and target is None and then is None if same_scale is None else same_scale
    for y in EMITTERS[op](b, x, **variation):
        b.output(b.qdq(_then(b, y, then, x), target, like=x if keep else None))
    return b.model(), b.inputs


@dataclass(frozen=True, slots=True)
class Case:
    """One variation of one operator; ``build`` makes the model and its inputs."""

    op: str
    name: str
    variation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """For pytest's ``ids``."""
        return f"{self.op}-{self.name}"

    def build(self) -> Model:
        """The model and its inputs."""
        return single_op_model(self.op, **self.variation)


def _cases() -> tuple[Case, ...]:
    """Every variation in int8, and the first of each operator in every other style."""
    found = []
    for op in EMITTERS:
        variations = VARIATIONS.get(op, {"plain": {}})
        found += [Case(op, name, variation) for name, variation in variations.items()]
        first = next(iter(variations.values()))
        for style in STYLES:
            if style != "int8" and "style" not in first:
                found.append(Case(op, style, {**first, "style": style}))
    return tuple(found)


SINGLE_OP_CASES = _cases()
"""``pytest.mark.parametrize("case", SINGLE_OP_CASES, ids=lambda c: c.id)``."""
