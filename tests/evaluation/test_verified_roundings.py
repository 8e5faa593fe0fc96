"""`verify` knows the bound of what stands behind a rounding that the model does not have."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.foreign import codes, conv, ended, image, silu, spread
from compiler.test_foreign_roundings import EXACT, FUNCTIONS, MEANS
from openbpu.compiler import compile as build
from openbpu.evaluation import verify
from openbpu.evaluation.inside import made_of_lines
from witness.builder import GraphBuilder

SHAPES = {name: shape for name, (_, shape) in (EXACT | MEANS).items()}
BODIES = FUNCTIONS | {name: body for name, (body, _) in (EXACT | MEANS).items()}


@pytest.mark.parametrize(
    "name", ["SiLU twice", "gate", "sum of two", "mean", "Split", "Concat", "ReduceMean"]
)
def test_what_is_within_its_bound_passes(name: str) -> None:
    g, x = image()
    model = ended(g, BODIES[name](g, x), 0.06, 10, SHAPES.get(name, (1, 8, 6, 6)))
    found = verify(model, build(model, march="nash-e"), samples=4)
    assert found.passed, found.explanation


def test_only_what_stands_behind_a_rounding_has_its_bound() -> None:
    g, x = image()
    middle = g.pair(silu(g, conv(g, x)), 0.06, 10, "uint8")
    program = build(ended(g, conv(g, middle)), march="nash-e")
    made = [n.input[0] for n in g.nodes if n.op_type == "DequantizeLinear" and n.output[0] in (middle, "y")]
    assert [name in made_of_lines(program) for name in made] == [True, False]


def test_a_wrong_weight_behind_a_rounding_is_found() -> None:
    g, x = image()
    model = ended(g, silu(g, conv(g, x, g.stored(codes((8, 8, 3, 3)), spread(8), axis=0))), 0.06, 10)
    other, y = image()
    wrong = ended(
        other, silu(other, conv(other, y, other.stored(codes((8, 8, 3, 3), 1), spread(8), axis=0))), 0.06, 10
    )
    assert not verify(model, build(wrong, march="nash-e")).passed


@pytest.mark.parametrize("march", ["bayes-e", "nash-e"])
def test_a_tensor_that_has_another_layout_is_found_by_the_name_of_the_model(march: str) -> None:
    b = GraphBuilder()
    x = b.qdq(b.node("Relu", b.quantized_input((3, 2, 8))))
    weight = b.weight(np.random.default_rng(0).normal(size=(8, 4)))
    bent = b.quantize(b.node("Sin", b.node("MatMul", x, weight)))
    b.output(b.qdq(b.node("Sigmoid", b.dequantize(bent))))
    program = build(b.model(), march=march, opt=0)
    assert bent in made_of_lines(program)
    found = verify(b.model(), program, samples=4)
    assert found.passed, found.explanation
