"""Functions of int16 that 64 line segments cannot follow stay on the CPU, with the reason."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from compiler.reading import model
from openbpu.compiler import check

PAIRS = """g (float[1,4,6,6] x) => (float[1,4,6,6] y) <int16 z = {0}>
 { q = QuantizeLinear (x, sx, z) d = DequantizeLinear (q, sx, z) o = OP (d)
   r = QuantizeLinear (o, sy, z) y = DequantizeLinear (r, sy, z) }"""


def function(op: str, reach: float, top: float) -> ModelProto:
    """The function of an int16 input in ±reach, its output in ±top."""
    proto = model(PAIRS.replace("OP", op))
    for name, largest in (("sx", reach), ("sy", top)):
        proto.graph.initializer.append(numpy_helper.from_array(np.array(largest / 32767.5, np.float32), name))
    return proto


@pytest.mark.parametrize("on", ["BPU", "CPU"])
@pytest.mark.parametrize(("op", "easy", "hard"), [("Sin", 3.0, 50.0), ("Floor", 12.0, 99.0)])
def test_function_with_more_bends_than_segments_stays_on_the_cpu(
    op: str, easy: float, hard: float, on: str
) -> None:
    reach = easy if on == "BPU" else hard
    placement = check(function(op, reach, 1.0 if op == "Sin" else reach), march="nash-e")
    (row,) = (p for p in placement if p.op == op)
    assert row.on == on
    if on == "CPU":
        assert row.reason.startswith(f"64 line segments must keep to 128 steps of {op} over its whole input")
        assert row.fix == "use int8 there, whose tables are exact, or a narrower range of the input"
