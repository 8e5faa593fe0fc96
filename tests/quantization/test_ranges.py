"""Ranges read off histograms: published entropy calibration, batches in any order, data with no spread."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import QuantizationError
from openbpu.quantization import ranges
from openbpu.quantization.ranges import (
    BINS,
    Histogram,
    entropy_range,
    finite_peak,
    fractions,
    grid,
    mse_range,
    percentile_range,
)

Floats = npt.NDArray[np.float32]


def noise(kind: str, size: int = 20000, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    x = {
        "normal": rng.normal(size=size),
        "relu": np.maximum(rng.normal(size=size), 0),
        "laplace": rng.laplace(size=size),
        "heavy": rng.exponential(size=size) ** 2,
        "uniform": rng.random(size),
        "few": rng.normal(size=10),
    }[kind]
    return x.astype(np.float32)


KINDS = ("normal", "relu", "laplace", "heavy", "uniform", "few")


def seen(batches: Iterable[npt.ArrayLike], bins: int = BINS, peak: float = 0.0) -> Histogram:
    found = Histogram(bins, peak)
    for batch in batches:
        found.add(np.asarray(batch, dtype=np.float32))
    return found


def limits(h: Histogram) -> list[float]:
    counts, peak = h.counts, h.peak
    return [
        entropy_range(counts, peak, 128),
        mse_range(counts, peak, fractions(peak), grid(DType.INT8)),
        percentile_range(counts, peak, 99.9),
    ]


def divergence(counts: npt.NDArray[np.float64], n: int, levels: int) -> float:
    """KL of the histogram clipped to n bins, bin by bin, as pytorch-quantization publishes it."""
    level = np.clip(np.digitize(np.arange(n), np.linspace(0, n, levels + 1)) - 1, 0, levels - 1)
    p, q = counts[:n].copy(), np.zeros(n)
    p[-1] += counts[n:].sum()
    for i in range(levels):
        inside = (level == i) & (counts[:n] > 0)
        q[inside] = counts[:n][inside].mean() if inside.any() else 0.0
    p, q = p / p.sum(), q / q.sum() if q.any() else q
    if (q[p > 0] == 0).any():
        return float("inf")
    return float((p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum())


@pytest.mark.parametrize("levels", [8, 128, 256])
@pytest.mark.parametrize("kind", KINDS[:-1])
def test_entropy_is_the_published_algorithm(kind: str, levels: int) -> None:
    bins, start, stride = 600, 128, 8
    x = noise(kind, 3000)
    counts, edges = np.histogram(np.abs(x), bins, (0, float(np.abs(x).max())))
    share = counts.astype(float)
    share[0] = share[1]
    tried = list(range(start, bins + 1, stride))
    cost = [divergence(share, n, levels) for n in tried]
    last = len(cost) - 1 - int(np.argmin(cost[::-1]))
    found = entropy_range(counts, float(edges[-1]), levels, start=start, stride=stride)
    assert found == pytest.approx(edges[tried[last]])


def test_zeros_do_not_decide_the_entropy_range() -> None:
    x = noise("relu", 100_000)
    counts, peak = seen([x]).counts, float(x.max())
    assert entropy_range(counts, peak, 128) > 3.5
    more = counts.copy()
    more[0] *= 100
    assert entropy_range(more, peak, 128) == entropy_range(counts, peak, 128)


@pytest.mark.parametrize("kind", KINDS)
def test_the_histogram_of_one_batch_is_numpys(kind: str) -> None:
    x = np.abs(noise(kind))
    expected, _ = np.histogram(x, BINS, (0, float(x.max())))
    assert np.abs(seen([x]).counts - expected).sum() <= 4  # values on an edge


@pytest.mark.parametrize("kind", KINDS)
def test_batches_and_their_order_change_nothing(kind: str) -> None:
    x = noise(kind)
    ascending = np.sort(np.abs(x))
    whole = seen([x])
    splits = [
        np.array_split(x, 7),
        np.array_split(ascending, 100),
        np.array_split(ascending[::-1], 9),
        [ascending[:1], x[:0], ascending[1:]],
    ]
    for batches in splits:
        found = seen(batches)
        assert found.total == x.size
        assert np.array_equal(found.counts, whole.counts)
    known = seen(np.array_split(x, 7), peak=whole.peak)
    assert np.array_equal(known.counts, whole.counts)


@pytest.mark.parametrize("factor", [1.001, 1.7, 30.0, 1e9, 1e30])
def test_a_range_that_grows_loses_no_value_and_moves_none_far(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges.histogram, "RAW", 100)
    x = np.abs(noise("laplace"))
    grown, whole = seen([x / np.float32(factor), x]), seen([np.concatenate([x / np.float32(factor), x])])
    monkeypatch.setattr(ranges.histogram, "RAW", 1 << 20)
    exact = seen([x / np.float32(factor), x])
    for found in (grown, whole):
        assert found.counts.sum() == found.total == 2 * x.size
        running = np.abs(np.cumsum(found.counts) - np.cumsum(exact.counts))
        assert running.max() <= exact.counts.max() / ranges.histogram.FINE + 2
        assert percentile_range(found.counts, found.peak, 99.9) == pytest.approx(
            percentile_range(exact.counts, exact.peak, 99.9), rel=2e-3
        )


def test_zeros_before_the_first_value_count(monkeypatch: pytest.MonkeyPatch) -> None:
    for raw in (0, 1 << 18):
        monkeypatch.setattr(ranges.histogram, "RAW", raw)
        found = seen([np.zeros(98), [1.0, 2.0]])
        assert found.counts[0] == 98
        assert percentile_range(found.counts, found.peak, 98) == 2 / BINS
        assert percentile_range(found.counts, found.peak, 99) == pytest.approx(1.0, abs=2 / BINS)


@pytest.mark.parametrize("value", [1e-45, 1e-30, 0.3, 3e38])
def test_a_single_value_is_its_own_range(value: float) -> None:
    x = np.full(9, value, dtype=np.float32)
    for found in (seen([x]), seen([x], peak=float(x[0]))):
        entropy, error, percentile = limits(found)
        assert entropy == percentile == float(x[0])
        assert 0.98 * x[0] <= error <= x[0]


def test_zeros_have_the_range_zero() -> None:
    assert limits(seen([np.zeros(5)])) == [0, 0, 0]


@pytest.mark.parametrize(
    "x",
    [
        np.arange(256) / 255,
        np.arange(17) / 16,
        [0.1] * 60 + [1.0] * 30 + [0.9999] * 10,
        [0.1, 0.9, 0.9001, 1.0],
        [0.0] * 1000 + [1.0],
    ],
)
def test_values_on_a_grid_are_not_clipped_to_one_of_them(x: npt.ArrayLike) -> None:
    found = seen([x])
    assert entropy_range(found.counts, found.peak, 128) > 0.95


@pytest.mark.parametrize("dtype", [DType.INT8, DType.INT16])
@pytest.mark.parametrize("kind", KINDS)
def test_the_mse_range_has_nearly_the_least_error_of_all_fractions(kind: str, dtype: DType) -> None:
    x = noise(kind)
    h = seen([x])

    def error(limit: float) -> float:
        scale = numerics.observed_scale(limit, dtype)
        away = numerics.quantize(x, scale, 0, dtype) * scale.astype(np.float64) - x
        return float(np.mean(away * away))

    least = min(error(float(f)) for f in fractions(h.peak))
    found = mse_range(h.counts, h.peak, fractions(h.peak), grid(dtype))
    assert error(found) <= least * 1.1


def test_more_levels_than_bins_clip_nothing() -> None:
    h = seen([noise("heavy")])
    assert entropy_range(h.counts, h.peak, 32768) == h.peak


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_that_are_not_finite_are_refused(bad: float, dtype: Any) -> None:
    with pytest.raises(QuantizationError, match="x: every value must be finite, not NaN or infinite; look"):
        finite_peak(np.array([1.0, bad, 2.0], dtype=dtype), "x", "look")
    assert finite_peak(np.array([60000.0, -60000.0], dtype=dtype), "x", "look") == np.abs(dtype(60000))
    assert finite_peak(np.zeros(0, dtype=dtype), "x", "look") == 0


def test_many_small_batches_are_few_arrays() -> None:
    h = seen(noise("normal", 2000).reshape(-1, 1))
    assert h.total == 2000
    assert len(h._raw) <= 65
