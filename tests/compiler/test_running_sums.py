"""CumSum: why it stays on the CPU, and where its axis is said."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from compiler.networks import Network
from compiler.one_operator import ended
from openbpu.arch.march import get_march, with_values
from openbpu.arch.program import CpuSegment
from openbpu.compiler import check
from openbpu.compiler import compile as build
from openbpu.quantization.onnx import quantize
from openbpu.runtime import Session
from quantization.float_models import float_model, noise
from witness.ort import run


def reasons(b: Network, march: str = "nash-e") -> list[str]:
    return [r.reason for r in check(b.model(), march=march) if r.op == "CumSum"]


def summed(axis: object, shape: tuple[int, ...] = (1, 5, 30)) -> Network:
    b = Network(shape)
    return ended(b, b.node("CumSum", b.x, b.constant(np.asarray(axis))))


@pytest.mark.parametrize(
    "axis", [np.int64(2), np.int32(-1), np.array([2])], ids=["int64", "int32", "a vector"]
)
def test_the_axis_is_a_constant_of_either_type(axis: object) -> None:
    b = summed(axis)
    program = build(b.model(), march="nash-e")
    assert not any(isinstance(s, CpuSegment) for s in program.segments)
    (made,), (wanted,) = Session(program).run(b.inputs).outputs.values(), run(b.model(), b.inputs).values()
    np.testing.assert_allclose(made, wanted, atol=1e-6)


def test_what_the_chip_cannot_sum_says_why() -> None:
    assert reasons(summed(1, (1, 8193))) == ["the axis must be 1..8192 long, not 8193"]
    assert reasons(summed(2), "bayes-e") == ["bayes-e has no BPU unit for CumSum"]


def test_a_computed_axis_is_refused_in_words() -> None:
    b = Network((1, 5, 30))
    axis = b.node("Cast", b.node("ReduceMax", b.x, keepdims=0), to=TensorProto.INT64)
    ended(b, b.node("CumSum", b.x, axis))
    (said,) = reasons(b)
    assert said.startswith("its axis '")
    assert "computed" in said


def test_an_axis_that_does_not_fit_on_chip_is_refused() -> None:
    small = with_values(get_march("nash-e"), {"chip.chip_bytes": 4096})
    (row,) = (r for r in check(summed(1, (1, 4000)).model(), march=small) if r.op == "CumSum")
    assert row.reason == "the 8000 bytes along its axis must be at most 4032, which fit on chip"


def test_a_float_running_sum_is_quantized_onto_the_bpu() -> None:
    model = float_model(
        "(float[1,4,8,8] x) => (float y) { c = Conv(x, w) s = CumSum<reverse=1>(c, axis) y = Conv(s, v) }",
        {"w": noise(6, 4, 1, 1) * 0.2, "v": noise(3, 6, 1, 1, seed=1), "axis": np.array(3)},
    )
    data = {"x": noise(4, 4, 8, 8)}
    program = build(quantize(model, data), march="nash-e")
    assert not any(isinstance(s, CpuSegment) for s in program.segments)
    image = {"x": data["x"][:1]}
    made, wanted = Session(program).run(image).outputs["y"], run(model, image)["y"]
    assert np.abs(made - wanted).max() < 0.05 * np.abs(wanted).max()
