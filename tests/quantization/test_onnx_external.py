"""A model's weights may lie in other files below its folder; nothing else is ever read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from openbpu.arch.errors import ModelError
from openbpu.compiler import compile as compile_model
from openbpu.quantization.onnx import Method, engine, judge, load_calibration, quantize
from openbpu.quantization.onnx.load import load
from openbpu.quantization.save import data_files, write_model
from openbpu.runtime import Session
from quantization.float_models import Array, float_model, noise

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


# --- models of any size ------------------------------------------------------------------------------------

NET = "(float[N,64] x) => (float[N,32] y) { a = MatMul(x, w) b = Add(a, bias) r = Relu(b) y = MatMul(r, v) }"
WEIGHTS = {"w": noise(64, 256), "bias": noise(256), "v": noise(256, 32)}
DATA = {"x": noise(4, 1, 64)}


def loaded(path: Path) -> ModelProto:
    """Return the model in a file, the data of other files in it."""
    made = onnx.load(path)
    for tensor in made.graph.initializer:
        tensor.ClearField("data_location")  # onnx says there that they were elsewhere
    return made


def stored_outside(folder: Path, name: str = "m.onnx") -> Path:
    """Write the float model with its weights in `weights.bin`."""
    path = folder / name
    onnx.save(
        float_model(NET, WEIGHTS), path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    return path


def test_weights_in_a_file_give_the_model_that_they_give_inside(folder: Path) -> None:
    path = stored_outside(folder)
    wanted = quantize(float_model(NET, WEIGHTS), DATA)
    assert quantize(path, DATA, folder / "q.onnx") == wanted
    assert loaded(folder / "q.onnx") == wanted
    (data,) = data_files(folder / "q.onnx")
    assert data.name.startswith("q.onnx.")
    assert {p.name for p in folder.iterdir()} == {
        "weights",
        "link",
        "m.onnx",
        "weights.bin",
        "q.onnx",
        data.name,
    }
    onnx.checker.check_model(str(folder / "q.onnx"), full_check=True)
    read = Session(compile_model(folder / "q.onnx", march="nash-e", shapes={"x": (1, 64)})).run(
        {"x": DATA["x"][0]}
    )
    held = Session(compile_model(wanted, march="nash-e", shapes={"x": (1, 64)})).run({"x": DATA["x"][0]})
    np.testing.assert_array_equal(read.outputs["y"], held.outputs["y"])


def test_weights_are_views_of_their_file(folder: Path) -> None:
    net = load(stored_outside(folder))
    assert not net.consts["w"].flags.owndata
    assert not net.consts["w"].flags.writeable
    np.testing.assert_array_equal(net.consts["w"], WEIGHTS["w"])


@pytest.mark.parametrize("method", ["max", "mix"])
def test_large_constants_are_not_copied_into_the_engine(
    folder: Path, monkeypatch: pytest.MonkeyPatch, method: Method
) -> None:
    """A model of more than 2 GiB cannot be handed over as one message; here 1 KiB stands for that."""
    sizes: list[int] = []
    whole = ModelProto.SerializeToString

    def serialized(model: ModelProto, **options: bool) -> bytes:
        made = bytes(whole(model, **options))
        sizes.append(len(made))
        return made

    wanted = quantize(float_model(NET, WEIGHTS), DATA, method=method)
    path = stored_outside(folder)
    monkeypatch.setattr(engine, "APART", 1 << 10)
    monkeypatch.setattr(judge, "APART", 1 << 10)
    monkeypatch.setattr(ModelProto, "SerializeToString", serialized)
    assert quantize(path, DATA, method=method) == wanted
    assert sizes
    assert max(sizes) < 5_000


def test_a_model_above_the_limit_is_written_in_two_files(folder: Path) -> None:
    made = quantize(float_model(NET, WEIGHTS), DATA)
    write_model(made, folder / "a.onnx", limit=1 << 30)
    assert data_files(folder / "a.onnx") == []
    for _ in range(2):  # the same data have the same name
        write_model(made, folder / "b.onnx", limit=1 << 10)
    (data,) = data_files(folder / "b.onnx")
    assert loaded(folder / "b.onnx") == made == onnx.load(folder / "a.onnx")
    light = onnx.load(folder / "b.onnx", load_external_data=False)
    offsets = [int(e.value) for t in light.graph.initializer for e in t.external_data if e.key == "offset"]
    assert offsets == [0, *offsets[1:]]
    assert all(offset % 4096 == 0 for offset in offsets)
    assert (folder / "b.onnx").stat().st_size < 5_000
    assert data.stat().st_size >= 64 * 256 + 256 * 32


def test_another_result_leaves_the_data_of_the_one_before(folder: Path) -> None:
    """Who is killed between the two files has the old model with its old data."""
    write_model(quantize(float_model(NET, WEIGHTS), DATA), folder / "q.onnx", outside=True)
    (before,) = data_files(folder / "q.onnx")
    other = quantize(float_model(NET, WEIGHTS | {"w": noise(64, 256, seed=1)}), DATA)
    write_model(other, folder / "q.onnx", outside=True)
    (after,) = data_files(folder / "q.onnx")
    assert before.exists()
    assert before != after
    assert loaded(folder / "q.onnx") == other


def test_nothing_is_left_of_a_model_that_cannot_be_written(folder: Path) -> None:
    (folder / "q.onnx").mkdir()
    there = {p.name for p in folder.iterdir()}
    with pytest.raises(ModelError, match="the output must be writable"):
        write_model(quantize(float_model(NET, WEIGHTS), DATA), folder / "q.onnx", outside=True)
    assert {p.name for p in folder.iterdir()} == there


@pytest.mark.parametrize(("damage", "message"), [
    (lambda p: p.unlink(), "tensor 'w': external data file must be .*weights.bin, not missing"),
    (lambda p: p.write_bytes(b"1234"), "tensor 'w': data in .*weights.bin must be 65536 bytes long, not 4"),
])  # fmt: skip
def test_damaged_files_of_weights_are_said(
    folder: Path, damage: Callable[[Path], object], message: str
) -> None:
    path = stored_outside(folder)
    damage(folder / "weights.bin")
    with pytest.raises(ModelError, match=message):
        quantize(path, DATA)


def test_calibration_data_are_read_without_the_weights(folder: Path) -> None:
    path = stored_outside(folder)
    (folder / "weights.bin").unlink()
    np.savez(folder / "c.npz", x=DATA["x"])
    assert load_calibration(folder / "c.npz", path)["x"].shape == (4, 1, 64)


ROWS, COLUMNS = 9_000, 1 << 15
"""Two tables of float32 with so many elements take 2.2 GiB: more than protobuf holds."""


@pytest.mark.slow
def test_a_model_of_more_than_2_gib_is_quantized(tmp_path: Path) -> None:
    if os.name != "posix" or os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 8 << 30:
        pytest.skip("takes 8 GiB of free memory")
    if shutil.disk_usage(tmp_path).free < 8 << 30:
        pytest.skip("takes 8 GiB of disk")
    text = f"""(int64[1,1] i, float[1,{COLUMNS}] x) => (float[1,1,8] y)
        {{ a = Gather(t0, i) b = Gather(t1, i) s = Add(a, b) m = Mul(s, x) y = MatMul(m, w) }}"""
    model = float_model(text, {"w": noise(COLUMNS, 8)})
    with (tmp_path / "tables").open("wb") as file:
        file.truncate(2 * ROWS * COLUMNS * 4)  # zeros that take no disk
    for n in range(2):
        table = TensorProto(name=f"t{n}", data_type=TensorProto.FLOAT, dims=[ROWS, COLUMNS])
        table.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "tables"), ("offset", str(n * ROWS * COLUMNS * 4))):
            table.external_data.add(key=key, value=value)
        model.graph.initializer.append(table)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    feed: dict[str, Array] = {"i": np.zeros((1, 1), np.int64), "x": noise(1, COLUMNS)}
    try:
        quantize(tmp_path / "m.onnx", [feed], tmp_path / "q.onnx")
        (data,) = data_files(tmp_path / "q.onnx")
        assert data.stat().st_size > 1 << 31
        onnx.checker.check_model(str(tmp_path / "q.onnx"))
    finally:
        for path in tmp_path.iterdir():
            path.unlink()
