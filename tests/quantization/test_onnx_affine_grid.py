"""AffineGrid is quantized as the products and sums that it is, in int16 where a GridSample reads it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from openbpu.compiler import check
from openbpu.quantization.onnx.affine_grid import affine_grid_as_sums
from openbpu.quantization.onnx.net import Net, assemble
from openbpu.quantization.onnx.prepare import read
from quantization.float_models import float_model, noise, quantized
from witness import ort


def net_of(size: tuple[int, ...], corners: int) -> Net:
    n, rank = size[0], len(size) - 2
    places = ",".join(str(v) for v in (n, *size[2:], rank))
    text = f"(float[{n},{rank},{rank + 1}] t) => (float[{places}] y)"
    body = f"{{ y = AffineGrid <align_corners = {corners}> (t, size) }}"
    return read(float_model(f"{text} {body}", {"size": np.array(size)}, 20))


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("size", [(1, 3, 5, 8), (2, 1, 4, 2), (3, 2, 7, 7)])
def test_sums_compute_what_the_affine_grid_did(size: tuple[int, ...], corners: int) -> None:
    net = net_of(size, corners)
    written = affine_grid_as_sums(net)
    assert "AffineGrid" not in {n.op_type for n in written.nodes}
    feeds = {"t": noise(size[0], 2, 3)}
    (before,), (after,) = (list(ort.run(assemble(n), feeds).values()) for n in (net, written))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("size", "corners"), [((1, 1, 3, 4, 5), 0), ((1, 3, 1, 8), 1)])
def test_a_volume_and_a_single_row_between_corners_stay(size: tuple[int, ...], corners: int) -> None:
    assert [n.op_type for n in affine_grid_as_sums(net_of(size, corners)).nodes] == ["AffineGrid"]


def test_a_spatial_transformer_is_on_the_bpu() -> None:
    text = """(float[1,4,8,8] x) => (float[1,4,8,8] y) {
        p = GlobalAveragePool(x) f = Flatten(p) l = Gemm(f, w, b) t = Reshape(l, matrix)
        g = AffineGrid(t, size) y = GridSample <mode = "linear"> (x, g) }"""
    weights: dict[str, npt.ArrayLike] = {
        "w": noise(4, 6) / 4, "b": np.array([1, 0, 0, 0, 1, 0], np.float32), "matrix": np.array([1, 2, 3]),
        "size": np.array([1, 4, 8, 8]),
    }  # fmt: skip
    rows = check(quantized(text, weights, opset=20), march="nash-e")
    assert {row.op for row in rows if row.on == "CPU"} == set()
