"""Is the witness to be trusted? It is held against ONNX Runtime, onnx.reference and ONNX's own cases."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import helper
from onnx.reference import ReferenceEvaluator

from openbpu.evaluation.reference import compare_end_to_end, compare_layerwise, evaluate
from openbpu.evaluation.reference.compare import TensorReport
from openbpu.evaluation.reference.kernel import Array, Quantized
from openbpu.evaluation.reference.ops.quantize import quantize
from witness import ort
from witness.builder import GraphBuilder, Style
from witness.emit import EMITTERS, MIN_OPSET
from witness.qoperator_models import QOPERATOR_CASES
from witness.random_graphs import CPU_OPS, qdq_models
from witness.recipes import RECIPES
from witness.single_op import SINGLE_OP_CASES, Case, Model, single_op_model

FLOAT32_SLACK = 0.05
"""Steps by which a float32 evaluation of one operator may miss the real value (int16: 65536 steps)."""

few = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def reports_against_ort(model: onnx.ModelProto, inputs: dict[str, Array]) -> list[TensorReport]:
    observed = ort.run_quantized(model, inputs)
    reports = compare_layerwise(model, observed, inputs)
    assert set(reports) == set(observed)
    return list(reports.values())


def assert_agrees(model: onnx.ModelProto, inputs: dict[str, Array]) -> None:
    bad = [str(r) for r in reports_against_ort(model, inputs) if r.max_error > 0.5 + FLOAT32_SLACK]
    assert not bad


# --- One operator at a time ------------------------------------------------------------------------


@pytest.mark.parametrize("case", SINGLE_OP_CASES, ids=lambda c: c.id)
def test_agrees_with_onnxruntime_on(case: Case) -> None:
    assert_agrees(*case.build())


REFERENCE_DIFFERS = {
    "ConvTranspose-groups",  # onnx.reference is wrong here: ONNX Runtime agrees with the witness on all
    "ConvTranspose-depthwise",
    "GlobalMaxPool-3d",  # onnx.reference drops the last axis
    "Pad-crop",  # onnx.reference has no negative pads
    "Resize-down",  # onnx.reference finds the nearest element in float64, ONNX Runtime in float32
}


def _runs_on_reference(case: Case) -> bool:
    return "opset" not in case.variation and case.id not in REFERENCE_DIFFERS


@pytest.mark.parametrize("case", [c for c in SINGLE_OP_CASES if _runs_on_reference(c)], ids=lambda c: c.id)
def test_agrees_with_onnx_reference_on(case: Case) -> None:
    # onnx.reference implements Q and DQ from opset 19, in 16 bits from 21.
    opset = max(21, MIN_OPSET.get(case.op, 21))
    model, inputs = single_op_model(case.op, **case.variation, opset=opset)
    names = list(ort.quantized_tensors(model))
    with np.errstate(all="ignore"):
        found = list(ReferenceEvaluator(ort.with_outputs(model, names)).run(names, inputs))
    reports = compare_layerwise(model, dict(zip(names, found, strict=True)), inputs)
    assert not [str(r) for r in reports.values() if r.max_error > 0.5 + FLOAT32_SLACK]


@pytest.mark.parametrize("name", QOPERATOR_CASES)
def test_agrees_with_onnxruntime_on_qoperator(name: str) -> None:
    model, inputs = QOPERATOR_CASES[name]()
    if not ort.is_witness_for(model):
        pytest.skip("ONNX Runtime's products of uint8 and int8 saturate on this processor (no VNNI)")
    # ONNX Runtime's quantized Softmax reads a table of its own: a step, or a little more.
    allowed = 1.1 if "Softmax" in name else 0.5 + FLOAT32_SLACK
    assert all(r.max_error <= allowed for r in reports_against_ort(model, inputs))
    outputs = ort.run(model, inputs)
    assert all(d.max_steps < 1.01 for d in compare_end_to_end(model, inputs, outputs).values())


# --- Random graphs ---------------------------------------------------------------------------------


@few
@given(qdq_models())
def test_agrees_with_onnxruntime_on_random_graphs(drawn: Model) -> None:
    assert_agrees(*drawn)


@few
@given(
    qdq_models(
        ops={"Conv", "ConvTranspose", "Add", "MaxPool", "AveragePool", "Resize", "Concat"}, ranks=(4, 3)
    )
)
def test_agrees_with_onnxruntime_on_random_convolutional_graphs(drawn: Model) -> None:
    assert_agrees(*drawn)


@few
@given(
    qdq_models(
        ops={"Conv", "Relu"}, max_nodes=2, styles=("int8",), opsets=(13,), ranks=(4,), float_nodes=False
    )
)
def test_random_graphs_keep_to_what_the_caller_allows(drawn: Model) -> None:
    model, inputs = drawn
    assert model.opset_import[0].version == 13
    assert all(v.ndim == 4 and v.dtype == np.float32 for v in inputs.values())
    allowed = {"Conv", "QuantizeLinear", "DequantizeLinear", "Relu", "Clip", "LeakyRelu", "Add"}
    assert {n.op_type for n in model.graph.node} <= allowed


def test_every_emitter_has_a_recipe() -> None:
    assert set(RECIPES) == set(EMITTERS)
    assert set(CPU_OPS) <= set(EMITTERS)


def test_the_same_seed_gives_the_same_model() -> None:
    (first, x), (second, y) = (single_op_model("Conv", seed=3) for _ in range(2))
    assert first.SerializeToString() == second.SerializeToString()
    assert all(np.array_equal(x[n], y[n]) for n in x)


# --- Rounding and ties -----------------------------------------------------------------------------


def rounded(values: list[float], zero: int = 0, scale: float = 1.0, dtype: type = np.int8) -> Quantized:
    return quantize(np.array(values), np.float32(scale) + np.zeros(()), np.array(zero, dtype))


def test_rounds_half_to_even_before_the_zero_point_is_added() -> None:
    assert rounded([0.5, 1.5, 2.5, -0.5, -1.5]).values.tolist() == [0, 2, 2, 0, -2]
    assert rounded([0.5, 1.5, 2.5], zero=1, dtype=np.uint8).values.tolist() == [1, 3, 3]


def test_saturates_at_the_limits_of_the_type() -> None:
    assert rounded([200.0, -200.0]).values.tolist() == [127, -128]
    assert rounded([300.0, -1.0], dtype=np.uint8).values.tolist() == [255, 0]
    assert rounded([1e9, -1e9], dtype=np.int16).values.tolist() == [32767, -32768]


def test_a_scale_counts_as_the_float32_it_is() -> None:
    scale = np.float32(0.1)
    assert rounded([1.05], scale=0.1).scaled[0] == 1.05 / float(scale)


def test_per_axis_scales_lie_along_their_axis() -> None:
    x = np.ones((1, 2, 3))
    found = quantize(x, np.array([0.5, 0.25]), np.zeros(2, np.int8), axis=1).values
    assert found[0, :, 0].tolist() == [2, 4]


def test_near_tie_means_within_1e_5_of_a_step() -> None:
    values = [0.5, 0.5 + 9e-6, 0.5 - 9e-6, 0.5 + 2e-5, 0.5 - 2e-5, 1.0]
    assert rounded(values).near_tie.tolist() == [True, True, True, False, False, False]


def test_a_tie_between_two_saturated_values_is_none() -> None:
    assert rounded([127.5, 200.5, -128.5, -127.5]).near_tie.tolist() == [False, False, False, True]


def test_flipped_changes_near_ties_only() -> None:
    assert rounded([0.5, 1.5, 1.2, 127.5]).flipped.tolist() == [1, 1, 1, 127]


def test_evaluation_names_near_ties_by_quantized_tensor() -> None:
    b = GraphBuilder(style=Style(power_of_two=True))
    b.output(b.qdq(b.node("Mul", b.quantized_input((1, 64)), b.constant(0.75))))
    model = b.model()
    evaluation = evaluate(model, b.inputs)
    assert set(evaluation.near_tie) == set(ort.quantized_tensors(model))
    assert evaluation.near_tie["quantizelinear1"].any()
    assert not evaluation.near_tie["quantizelinear0"].any()  # what is given in float32 has one right code


# --- Layer by layer --------------------------------------------------------------------------------


def three_layers() -> Model:
    b = GraphBuilder()
    x = b.quantized_input((1, 3, 6, 6))
    for _ in range(3):
        x = b.qdq(EMITTERS["Conv"](b, x, channels=3, pads=1)[0])
    b.output(x)
    return b.model(), b.inputs


def test_layerwise_finds_a_planted_error_where_it_is_and_nowhere_else() -> None:
    model, inputs = three_layers()
    names = ort.quantized_tensors(model)
    observed = {n: evaluate(model, inputs).values[n].copy() for n in names}
    observed[names[2]].reshape(-1)[7] ^= 3
    # The layer behind computes from the wrong integers, rightly.
    after = {n: observed[n] for n in names[:3]}
    observed[names[3]] = _continued(model, inputs, after, names[3])
    reports = compare_layerwise(model, observed, inputs)
    assert {n: r.mismatches_off_tie for n, r in reports.items()} == {n: int(n == names[2]) for n in names}


def _continued(model: onnx.ModelProto, inputs: dict[str, Array], after: dict[str, Array], name: str) -> Array:
    """The tensor as computed from these integers: their producers are replaced by inputs."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    kept = [n for n in cut.graph.node if n.output[0] not in after]
    del cut.graph.node[:]
    cut.graph.node.extend(kept)
    return evaluate(cut, {**inputs, **after}).values[name]


