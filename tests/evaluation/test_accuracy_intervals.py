"""Intervals and tests of significance are those of scipy; mAP of resamples is that of pycocotools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from openbpu.evaluation.accuracy.data import Data, Sample
from openbpu.evaluation.accuracy.intervals import mcnemar, middle, resamples, sign_change, wilson
from openbpu.evaluation.accuracy.metrics.base import mean_figure
from openbpu.evaluation.accuracy.metrics.detection import MeanPrecision
from openbpu.evaluation.accuracy.metrics.precision import Precision

TOTALS = [(0, 1), (1, 1), (0, 50), (50, 50), (3, 7), (199, 200), (4999, 50_000)]


@pytest.mark.parametrize(("right", "total"), TOTALS)
def test_the_interval_of_a_share_is_wilsons(right: int, total: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(right, total).proportion_ci(0.95, method="wilson")
    found = wilson(right, total)
    np.testing.assert_allclose((found.low, found.high), (expected.low, expected.high), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, 1), (1, 0), (5, 5), (2, 11), (11, 2), (0, 30), (400, 480)])
def test_mcnemar_is_the_exact_binomial_test(a: int, b: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(a, a + b, 0.5).pvalue if a + b else 1.0
    assert mcnemar(a, b) == pytest.approx(expected, rel=1e-12)


def test_mcnemar_does_not_overflow() -> None:
    assert mcnemar(3000, 9000) == 0.0
    assert mcnemar(6000, 6000) == 1.0


def test_resamples_are_the_same_each_time_and_for_all_figures() -> None:
    values = np.random.default_rng(3).normal(size=400)
    figures = [mean_figure("a", values.tolist()), mean_figure("b", (values + 1).tolist())]
    drawn = resamples(figures, 400, 300)
    np.testing.assert_array_equal(drawn, resamples(figures, 400, 300))
    np.testing.assert_allclose(drawn[:, 1] - drawn[:, 0], 1.0)
    found, error = middle(drawn[:, 0]), values.std() / 20
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=error / 2)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=error / 2)


@pytest.mark.parametrize(
    ("differences", "p"),
    [([0.0] * 99, 1.0), ([1.0] * 99, 0.02), ([-1.0] * 99, 0.02), ([1.0, -1.0] * 49 + [1.0], 1.0)],
)
def test_p_counts_the_resamples_that_change_the_sign(differences: list[float], p: float) -> None:
    assert sign_change(np.array(differences)) == pytest.approx(p)


def random_detections(seed: int, images: int, classes: int) -> tuple[list[Any], list[Sample]]:
    """Objects, and detections near them, beside them, of other classes; no two scores are equal."""
    rng = np.random.default_rng(seed)
    scores = iter(rng.permutation(10_000) / 10_000 + 1e-5)
    records, samples = [], []
    for n in range(images):
        objects, rows = [], []
        for _ in range(int(rng.integers(0, 5))):
            x, y, w, h = (float(v) for v in rng.integers(5, 60, 4))
            of = int(rng.integers(0, classes))
            crowd = int(rng.random() < 0.1)
            objects.append({"bbox": [x, y, w, h], "category": of, "iscrowd": crowd, "area": w * h})
            for _ in range(int(rng.integers(0, 3))):
                dx, dy = rng.normal(0, 3, 2)
                kind = of if rng.random() < 0.8 else int(rng.integers(0, classes))
                rows.append([x + dx, y + dy, x + w + dx, y + h + dy, float(next(scores)), float(kind)])
        records.append(rows)
        samples.append(Sample(f"{n}", objects, size=(128, 128)))
    return records, samples


def data_of(samples: list[Sample], classes: int) -> Data:
    from pathlib import Path

    return Data(Path("truth.json"), samples, truth={"categories": list(range(1, classes + 1))})


@pytest.mark.parametrize("name", ["map", "map50"])
@pytest.mark.parametrize("seed", [0, 1])
def test_precision_of_resamples_is_that_of_pycocotools(name: str, seed: int) -> None:
    """With the pictures themselves as often as the weights say."""
    pytest.importorskip("pycocotools", reason="needs the extra openbpu[eval]")
    records, samples = random_detections(seed, 24, 3)
    (figure,) = MeanPrecision(name).figures(records, samples, data_of(samples, 3))
    assert figure.weighted(np.ones(24, np.int64)) == pytest.approx(figure.value, abs=1e-12)
    weights = np.random.default_rng(seed).multinomial(24, [1 / 24] * 24)
    chosen = np.repeat(np.arange(24), weights)
    again = [samples[n] for n in chosen]
    (drawn,) = MeanPrecision(name).figures([records[n] for n in chosen], again, data_of(again, 3))
    assert figure.weighted(weights) == pytest.approx(drawn.value, abs=1e-12)
    assert 0 < drawn.value < 1


def test_a_resample_without_objects_has_no_precision() -> None:
    assert Precision((), np.linspace(0, 1, 101)).mean(np.ones(3, np.int64)) == 0.0


def test_no_detection_at_all_is_a_precision_of_0() -> None:
    pytest.importorskip("pycocotools", reason="needs the extra openbpu[eval]")
    _, samples = random_detections(0, 4, 3)
    (figure,) = MeanPrecision().figures([[]] * 4, samples, data_of(samples, 3))
    assert figure.value == 0.0
    assert figure.weighted(np.ones(4, np.int64)) == 0.0
