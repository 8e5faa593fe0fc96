"""QOperator models come out in QDQ form and compute the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from compiler.passing import passed, proved
from openbpu.arch.errors import ModelError
from openbpu.compiler import compile as compile_model
from openbpu.compiler.passes import NORMALISE, run
from openbpu.compiler.passes.qoperator import unfold_qoperators
from openbpu.evaluation.reference.float64 import evaluate
from openbpu.runtime import Session
from witness import ort
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


@pytest.mark.parametrize("index", [1, 4])
@pytest.mark.parametrize("scale", [np.ones((3, 2), np.float32), np.ones(1, np.int32)], ids=["shape", "type"])
def test_a_qgemm_whose_scales_are_none_is_left_to_the_cpu(index: int, scale: npt.NDArray[Any]) -> None:
    model, _ = next(build() for name, build in UNFOLDED.items() if name.startswith("QGemm"))
    (node,) = (n for n in model.graph.node if n.op_type == "QGemm")
    node.input[index] = "odd"
    model.graph.initializer.append(onnx.numpy_helper.from_array(scale, "odd"))
    assert any(n.op == "QGemm" for n in passed(model, unfold_qoperators).nodes)


def softmax_without(*dropped: str, **attrs: int) -> onnx.ModelProto:
    model, _ = QOPERATOR_CASES["QLinearSoftmax-axis1-of-opset11"]()
    (node,) = (n for n in model.graph.node if n.op_type == "QLinearSoftmax")
    kept = [a for a in node.attribute if a.name not in (*dropped, *attrs)]
    del node.attribute[:]
    node.attribute.extend([*kept, *(onnx.helper.make_attribute(k, v) for k, v in attrs.items())])
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (softmax_without("opset"), "attribute 'opset' must be given, not absent"),
        (softmax_without(axis=4), "attribute 'axis' must be inside rank 4, not 4"),
        (softmax_without(axis=-5), "attribute 'axis' must be inside rank 4, not -5"),
    ],
)
def test_a_softmax_that_onnx_runtime_would_not_load_is_refused(model: onnx.ModelProto, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        passed(model, unfold_qoperators)


def test_a_softmax_of_opset_11_is_one_row_from_its_axis_on_whatever_runs_it() -> None:
    model, inputs = QOPERATOR_CASES["QLinearSoftmax-axis1-of-opset11"]()
    (wanted,) = ort.run(model, inputs).values()
    (found,) = Session(compile_model(model, march="nash-e")).run(inputs).outputs.values()
    assert np.abs(found - wanted).max() <= 1.01 * wanted[wanted > 0].min()


@pytest.mark.parametrize(("kind", "zero"), [("uint8", 0), ("uint8", 10), ("int8", -128), ("int8", 0)])
@pytest.mark.parametrize("steps", [256, 200, 129, 100])
def test_a_softmax_of_one_element_is_one_whatever_onnx_runtime_makes_of_it(
    kind: str, zero: int, steps: int
) -> None:
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["": 13, "com.microsoft": 1]>
        g ({kind}[2,1] x) => ({kind}[2,1] y)
        <float s = {{0.05}}, float t = {{{1 / steps}}}, {kind} z = {{{zero}}}> {{
            y = com.microsoft.QLinearSoftmax<axis = 1, opset = 13>(x, s, z, t, z)
        }}""")
    x = {"x": np.array([[3], [100]], kind)}
    most = np.iinfo(kind).max
    for march in ("nash-e", "bayes-e"):
        y = Session(compile_model(model, march=march)).run(x).outputs["y"]
        assert y.tolist() == [[min(steps + zero, most)]] * 2
        assert np.array_equal(evaluate(model, x).outputs["y"], y)


def test_a_model_without_qoperators_is_not_touched() -> None:
    graph = passed(QOPERATOR_CASES["ConvInteger"]()[0])
    assert unfold_qoperators(graph) is graph
