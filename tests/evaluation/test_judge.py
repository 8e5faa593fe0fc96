"""What passes as the same output."""

import math

import numpy as np
import pytest

from openbpu.evaluation import Comparison
from openbpu.evaluation.judge import Explanation, bound, failure
from openbpu.evaluation.reference import Step
from openbpu.evaluation.reference.compare import Layerwise


def compared(cosine: float, max_abs: float = 0.4, step: float | None = 0.1) -> Comparison:
    steps = max_abs / step if step else None
    return Comparison("y", cosine, max_abs, step, steps, 0.5, 10)


def test_a_low_cosine_fails_unless_everything_is_within_a_step() -> None:
    assert failure(compared(0.995)) == ""
    assert failure(compared(0.9)) == "output 'y': cosine 0.900000 is below 0.99"
    assert failure(compared(0.0, max_abs=0.1)) == ""
    assert "below 0.99" in failure(compared(0.0, max_abs=0.1, step=None))
    assert "below 0.5" in failure(compared(0.0, max_abs=0.1), min_cosine=0.5)


def test_steps_fail_only_when_a_limit_is_given() -> None:
    assert failure(compared(1.0)) == ""
    assert failure(compared(1.0), max_steps=1) == "output 'y': it differs by 4 steps, more than 1"
    assert failure(compared(1.0, step=None), max_steps=1) == ""


@pytest.mark.parametrize("min_cosine", [None, -1.0])
def test_a_nan_on_one_side_always_fails(min_cosine: float | None) -> None:
    assert "NaN or infinite" in failure(compared(1.0, max_abs=math.inf), min_cosine)


def test_functions_may_miss_by_their_stated_share_where_they_are_lines() -> None:
    sigmoid = [Step("n", "Sigmoid")]
    bounds = [bound(sigmoid, size, frozenset(), from16=wide) for size in (1, 2) for wide in (False, True)]
    assert bounds == [0.5, 1.0, 0.5, 128.0]


def test_approximated_operators_and_float32_have_bounds_of_their_own() -> None:
    assert bound([Step("n", "Conv")], 1, frozenset(), from16=False) == 0.5
    assert bound([Step("n", "Conv"), Step("m", "Softmax")], 2, frozenset(), from16=True) == 1.0
    assert bound([Step("n", "Conv")], 1, frozenset({"n"}), from16=False) == 0.55


@pytest.mark.parametrize("step", [None, 0.1])
def test_infinities_where_they_belong_excuse_no_other_element(step: float | None) -> None:
    meant = np.array([np.inf, -np.inf, 1.0])
    right, wrong = Explanation(), Explanation()
    found = Layerwise({}, {"y": meant}, {}, {})
    right.add_output("y", meant.astype(np.float32), found, step, frozenset())
    wrong.add_output("y", np.array([np.inf, -np.inf, 1.5], np.float32), found, step, frozenset())
    assert right.outputs == {}
    assert set(wrong.outputs) == {"y"}