def test_layerwise_without_inputs_takes_the_first_tensor_as_given() -> None:
    model, inputs = three_layers()
    names = ort.quantized_tensors(model)
    values = evaluate(model, inputs).values
    reports = compare_layerwise(model, {n: values[n] for n in names})
    assert list(reports) == list(names[1:])
    assert all(r.exact and r.mismatches == 0 and r.producer == "Conv" for r in reports.values())


def test_an_unseen_tie_excuses_what_depends_on_it() -> None:
    b = GraphBuilder(style=Style(power_of_two=True))
    x = b.quantized_input((1, 256))
    hidden = b.qdq(b.node("Mul", x, b.constant(0.5)), like=x)
    last = b.quantize(b.node("Neg", hidden), like=x)
    b.output(b.dequantize(last))
    model, first = b.model(), "quantizelinear0"
    values = evaluate(model, b.inputs)
    tie = values.near_tie["quantizelinear1"]
    assert tie.any()
    assert not tie.all()
    wrong = values.values[last] + tie.astype(np.int8)
    report = compare_layerwise(model, {first: values.values[first], last: wrong})[last]
    assert report.mismatches > 0
    assert report.mismatches_off_tie == 0


def test_layerwise_refuses_a_wrong_shape() -> None:
    model, inputs = three_layers()
    name = ort.quantized_tensors(model)[0]
    with pytest.raises(ValueError, match=r"shape must be \(1, 3, 6, 6\), not \(108,\)"):
        compare_layerwise(model, {name: evaluate(model, inputs).values[name].reshape(-1)}, inputs)


