"""A quant_config decides what nodes read: by model, operator, subgraph, node, input; nothing is ignored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import InputError, OpenbpuError, QuantizationError
from openbpu.cli.commands import app
from openbpu.compiler import check
from openbpu.quantization.onnx import Choice, quantize, quantize_unseen, read_config, with_node_types
from quantization.float_models import RAW, float_model, noise, samples

TEXT = """(float[1,4,8,8] x) => (float[1,4,8,8] y) {
    [n_c] c = Conv(x, w) [n_r] r = Relu(c) [n_d] d = Conv(r, v) [n_s] s = Sigmoid(d) [n_m] m = Mul(d, s)
    [n_e] e = Conv(m, w) [n_y] y = Sigmoid(e)
}"""
USUAL = {"x": "int8", "r": "int8", "d": "int8", "m": "int8", "e": "int16", "y": "int16"}

NORM = """(float[2,6] x) => (float[2,6] y) {
    [mean] a = ReduceMean<axes = [-1]>(x) [centre] b = Sub(x, a) [square] q = Mul(b, b)
    [variance] v = ReduceMean<axes = [-1]>(q) [safe] e = Add(v, eps) [root] s = Sqrt(e) [norm] n = Div(b, s)
    [gain] g = Mul(n, gamma) [shift] h = Add(g, beta) [head] y = MatMul(h, w)
}"""


def model() -> onnx.ModelProto:
    return float_model(TEXT, {"w": noise(4, 4, 1, 1), "v": noise(4, 4, 1, 1, seed=1)})


def norm() -> onnx.ModelProto:
    weights = {
        "gamma": noise(6),
        "beta": noise(6, seed=1),
        "w": noise(6, 6),
        "eps": np.array(1e-5, dtype=np.float32),
    }
    return float_model(NORM, weights)


def made(config: Any, of: onnx.ModelProto | None = None, **options: Any) -> tuple[onnx.ModelProto, list[str]]:
    told: list[Choice] = []
    source = of or model()
    found = quantize(source, samples(source), config=config, told=told.append, **options)
    return found, [finding.text for finding in told[0].findings]


def types(found: onnx.ModelProto) -> dict[str, str]:
    """Return by tensor of the float model the type of the pair behind it."""
    zeros = {t.name: numpy_helper.to_array(t).dtype.name for t in found.graph.initializer}
    pairs = [n for n in found.graph.node if n.op_type == "QuantizeLinear"]
    return {n.input[0].removesuffix(RAW): zeros[n.input[2]] for n in pairs}


def node(name: str, **wanted: str) -> dict[str, Any]:
    return {"node_config": {name: wanted}}


def subgraph(inputs: list[str], outputs: list[str]) -> dict[str, Any]:
    return {"subgraph_config": {"s": {"inputs": inputs, "outputs": outputs, "qtype": "int16"}}}


INT8, INT16 = {"qtype": "int8"}, {"qtype": "int16"}


@pytest.mark.parametrize(
    ("config", "changed"),
    [
        ({}, {}),
        (node("n_d", qtype="int16"), {"r": "int16"}),
        (node("n_d", input0="int16"), {"r": "int16"}),
        (node("n_[de]", qtype="int16"), {"r": "int16", "m": "int16"}),
        (node("n_m", qtype="int16"), {"d": "int16"}),  # all of the unit Sigmoid, Mul reads one tensor
        (node("n_e", qtype="int16") | {"op_config": {"Conv": {"qtype": "int8"}}}, {"m": "int16"}),
        ({"op_config": {"Conv": {"qtype": "int16"}}}, {"x": "int16", "r": "int16", "m": "int16"}),
        ({"model_config": {"all_node_type": "int16"}}, dict.fromkeys(USUAL, "int16")),
        ({"model_config": {"all_node_type": "int8"}}, dict.fromkeys(USUAL, "int8")),
        ({"model_config": {"model_output_type": "int8"}}, {"y": "int8"}),
        (subgraph(["n_d"], ["m"]), {"r": "int16", "d": "int16"}),
        (subgraph(["n_d"], ["n_m"]) | node("n_d", qtype="int8"), {"d": "int16"}),
    ],
)
def test_the_type_of_what_a_node_reads(config: Any, changed: dict[str, str]) -> None:
    found, told = made(config)
    assert types(found) == USUAL | changed
    assert told == []


@pytest.mark.parametrize("word", ["float", "float32", "float16"])
def test_a_float_node_is_on_the_cpu_and_takes_the_accumulator_of_a_product(word: str) -> None:
    found, told = made(node("n_y", qtype=word))
    assert types(found) == {name: kind for name, kind in USUAL.items() if name not in {"e", "y"}}
    assert told == []
    assert [row.node for row in check(found, march="nash-e") if row.on == "CPU"] == ["n_y"]


def test_what_is_fused_stays_so_in_values_where_a_part_is_float() -> None:
    found, _ = made(node("n_r", qtype="float"))
    assert types(found) == USUAL


def test_all_is_float_but_what_is_named() -> None:
    found, _ = made(node("n_d", qtype="int8") | {"model_config": {"all_node_type": "float"}})
    rows = {row.node: row.on for row in check(found, march="nash-e")}
    assert [name for name, on in rows.items() if on == "BPU"] == ["r_QuantizeLinear", "n_d"]
    assert types(found) == {"r": "int8"}
    with pytest.raises(QuantizationError, match="all_node_type must be int8 or int16 where"):
        made({"model_config": {"all_node_type": "float"}})


def test_a_float_output_has_no_pair() -> None:
    found, _ = made({"model_config": {"model_output_type": "float"}})
    assert types(found) == {name: kind for name, kind in USUAL.items() if name != "y"}


def test_steps_of_a_fused_pattern_name_the_fused_node() -> None:
    found, told = made(node("variance", qtype="int16"), norm())
    assert types(found)["x"] == "int16"
    assert told == ["node 'variance' is part of 'shift' (LayerNormalization) now, which gets its type"]
    with pytest.raises(QuantizationError, match="input0 must be left out: the node is part of 'shift'"):
        made(node("square", input0="int16"), norm())


def test_operators_are_those_of_the_users_model_and_of_ours() -> None:
    matmul = {"op_config": {"MatMul": {"qtype": "int16"}}}
    text = "(float[2,6] x) => (float[2,6] y) { [p] a = MatMul(x, w) [q] b = Add(a, c) [r] y = Sigmoid(b) }"
    found, told = made(matmul, float_model(text, {"w": noise(6, 6), "c": noise(6)}))
    assert "Gemm" in {n.op_type for n in found.graph.node}
    assert (types(found)["x"], told) == ("int16", [])
    found, _ = made({"op_config": {"LayerNormalization": {"qtype": "int16"}}}, norm())
    assert types(found)["x"] == "int16"
    found, _ = made({"op_config": {"Add": {"qtype": "float"}}}, norm())  # an Add is a step of it only
    assert "x" in types(found)


def test_movement_spreads_the_type_to_what_it_moves() -> None:
    text = """(float[1,4,8,8] x) => (float[1,4,4,4] y) {
        [c] a = Conv(x, w) [p] b = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a) [d] y = Conv(b, w) }"""
    found, told = made(node("p", qtype="int16"), float_model(text, {"w": noise(4, 4, 1, 1)}))
    kinds = types(found)
    assert (kinds["a"], kinds["b"], told) == ("int16", "int16", [])
    assert "int8" in kinds.values()  # the Conv behind it still reads int8


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        (
            "m",
            "(float[2,6] x, float[6,6] z) => (float[2,6] y) { [m] a = MatMul(x, z) [s] y = Sigmoid(a) }",
            "node 'm' (MatMul): input1 stays int8: of two computed operands the BPU takes the second in it",
        ),
        (
            "t",
            "(float[2,6] x) => (float[2,6] y) { [s] a = Sigmoid(x) [t] y = Hardmax(a) }",
            "node 't' (Hardmax): no type applies, since the BPU has no Hardmax",
        ),
        (
            "r",
            "(float[2,6] x) => (float[2,6] y) { [c] a = MatMul(x, w) [r] b = Relu(a) [s] y = Sigmoid(b) }",
            "node 'r' (Relu): 'a' is not rounded on the way to it, so no type applies",
        ),
    ],
)
def test_what_cannot_be_is_told(name: str, text: str, told: str) -> None:
    _, findings = made(node(name, qtype="int16"), float_model(text, {"w": noise(6, 6)}))
    assert findings == [told]


def test_a_float_node_between_nodes_of_the_bpu_is_told_of() -> None:
    text = "(float[2,6] x) => (float[2,6] y) { [a] a = Softmax(x) [b] b = Softmax(a) [c] y = Softmax(b) }"
    found, told = made(node("b", qtype="float"), float_model(text))
    assert len(told) == 1
    assert told[0].startswith("node 'b' (Softmax): what it reads and what it makes are rounded")
    rows = {row.node: row for row in check(found, march="nash-e")}
    assert {name: rows[name].on for name in "abc"} == {"a": "BPU", "b": "CPU", "c": "BPU"}
    assert rows["b"].reason == "the quantizer was asked to leave it float"
    _, told = made({"node_config": {name: {"qtype": "float"} for name in "bc"}}, float_model(text))
    assert told == []


def test_a_type_that_the_user_gives_is_not_widened_for_a_swallowed_tensor() -> None:
    text = """(float[1,4,8,8] x, float[1,4,8,8] s) => (float[1,8,8,8] y) {
        [k] k = Concat<axis = 1>(x, s) [c] c = Sin(k) [z] y = Sigmoid(c) }"""
    source = float_model(text)
    data = {"x": 10 * noise(3, 1, 4, 8, 8), "s": 0.02 * noise(3, 1, 4, 8, 8)}
    for config, kind in ((None, "int16"), (node("c", qtype="int8"), "int8")):
        told: list[Choice] = []
        found = quantize(source, data, config=config, told=told.append)
        assert types(found)["k"] == kind
        assert any(f.kind == "widened" for f in told[0].findings) == (kind == "int16")


def test_bias_correction_is_that_of_the_option() -> None:
    weight = {"bias_correction": {"num_sample": 4, "metric": "cosine-similarity"}}
    told: list[Choice] = []
    quantize(model(), samples(model(), 8), config={"model_config": {"weight": weight}}, told=told.append)
    (correction,) = told[0].corrections
    assert (correction.name, correction.samples) == ("bias correction", 1)  # of four, one is held out
    with pytest.raises(InputError, match=r"bias_correction\.num_sample must be a whole number from 1 on"):
        made({"model_config": {"weight": {"bias_correction": {"num_sample": 0}}}})


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"modelconfig": {}}, "must be made of the keys model_config, op_config, node_config"),
        ({"model_config": {"all_node_type": "int4"}}, "all_node_type must be int8, int16 or float .* 'int4'"),
        ({"model_config": {"all_node_types": "int8"}}, "model_config must be made of the keys all_node_type"),
        ({"model_config": {"activation": {"asymmetric": 1}}}, "asymmetric must be true or false, .*not 1"),
        ({"model_config": {"activation": {"calibration_type": ["max", "min"]}}}, "max, kl, .* not 'min'"),
        ({"model_config": {"activation": {"num_bin": 128}}}, "num_bin must be 2048, not 128"),
        ({"op_config": {"Conf": {"qtype": "int8"}}}, "not 'Conf'; operators like it: 'Conv'"),
        ({"op_config": {"Conv": {}}}, "op_config.Conv.qtype must be given, not missing"),
        (node("n_dd", qtype="int8"), "a node of the model, not 'n_dd'; names like it: 'n_d'"),
        (node("q*", qtype="int8"), "one that matches nodes, not 'q\\*'"),
        (node("n_d", kind="int8"), "made of the keys qtype, input0, input1, …, not 'kind'"),
        (node("n_d", input1="int16"), "input1 must be int8 for Conv on the BPU, not int16"),
        (node("n_d", input0="float"), "input0 must be int8 or int16, not float; .*qtype: float"),
        (node("n_d", input7="int8"), "the key must be input0, input1, not input7"),
        ({"node_config": {"n_*": INT8, "*_d": INT16}}, "the type of node 'n_d' must be one"),
        (subgraph(["n_d"], ["zz"]), "a node or a tensor of the model, not 'zz'"),
        (subgraph(["n_d"], ["n_c"]), "ends of a way through the model, not n_d and n_c"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_by_name(config: Any, said: str) -> None:
    with pytest.raises(OpenbpuError, match=said):
        made(config)


def test_all_that_is_unknown_is_named_at_once() -> None:
    wrong = {
        "op_config": {"Conf": {"qtype": "int8"}, "Conv": {"qtype": "int8"}, "Gelo": {"qtype": "int8"}},
        "node_config": {"n_dd": INT8, "n_d": INT8, "zz": INT8, "q*": INT8},
        "subgraph_config": {"s": {"inputs": ["n_d", "aa"], "outputs": ["bb"], "qtype": "int8"}},
    }
    config = with_node_types(read_config(wrong), {DType.INT16: ["cc", "dd"]})
    with pytest.raises(InputError) as caught:
        quantize_unseen(model(), config=config)
    said = str(caught.value)
    assert "op_config: the keys must be operators of ONNX, not 'Conf', 'Gelo'; operators like 'Conf'" in said
    assert "node_config: the names must be nodes of the model, not 'n_dd', 'zz'; names like 'n_dd': '" in said
    assert "node_config: the name must be one that matches nodes, not 'q*'" in said
    assert said.count("subgraph_config.s: the name must be a node or a tensor of the model, not '") == 2
    assert "the command line: the names must be nodes of the model, not 'cc', 'dd'" in said


def test_all_that_a_file_has_wrong_is_named_at_once() -> None:
    activation = {"num_bin": 128, "asymmetric": 1}
    wrong = {
        "model_config": {"activation": activation},
        "node_config": {"a": {"qtipe": 1, "kind": 2, "input0": 3}, "b": {"input1": "int4"}},
    }
    with pytest.raises(InputError) as caught:
        read_config(wrong)
    said = str(caught.value)
    assert said.count("; also ") == 3
    assert "node_config.a must be made of the keys qtype, input0, input1, …, not 'qtipe', 'kind'" in said
    for place in ("activation.num_bin", "activation.asymmetric", "node_config.b.input1"):
        assert f"{place} must be" in said


def test_options_and_the_file_may_not_contradict_each_other_unseen() -> None:
    with pytest.raises(QuantizationError, match="all_node_type must be left out or int16"):
        made({"model_config": {"all_node_type": "int8"}}, activation=DType.INT16)
    with pytest.raises(QuantizationError, match="calibration_type must be left out or kl, not max"):
        made({"model_config": {"activation": {"calibration_type": "max"}}}, method="kl")


def test_the_best_of_several_calibration_types_is_taken() -> None:
    told: list[Choice] = []
    ways = {"calibration_type": ["max", "kl"], "max_percentile": [0.995, 1.0]}
    quantize(model(), samples(model()), config={"model_config": {"activation": ways}}, told=told.append)
    assert list(told[0].cosines)[:3] == ["percentile 0.995", "max", "kl"]
    ways = {"max_percentile": 0.9}
    quantize(model(), samples(model()), config={"model_config": {"activation": ways}}, told=told.append)
    assert told[1].method == "percentile 0.9"
    assert told[1].ranges["x"].range < 0.7 * told[1].ranges["x"].largest


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_file_in_either_language_says_what_a_mapping_says(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"types.{suffix}"
    texts = {
        "json": '{"node_config": {"on": {"qtype": "int16"}, "17": {"input0": "int8"}}}',
        "yaml": "node_config:\n  on: {qtype: int16}\n  17:\n    input0: int8\n",
    }
    path.write_text(texts[suffix], encoding="utf-8")
    assert read_config(path) == read_config(
        {"node_config": {"on": {"qtype": "int16"}, "17": {"input0": "int8"}}}
    )


def test_sections_without_lines_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "types.yaml"
    path.write_text("model_config:\n  activation:\nnode_config:  # none yet\n", encoding="utf-8")
    assert read_config(path) == read_config(None)
    assert read_config({"node_config": {17: {"qtype": "int8"}}}).nodes.keys() == {"17"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "neither JSON nor YAML"),
        ("[1]", "must be a mapping, not list"),
        ("node_config: 3", "node_config must be a mapping by name, not 3"),
        ("node_config:\n  a: {qtype: int8}\n  a: {qtype: int16}\n", "the key 'a' stands there twice"),
        ('{"node_config": {"a": {}, "a": {}}}', "the key 'a' stands there twice"),
        ("a: !!python/object/apply:os.getcwd []", "neither JSON nor YAML"),
        ("[" * 5000, "neither JSON nor YAML"),
    ],
)
def test_a_file_that_says_nothing_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "types.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read_config(path)


def test_the_command_line_names_nodes_and_patterns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, data, types_, out = (tmp_path / name for name in ("m.onnx", "c.npz", "t.json", "q.onnx"))
    onnx.save(model(), source)
    np.savez(data, x=samples(model())["x"])
    types_.write_text(json.dumps(node("n_d", qtype="int8")), encoding="utf-8")
    options = ["quantize", str(source), "--calib", str(data), "-o", str(out)]
    app([*options, "--quant-config", str(types_), "--int16-nodes", "n_[de]"], standalone_mode=False)
    assert types(onnx.load(out)) == USUAL | {"r": "int16", "m": "int16"}
    app([*options, "--float-nodes", "n_y", "--int8-nodes", "n_d"], standalone_mode=False)
    assert types(onnx.load(out)) == {name: "int8" for name in USUAL if name not in {"e", "y"}}
    capsys.readouterr()
