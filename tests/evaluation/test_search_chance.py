"""Where a goal is missed, int8 stays unless what was found is nearer to float by more than chance."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from openbpu.evaluation.accuracy.evaluate import Setting
from openbpu.evaluation.accuracy.metrics import make_metrics
from openbpu.evaluation.accuracy.models import model_file
from openbpu.evaluation.search import score
from openbpu.evaluation.search.chance import by_chance, standard_error
from openbpu.evaluation.search.score import Scorer, held_out_data
from openbpu.evaluation.search.setup import Setup
from openbpu.evaluation.search.trial import Trial
from openbpu.evaluation.search.trials import BASE, Trials

DIGITS = Path(__file__).parents[2] / "models" / "digits"
OTHER = Setup(types=(("a", "int16"),))


def test_of_a_mean_it_is_the_standard_error_everyone_knows() -> None:
    values = np.random.default_rng(0).normal(size=12)
    parts = np.array([np.delete(values, k).mean() for k in range(12)])
    assert standard_error(parts) == pytest.approx(values.std(ddof=1) / np.sqrt(12))


def judged(won: list[float], *, samples: int = 8, slower: float = 1.0) -> str:
    """What is said of a configuration that wins so much on each sample, of scores that are their means."""
    wins = {BASE: np.zeros(len(won)), OTHER: np.array(won)}

    def parts(content: Setup) -> Any:
        return np.array([0.5 + np.delete(wins[content], k).mean() for k in range(len(won))])

    bench = SimpleNamespace(
        quantized=lambda setup: SimpleNamespace(SerializeToString=lambda: setup),
        scorer=SimpleNamespace(parts=parts, samples=samples),
    )
    base, trial = Trial(0.5, bpu_us=100), Trial(0.5 + float(np.mean(won)), bpu_us=100 + slower)
    trials = SimpleNamespace(
        of=lambda _: base,
        bench=bench,
        reference=SimpleNamespace(score=1.0),
        loss=lambda t: 1.0 - t.score,
    )
    return by_chance(cast(Trials, trials), OTHER, trial)


def test_what_one_sample_of_eight_wins_is_chance() -> None:
    said = judged([0.4, -0.1, 0, 0, -0.1, 0.05, 0, 0])
    assert "1 int16 is 3.12 % nearer to float than int8, give or take 5.5" in said
    assert said.endswith("8 samples: that is chance, and int8 stays; give more samples to judge by (--data)")


def test_what_all_win_is_none() -> None:
    assert judged([0.03, 0.02, 0.04, 0.03, 0.01, 0.03, 0.02, 0.03]) == ""


def test_nothing_is_said_of_what_costs_no_time_or_of_too_few_samples() -> None:
    won = [0.4, -0.1, 0, 0, -0.1, 0.05, 0, 0]
    assert judged(won, slower=0.0) == ""
    assert judged(won[:3], samples=3) == ""


def test_parts_are_the_scores_without_a_sixteenth_of_the_samples_each() -> None:
    images = np.load(DIGITS / "calibration.npz")["image"][:20]
    feeds = [{"image": image[None]} for image in images]
    model, metric = model_file(DIGITS / "digits.onnx"), make_metrics(["cosine"])[0]
    quantized = (DIGITS / "digits.q.onnx").read_bytes()
    parts = Scorer(model, score.Test(held_out_data(feeds), metric, Setting())).parts(quantized)
    rest = [f for n, f in enumerate(feeds) if n % 16 != 3]
    alone = Scorer(model, score.Test(held_out_data(rest), metric, Setting())).of(quantized)
    assert parts.shape == (16,)
    assert parts[3] == pytest.approx(alone.score, abs=1e-12)
