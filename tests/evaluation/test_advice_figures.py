"""What is advised for a tensor, over ranges too small to too large and values of every shape: as it was.

And what can be counted by hand: codes, clipped and vanished values, channels, pictures.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conftest import Golden
from openbpu.evaluation.analysis.advice import Around, cause_of, remedies
from openbpu.evaluation.analysis.counts import Picture
from openbpu.evaluation.analysis.result import WeightRange
from openbpu.evaluation.analysis.rounding import Rounding
from openbpu.evaluation.analysis.watch import Watch
from openbpu.quantization.measures import Sums

Array = Any


def pair(step: float, dtype: Any = np.int8, zero: int = 0) -> Rounding:
    kind = np.dtype(dtype)
    return Rounding("x", "q", "d", np.float32(step), np.array(zero, kind), kind, 1)  # type: ignore[arg-type]


def watched(x: Array, rounding: Rounding | None, inner: float = 0.0) -> Watch:
    """A unit that makes x, off by `inner` here and there, and the pair behind it."""
    unit: Any = SimpleNamespace(rounding=rounding, node="n", index=0, moved=False, softmax=None)
    watch = Watch(unit, pictures=True)
    raw = x + np.float32(inner) * np.where(np.arange(x.size).reshape(x.shape) % 2, 1, -1).astype(np.float32)
    value = raw
    if rounding is not None and rounding.step:
        low, high = rounding.limits
        value = np.clip(np.rint(raw / np.float32(rounding.step)), low, high) * np.float32(rounding.step)
    watch.add(x, value)
    watch.add_alone(x, raw, value)
    return watch


def values(name: str) -> Array:
    x = (np.random.default_rng(3).integers(-64, 65, (1, 8, 8, 8)) / 64).astype(np.float32)
    if name == "one side":
        return np.maximum(x, 0)
    if name == "an outlier":
        x[0, 0, 0, 0] = 16
    if name == "uneven":
        return x * np.array([32, 1, 1, 1, 1, 1, 1, 0.5], np.float32).reshape(1, 8, 1, 1)
    if name == "even enough":
        return x * np.array([16, 1, 1, 1, 1, 1, 1, 1], np.float32).reshape(1, 8, 1, 1)
    if name == "tiny":
        return np.where(np.arange(512).reshape(x.shape) % 64 == 0, x, x / 4096).astype(np.float32)
    return x if name != "zeros" else 0 * x


NAMES = ("plain", "one side", "an outlier", "uneven", "even enough", "tiny", "zeros")
GRIDS = ((np.int8, 0), (np.int8, -128), (np.int16, 0), (np.uint8, 128), (np.uint8, 0))
STEPS = (2.0**-10, 2.0**-8, 2.0**-7, 2.0**-6, 2.0**-4, 0.125, 0.5)
PAIRS = {f"{np.dtype(d).name} {z} {s}": pair(s, d, z) for d, z in GRIDS for s in STEPS}
AROUND = Around(alike=lambda: True, readers=("a", "b"))


@pytest.mark.parametrize("name", NAMES)
def test_advice_is_what_it_was(golden: Golden, name: str) -> None:
    made: dict[str, Any] = {}
    for told, rounding in PAIRS.items():
        watch = watched(values(name), rounding)
        around = replace(AROUND, masked=name == "tiny", readers=("a", "b") if rounding.step != 0.5 else ())
        codes = watch.codes
        assert codes is not None
        made[told] = [
            *cause_of(watch, weighted=False),
            [codes.values, codes.clipped, codes.nonzero, codes.vanished, int(codes.seen.sum())],
            watch.unevenness,
            [[r.change, r.text, r.sqnr] for r in remedies(watch, around)],
        ]
    golden(f"advice_for_{name.replace(' ', '_')}", made, near=True)


def weights(**more: Any) -> WeightRange:
    return replace(WeightRange("n", "w", "", "", 8, True, 2, 5, 3.5, 9.0), **more)


LEFT = {"--adaptive-rounding": 0.9, "--bias-correction": 0.5}
"""Less than half a decibel, and three."""


@pytest.mark.parametrize(
    ("around", "change", "said"),
    [
        (Around(weights(), 1.25), "weights", "by up to 1.25 steps: quantize the float"),
        (Around(weights(), 1.0), "per_channel", "channel 5 of its weights spans 3.5 steps"),
        (Around(weights(stacked=True), 1.0), "float", "no correction wins that back: float, on the CPU"),
        (Around(weights(shared=False), corrections=LEFT), "correct", "its weights round: --bias-correction"),
        (Around(weights(narrow=0), corrections={"--a": None}), "correct", "its weights round: --a"),
        (Around(weights(narrow=0), corrections={"--a": 0.95}), "float", "(--float-nodes n)"),
        (Around(), "int16", "it rounds inside: int16 for this node (--int16-nodes n)"),
        (Around(within=False), "float", "it rounds inside what is int8 on the BPU: float"),
    ],
)
def test_what_a_node_does_inside_has_one_remedy(around: Around, change: str, said: str) -> None:
    watch = watched(values("plain"), None, inner=1 / 16)
    (remedy,) = remedies(watch, around)
    assert remedy.change == change
    assert said in remedy.text
    part = "weights" if around.weights else "inside"
    assert cause_of(watch, weighted=around.weights is not None) == ("rounding", part)


def test_a_node_that_is_good_alone_needs_nothing() -> None:
    assert remedies(watched(values("plain"), None), AROUND) == ()
    assert cause_of(watched(values("plain"), None), weighted=True) == ("", "")
    # 0.58 is the amplitude of the values: a difference of a sixty-fourth is 31 dB below it, of a 128th 37 dB
    assert remedies(watched(values("plain"), None, inner=1 / 64), AROUND)
    assert remedies(watched(values("plain"), None, inner=1 / 128), AROUND) == ()


def test_noise_is_what_is_cut_off_and_what_steps_add() -> None:
    x = np.array([[0.25, 1.75, -3.0, 0.5]], np.float32)
    watch = watched(x, pair(1 / 64))
    assert watch.cut == 1.0  # 128 steps of 1/64 below 0 are −2, not −3
    assert watch.stepped == 0
    assert (watch.least, watch.largest) == (-3.0, 1.75)
    assert cause_of(watch, weighted=False) == ("truncation", "result")


def test_channels_are_of_the_second_axis_of_pictures_and_else_of_the_last() -> None:
    x = np.zeros((2, 3, 2, 2), np.float32)
    x[0, 0, 0, 0], x[1, 1, 1, 1], x[0, 2, 0, 1] = 8, -2, 1
    watch = watched(x, pair(0.125))
    assert watch.peaks is not None
    assert watch.peaks.tolist() == [8, 2, 1]
    assert watch.unevenness == 4
    rows = watched(np.array([[[1, 2, 3], [4, 0, -9]]], np.float32), pair(0.125))
    assert rows.peaks is not None
    assert rows.peaks.tolist() == [4, 2, 9]
    assert watched(np.ones(4, np.float32), pair(0.125)).unevenness is None
    assert watched(np.ones((4, 1), np.float32), pair(0.125)).unevenness is None


@pytest.mark.parametrize(
    ("batches", "start", "width", "counts"),
    [
        ([[0.0, 0.0]], 0.0, 1.0, (2,)),
        ([[]], 0.0, 1.0, ()),
        ([[64.0]], 63.0, 1.0, (1,)),
        ([[65.0, 1.0]], 0.0, 2.0, (1, *([0] * 31), 1)),
        ([[1.0], [65.0]], 0.0, 2.0, (1, *([0] * 31), 1)),
        ([[-1.0, 0.5, 0.99]], -1.0, 1 / 64, (1, *([0] * 95), 1, *([0] * 30), 1)),
        ([[np.inf, np.nan, 2.0, -2.0]], -2.0, 1 / 32, (1, *([0] * 126), 1)),
    ],
)
def test_pictures_count_values_in_bins_of_a_power_of_two(
    batches: list[list[float]], start: float, width: float, counts: tuple[int, ...]
) -> None:
    picture = Picture()
    for batch in batches:
        picture.add(np.array(batch, np.float32))
    assert asdict(picture.counts()) == {"start": start, "width": width, "counts": counts}


def test_sums_are_those_of_numpy_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openbpu.quantization.measures._PIECE", 5)
    a, b = (np.random.default_rng(k).normal(size=(3, 4)) for k in range(2))
    sums = Sums()
    sums.add(a, b)
    sums.add(-a, b)
    made = sums.closeness()
    both, twice = np.concatenate([a, -a]).ravel(), np.concatenate([b, b]).ravel()
    assert made.cosine == pytest.approx(both @ twice / np.linalg.norm(both) / np.linalg.norm(twice))
    assert made.sqnr == pytest.approx(10 * np.log10((both**2).sum() / ((both - twice) ** 2).sum()))
    assert (made.l1, made.mse) == pytest.approx((np.abs(both - twice).mean(), ((both - twice) ** 2).mean()))
    assert made.max_abs == np.abs(both - twice).max()
    assert made.elements == 24
