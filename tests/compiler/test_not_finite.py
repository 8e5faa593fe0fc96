"""A bias or factor that is no finite number has no integer: the CPU carries it on as ONNX says."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from openbpu.compiler import compile as compile_model
from openbpu.runtime import Session
from witness import ort
from witness.builder import GraphBuilder
from witness.emit import EMITTERS

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "Conv": ("Conv", {"bias": "float"}),
    "ConvTranspose": ("ConvTranspose", {"bias": "float"}),
    "Gemm": ("Gemm", {"bias": "float"}),
    "MatMul": ("MatMul", {}),
    "BatchNormalization": ("BatchNormalization", {}),
    "LayerNormalization": ("LayerNormalization", {}),
    "RMSNormalization": ("RMSNormalization", {}),
}
SHAPES = {"Conv": (1, 3, 5, 5), "ConvTranspose": (1, 3, 5, 5), "BatchNormalization": (1, 3, 5, 5)}


SIGNALLING = np.array([0x7F800001], np.uint32).view(np.float32)[0]
"""A NaN that processors complain of where they convert it."""
STEP = 0.05  # a tie may fall the other way; a bias that is left out moves more


def built(name: str, *, quantized: bool) -> tuple[onnx.ModelProto, dict[str, Any]]:
    op, variation = CASES[name]
    b = GraphBuilder(23)
    y = EMITTERS[op](b, b.quantized_input(SHAPES.get(op, (4, 8))), **variation)[0]
    if op == "MatMul":  # an Add behind it is its bias
        y = b.node("Add", y, b.constant(np.linspace(-1, 1, b.shape(y)[-1], dtype=np.float32), "bias"))
    b.output(b.qdq(y) if quantized else y)
    return b.model(), b.inputs


def vectors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """The float weights that are no scales of a quantizer: gains, biases, means, variances."""
    scales = {n.input[1] for n in model.graph.node if n.op_type.endswith("Linear")}
    return [t for t in model.graph.initializer if t.data_type == 1 and t.name not in scales and t.dims]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, SIGNALLING])
@pytest.mark.parametrize("quantized", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_what_is_not_finite_is_carried_on(name: str, quantized: bool, bad: float) -> None:
    model, inputs = built(name, quantized=quantized)
    assert vectors(model)
    for index in range(len(vectors(model))):
        broken = onnx.ModelProto()
        broken.CopyFrom(model)
        weight = vectors(broken)[index]
        values = numpy_helper.to_array(weight).copy()
        values.reshape(-1)[0] = bad
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        outputs = Session(compile_model(broken, march="nash-e", opt=0)).run(inputs, finite=False).outputs
        for key, wanted in ort.run(broken, inputs).items():
            np.testing.assert_allclose(outputs[key], wanted, rtol=1e-5, atol=STEP)
