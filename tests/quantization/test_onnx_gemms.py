"""A Gemm that is more than a linear layer is quantized as a product and a sum, and computes what it did."""

from __future__ import annotations

import numpy as np
import pytest

from openbpu.compiler import check
from openbpu.quantization.onnx import quantize
from openbpu.quantization.onnx.gemms import gemm_as_matmul
from openbpu.quantization.onnx.net import Net, assemble
from openbpu.quantization.onnx.prepare import read
from quantization.float_models import float_model
from witness import ort

WEIGHT = "float[7,5] w = {" + ", ".join(f"{(i * 5) % 11 - 5}.25" for i in range(35)) + "}"
ROWS = "float[3,5] c = {" + ", ".join(f"{(i * 3) % 7 - 3}.5" for i in range(15)) + "}"
ALIKE = "float[3,5] c = {" + ", ".join(["1.5, -2.5, 0, 3, 1"] * 3) + "}"


def body(inputs: str, constants: str, attributes: str, operands: str) -> str:
    given = f" <{constants}>" if constants else ""
    return f"({inputs}) => (float[3,5] y){given} {{ y = Gemm{attributes} ({operands}) }}"


UNFOLDED = {
    "a C of rows": body("float[3,7] x", f"{WEIGHT}, {ROWS}", "<alpha = 0.5, beta = 2.0>", "x, w, c"),
    "a computed C": body("float[3,7] x, float[5] c", WEIGHT, "<beta = 0.25>", "x, w, c"),
    "a computed B": body("float[3,7] x, float[7,5] w", "", "<alpha = 0.5>", "x, w"),
    "all computed": body(
        "float[7,3] x, float[5,7] w, float[3,5] c", "", "<transA = 1, transB = 1, alpha = 0.3>", "x, w, c"
    ),
}
KEPT = {
    "a bias": body("float[3,7] x", f"{WEIGHT}, float[5] c = {{1, 2, 3, 4, 5}}", "", "x, w, c"),
    "a bias in every row": body("float[3,7] x", f"{WEIGHT}, {ALIKE}", "", "x, w, c"),
    "no bias": body("float[3,7] x", WEIGHT, "<alpha = 2.0>", "x, w"),
}


def inputs_of(net: Net) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    rng = np.random.default_rng(0)
    sizes = {v: [d for d in net.shapes[v] if isinstance(d, int)] for v in net.inputs}
    return {v: rng.normal(size=size).astype(np.float32) for v, size in sizes.items()}


@pytest.mark.parametrize("name", UNFOLDED)
def test_the_operators_compute_what_the_gemm_did_and_run_on_the_bpu(name: str) -> None:
    model = float_model(UNFOLDED[name])
    net = read(model)
    written = gemm_as_matmul(net)
    assert "Gemm" not in {n.op_type for n in written.nodes}
    feeds = inputs_of(net)
    (before,), (after,) = (list(ort.run(assemble(n), feeds).values()) for n in (net, written))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)
    assert {row.on for row in check(quantize(model, [feeds]), march="nash-e")} == {"BPU"}


@pytest.mark.parametrize("name", KEPT)
def test_a_linear_layer_stays(name: str) -> None:
    assert [n.op_type for n in gemm_as_matmul(read(float_model(KEPT[name]))).nodes] == ["Gemm"]
