"""Cosine, SQNR and the rest, by hand."""

from math import inf

import numpy as np
import pytest

from openbpu.quantization.measures import Sums, closeness

A = np.array([3.0, 0.0, 4.0], np.float32)
B = np.array([3.0, 1.0, 2.0], np.float32)


def test_measures_are_those_of_the_definitions() -> None:
    found = closeness(A, B)
    assert found.cosine == pytest.approx((9 + 8) / np.sqrt(25 * 14))
    assert found.sqnr == pytest.approx(10 * np.log10(25 / 5))
    assert found.mse == pytest.approx(5 / 3)
    assert (found.l1, found.max_abs, found.elements) == (1.0, 2.0, 3)


def test_batches_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 700_001)).astype(np.float32)
    sums = Sums()
    for part in (slice(0, 10), slice(10, 600_000), slice(600_000, None)):
        sums.add(a[part], b[part])
    whole = closeness(a, b)
    assert sums.closeness().cosine == pytest.approx(whole.cosine, rel=1e-9)
    assert sums.closeness().max_abs == whole.max_abs


@pytest.mark.parametrize(
    ("a", "b", "cosine", "sqnr", "largest"),
    [
        ([0.0, 0.0], [0.0, 0.0], 1.0, inf, 0.0),
        ([0.0, 0.0], [0.0, 1.0], 0.0, -inf, 1.0),
        ([1.0, np.inf], [1.0, np.inf], 1.0, inf, 0.0),
        ([1.0, np.nan], [1.0, np.nan], 1.0, inf, 0.0),
        ([1.0, np.inf], [1.0, 2.0], 1.0, inf, inf),
        ([1.0, 2.0], [1.0, np.nan], 1.0, inf, inf),
        ([1.0, 2.0], [1.0], 0.0, -inf, inf),
        ([], [], 1.0, inf, 0.0),
    ],
)
def test_zeros_infinities_and_other_shapes_have_a_measure(
    a: list[float], b: list[float], cosine: float, sqnr: float, largest: float
) -> None:
    found = closeness(np.array(a, np.float32), np.array(b, np.float32))
    assert (found.cosine, found.sqnr, found.max_abs) == (cosine, sqnr, largest)
    assert found.equal == (largest == 0)
