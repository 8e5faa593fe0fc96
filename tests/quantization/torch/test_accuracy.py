"""Real data: float, calibrated, QAT, converted and simulated accuracies of models/accuracy."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from quantization.torch.recipes import recipe  # noqa: E402


@pytest.mark.parametrize("task", ["cancer", pytest.param("digits", marks=pytest.mark.slow)])
def test_converted_equals_simulated_and_quantization_costs_little(task: str) -> None:
    script = recipe("accuracy/accuracy.py")
    row = script.evaluate(script.TASKS[task](), quick=True)
    assert row.equal
    assert row.scores["converted"] == row.scores["simulated"]
    assert row.scores["float"] > 0.9
    assert min(row.scores.values()) > row.scores["float"] - 0.03
