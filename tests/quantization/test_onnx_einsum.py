"""An Einsum that is a matrix product is quantized as one, and computes what it did."""

from __future__ import annotations

import numpy as np
import pytest

from openbpu.quantization.onnx.einsum import einsum_as_matmul
from openbpu.quantization.onnx.net import Net, assemble
from openbpu.quantization.onnx.prepare import read
from quantization.float_models import float_model
from witness import ort

SIZES = {"a": 2, "b": 3, "c": 4, "d": 5, "e": 6}


def net_of(equation: str) -> Net:
    left, right = equation.partition("->")[0].split(",")
    shapes = [",".join(str(SIZES[c]) for c in letters) for letters in (left, right)]
    ends = f"(float[{shapes[0]}] x, float[{shapes[1]}] w) => (float y)"
    return read(float_model(f'{ends} {{ y = Einsum <equation = "{equation}"> (x, w) }}'))


@pytest.mark.parametrize(
    "equation", ["abc,cd->abd", "abcd,be->aecd", "abc,adc->abd", "bc,abc->ab", "abcd,cbe->dae", "ab,bc->ca"]
)
def test_a_product_computes_what_the_einsum_did(equation: str) -> None:
    net = net_of(equation)
    written = einsum_as_matmul(net)
    assert "Einsum" not in {n.op_type for n in written.nodes}
    rng = np.random.default_rng(0)
    sizes = {v: [d for d in net.shapes[v] if isinstance(d, int)] for v in net.inputs}
    feeds = {v: rng.normal(size=size).astype(np.float32) for v, size in sizes.items()}
    (before,), (after,) = (list(ort.run(assemble(n), feeds).values()) for n in (net, written))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("equation", ["ab,ab->ab", "ab,bc->b"])
def test_what_is_no_product_stays(equation: str) -> None:
    assert [n.op_type for n in einsum_as_matmul(net_of(equation)).nodes] == ["Einsum"]
