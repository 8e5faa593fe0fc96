"""Norms on the BPU: squares of any zero point are exact, and what 32 or 16 bits cannot hold is refused."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.networks import Network
from compiler.observe import quantized_tensors, run_everything
from compiler.test_integerise_reasons import reason, rows
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.reference.compare import compare_layerwise
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
    model = b.model()
    assert rows(model)[op].on == "BPU"
    program = compile_model(model, march="nash-e", opt=0)
    observed = quantized_tensors(model, b.inputs, run_everything(program, b.inputs))
    assert max(r.max_error for r in compare_layerwise(model, observed, b.inputs).values()) <= steps


@pytest.mark.parametrize("op", ["ReduceSumSquare", "ReduceL2"])
def test_squares_that_may_leave_int32_are_refused(op: str) -> None:
    b = Network((1, 2, 300, 256))
    b.finished(b.qdq(b.node(op, b.x, b.constant(np.array([1, 2, 3])))))
    assert reason(b, op) == "a sum of 153600 elements of up to 16384 may leave int32"


def test_a_root_in_int16_is_refused() -> None:
    b = Network((1, 2, 3, 4))
    b.finished(b.qdq(b.node("ReduceL2", b.x, b.constant(np.array([1]))), Style("int16")))
    assert reason(b, "ReduceL2") == "the sum under its root has 16 bits, too few for a result of int16"
