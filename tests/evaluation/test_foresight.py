"""Where the nodes of a float model will run: as after quantization with data, under the user's names."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from openbpu.arch.dtypes import DType
from openbpu.cli.commands import app
from openbpu.compiler import check
from openbpu.evaluation.foresight import Kind, foresee
from openbpu.quantization.onnx import quantize
from quantization.float_models import float_model

NOISE = np.random.default_rng(0)
WEIGHTS = {
    "w": NOISE.normal(size=(8, 8, 1, 1)).astype(np.float32),
    "v": NOISE.normal(size=(8, 8)).astype(np.float32),
    **{name: np.abs(NOISE.normal(size=8)).astype(np.float32) + 0.5 for name in ("s", "b", "m", "d")},
}
NETWORKS = {
    "folded": "c = Conv(x, w) n = BatchNormalization(c, s, b, m, d) y = Relu(n)",
    "divided": "c = Conv(x, w) t = Softmax<axis=1>(c) y = Conv(t, w)",
    "passed": "c = Conv(x, w) e = Erf(c) y = Conv(e, w)",
    "product": "t = Transpose<perm=[0,2,3,1]>(x) p = MatMul(t, v) q = Add(p, b) y = Sigmoid(q)",
    "unit": "c = Conv(x, w) n = LRN<size=3>(c) y = Conv(n, w)",
}


def network(name: str) -> ModelProto:
    weights = {n: a for n, a in WEIGHTS.items() if f"{n})" in NETWORKS[name] or f" {n}," in NETWORKS[name]}
    model = float_model(f"(float[1,8,8,8] x) => (float y) {{ {NETWORKS[name]} }}", weights)
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type.lower()}{number}"
    return model


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
@pytest.mark.parametrize("as_", ["int8", "int16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_answer_is_that_of_the_quantized_model(name: str, as_: Kind, march: str) -> None:
    model = network(name)
    data = {"x": NOISE.normal(size=(2, 8, 8, 8)).astype(np.float32)}
    found = foresee(model, march=march, as_=as_)
    quantized = quantize(model, data, activation=DType(as_))
    expected = {row.node: row for row in check(quantized, march=march)}
    users = {row.node for row in check(model, march=march)}
    assert found.quantized_as == as_
    assert users <= {row.node for row in found.placement}
    for row in found.placement:
        other = expected.get(row.node)
        if other is None:
            assert row.on == "BPU"
            assert "folded" in row.reason
        elif not row.node.startswith(("Quantize", "Dequantize")) and row.node in users:
            assert (row.on, row.segment, row.dtypes, row.reason) == (
                *(other.on, other.segment, other.dtypes),
                other.reason,
            )


def test_nodes_without_names_are_called_as_the_model_itself_is(tmp_path: Path) -> None:
    model = network("folded")
    for node in model.graph.node:
        node.name = ""
    onnx.save(model, tmp_path / "m.onnx")
    found = foresee(tmp_path / "m.onnx", march="nash-e")
    assert [row.node for row in check(tmp_path / "m.onnx", march="nash-e")] == [
        row.node for row in found.placement if "quantize" not in row.op.lower()
    ]
    assert [(r.op, r.on) for r in found.placement if "quantize" not in r.op.lower()] == [
        ("Conv", "BPU"),
        ("BatchNormalization", "BPU"),
        ("Relu", "BPU"),
    ]


def test_a_model_that_is_quantized_throughout_is_taken_as_it_is() -> None:
    text = """(float[1,8,8,8] x) => (float y)
    { q = QuantizeLinear(x, scale, zero) f = DequantizeLinear(q, scale, zero) r = Relu(f)
    rq = QuantizeLinear(r, scale, zero) y = DequantizeLinear(rq, scale, zero) }"""
    weights = {"scale": np.float32(0.1), "zero": np.int8(0)}
    model = float_model(text, {n: np.asarray(a) for n, a in weights.items()})
    found = foresee(model, march="nash-e")
    assert (found.quantized_as, found.told) == ("", "")
    assert found.placement == check(model, march="nash-e")
    asked = foresee(model, march="nash-e", as_="int16")
    assert asked.placement == found.placement
    assert "quantized already, so that int16 changes nothing" in asked.told


def test_the_rest_of_a_partly_quantized_model_is_foreseen() -> None:
    text = """(float[1,8,8,8] x) => (float y)
    { q = QuantizeLinear(x, scale, zero) f = DequantizeLinear(q, scale, zero) y = Conv(f, w) }"""
    weights = {"scale": np.float32(0.1), "zero": np.int8(0), "w": WEIGHTS["w"]}
    model = float_model(text, {n: np.asarray(a) for n, a in weights.items()})
    found = foresee(model, march="nash-e")
    assert found.quantized_as == "int8"
    assert "makes int8 of what is float in this model and keeps the rest" in found.told
    assert {row.on for row in found.placement} == {"BPU"}
    assert any(row.on == "CPU" for row in check(model, march="nash-e"))


def test_a_model_that_cannot_be_quantized_is_told_why() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.DOUBLE, [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.DOUBLE, [1, 4])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], "r")], "double", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = foresee(model, march="nash-e")
    assert found.quantized_as == ""
    assert "cannot be quantized" in found.told
    assert "export the model in float32" in found.told
    assert [row.on for row in found.placement] == ["CPU"]


def test_the_model_is_not_changed() -> None:
    model = network("folded")
    before = model.SerializeToString()
    foresee(model, march="nash-e")
    assert model.SerializeToString() == before


def test_types_of_a_quant_config_are_foreseen_and_what_changes_nothing_is_said() -> None:
    config = {"op_config": {"LSTM": {"qtype": "int16"}}, "node_config": {"erf1": {"qtype": "float"}}}
    found = foresee(network("passed"), march="nash-e", config=config)
    rows = {row.node: row for row in found.placement}
    assert (rows["erf1"].on, rows["conv0"].on) == ("CPU", "BPU")
    assert (
        rows["erf1"].on
        != {r.node: r for r in foresee(network("passed"), march="nash-e").placement}["erf1"].on
    )
    assert any("the model has no LSTM to quantize" in f.text for f in found.findings)


def test_types_are_foreseen_as_quantize_gives_them() -> None:
    model, config = network("product"), {"node_config": {"sigmoid3": {"qtype": "int16"}}}
    data = {"x": NOISE.normal(size=(2, 8, 8, 8)).astype(np.float32)}
    found = {row.node: row.dtypes for row in foresee(model, march="nash-e", config=config).placement}
    quantized = check(quantize(model, data, config=config), march="nash-e")
    users = {node.name for node in model.graph.node}
    assert {r.node: r.dtypes for r in quantized if r.node in users}.items() <= found.items()


def test_the_check_of_a_config_names_what_the_model_does_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(network("passed"), tmp_path / "m.onnx")
    (tmp_path / "t.yaml").write_text("node_config: {conv7: {qtype: int16}}")
    command = ["check", tmp_path / "m.onnx", "--march", "nash-e", "--quant-config", tmp_path / "t.yaml"]
    with pytest.raises(SystemExit) as ended:
        app([str(part) for part in command], prog_name="openbpu")
    assert ended.value.code
    assert "must be a node of the model, not 'conv7'" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "t.yaml").write_text("op_config: {LSTM: {qtype: int16}}")
    with pytest.raises(SystemExit) as ended:
        app([str(part) for part in command], prog_name="openbpu")
    assert not ended.value.code
    assert "op_config.LSTM changes nothing" in " ".join(capsys.readouterr().err.split())
