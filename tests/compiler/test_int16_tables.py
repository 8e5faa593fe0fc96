"""Functions of int16 that 64 line segments cannot follow stay on the CPU, with the reason."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from compiler.reading import model
from openbpu.arch.march import get_march
from openbpu.compiler import check
from openbpu.compiler import compile as compile_model

PAIRS = """g (float[1,4,6,6] x) => (float[1,4,6,6] y) <int16 z = {0}, OUT zy = {0}>
 { q = QuantizeLinear (x, sx, z) d = DequantizeLinear (q, sx, z) o = OP (d)
   r = QuantizeLinear (o, sy, zy) y = DequantizeLinear (r, sy, zy) }"""


def function(op: str, reach: float, top: float, out: str = "int16") -> ModelProto:
    """The function of an int16 input in ±reach, its output in ±top."""
    proto = model(PAIRS.replace("OP", op).replace("OUT", out))
    for name, largest in (("sx", reach / 32767.5), ("sy", top / (np.iinfo(out).max + 0.5))):
        proto.graph.initializer.append(numpy_helper.from_array(np.array(largest, np.float32), name))
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
        assert re.match(rf"64 line segments must keep to 12\d steps of {op} over its whole input", row.reason)
        assert row.fix == "use int8 there, whose tables are exact, or a narrower range of the input"


@pytest.mark.parametrize("out", ["int8", "int16"])
@pytest.mark.parametrize("coarse", [1.0, 1000.0])
def test_what_lines_may_miss_is_a_part_of_the_function_not_of_the_output(out: str, coarse: float) -> None:
    (easy,) = (p for p in check(function("Sin", 3.0, coarse, out), march="nash-e") if p.op == "Sin")
    assert easy.on == "BPU"
    (hard,) = (p for p in check(function("Sin", 60.0, coarse, out), march="nash-e") if p.op == "Sin")
    seen = 2 / coarse * 2 ** (15 if out == "int16" else 7)  # steps of the output that the sine spans
    assert hard.on == ("CPU" if seen > 2 else "BPU")
    if out == "int8" and coarse == 1.0:
        assert hard.reason.startswith(
            "64 line segments must keep to 1 step of Sin over its whole input range, not"
        )


BEHIND = """g (float[1,1,4,4] x) => (float[1,1,4,4] y) <int8 z = {0}, int8[1,1,1,1] w = {127}>
 { q = QuantizeLinear (x, sx, z) d = DequantizeLinear (q, sx, z) k = DequantizeLinear (w, sw, z)
   c = Conv (d, k) o = Sin (c) r = QuantizeLinear (o, sy, z) y = DequantizeLinear (r, sy, z) }"""


@pytest.mark.parametrize(("reach", "on"), [(10.0, "BPU"), (10.25, "CPU")])
def test_what_a_rounding_moves_and_lines_miss_is_one_step_of_int8_together(reach: float, on: str) -> None:
    """At 10.25 the lines alone miss by 0.991, and the int16 in front of them moves the sine by 0.02."""
    proto = model(BEHIND)
    for name, step in (("sx", reach / 127.5), ("sw", 1 / 127), ("sy", 1 / 127.5)):
        proto.graph.initializer.append(numpy_helper.from_array(np.array(step, np.float32), name))
    assert {p.on for p in check(proto, march="nash-e") if p.op == "Sin"} == {on}


def test_a_march_of_shorter_tables_follows_less() -> None:
    nash = get_march("nash-e")
    two, eight = (replace(nash, limits={**nash.limits, "lut_segments_max": n}) for n in (2, 8))
    (row,) = (p for p in check(function("Tanh", 1.0, 1.0), march=two) if p.op == "Tanh")
    assert row.reason.startswith("2 line segments must keep to 97.5 steps of Tanh")
    made = compile_model(function("Tanh", 1.0, 1.0), march=eight).tensors
    assert [t.shape for t in made if t.name.endswith("/segments")] == [(8, 4)]
