"""A float16 model is quantized as one of float32; its ends keep their type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, numpy_helper

from compiler.reading import model as parsed
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.foresight import foresee
from openbpu.quantization.onnx import quantize
from openbpu.runtime import Session
from openbpu.runtime.cpu import make_engine

DATA = {"x": np.random.default_rng(0).normal(size=(8, 4, 8, 8)).astype(np.float32)}


def halves() -> ModelProto:
    """Conv, Relu, a product with a constant, a branch: all in float16, one output in each type."""
    made = parsed(
        "g (float16[1,4,8,8] x) => (float16[1,4,6,6] y, float[1,4,6,6] z) { c = Conv(x, w) r = Relu(c)"
        " f = Cast<to = 1>(r) g = Mul(f, two) h = Cast<to = 10>(g) m = Mul(h, k) y = Sigmoid(m)"
        " z = Cast<to = 1>(y) }"
    )
    rng = np.random.default_rng(1)
    weight = (rng.normal(size=(4, 4, 3, 3)) / 4).astype(np.float16)
    for name, data in {"w": weight, "k": np.float16(0.5), "two": np.float32(2)}.items():
        made.graph.initializer.append(numpy_helper.from_array(np.asarray(data), name))
    return made


def test_the_ends_keep_their_type_and_the_values_are_near() -> None:
    model, made = halves(), quantize(halves(), DATA)
    onnx.checker.check_model(made, full_check=True)
    kinds = [v.type.tensor_type.elem_type for v in (*made.graph.input, *made.graph.output)]
    assert kinds == [TensorProto.FLOAT16, TensorProto.FLOAT16, TensorProto.FLOAT]
    assert all(t.data_type != TensorProto.FLOAT16 for t in made.graph.initializer)
    x = DATA["x"][:1].astype(np.float16)
    wanted = make_engine("a test", model.SerializeToString(), 1, plain=True).run(None, {"x": x})
    session = Session(compile_model(made, march="nash-e"))
    found = session.run({"x": x}).outputs
    for name, value in zip("yz", wanted, strict=True):
        assert found[name].dtype == value.dtype
        assert np.abs(found[name].astype(np.float64) - value).max() < 0.03


def test_only_the_casts_at_the_ends_stay_on_the_cpu() -> None:
    rows = foresee(halves(), march="nash-e").placement
    assert {r.op for r in rows if r.on == "CPU"} == {"Cast"}
    assert {r.fix for r in rows if r.on == "CPU" and r.node in {"x/Cast", "y/Cast"}} == {
        "have float32 at the ends of the model"
    }


def test_weights_in_files_are_widened_too(tmp_path: Path) -> None:

    onnx.save(halves(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    beside = quantize(tmp_path / "m.onnx", DATA)
    assert beside.graph.SerializeToString() == quantize(halves(), DATA).graph.SerializeToString()
