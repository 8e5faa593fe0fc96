"""The ONNX model that a program is compared with, also at opsets that came after this ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from openbpu.arch.errors import ModelError
from openbpu.runtime.reference import Reference
from runtime.models import floats, onnx_model

DIGITS = Path(__file__).resolve().parents[2] / "models" / "digits" / "digits.q.onnx"


@pytest.mark.parametrize("opset", [27, 28])
def test_a_model_of_a_newer_opset_computes_the_same(opset: int, tmp_path: Path) -> None:
    if onnx.defs.onnx_opset_version() < opset:
        pytest.skip(f"onnx {onnx.__version__} does not know opset {opset}")
    model = onnx.load(DIGITS)
    model.opset_import[0].version = opset
    model.ir_version = onnx.IR_VERSION
    path = tmp_path / "newer.onnx"
    onnx.save(model, path)
    known, newer = Reference(DIGITS), Reference(path)
    feed = {known.input_names[0]: np.random.default_rng(0).normal(size=(1, 1, 8, 8)).astype(np.float32)}
    for name, value in known.run(feed).items():
        assert np.array_equal(newer.run(feed)[name], value)


def test_what_no_opset_of_onnx_runtime_has_is_refused_in_words(tmp_path: Path) -> None:
    if not onnx.defs.has("SwiGLU"):
        pytest.skip(f"onnx {onnx.__version__} does not know SwiGLU of opset 28")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [2, 8]), ("y", [2, 4]))]
    graph = helper.make_graph([helper.make_node("SwiGLU", ["x"], ["y"])], "net", ends[:1], ends[1:])
    path = tmp_path / "newer.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 28)]), path)
    try:
        Reference(path)
    except ModelError as error:
        text = str(error)
    else:
        text = "SwiGLU:28"
    if "SwiGLU:28" in text:
        pytest.skip("this ONNX Runtime knows opset 28")
    assert text.startswith(f"{path}: the opset of ai.onnx must be <= ")
    assert "not 28; export the model with" in text
    assert "onnxruntime_src" not in text


def test_weights_in_another_file_are_no_part_of_a_proto(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(bytes(24))
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[2, 3], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="secret")
    node = helper.make_node("Add", ["x", "w"], ["y"])
    model = onnx.ModelProto.FromString(onnx_model([node], [floats("x", (2, 3))], ["y"]))
    model.graph.initializer.append(tensor)
    with pytest.raises(ModelError, match="the data of 'w' must be inside the model, not in another file"):
        Reference(model)
