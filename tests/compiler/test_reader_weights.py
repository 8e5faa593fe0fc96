"""Weights: every way ONNX stores them, inside the file and beside it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from compiler.reading import model
from openbpu.arch.errors import ModelError
from openbpu.compiler.ir.graph import Array
from openbpu.compiler.reader import read_model
from openbpu.compiler.reader.tensors import TensorReader

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


def _model() -> ModelProto:
    proto = model("g (float[1,2] x) => (float[1,3] y) { y = MatMul (x, w) }")
    proto.graph.initializer.append(numpy_helper.from_array(WEIGHT, "w"))
    return proto


def _saved(folder: Path) -> Path:
    path = folder / "m.onnx"
    onnx.save_model(_model(), path, save_as_external_data=True, location="m.data", size_threshold=0)
    return path


def _moved(path: Path, **entries: str) -> Path:
    proto = onnx.load(path, load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        entry.value = entries.get(entry.key, entry.value)
    path.write_bytes(proto.SerializeToString())
    return path


def _weight(path: Path) -> Array:
    array = read_model(path).const("w")
    assert array is not None
    return array


KINDS = {n: k for n, k in TensorProto.DataType.items() if not n.startswith(("UNDEFINED", "STRING", "FLOAT6"))}


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("name", KINDS)
def test_every_element_type_is_read(name: str, *, raw: bool) -> None:
    """Five elements: two to the byte, or four, leave part of the last one empty."""
    dtype = helper.tensor_dtype_to_np_dtype(KINDS[name])
    array = np.array([[1, 0, 1, 1, 0]] if name == "BOOL" else [[0.5, 1, 0, 1, 2]]).astype(dtype)
    if raw:
        stored = numpy_helper.from_array(array, "w")
        assert stored.HasField("raw_data")
    else:
        stored = helper.make_tensor("w", KINDS[name], array.shape, array.reshape(-1))
        assert not stored.HasField("raw_data")
    read = TensorReader(None).array(stored)
    assert read.dtype == dtype
    assert read.shape == array.shape
    np.testing.assert_array_equal(read.astype(complex), array.astype(complex))


def test_strings_and_complex_numbers_are_read() -> None:
    words = TensorProto(name="w", data_type=TensorProto.STRING, dims=[2], string_data=[b"a", b"b"])
    assert TensorReader(None).array(words).tolist() in (["a", "b"], [b"a", b"b"])
    pair = TensorProto(name="w", data_type=TensorProto.COMPLEX64, dims=[1], float_data=[1, 2])
    assert TensorReader(None).array(pair).tolist() == [1 + 2j]


def test_sparse_weights_become_dense() -> None:
    proto = model("g (float[1,2] x) => (float[1,3] y) { y = MatMul (x, w) }")
    values = numpy_helper.from_array(np.array([5, 7], np.float32), "w")
    indices = numpy_helper.from_array(np.array([1, 5], np.int64), "w_indices")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2, 3]))
    array = read_model(proto).const("w")
    assert array is not None
    assert array.tolist() == [[0, 5, 0], [0, 0, 7]]


def test_external_data_is_read(tmp_path: Path) -> None:
    np.testing.assert_array_equal(_weight(_saved(tmp_path)), WEIGHT)


def test_external_data_at_an_odd_offset_is_read(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    (tmp_path / "m.data").write_bytes(b"abc" + WEIGHT.tobytes())
    read = _weight(_moved(path, offset="3"))
    np.testing.assert_array_equal(read, WEIGHT)
    assert read.flags.aligned


@pytest.mark.parametrize("location", ["/etc/passwd", "../m.data", "sub/../../m.data", "a\\b", "m\0.data", ""])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    path = _moved(_saved(tmp_path), location=location)
    with pytest.raises(ModelError, match=r"tensor 'w': external data file must be inside .*, not "):
        read_model(path)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_external_data_behind_a_link_that_leaves_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "model"
    home.mkdir()
    path = _saved(home)
    (tmp_path / "secret").write_bytes((home / "m.data").read_bytes())
    (home / "m.data").unlink()
    (home / "m.data").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="external data file must be inside"):
        read_model(path)


def test_missing_external_data_is_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    (tmp_path / "m.data").unlink()
    with pytest.raises(ModelError, match=r"m\.data, not missing; put the data file beside the model"):
        read_model(path)


def test_short_external_data_is_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    (tmp_path / "m.data").write_bytes(bytes(20))
    with pytest.raises(ModelError, match=r"must be 24 bytes long, not 20; copy the file again"):
        read_model(path)


@pytest.mark.parametrize("entries", [{"offset": "-4"}, {"length": "many"}, {"length": "20"}])
def test_wrong_external_entries_are_refused(tmp_path: Path, entries: dict[str, str]) -> None:
    with pytest.raises(ModelError, match="tensor 'w'"):
        read_model(_moved(_saved(tmp_path), **entries))


def test_model_in_memory_without_its_data_is_refused(tmp_path: Path) -> None:
    proto = onnx.load(_saved(tmp_path), load_external_data=False)
    with pytest.raises(ModelError, match="pass the path of the"):
        read_model(proto)