# --- End to end ------------------------------------------------------------------------------------


def test_end_to_end_counts_in_steps_of_the_last_scale() -> None:
    model, inputs = single_op_model("Conv", pads=1)
    exact = evaluate(model, inputs).outputs
    ((name, value),) = exact.items()
    step = float(evaluate(model, inputs).values["scale3"])
    off = value + step * (np.arange(value.size).reshape(value.shape) == 5)
    found = compare_end_to_end(model, inputs, {name: off})[name]
    assert found.max_steps == pytest.approx(1.0)
    assert found.fraction == pytest.approx(1 / value.size)


def test_onnxruntime_agrees_end_to_end_but_for_ties() -> None:
    model, inputs = three_layers()
    found = compare_end_to_end(model, inputs, ort.run(model, inputs))
    assert all(d.max_steps < 2.01 and d.fraction < 0.1 for d in found.values())


def test_ort_compare_counts_steps() -> None:
    model, inputs = three_layers()
    observed = ort.run_quantized(model, inputs)
    observed["quantizelinear2"] = observed["quantizelinear2"] ^ 1
    found = ort.compare(model, inputs, observed)
    assert found["quantizelinear1"].fraction == 0
    assert (found["quantizelinear2"].fraction, found["quantizelinear2"].max_steps) == (1.0, 1.0)


# --- Errors ----------------------------------------------------------------------------------------


def _one(op: str, domain: str = "") -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2]) for n in "xy")
    return helper.make_model(
        helper.make_graph([helper.make_node(op, ["x"], ["y"], domain=domain)], "g", [x], [y])
    )


def test_a_missing_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"Relu .*inputs must be known, not \['x'\]"):
        evaluate(_one("Relu"), {})


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(NotImplementedError, match=r"no kernel for my\.Thing"):
        evaluate(_one("Thing", "my"), {"x": np.ones(2)})


def test_an_operator_without_a_kernel_runs_on_onnx_reference() -> None:
    assert evaluate(_one("IsInf"), {"x": np.array([1.0, np.inf])}).outputs["y"].tolist() == [False, True]


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_a_product_of_integers_takes_a_zero_point_per_row_and_one_per_column(shape: tuple[int, ...]) -> None:
    a, b = np.arange(9, dtype=np.uint8).reshape(3, 3), np.arange(9, 0, -1, dtype=np.uint8).reshape(3, 3)
    a_zero, b_zero = np.array([1, 5, 9], np.uint8), np.array([2, 4, 8], np.uint8)
    feeds = {"a": a, "b": b, "za": a_zero.reshape(shape), "zb": b_zero}
    declared = [helper.make_tensor_value_info(n, onnx.TensorProto.UINT8, v.shape) for n, v in feeds.items()]
    y = helper.make_tensor_value_info("y", onnx.TensorProto.INT32, [3, 3])
    node = helper.make_node("MatMulInteger", list(feeds), ["y"])
    model = helper.make_model(helper.make_graph([node], "g", declared, [y]))
    wanted = (a.astype(int) - a_zero.astype(int)[:, None]) @ (b.astype(int) - b_zero.astype(int))
    assert evaluate(model, feeds).outputs["y"].tolist() == wanted.tolist()
