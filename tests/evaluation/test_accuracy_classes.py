"""`evaluate`: what every class has, and what it is taken for."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from evaluation.accuracy_models import coco, detector, scorer
from evaluation.accuracy_runs import npz
from openbpu.cli.commands import app
from openbpu.evaluation.accuracy import evaluate


def lost(tmp_path: Path) -> tuple[Path, Path]:
    """Class 0: right of both, class 1: right of one and taken for 2 once, class 2: taken for 0."""
    x = np.array([[3, 2, 1], [3, 2, 1], [1, 3, 2], [1, 2, 3], [9, 0, 0]], np.float32)
    return scorer(tmp_path / "m.onnx"), npz(tmp_path / "d.npz", x=x, labels=[0, 0, 1, 1, 2])


def test_every_class_has_its_share_and_what_it_is_taken_for(tmp_path: Path) -> None:
    model, data = lost(tmp_path)
    (score,) = evaluate([model], data, metrics=["top1"]).scores
    assert [(c.name, c.value, c.count) for c in score.classes] == [("0", 1, 2), ("1", 0.5, 2), ("2", 0, 1)]
    assert [c.taken_for for c in score.classes] == [(), (("2", 1),), (("0", 1),)]
    assert sum(c.value * c.count for c in score.classes) / 5 == score.value


def test_average_precision_of_every_class_that_has_objects(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools", reason="needs the extra openbpu[eval]")
    truth = coco(tmp_path, {"a.png": [(3, [0, 0, 8, 8])], "b.png": [(3, [0, 0, 8, 8])]}, [3, 9])
    right = detector(tmp_path / "right.onnx", [[0, 0, 4, 4, 0.9, 0], [0] * 6, [0] * 6])
    wrong = detector(tmp_path / "wrong.onnx", [[0, 0, 4, 4, 0.9, 1], [0] * 6, [0] * 6])
    found = evaluate([right, wrong], truth, metrics=["map"], resamples=0).scores
    assert [[(c.name, c.value, c.count) for c in s.classes] for s in found] == [
        [("thing3", pytest.approx(1.0), 2)],
        [("thing3", 0.0, 2)],
    ]


def run(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        app([str(a) for a in arguments], prog_name="openbpu")
    assert not ended.value.code


def test_the_command_has_classes_in_its_table_in_json_and_in_csv(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = lost(tmp_path)
    out = tmp_path / "classes.csv"
    common = ("eval", model, "--data", data, "--metric", "top1", "--resamples", 0)
    run(*common, "--per-class", out)
    shown = capsys.readouterr().out
    assert shown.index("took it for") < shown.index("50.00 %") < shown.index("100.00 %")  # the lowest first
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["class"], r["count"], float(r["value"])) for r in rows] == [
        ("0", "2", 1.0), ("1", "2", 0.5), ("2", "1", 0.0),
    ]  # fmt: skip
    run(*common, "--json")
    (score,) = json.loads(capsys.readouterr().out)["scores"]
    assert score["classes"][1] == {"class": "1", "value": 0.5, "count": 2, "taken_for": {"2": 1}}


def test_a_table_of_classes_is_a_csv_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = lost(tmp_path)
    with pytest.raises(SystemExit) as ended:
        app(
            [str(a) for a in ("eval", model, "--data", data, "--metric", "top1", "--per-class", "c.txt")],
            prog_name="openbpu",
        )
    assert ended.value.code
    assert "must be a .csv file" in " ".join(capsys.readouterr().err.split())
