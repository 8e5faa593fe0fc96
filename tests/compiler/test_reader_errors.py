"""Damaged or unusable models: one clear error each, naming the place and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import GraphProto, TensorProto, helper

from compiler.reading import model
from openbpu.arch.errors import ModelError, OpenbpuError, QuantizationError
from openbpu.compiler.reader import read_model

PLAIN = "g (float[3] x) => (float[3] y) <float[3] w = {1,2,3}> { t = Add (x, w) y = Relu (t) }"


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"no\.onnx: model must be an ONNX file, not missing; check the path"
    ):
        read_model(tmp_path / "no.onnx")


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="model must be an ONNX file, not a folder"):
        read_model(str(tmp_path))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "must be an ONNX file, not empty"),
        (b"this is a text file\n" * 9, "must be an ONNX file, not something else"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "must be an ONNX file, not something else"),
        (model(PLAIN).SerializeToString()[:-7], "must be a whole ONNX file, not truncated or damaged"),
        (TensorProto(dims=[3], data_type=1, raw_data=bytes(12)).SerializeToString(), "must be an ONNX"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_model(_write(tmp_path / "m.onnx", data))


def test_every_truncation_is_an_error_or_a_model(tmp_path: Path) -> None:
    data = model(PLAIN).SerializeToString()
    for end in range(len(data)):
        with pytest.raises(OpenbpuError):
            read_model(_write(tmp_path / "m.onnx", data[:end]))


def test_every_flipped_byte_is_an_error_or_a_model(tmp_path: Path) -> None:
    data = model(PLAIN).SerializeToString()
    for position in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= flip
            try:
                read_model(_write(tmp_path / "m.onnx", bytes(damaged)))
            except OpenbpuError:
                continue


def _empty(graph: GraphProto) -> None:
    graph.Clear()
    graph.name = "g"


def _no_outputs(graph: GraphProto) -> None:
    del graph.output[:]


def _dangling(graph: GraphProto) -> None:
    graph.node[1].input[0] = "nothing"


def _dangling_output(graph: GraphProto) -> None:
    graph.output[0].name = "nothing"


def _cycle(graph: GraphProto) -> None:
    graph.node[0].input[1] = "y"


def _made_twice(graph: GraphProto) -> None:
    graph.node[0].output[0] = "y"
    graph.node[1].input[0] = "x"


def _made_and_given(graph: GraphProto) -> None:
    graph.node[0].output[0] = "w"
    graph.node[1].input[0] = "x"


def _input_twice(graph: GraphProto) -> None:
    graph.input.append(graph.input[0])


def _weight_twice(graph: GraphProto) -> None:
    graph.initializer.append(graph.initializer[0])


def _unknown_op(graph: GraphProto) -> None:
    graph.node[1].op_type = "Rlu"


def _unknown_domain(graph: GraphProto) -> None:
    graph.node[1].domain = "my.ops"


def _unknown_attribute(graph: GraphProto) -> None:
    graph.node[1].attribute.append(helper.make_attribute("slope", 1.0))


def _too_many_inputs(graph: GraphProto) -> None:
    graph.node[1].input.append("x")


def _wrong_kind(graph: GraphProto) -> None:
    graph.node[1].op_type = "LeakyRelu"
    graph.node[1].attribute.append(helper.make_attribute("alpha", 1))


def _missing_attribute(graph: GraphProto) -> None:
    graph.node[1].op_type = "Concat"


def _shapes_disagree(graph: GraphProto) -> None:
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def _short_data(graph: GraphProto) -> None:
    graph.initializer[0].CopyFrom(TensorProto(name="w", dims=[3], data_type=1, raw_data=bytes(11)))


def _few_elements(graph: GraphProto) -> None:
    graph.initializer[0].CopyFrom(TensorProto(name="w", dims=[3], data_type=1, float_data=[1, 2]))


def _negative(graph: GraphProto) -> None:
    graph.initializer[0].CopyFrom(TensorProto(name="w", dims=[-3], data_type=1, raw_data=bytes(12)))


def _huge(graph: GraphProto) -> None:
    graph.initializer[0].CopyFrom(TensorProto(name="w", dims=[3 * 2**28], data_type=1, raw_data=bytes(12)))


def _strange_type(graph: GraphProto) -> None:
    graph.initializer[0].data_type = 99


DAMAGE: dict[Callable[[GraphProto], None], str] = {
    _empty: "model: graph must be a list of nodes with outputs, not empty",
    _no_outputs: "graph: outputs must be one or more, not none",
    _dangling: "node making 'y' (Relu): input 'nothing' must be made by a node or be a graph input",
    _dangling_output: "graph: output 'nothing' must be made by a node or be a graph input",
    _cycle: "inputs must be made before it, not dependent on itself through",
    _made_twice: "node making 'y' (Relu): output 'y' must be made once, not made by node making 'y' (Add)",
    _made_and_given: "output 'w' must be made once, not made by an input or initializer too",
    _input_twice: "input 'x': name must be unique, not used twice",
    _weight_twice: "initializer 'w': name must be unique, not used twice",
    _unknown_op: "node making 'y' (Rlu): operator must be one of ai.onnx opset 21, not 'Rlu'",
    _unknown_domain: "domain 'my.ops' must be in opset_import, not missing",
    _unknown_attribute: "node making 'y' (Relu): attribute must be one of none, not 'slope'",
    _too_many_inputs: "node making 'y' (Relu): number of inputs must be 1, not 2",
    _wrong_kind: "attribute 'alpha' must be FLOAT, not INT",
    _missing_attribute: "node making 'y' (Concat): attribute 'axis' must be given, not missing",
    _shapes_disagree: "node 'Add_0' (Add): inputs must be what the operator accepts, not float32[4], flo",
    _short_data: "tensor 'w': data of shape (3,) float32 must be 12 bytes, not 11",
    _few_elements: "tensor 'w': data of shape (3,) float32 must be 3 elements, not 2",
    _negative: "tensor 'w': dimensions must be 0 or more, not (-3,)",
    _huge: "tensor 'w': size must be at most 2 GiB, not 3,221,225,472 bytes",
    _strange_type: "tensor 'w': element type must be one that ONNX defines, not 99",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__[1:])
def test_damage_is_named(damage: Callable[[GraphProto], None]) -> None:
    proto = model(PLAIN)
    damage(proto.graph)
    with pytest.raises(ModelError) as error:
        read_model(proto)
    assert DAMAGE[damage] in str(error.value)


@pytest.mark.parametrize("version", [0, 99, -1])
def test_opset_out_of_range_is_refused(version: int) -> None:
    proto = model(PLAIN)
    proto.opset_import[0].version = version
    with pytest.raises(ModelError, match=rf"model: opset of ai\.onnx must be 7\.\.\d+, not {version}"):
        read_model(proto)


def test_model_without_opset_is_refused() -> None:
    proto = model(PLAIN)
    del proto.opset_import[:]
    with pytest.raises(ModelError, match=r"opset of ai\.onnx must be 7\.\.\d+, not missing"):
        read_model(proto)


@pytest.mark.parametrize(
    ("scale", "precision", "message"),
    [
        ("float16", "", "type of the scale must be float32, not float16"),
        ("bfloat16", "", "type of the scale must be float32, not bfloat16"),
        ("float", " <precision = 10>", "attribute 'precision' must be float32, not float16"),
        ("float", " <precision = 11>", "attribute 'precision' must be float32, not float64"),
    ],
)
def test_a_division_that_is_not_float32_is_refused(scale: str, precision: str, message: str) -> None:
    text = (
        f"g (float[4] x, {scale} s, float t) => (float[4] y) <int8 z = {{0}}>"
        f" {{ q = QuantizeLinear{precision} (x, s, z) y = DequantizeLinear (q, t, z) }}"
    )
    with pytest.raises(QuantizationError, match=f"node '.*' .QuantizeLinear.: {message}; BPU and ONNX"):
        read_model(model(text, 23))


def test_a_precision_of_float32_is_the_default() -> None:
    text = (
        "g (float[4] x, float s) => (float[4] y) <int8 z = {0}>"
        " { q = QuantizeLinear <precision = 1> (x, s, z) y = DequantizeLinear (q, s, z) }"
    )
    assert read_model(model(text, 23)).values["q"].dtype == "int8"


def test_half_floats_and_small_integers_alone_pass() -> None:
    assert (
        read_model(model("g (float16[4] x) => (float16[4] y) { y = Relu (x) }")).values["y"].dtype
        == "float16"
    )
    text = "g (int4[4] x) => (float[4] y) <float s = {0.5}> { y = DequantizeLinear (x, s) }"
    assert read_model(model(text)).values["x"].dtype == "int4"


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ('Einsum <equation = "-"> (x)', "equation must be letters"),
        (
            "LayerNormalization <axis = 4611686018427387904> (x, x)",
            r"axis must be -2\.\.1, not 4611686018427387904",
        ),
        ("GatherND <batch_dims = -7> (x, i)", "batch_dims must be 0 or more, not -7"),
    ],
)
def test_arguments_that_crash_onnx_are_refused(node: str, message: str) -> None:
    text = f"g (float[3,3] x, int64[3,1] i) => (float[N] y) {{ y = {node} }}"
    with pytest.raises(ModelError, match=message):
        read_model(model(text))


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({}, "attribute must be a value, not missing; export the model again"),
        ({"value_odd": 1}, "attribute must be one of sparse_value, value, .*, not 'value_odd'"),
        ({"value": 1.0}, "attribute 'value' must be TENSOR, not FLOAT"),
        ({"value_float": 1}, "attribute 'value_float' must be FLOAT, not INT"),
    ],
)
def test_a_constant_without_a_value_it_can_have_is_refused(attributes: dict[str, Any], said: str) -> None:
    proto = model(PLAIN)
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["c"], **attributes))
    proto.graph.node[-1].op_type = "Sum"
    proto.graph.node[-1].input.append("c")
    with pytest.raises(ModelError, match=rf"\(Constant\): {said}"):
        read_model(proto)


def test_contradicting_arguments_are_an_error() -> None:
    text = "g (float[2,3] x) => (float[1,3] y, float[1,3] z) { y, z = Split <axis = 7, num_outputs = 2> (x) }"
    with pytest.raises(ModelError, match=r"\(Split\): arguments must be consistent"):
        read_model(model(text))


def test_arrays_of_a_graph_cannot_be_written() -> None:
    array = read_model(model(PLAIN)).const("w")
    assert array is not None
    with pytest.raises(ValueError, match="read-only"):
        array[0] = np.float32(1)
