"""`verify`: right binaries pass, wrong ones fail at the tensor that is wrong, and ties are no mistakes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from compiler.networks import Network
from compiler.reading import model as text_model
from interfaces.conftest import printed_by
from openbpu.arch.errors import InputError, ModelError
from openbpu.arch.program import Program
from openbpu.compiler import compile as compile_model
from openbpu.evaluation import Explanation, Verification, Verifier, beside, verification, verify
from openbpu.evaluation.fallback import OnnxRuntime
from openbpu.evaluation.images import part_like
from openbpu.evaluation.reference import evaluate, layerwise
from openbpu.report.verify import sentences, verify_json
from witness.builder import GraphBuilder, Style

SHAPE = (1, 3, 6, 6)
Array = Any


def network(style: str = "int8") -> Network:
    b = Network(SHAPE, 21, Style(style, symmetric=not style.startswith("u")))
    b.finished(b.layer(b.layer(b.x, 4), 5))
    return b


def ends_in_codes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without its last DequantizeLinear."""
    last = next(n for n in model.graph.node if n.output[0] == model.graph.output[0].name)
    (codes,) = (t for t in model.graph.initializer if t.name == last.input[2])
    model.graph.node.remove(last)
    model.graph.output[0].name = last.input[0]
    model.graph.output[0].type.tensor_type.elem_type = codes.data_type
    return model


