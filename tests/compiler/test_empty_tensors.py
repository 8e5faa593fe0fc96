"""A tensor without elements never gets to the BPU: no engine moves nothing."""

from __future__ import annotations

import pytest

from compiler.reading import model
from openbpu.compiler import check

PAIRS = """g (float[1,4,0,6] x) => (float[N,M,H,W] y) <float s = {0.1}, int8 z = {0}>
 { q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) OP
   r = QuantizeLinear (o, s, z) y = DequantizeLinear (r, s, z) }"""


@pytest.mark.parametrize(
    "text", ["o = Tanh (d)", "o = Transpose (d)", "o = Add (d, d)", "o = MaxPool <kernel_shape = [1, 1]> (d)"]
)
def test_operator_on_nothing_stays_on_the_cpu(text: str) -> None:
    body = PAIRS.replace("OP", text)
    (row,) = (p for p in check(model(body), march="nash-e") if p.op == text.split()[2])
    assert row.on == "CPU"
    assert row.reason == "every tensor must have an element, not 1×4×0×6"
