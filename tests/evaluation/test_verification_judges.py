"""`verify`: who judges what, where float64 does not get through, and what it is given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from evaluation.verified import SHAPE, Array, given, network, with_wrong_weight
from interfaces.conftest import printed_by
from openbpu.arch.errors import InputError, ModelError
from openbpu.compiler import compile as compile_model
from openbpu.evaluation import Verifier, beside, verification, verify
from openbpu.evaluation.fallback import OnnxRuntime
from openbpu.evaluation.reference import evaluate

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


def test_a_refusal_is_that_of_float64_and_names_the_node_once() -> None:
    """What the narrower floats are refused for says nothing of the type that was asked for."""
    feed = {"x": np.ones(2, np.float32)}
    model = one_node(helper.make_node("Gelu", ["x", "x", "x"], ["y"], name="n7"), feed)
    runtime = OnnxRuntime(model)
    with pytest.raises(NotImplementedError, match=r"tensor\(double\)") as refused:
        runtime(model.graph.node[0], feed, 20)
    said = str(refused.value)
    assert said.startswith("node 'n7' (Gelu): ONNX Runtime cannot load it: ")
    assert said.count("(Gelu)") == 1
    assert isinstance(refused.value.__cause__, ModelError)
    assert runtime.narrow == set()


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
