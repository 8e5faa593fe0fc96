"""QOperator models come out in QDQ form and compute the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compiler.passing import passed, proved
from openbpu.compiler.passes import NORMALISE, run
from openbpu.compiler.passes.qoperator import unfold_qoperators
from witness.qoperator_models import QOPERATOR_CASES
from witness.single_op import Model

UNFOLDED = {n: f for n, f in QOPERATOR_CASES.items() if not n.endswith("Integer")}
# Where the two forms lie on different sides of a tie: one step of the largest output scale in these models.
STEP = 0.06


@pytest.mark.parametrize("build", UNFOLDED.values(), ids=UNFOLDED.keys())
def test_one_quantized_form_is_left_and_means_the_same(build: Callable[[], Model]) -> None:
    graph = proved(build()[0], unfold_qoperators, atol=STEP)
    assert not any(n.op.startswith("QLinear") or n.op == "QGemm" for n in graph.nodes)


@pytest.mark.parametrize("build", UNFOLDED.values(), ids=UNFOLDED.keys())
def test_the_operator_keeps_its_name_and_origin(build: Callable[[], Model]) -> None:
    graph = passed(build()[0], lambda g: run(NORMALISE, g))
    origins = {o.op_type for n in graph.nodes for o in n.origins}
    assert any(t.startswith("QLinear") or t == "QGemm" for t in origins)


@pytest.mark.parametrize("name", ["ConvInteger", "MatMulInteger"])
def test_operators_without_scales_are_left_alone(name: str) -> None:
    graph = passed(QOPERATOR_CASES[name]()[0], unfold_qoperators)
    assert any(n.op == name for n in graph.nodes)


def test_a_model_without_qoperators_is_not_touched() -> None:
    graph = passed(QOPERATOR_CASES["ConvInteger"]()[0])
    assert unfold_qoperators(graph) is graph
