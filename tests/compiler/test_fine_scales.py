"""What is finer than the integer arithmetic can tell stays on the CPU, with the reason."""

from __future__ import annotations

import pytest

from compiler.reading import model
from openbpu.compiler import check

FACTS = [
    pytest.param(
        'o = Resize<mode = "linear">(d, , f)', (1.0, 2.0**-13), (1.0, 2.0**-14), "[1,4,12,12]",
        "the scale of its output must be at least 1/8192 of the scale of its input, not 1/16,384",
        id="Resize",
    ),
    pytest.param(
        "o = Softmax(d)", (0.01, 2.0**-26), (0.01, 2.0**-27), "[1,4,6,6]",
        "the scale of its output must be at least 1.49e-08, not 7.45e-09", id="Softmax",
    ),
    pytest.param(
        "o = LayerNormalization(d, g)", (1e-7, 0.01), (1e-13, 0.01), "[1,4,6,6]",
        "an epsilon of 1e+21 squared input steps leaves nothing of its input", id="LayerNormalization",
    ),
    pytest.param(
        "o = LayerNormalization(d, g)", (1e-7, 2.0**-22), (1e-7, 2.0**-23.5), "[1,4,6,6]",
        "the scale of its output must be at least 1.86e-07, not 8.43e-08", id="LayerNormalization, fine",
    ),
    pytest.param(
        "o = RMSNormalization(d, g)", (1e-7, 2.0**-23), (1e-7, 2.0**-24), "[1,4,6,6]",
        "the scale of its output must be at least 1.14e-07, not 5.96e-08", id="RMSNormalization",
    ),
    pytest.param(
        "o = Div(d, c)", (0.01, 0.01), None, "[1,4,6,6]", "it divides by a constant that is 0", id="Div",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "fits", "too_fine", "out", "reason"), FACTS)
def test_scale_beyond_the_arithmetic_is_refused(
    body: str, fits: tuple[float, float], too_fine: tuple[float, float] | None, out: str, reason: str
) -> None:
    for scales, zeros, on in ((fits, 0.0, "BPU"), (too_fine or fits, 1.0, "CPU")):
        x, y = (f"{{{scale:.9e}}}" for scale in scales)
        divisors = "{1, 2, 3, 4}" if not zeros else "{1, 0, 3, 4}"
        constants = (
            f"float sx = {x}, float sy = {y}, int16 z = {{0}}, float[6] g = {{1, 1, 1, 1, 1, 1}}, "
            f"float[4] f = {{1, 1, 2, 2}}, float[1,4,1,1] c = {divisors}"
        )
        text = f"d = DequantizeLinear(x, sx, z) {body} r = QuantizeLinear(o, sy, z)"
        proto = model(f"g (int16[1,4,6,6] x) => (int16{out} r) <{constants}> {{ {text} }}", 23)
        (row,) = (r for r in check(proto, march="nash-e") if "Linear" not in r.op)
        assert row.on == on, row.reason
        assert on == "BPU" or row.reason.endswith(reason)
