"""A model's weights may lie in other files below its folder; nothing else is ever read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from openbpu.arch.errors import ModelError
from openbpu.compiler import compile as compile_model
from openbpu.quantization.onnx import quantize
from openbpu.runtime import Session

X = np.ones((2, 16), np.float32)
node = helper.make_node


def outside(location: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[16], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "64")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def info(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [16])


def model(nodes: list[NodeProto], functions: list[onnx.FunctionProto] | None = None) -> ModelProto:
    graph = helper.make_graph(nodes, "g", [info("x")], [info("y")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions or [])


def initializer(location: str) -> ModelProto:
    made = model([node("Add", ["x", "w"], ["y"])])
    made.graph.initializer.append(outside(location))
    return made


def function(location: str) -> ModelProto:
    inside = [node("Constant", [], ["w"], value=outside(location)), node("Add", ["a", "w"], ["b"])]
    made = helper.make_function("my", "F", ["a"], ["b"], inside, [helper.make_opsetid("", 17)])
    return model([node("F", ["x"], ["y"], domain="my")], [made])


def branch(location: str) -> ModelProto:
    one = helper.make_graph([node("Add", ["x", "w"], ["v"])], "t", [], [info("v")], [outside(location)])
    other = helper.make_graph([node("Neg", ["x"], ["u"])], "e", [], [info("u")])
    choice = node("If", ["c"], ["y"], then_branch=one, else_branch=other)
    return model([node("ReduceMax", ["x"], ["r"], keepdims=0), node("Cast", ["r"], ["c"], to=9), choice])


PLACES = {"initializer": initializer, "function": function, "branch": branch}
AWAY = ["secret", "../secret", "link", "/etc/hostname", "sub/../../secret", "missing"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a model, with weights; the current folder holds a secret."""
    here = tmp_path / "here"
    here.mkdir()
    np.arange(16, dtype=np.float32).tofile(tmp_path / "secret")
    np.arange(16, dtype=np.float32).tofile(here / "weights")
    (here / "link").symlink_to(tmp_path / "secret")
    monkeypatch.chdir(tmp_path)
    return here


@pytest.mark.parametrize("place", PLACES)
def test_weights_beside_the_model_are_read(folder: Path, place: str) -> None:
    path = folder / "m.onnx"
    path.write_bytes(PLACES[place]("weights").SerializeToString())
    found = Session(compile_model(path, march="nash-e")).run({"x": X[0]}).outputs["y"]
    np.testing.assert_array_equal(found, 1 + np.arange(16, dtype=np.float32))
    quantize(path, {"x": X}, folder / "q.onnx")


@pytest.mark.parametrize("location", AWAY)
@pytest.mark.parametrize("place", PLACES)
def test_nothing_outside_the_folder_is_read(folder: Path, place: str, location: str) -> None:
    path = folder / "m.onnx"
    path.write_bytes(PLACES[place](location).SerializeToString())
    with pytest.raises(ModelError):
        compile_model(path, march="nash-e")
    with pytest.raises(ModelError):
        quantize(path, {"x": X}, folder / "q.onnx")
    assert not (folder / "q.onnx").exists()


@pytest.mark.parametrize("place", PLACES)
def test_a_proto_whose_weights_were_not_read_is_refused(folder: Path, place: str) -> None:
    """They would be looked for in the current folder."""
    proto = PLACES[place]("secret")
    with pytest.raises(ModelError, match="external data must be reachable"):
        compile_model(proto, march="nash-e")
    with pytest.raises(ModelError, match="weights must be inside the ModelProto, not external data"):
        quantize(proto, {"x": X}, folder / "q.onnx")
