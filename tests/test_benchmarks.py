"""Facts about what benchmarks/accuracy.py counts, with numbers that can be worked out by hand."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("accuracy_scores")
    sys.modules.pop("accuracy_scores")


def test_edits_count_what_is_put_in_left_out_and_replaced(scores: ModuleType) -> None:
    assert scores.edits("kitten", "sitting") == 3
    assert scores.edits("", "abc") == scores.edits("abc", "") == 3
    assert scores.edits([1, 2], [1, 2]) == 0


def test_characters_are_of_all_texts_together(scores: ModuleType) -> None:
    assert scores.characters(["abcd", "x"], ["abce", "xy"]) == pytest.approx(1 - 2 / 6)
    assert scores.characters(["much too long"], ["no"]) == 0


def test_ctc_reads_a_repeat_once_and_a_repeat_behind_a_blank_twice(scores: ModuleType) -> None:
    assert scores.read_ctc(np.array([0, 3, 3, 0, 3, 5, 5, 0])) == [3, 3, 5]
    assert scores.read_ctc(np.array([7, 7])) == [7]
    assert scores.read_ctc(np.array([0, 0])) == []


def boxes(scores: ModuleType, *corners: tuple[float, ...], classes: list[int] | None = None) -> object:
    return scores.Boxes(np.array(corners).reshape(-1, 4), np.array(classes or [0] * len(corners), int))


def test_overlap_is_intersection_over_union(scores: ModuleType) -> None:
    grid = scores.overlaps(np.array([[0, 0, 2, 2.0]]), np.array([[1, 0, 3, 2], [5, 5, 6, 6.0]]))
    assert grid.tolist() == [[pytest.approx(1 / 3), 0]]


def test_a_box_found_twice_counts_once_and_only_for_its_class(scores: ModuleType) -> None:
    one = boxes(scores, (0, 0, 10, 10))
    twice = boxes(scores, (0, 0, 10, 10), (0, 0, 10, 9))
    other = boxes(scores, (0, 0, 10, 10), classes=[1])
    nothing = boxes(scores)
    assert scores.f1([one], [one]) == 1
    assert scores.f1([twice], [one]) == pytest.approx(2 / 3)
    assert scores.f1([other], [one]) == scores.f1([nothing], [one]) == 0
    assert scores.f1([nothing], [nothing]) == 1
    assert scores.mean_overlap([boxes(scores, (0, 0, 10, 8))], [one]) == pytest.approx(0.8)


def test_suppression_keeps_the_best_of_boxes_that_overlap(scores: ModuleType) -> None:
    corners = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [0, 0, 10, 10.0]])
    kept = scores.suppressed(corners, np.array([0, 0, 0, 1]), np.array([0.8, 0.9, 0.2, 0.7]), 0.3, 0.5)
    assert kept.corners.tolist() == [[0, 0, 10, 9], [0, 0, 10, 10]]
    assert kept.classes.tolist() == [0, 1]


def test_correlation_does_not_mind_scale_and_is_nothing_for_a_constant(scores: ModuleType) -> None:
    expected = [np.array([0.1, 0.5]), np.array([0.9])]
    assert scores.correlation([2 * e + 1 for e in expected], expected) == pytest.approx(1)
    assert scores.correlation([e * 0 for e in expected], expected) == 0
    assert scores.decisions([np.array([0.4, 0.6]), np.array([0.2])], expected) == pytest.approx(2 / 3)


def test_the_benchmark_says_what_is_missing_and_downloads_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "accuracy.py"), "--list", "--wheels", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "digits: there" in done.stdout
    assert "magika: needs magika==" in done.stdout.replace("\n", "")