def with_wrong_weight(model: onnx.ModelProto, index: int) -> onnx.ModelProto:
    """The model with the weights of one layer negated."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    weights = [t for t in other.graph.initializer if t.name.startswith("weight")]
    array = onnx.numpy_helper.to_array(weights[index])
    weights[index].CopyFrom(onnx.numpy_helper.from_array(-np.maximum(array, -127), weights[index].name))
    return other


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
@pytest.mark.parametrize("style", ["int8", "uint8", "int16"])
def test_a_right_binary_equals_float64(style: str, march: str) -> None:
    model = network(style).model()
    found = verify(model, compile_model(model, march=march), samples=2)
    assert found.passed
    assert found.judge == "float64"
    assert found.explanation is None or found.explanation.holds
    assert [c.elements for c in found.outputs] == [2 * 5 * 6 * 6]


@pytest.mark.parametrize("style", ["int8", "uint8", "int16"])
def test_codes_are_compared_with_codes(style: str) -> None:
    model = ends_in_codes(network(style).model())
    found = verify(model, compile_model(model, march="nash-e"))
    (output,) = found.outputs
    assert (output.step, output.max_abs, output.differing) == (1.0, 0.0, 0.0)
    assert output.cosine == pytest.approx(1.0)
    assert found.passed


def test_a_wrong_binary_fails_at_the_layer_that_is_wrong() -> None:
    model = network().model()
    found = verify(model, compile_model(with_wrong_weight(model, 1), march="nash-e"))
    assert not found.passed
    assert found.explanation is not None
    said = found.explanation.first_wrong
    assert "steps from float64, not 0.5" in said
    assert found.explanation.tensors > 1
    names = [n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert f"'{names[0]}'" not in said  # the layers before it are right


@pytest.mark.parametrize(
    "chain",
    ["m = Mul(d, d) p = Mul(m, m)", "p = Sqrt(d)", "m = Mul(d, half) p = Max(d, m)"],
    ids=["a function of plain products", "what is not defined everywhere", "lines"],
)
@pytest.mark.parametrize(("kind", "step"), [("int16", 1e-4), ("uint8", 0.01)])
def test_a_table_of_int16_is_within_its_bound(chain: str, kind: str, step: float) -> None:
    model = text_model(
        f"""g (int16[65536] x) => ({kind}[65536] y)
        <float s = {{3.0e-5}}, int16 z = {{0}}, float t = {{{step}}}, {kind} v = {{0}}, float half = {{0.5}}>
        {{ d = DequantizeLinear(x, s, z) {chain} y = QuantizeLinear(p, t, v) }}"""
    )
    feed = {"x": np.arange(-32768, 32768).astype(np.int16)}
    found = verify(model, compile_model(model, march="nash-e"), feed)
    assert found.passed, found.failures


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
def test_a_batch_is_as_many_runs_each_judged_alone(march: str) -> None:
    model = network().model()
    right = verify(model, compile_model(model, march=march, batch=3))
    assert (right.passed, right.judge, right.outputs[0].elements) == (True, "float64", 3 * 5 * 6 * 6)
    wrong = with_wrong_weight(model, 1)
    many, one = (verify(model, compile_model(wrong, march=march, batch=n)) for n in (3, 1))
    assert many.explanation is not None
    assert one.explanation is not None
    assert not many.passed
    assert many.explanation.tensors == 3 * one.explanation.tensors
    (seen, expected) = (e.first_wrong.split(":")[0] for e in (many.explanation, one.explanation))
    assert seen == expected


@pytest.mark.parametrize(
    ("shape", "full", "found"),
    [
        ((1, 4, 3), (2, 4, 3), 0),
        ((4, 1, 3), (4, 2, 3), 1),
        ((1, 1, 4), (2, 4), 0),
        ((4, 3), (4, 1, 6), 1),
        ((1, 2, 1), (2, 2), None),  # before or behind the 2?
        ((1, 4, 3), (2, 12), None),
    ],
)
def test_the_share_of_a_run_is_found_where_its_axis_is_clear(
    shape: tuple[int, ...], full: tuple[int, ...], found: int | None
) -> None:
    x = np.arange(np.prod(full)).reshape(full)
    shares = [part_like(x, shape, k, 2) for k in range(2)]
    if found is None:
        assert shares == [None, None]
        return
    a, b = shares
    assert a is not None
    assert b is not None
    assert a.shape == shape
    np.testing.assert_array_equal(np.concatenate([a, b], found).ravel(), x.ravel())


def test_a_model_that_describes_gigabytes_is_not_evaluated() -> None:
    program = compile_model(text_model("g (float[1,8] x) => (float[1,8] y) { y = Relu (x) }"), march="nash-e")
    huge = text_model("""g (float[1,8] x) => (float[1,8] y) { n = Constant <value_ints = [1099511627776]> ()
        c = ConstantOfShape (n) m = ReduceMax <keepdims = 0> (c) y = Add (x, m) }""")
    with pytest.raises(ModelError, match="output 'c': size must be at most 2 GiB"):
        verify(huge, program, [{"x": np.zeros((1, 8), np.float32)}])


def test_a_threshold_takes_the_place_of_the_verdict() -> None:
    model = network().model()
    other = compile_model(with_wrong_weight(model, 1), march="nash-e")
    assert verify(model, other, min_cosine=-1).passed
    assert "more than 0" in verify(model, other, min_cosine=-1, max_steps=0).failures[0]


# --- Ties ------------------------------------------------------------------------------------------


def flipped_once(model: onnx.ModelProto, feed: dict[str, Array]) -> tuple[dict[str, Array], str]:
    """Every quantized tensor, but the first with near ties has them rounded the other way."""
    meant = evaluate(model, feed)
    name = next(n for n, r in meant.roundings.items() if r.near_tie.any())
    return {name: meant.roundings[name].flipped}, name


def ties_and_what_follows() -> GraphBuilder:
    """A quantized tensor with ties, and another one that is computed from it."""
    b = GraphBuilder(style=Style(power_of_two=True))
    halves = b.qdq(b.node("Mul", b.quantized_input((1, 64)), b.constant(0.75)))
    b.output(b.qdq(b.node("Mul", halves, b.constant(9.0))))
    return b


def test_ties_rounded_the_other_way_explain_what_follows_from_them() -> None:
    b = ties_and_what_follows()
    model = b.model()
    seen, name = flipped_once(model, b.inputs)
    told = Explanation()
    for report in layerwise(model, lambda n, *_: seen.get(n), b.inputs).reports.values():
        told.add(report, frozenset())
    assert told.holds
    assert told.ties == np.count_nonzero(seen[name] != evaluate(model, b.inputs).values[name]) > 0
    assert f"'{name}' behind Mul" in told.first_tie


def test_what_follows_a_tie_is_judged_from_the_tie_on() -> None:
    """The outputs of `layerwise` are what the shown tensors lead to, not what float64 alone gives."""
    b = ties_and_what_follows()
    model = b.model()
    seen, _ = flipped_once(model, b.inputs)
    found = layerwise(model, lambda n, *_: seen.get(n), b.inputs)
    (name,) = found.outputs
    assert not np.array_equal(found.outputs[name], evaluate(model, b.inputs).outputs[name])


def chain_of_ties(layers: int = 8, size: int = 128) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Products whose steps are a twentieth of their result: many sums are ties, which the next layer sees."""
    rng = np.random.default_rng(0)
    weights: dict[str, Array] = {"z": np.int8(0), "step": np.float32(0.1), "half": np.float32(0.05)}
    nodes = [helper.make_node("QuantizeLinear", ["x", "step", "z"], ["q0"])]
    for i in range(layers):
        weights[f"w{i}"] = rng.integers(-3, 4, (size, size)).astype(np.int8)
        nodes += [
            helper.make_node("DequantizeLinear", [f"q{i}", "step", "z"], [f"d{i}"]),
            helper.make_node("DequantizeLinear", [f"w{i}", "half", "z"], [f"v{i}"]),
            helper.make_node("MatMul", [f"d{i}", f"v{i}"], [f"m{i}"]),
            helper.make_node("QuantizeLinear", [f"m{i}", "step", "z"], [f"q{i + 1}"]),
        ]
    nodes.append(helper.make_node("DequantizeLinear", [f"q{layers}", "step", "z"], ["y"]))
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [4, size]) for n in "xy")
    constants = [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in weights.items()]
    graph = helper.make_graph(nodes, "ties", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model, {"x": (rng.integers(-40, 40, (4, size)) * 0.1).astype(np.float32)}


def test_a_right_binary_passes_where_float32_breaks_ties_that_cascade() -> None:
    model, feed = chain_of_ties()
    found = verify(model, compile_model(model, march="nash-e"), feed)
    assert found.onnxruntime is not None
    (ours,), (theirs,) = found.outputs, found.onnxruntime
    assert (found.passed, ours.differing) == (True, 0.0)
    assert theirs.differing > 0.1
    assert theirs.max_steps is not None
    assert theirs.max_steps > 1
    assert found.parting is not None  # one sum of 128 products, and seven layers of what it began
    assert (found.parting.tensor, found.parting.elements) == ("tensor 'q1' behind MatMul", 512)
    assert 0 < found.parting.differing == found.parting.ties < 0.1 * 512
    assert found.parting.error == pytest.approx(0.5, abs=1e-5)
    assert any("'q1' behind MatMul" in line for line in sentences(found))
    assert verify_json(found)["onnxruntime_parts"]["ties"] == found.parting.ties


def test_onnx_runtime_that_does_not_part_is_not_said_to() -> None:
    found = given()[1]
    assert found.parting is None
    assert not any("leaves" in line for line in sentences(found))


# --- What judges -----------------------------------------------------------------------------------


def test_float64_keeps_only_what_is_asked_for() -> None:
    model = network().model()
    feed = {model.graph.input[0].name: np.ones(SHAPE, np.float32)}
    everything, little = evaluate(model, feed), evaluate(model, feed, keep=())
    assert set(little.outputs) == set(everything.outputs)
    assert len(little.values) < len(everything.values)
    for name, value in everything.outputs.items():
        np.testing.assert_array_equal(little.outputs[name], value)


def one_node(node: onnx.NodeProto, inputs: dict[str, Array], **opsets: int) -> onnx.ModelProto:
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in inputs.items()
    ]
    graph = helper.make_graph([node], "g", infos, [onnx.ValueInfoProto(name=n) for n in node.output])
    imports = [helper.make_opsetid("", 20), *(helper.make_opsetid(k, v) for k, v in opsets.items())]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def loop() -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A body with a float32 constant of its own, and a tensor captured from around it."""
    nodes = [
        helper.make_node("Identity", ["go"], ["still"]),
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Mul", ["s", "two"], ["t"]),
        helper.make_node("Add", ["t", "z"], ["u"]),
    ]
    integer, flag, real = TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT
    kinds = {"i": integer, "go": flag, "s": real, "still": flag, "u": real}
    infos = [helper.make_tensor_value_info(n, k, None if k == real else []) for n, k in kinds.items()]
    body = helper.make_graph(nodes, "b", infos[:3], infos[3:])
    feed = {"m": np.array(3), "x": np.ones(4, np.float32), "z": np.full(4, 0.5, np.float32)}
    model = one_node(helper.make_node("Loop", ["m", "", "x"], ["y"], body=body), feed)
    return model, feed


def test_control_flow_falls_to_onnx_runtime_and_is_named() -> None:
    model, feed = loop()
    runtime = OnnxRuntime(model)
    found = evaluate(model, feed, fallback=runtime)
    assert found.outputs["y"].tolist() == [11.5] * 4
    assert (found.fell_back, runtime.narrow) == (("Loop",), {"Loop"})


def test_a_loop_without_a_condition_runs_also_without_a_fallback() -> None:
    model, feed = loop()
    np.testing.assert_array_equal(evaluate(model, feed).outputs["y"], [11.5] * 4)


def test_an_operator_of_another_domain_falls_to_onnx_runtime() -> None:
    feed = {"x": np.linspace(-2, 2, 9, dtype=np.float32)}
    model = one_node(helper.make_node("BiasGelu", ["x", "x"], ["y"], domain="com.microsoft"), feed)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    found = evaluate(model, feed, fallback=OnnxRuntime(model))
    assert found.fell_back == ("BiasGelu",)
    assert found.outputs["y"][-1] == pytest.approx(4.0, abs=1e-3)


def test_what_nobody_runs_is_named() -> None:
    feed = {"x": np.ones(2, np.float32)}
    model = one_node(helper.make_node("Nobody", ["x"], ["y"], name="n7", domain="own"), feed, own=1)
    with pytest.raises(NotImplementedError, match=r"node 'n7' \(Nobody\)"):
        evaluate(model, feed, fallback=OnnxRuntime(model))


def test_onnx_runtime_stands_beside_and_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network().model()
    program = compile_model(model, march="nash-e")
    theirs = verify(model, program).onnxruntime
    assert theirs is not None
    assert [c.name for c in theirs] == [o.name for o in model.graph.output]

    def refuse(*_: object, **__: object) -> None:
        raise ModelError("too new for it")

    monkeypatch.setattr(beside, "Reference", refuse)
    found = verify(model, program)
    assert (found.passed, found.onnxruntime) == (True, None)
    assert found.remarks == ("ONNX Runtime does not run it: too new for it",)


def test_onnx_runtime_judges_where_float64_does_not_get_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NotImplementedError("node 'n' (Nobody)")

    monkeypatch.setattr(verification, "evaluate", fail)
    model = network().model()
    found = verify(model, compile_model(model, march="nash-e"))
    assert (found.passed, found.judge) == (True, "ONNX Runtime")
    assert "node 'n' (Nobody)" in found.remarks[0]


# --- What is given ---------------------------------------------------------------------------------


def test_a_range_at_the_end_of_float64_has_a_zero_point_of_uint8() -> None:
    x = np.array([-380.0, 0.0]) * 5e-324  # a scale of 1.49 is 1 of the smallest numbers
    model = one_node(helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "scale", "zero"]), {"x": x})
    found = evaluate(model, {"x": x}).outputs
    assert (float(found["scale"]), int(found["zero"])) == (5e-324, 255)
    assert found["y"].tolist() == [0, 255]


def given(**more: Any) -> tuple[Program, Verification]:
    model = network().model()
    program = compile_model(model, march="nash-e")
    return program, verify(model, program, **more)


def test_noise_is_said_to_be_noise() -> None:
    model = network().model()
    feed = {model.graph.input[0].name: np.ones(SHAPE, np.float32)}
    assert given(samples=3)[1].noise
    program, found = given(inputs=feed)
    assert not found.noise
    assert not Verifier(model, program).run([feed]).noise
    assert given(inputs=[feed, feed])[1].samples == 2


def test_no_sample_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="number of samples"):
        given(inputs=[])


def test_a_program_without_names_of_the_model_is_judged_by_its_outputs() -> None:
    model = network().model()
    program = compile_model(with_wrong_weight(model, 1), march="nash-e")
    kept = {*program.inputs, *program.outputs}
    tensors = (t if i in kept else replace(t, name=f"t{i}") for i, t in enumerate(program.tensors))
    found = verify(model, replace(program, tensors=tuple(tensors)))
    assert found.explanation is not None
    assert (found.passed, found.explanation.tensors) == (False, 1)  # the codes of the output


def test_progress_is_told() -> None:
    told: list[tuple[str, float]] = []
    given(progress=lambda stage, share: told.append((stage, share)))
    assert told[-1] == ("sample 1: float64", 1.0)


def test_the_reference_brings_no_runtime_along() -> None:
    script = "import sys, openbpu.evaluation.reference; print(*(m for m in sys.modules if 'openbpu.' in m))"
    assert all(m.startswith("openbpu.evaluation") for m in printed_by(script).split())


@pytest.mark.parametrize("style", ["int8", "int16"])
def test_codes_that_the_model_dequantizes_are_judged_as_codes(style: str) -> None:
    """The program ends in codes where its model ends in floats."""
    model = network(style).model()
    program = compile_model(model, march="nash-e", remove_io=("quantize", "dequantize"))
    assert verify(model, program).passed
    other = compile_model(with_wrong_weight(model, 1), march="nash-e", remove_io=("quantize", "dequantize"))
    found = verify(model, other)
    assert found.explanation is not None
    assert found.explanation.first_wrong
    assert not found.passed
