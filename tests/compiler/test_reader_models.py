"""Whole models: those onnx ships, those of the shared folder, and onnx's own tests of every operator."""

from __future__ import annotations

import lzma
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from compiler.reading import Array, feeds_of, run
from openbpu.arch.errors import ModelError
from openbpu.compiler.ir.graph import Graph
from openbpu.compiler.reader import read_model, to_onnx

LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("*.onnx"))
SHARED = Path(__file__).resolve().parents[3] / "shared"
GRAPHS = sorted((SHARED / "latency/graphs").glob("*.onnx.xz"))
# Operators that are left of models that hold many shape subgraphs: none of those that compute shapes.
SHAPE_OPS = {"Shape", "ConstantOfShape", "Cast", "Range", "Identity", "Constant", "Dropout"}


def _light(name: str) -> Path:
    (path,) = (path for path in LIGHT if path.stem == f"light_{name}")
    return path


def _computes_the_same(proto: ModelProto, graph: Graph, feeds: dict[str, Array]) -> None:
    for old, new, name in zip(run(proto, feeds), run(to_onnx(graph), feeds), graph.outputs, strict=True):
        assert graph.values[name].shape == old.shape
        assert np.allclose(new, old, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_models_of_opset_9_become_static_and_free_of_shape_operators(path: Path) -> None:
    graph = read_model(path)
    assert not SHAPE_OPS & {node.op for node in graph.nodes}
    assert all(value.shape is not None for value in graph.values.values())


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_models_of_opset_9_compute_the_same(name: str) -> None:
    proto = onnx.load(_light(name))
    _computes_the_same(proto, read_model(proto), feeds_of(proto))


def test_reading_is_fast() -> None:
    read_model(_light("squeezenet"))
    start = time.process_time()
    read_model(_light("densenet121"))  # 1746 nodes
    assert time.process_time() - start < 2


@pytest.mark.skipif(not SHARED.exists(), reason="the shared folder is not here")
def test_ultraface_computes_the_same() -> None:
    for path in sorted((SHARED / "models/ultraface").glob("*.onnx")):
        proto = onnx.load(path)
        _computes_the_same(proto, read_model(path), feeds_of(proto))


@pytest.mark.slow
@pytest.mark.skipif(not GRAPHS, reason="the shared folder is not here")
@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.name.split(".")[0])
def test_published_models_become_static_and_free_of_shape_operators(path: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(lzma.decompress(path.read_bytes()))
    graph = read_model(model)
    model.unlink()
    assert not SHAPE_OPS & {node.op for node in graph.nodes}
    assert all(value.shape is not None for value in graph.values.values())


# What cannot be read, and why.
REFUSED = (
    "Scan): opset must be 9 or newer",
    "not dynamic",
    "(PRelu): shape of its slope",  # spreads as torch once did, not as ONNX says
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_operator_test_of_onnx_can_be_read_and_written() -> None:
    from onnx.backend.test.loader import load_model_tests

    tests = [
        test
        for kind in ("node", "simple", "pytorch-operator", "pytorch-converted")
        for test in load_model_tests(kind=kind)
    ]
    assert len(tests) > 1000
    for test in tests:
        proto = test.model or onnx.load(Path(str(test.model_dir)) / "model.onnx")
        try:
            to_onnx(read_model(proto))
        except ModelError as error:
            assert any(reason in str(error) for reason in REFUSED), f"{test.name}: {error}"  # noqa: PT017
