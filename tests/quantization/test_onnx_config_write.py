"""A written `quant_config` says what the one that was read says."""

from pathlib import Path
from typing import Any

import pytest
from onnx import ModelProto

from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx import quantize, read_config, with_node_types
from openbpu.quantization.onnx.config.write import config_mapping, config_text
from openbpu.quantization.onnx.groundwork import lay_ground
from quantization.float_models import float_model, noise, samples

FULL = {
    "model_config": {
        "all_node_type": "int8",
        "model_output_type": "float",
        "activation": {"calibration_type": ["max", "kl"], "max_percentile": [0.999, 1], "asymmetric": True},
        "weight": {"bias_correction": {"num_sample": 3}, "equalisation": True, "adaptive_rounding": False},
    },
    "op_config": {"Softmax": {"qtype": "int16"}},
    "node_config": {"head.*": {"input0": "int16"}, "17": {"qtype": "float"}, "on": {"qtype": "int8"}},
    "subgraph_config": {"h": {"inputs": ["x"], "outputs": ["y", "z"], "qtype": "int16"}},
}


@pytest.mark.parametrize(
    "config",
    [
        FULL,
        {},
        {"model_config": {"weight": {"bias_correction": {}}}},
        {"model_config": {"activation": {"asymmetric": [True, False]}, "search": {"metric": "cosine"}}},
    ],
)
def test_a_file_says_what_was_read(config: dict[str, Any], tmp_path: Path) -> None:
    read = read_config(config)
    path = tmp_path / "types.yaml"
    path.write_text(config_text(config_mapping(read), ["a comment: with a colon", ""]), encoding="utf-8")
    assert read_config(path) == read
    assert path.read_text(encoding="utf-8").startswith("# a comment: with a colon\n#\n")


def test_every_node_is_a_line_of_its_own() -> None:
    text = config_text(config_mapping(read_config(FULL)))
    assert "  head.*: {input0: int16}\n" in text
    assert "  '17': {qtype: float}\n" in text


@pytest.fixture
def net() -> ModelProto:
    text = """(float[1, 8] x) => (float[1, 8] y) {
        a = MatMul (x, w)
        b = Relu (a)
        c = Add (b, x)
        d = MatMul (c, v)
        e = Sigmoid (d)
        y = MatMul (e, u)
    }"""
    model = float_model(text, {name: noise(8, 8, seed=k) for k, name in enumerate("wvu")})
    for node in model.graph.node:
        node.name = f"n.{node.output[0]}"
    return model


def test_types_of_the_command_line_win_in_one_file_too(net: ModelProto) -> None:
    """Of the file the name n.d is stronger than its pattern, and n.* of the command line than both."""
    file = {"node_config": {"n.[de]": {"qtype": "int8"}, "n.d": {"input0": "int16"}}}
    config = with_node_types(
        read_config(file), {DType.INT16: ["n.[cd]", "n.y"], DType.INT8: ["n.c"], DType.FLOAT32: ["n.e"]}
    )
    mapping = config_mapping(config, [node.name for node in net.graph.node])
    data = samples(net, 4)
    assert quantize(net, data, config=mapping) == quantize(net, data, config=config)
    assert mapping["node_config"]["n.d"] == {"qtype": "int16"}
    assert mapping["node_config"]["n.c"] == {"qtype": "int8"}


@pytest.mark.parametrize("name", ["equalisation", "adaptive_rounding"])
def test_corrections_of_a_config_are_those_of_the_options(net: ModelProto, name: str) -> None:
    from openbpu.quantization.onnx import Choice, Corrections

    data, told = samples(net, 8), list[Choice]()
    config = {"model_config": {"weight": {name: True}}}
    by_config = quantize(net, data, config=config, told=told.append)
    by_option = quantize(net, data, corrections=Corrections(**{name: True}), told=told.append)
    assert by_config == by_option
    assert told[0].corrections == told[1].corrections != ()
    off = quantize(net, data, config={"model_config": {"weight": {name: False}}})
    assert off == quantize(net, data)


def test_the_ground_of_a_search_is_what_quantize_sees(net: ModelProto) -> None:
    data = samples(net, 20)
    config = read_config(
        {"op_config": {"Sigmoid": {"qtype": "int16"}}, "node_config": {"n.c": {"input1": "int8"}}}
    )
    ground = lay_ground(net, data, config)
    assert (len(ground.feeds), len(ground.held)) == (18, 2)
    assert quantize(net, list(ground.feeds)) == quantize(net, data, judge=True)
    assert ground.fixed == {"e", "c"}
    assert ground.names == ("n.a", "n.b", "n.c", "n.d", "n.e", "n.y")
