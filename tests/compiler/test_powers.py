"""Norms on the BPU: squares of any zero point are exact, and what 32 or 16 bits cannot hold is refused."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.networks import Network
from compiler.observe import quantized_tensors, run_everything
from compiler.reading import model
from compiler.test_integerise_reasons import reason, rows
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.reference.compare import compare_layerwise
from openbpu.runtime import Session
from witness.builder import Style

FAINT = 1 / 64
"""How much of the input's range its values use: squares of a few steps weigh as much as any."""


@pytest.mark.parametrize("low", [0.0, -0.02, -0.4])
@pytest.mark.parametrize(("op", "steps"), [("ReduceL1", 0.5), ("ReduceSumSquare", 0.5), ("ReduceL2", 1.0)])
def test_small_codes_beside_a_far_zero_point_keep_their_squares(op: str, steps: float, low: float) -> None:
    b = Network((1, 1), style=Style("int8", symmetric=False))
    value = b.rng.uniform(low, 1.0, (4, 6, 9))
    value[1:] *= FAINT
    x = b.qdq(b.input(value))
    kept = b.qdq(b.node("Slice", x, *(b.constant(np.array([n])) for n in (1, 4, 0))), like=x)
    b.finished(b.qdq(b.node(op, kept, b.constant(np.array([2])))))
    proto = b.model()
    assert rows(proto)[op].on == "BPU"
    program = compile_model(proto, march="nash-e", opt=0)
    observed = quantized_tensors(proto, b.inputs, run_everything(program, b.inputs))
    assert max(r.max_error for r in compare_layerwise(proto, observed, b.inputs).values()) <= steps


@pytest.mark.parametrize("op", ["ReduceSumSquare", "ReduceL2"])
def test_squares_that_may_leave_int32_are_refused(op: str) -> None:
    b = Network((1, 2, 300, 256))
    b.finished(b.qdq(b.node(op, b.x, b.constant(np.array([1, 2, 3])))))
    assert reason(b, op) == "a sum of 153600 elements of up to 16384 may leave int32"


def test_a_root_in_int16_is_refused() -> None:
    b = Network((1, 2, 3, 4))
    b.finished(b.qdq(b.node("ReduceL2", b.x, b.constant(np.array([1]))), Style("int16")))
    assert reason(b, "ReduceL2") == "the sum under its root has 16 bits, too few for a result of int16"


@pytest.mark.parametrize("exponent", [-3.0, -1.5, -0.3, 0.0, 0.3, 2.5, 7.0])
def test_any_exponent_is_a_table_of_all_codes(exponent: float) -> None:
    """Negative numbers have no fractional power: their codes give 0, as NaN does."""
    proto = model(
        f"g (float[1,256] x) => (float y) <float s = {{0.05}}, float t = {{0.031}}, int8 z = {{0}}, "
        f"float e = {{{exponent}}}> {{ q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) "
        "p = Pow(d, e) r = QuantizeLinear(p, t, z) y = DequantizeLinear(r, t, z) }"
    )
    program = compile_model(proto, march="nash-e")
    assert {row.on for row in program.placement} == {"BPU"}
    x = np.arange(-128, 128) * np.float64(np.float32(0.05))
    with np.errstate(all="ignore"):
        real = np.nan_to_num(np.power(x, exponent), nan=0.0, posinf=1e9, neginf=-1e9)
    wanted = np.clip(np.rint(real / np.float64(np.float32(0.031))), -128, 127)
    (found,) = Session(program).run({"x": x.astype(np.float32)[None]}).outputs.values()
    np.testing.assert_array_equal(np.rint(found[0] / 0.031), wanted)
