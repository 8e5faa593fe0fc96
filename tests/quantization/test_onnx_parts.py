"""What is cut out of a Concat is read from the operand that holds it, with the scale of that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx import quantize
from openbpu.quantization.onnx.judge import run_all
from quantization.float_models import float_model, noise, ops, rounded, samples

CONSTS: dict[str, Any] = {
    "big": np.float32(300),
    "zero": np.array([0]),
    "two": np.array([2]),
    "three": np.array([3]),
    "four": np.array([4]),
    "six": np.array([6]),
    "eight": np.array([8]),
    "end": np.array([2**62]),
    "minus": np.array([-4]),
    "one": np.array([1]),
    "sizes": np.array([4, 4]),
    "across": np.array([3, 5]),
    "fine": np.array([2, 2, 4]),
}
HEAD = "a0 = Sigmoid(x) a = Mul(a0, big) b = Tanh(x) c = Concat <axis = 1> (a, b)"
CUTS = {
    "whole": "p = Slice(c, four, end, one) y = Neg(p)",
    "whole, from the end": "p = Slice(c, minus, end, one, one) y = Neg(p)",
    "part": "p = Slice(c, four, six, one) y = Neg(p)",
    "split": "o, p = Split <axis = 1> (c, sizes) q = Neg(o) r = Neg(p) y = Concat <axis = 1> (r)",
    "split finer": "n, o, p = Split <axis = 1> (c, fine) q = Neg(n) y = Neg(p)",
    "twice": "d = Concat <axis = 1> (c, x) p = Slice(d, four, eight, one) y = Neg(p)",
}


def model(body: str) -> ModelProto:
    used = {name: value for name, value in CONSTS.items() if name in HEAD + body}
    return float_model(f"(float[1,4,8] x) => (float y) {{ {HEAD} {body} }}", used)


@pytest.mark.parametrize("cut", CUTS)
def test_a_part_has_the_scale_of_the_operand_it_is_cut_from(cut: str) -> None:
    """One int8 scale for both is 2.4, and all of what Tanh makes would be 0."""
    given = model(CUTS[cut])
    data = samples(given, 3)
    made = quantize(given, data, tail=DType.INT8)
    feeds = [{"x": x} for x in data["x"]]
    want, got = (run_all(m, ["y"], feeds) for m in (given, made))
    for a, b in zip(want, got, strict=True):
        np.testing.assert_allclose(b["y"], a["y"], atol=0.02)
    assert "c" not in rounded(made)


@pytest.mark.parametrize(
    "body",
    [
        "p = Slice(c, two, six, one) y = Neg(p)",
        "o, p = Split <axis = 1> (c, across) y = Neg(p)",
        "p = Slice(c, zero, four, two) y = Neg(p)",
        "p = Slice(c, four, eight, one, two) y = Neg(p)",
    ],
)
def test_what_no_operand_holds_alone_is_cut_from_the_concat(body: str) -> None:
    given = model(body)
    made = quantize(given, samples(given, 3))
    assert "Concat" in ops(made)


def test_concat_that_somebody_else_reads_stays() -> None:
    given = model("p = Slice(c, four, eight, one) q = Neg(p) y = Add(c, c)")
    made = quantize(given, samples(given, 3))
    assert "Concat" in ops(made)
    assert "Slice" not in ops(made)


def test_cut_that_is_an_output_keeps_its_name() -> None:
    given = float_model(
        f"(float[1,4,8] x) => (float y, float p) {{ {HEAD} p = Slice(c, four, eight, one) y = Neg(c) }}",
        {name: CONSTS[name] for name in ("big", "four", "eight", "one")},
    )
    made = quantize(given, {"x": noise(3, 1, 4, 8)})
    assert [v.name for v in made.graph.output] == ["y", "p"]
    (got,) = run_all(made, ["p"], [{"x": noise(1, 4, 8)}])
    np.testing.assert_allclose(got["p"], np.tanh(noise(1, 4, 8)), atol=0.02)
