"""Whether a model is closer to float than another, by sample: what decides that a correction stays."""

from __future__ import annotations

import math

import numpy as np
import pytest

from openbpu.quantization.onnx.closeness import Closeness, Judged
from openbpu.quantization.onnx.net import assemble, take_apart
from quantization.float_models import float_model, noise

PLAIN = Judged(0.999990, (1e-5, 4e-5, 2e-3, 7e-6))
"""Errors of samples that differ among themselves by far more than a correction wins."""


def times(*factors: float, cosine: float = PLAIN.cosine) -> Judged:
    """PLAIN with the error of each sample times a factor."""
    return Judged(cosine, tuple(e * f for e, f in zip(PLAIN.errors, factors, strict=True)))


@pytest.mark.parametrize(
    ("other", "better"),
    [
        (times(0.9, 0.85, 0.92, 0.88), True),  # every sample wins, though no digit of the cosine shows it
        (times(1.1, 1.05, 1.08, 1.12), False),
        (times(0.5, 1.9, 0.6, 1.6), False),  # chance: some win, some lose
        (times(0.5, 1.9, 0.6, 1.6, cosine=0.999999), False),  # whatever the cosine says
        (times(1.05, 1.04, 0.5, 1.06), False),  # one large error made small is one sample only
        (times(0.6, 0.7, 0.65, 1.02), True),  # one may lose where the others win by much
        (times(1.0, 1.0, 1.0, 1.0), True),  # nothing changed
        (times(math.inf, 0.1, 0.1, 0.1, cosine=-1.0), False),  # a shape came out different, or NaN
    ],
)
def test_errors_are_compared_sample_by_sample(other: Judged, better: bool) -> None:
    assert other.is_better_than(PLAIN) is better


def test_one_sample_says_by_its_error_alone() -> None:
    assert Judged(0.9, (1e-4,)).is_better_than(Judged(0.9, (1.1e-4,)))
    assert not Judged(0.9, (1.1e-4,)).is_better_than(Judged(0.9, (1e-4,)))


def test_errors_of_float_sums_are_none() -> None:
    exact = Judged(1.0, (0.0, 0.0, 1e-16))
    assert exact.is_better_than(Judged(1.0, (1e-15, 2e-16, 0.0)))
    assert Judged(1.0, (1e-15, 2e-16, 0.0)).is_better_than(exact)


def test_where_errors_cannot_be_told_the_cosine_says() -> None:
    lost = Judged(-1.0, (math.inf, math.inf))
    assert Judged(0.5, (0.1, math.inf)).is_better_than(lost)
    assert not lost.is_better_than(Judged(0.5, (0.1, math.inf)))
    assert lost.is_better_than(lost)


def test_the_error_of_every_output_of_every_sample_is_a_share_of_its_squares() -> None:
    made = float_model(
        "(float[1,3] x) => (float[1,3] y, float[1,3] z) { y = Mul(x, a) z = Neg(x) }", {"a": np.float32(2)}
    )
    near = float_model(
        "(float[1,3] x) => (float[1,3] y, float[1,3] z) { y = Mul(x, a) z = Neg(x) }", {"a": np.float32(2.5)}
    )
    feeds = [{"x": noise(1, 3, seed=n) * 10**n} for n in range(3)]
    judge = Closeness(take_apart(made), feeds)
    found = judge.judged(near)
    assert found.errors == pytest.approx((0.0625, 0.0) * 3, rel=1e-5, abs=1e-12)
    assert found.cosine == pytest.approx(1.0)
    assert judge.of(near) == found.cosine
    assert judge.judged(assemble(take_apart(made))).errors == (0.0,) * 6


def test_another_shape_and_nan_are_errors_without_bounds() -> None:
    text = "(float[1,4] x) => (float y) {{ y = {} }}"
    judge = Closeness(
        take_apart(float_model(text.format("Relu(x)"))), [{"x": np.array([[1, -2, 3, -4]], np.float32)}]
    )
    for other in ("Sqrt(x)", "Unsqueeze(x, a)"):
        lost = judge.judged(float_model(text.format(other), {"a": np.array([0])} if "a)" in other else {}))
        assert (lost.cosine, lost.errors) == (-1.0, (math.inf,))
