"""Boxes in every form that detectors give, and what their numbers mean, counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from openbpu.arch.errors import InputError
from openbpu.evaluation.accuracy.data import Sample
from openbpu.evaluation.accuracy.metrics.base import Seen
from openbpu.evaluation.accuracy.metrics.boxes import Boxes

ROWS = np.array([[1, 2, 3, 4, 0.5, 1], [2, 2, 6, 8, 0.25, 0], [0, 0, 4, 4, 0, 1]], np.float32)
IN_PICTURE = [[2.0, 6.0, 6.0, 12.0, 0.5, 1.0], [4.0, 6.0, 12.0, 24.0, 0.25, 0.0]]
"""The same in a picture twice as wide and three times as high; what has no score is none."""


def seen(outputs: dict[str, Any], **more: Any) -> Seen:
    return Seen("m", Sample("s", size=more.pop("size", (24, 16))), outputs, **{"frame": (8, 8)} | more)


BOXES, SCORES, CLASSES = ROWS[:, :4], ROWS[:, 4], ROWS[:, 5]
FORMS: dict[str, dict[str, Any]] = {
    "a table": {"y": ROWS},
    "a table with a batch": {"y": ROWS[None]},
    "a table beside another output": {"y": ROWS, "n": np.array([3])},
    "three outputs": {"b": BOXES, "s": SCORES, "classes": CLASSES},
    "three with a batch": {"b": BOXES[None], "s": SCORES[None], "labels": CLASSES[None]},
    "three in another order": {"category": CLASSES[:, None], "s": SCORES[:, None], "b": BOXES},
    "classes by their type": {"b": BOXES, "s": SCORES, "c": CLASSES.astype(np.int64)},
    "beside a count": {"b": BOXES, "s": SCORES, "c": CLASSES.astype(np.int64), "n": np.array([3], np.int32)},
}


@pytest.mark.parametrize("name", FORMS)
def test_detections_are_found_in_every_form(name: str) -> None:
    assert Boxes().found(seen(FORMS[name])) == IN_PICTURE


def test_relative_corners_are_of_the_whole_picture() -> None:
    rows = ROWS * np.array([1 / 8] * 4 + [1, 1], np.float32)
    assert Boxes("relative").found(seen({"y": rows})) == IN_PICTURE
    assert Boxes("relative").found(seen({"y": rows}, frame=None)) == IN_PICTURE


def test_what_the_users_code_returns_is_in_the_picture_already() -> None:
    made = [[1, 2, 3, 4, 0.5, 1], [1, 2, 3, 4, np.nan, 1]]
    assert Boxes().found(seen({}, prediction=made)) == [[1, 2, 3, 4, 0.5, 1]]
    assert Boxes().found(seen({}, prediction=[])) == []


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no classes": ({"outputs": {"b": BOXES, "s": SCORES}}, r"not 'b' \(3, 4\), 's' \(3,\)"),
    "two of classes": ({"outputs": {"b": BOXES, "class": CLASSES, "label": CLASSES}}, "one of"),
    "two of scores": ({"outputs": {"b": BOXES, "s": SCORES, "t": SCORES, "class": CLASSES}}, "one of"),
    "two tables": ({"outputs": {"y": ROWS, "z": ROWS}}, "one of"),
    "two of boxes": ({"outputs": {"a": BOXES, "b": BOXES, "s": SCORES, "class": CLASSES}}, "one of"),
    "five columns": ({"outputs": {}, "prediction": ROWS[:, :5]}, r"must be \(N, 6\), not \(3, 5\)"),
    "one axis": ({"outputs": {}, "prediction": ROWS[0]}, r"must be \(N, 6\), not \(6,\)"),
    "no picture": ({"outputs": {"y": ROWS}, "size": None}, "its input must be a picture for boxes, not none"),
    "no frame": ({"outputs": {"y": ROWS}, "frame": None}, "its input must be a picture for boxes, not none"),
}


@pytest.mark.parametrize("name", WRONG)
def test_another_form_is_refused_with_the_forms_that_are_taken(name: str) -> None:
    given, said = WRONG[name]
    with pytest.raises(InputError, match=said):
        Boxes().found(seen(**given))
