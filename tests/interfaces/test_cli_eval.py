"""`openbpu eval`: what it prints, what it writes, and what it exits with."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from evaluation.accuracy_models import coco, detector, scorer
from interfaces.conftest import Command, fails


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two models, a.onnx right on three of four samples and b.onnx on one, and d.npz."""
    x = np.tile(np.array([[1, 0]], np.float32), (4, 1))
    np.savez(tmp_path / "d.npz", x=x, labels=[0, 0, 0, 1])
    scorer(tmp_path / "a.onnx", 2)
    scorer(tmp_path / "b.onnx", 2, scale=-1.0)
    return tmp_path


def arguments(folder: Path, *more: object, models: str = "ab") -> list[object]:
    of = [folder / f"{m}.onnx" for m in models]
    return ["eval", *of, "--data", folder / "d.npz", "--metric", "top1", "--resamples", 50, *more]


def test_models_stand_side_by_side(openbpu: Command, folder: Path) -> None:
    ran = openbpu(*arguments(folder))
    assert ran.code == 0
    a, b = (" ".join(line.split()) for line in ran.out.splitlines() if line.startswith(" top1 "))
    assert "75.00 % 30.06 % … 95.44 %" in a
    assert "25.00 % 4.56 % … 69.94 %" in b
    assert "-50.00 %" in b
    assert "0.625 3 1" in b
    assert "top1: these samples do not tell" in ran.out


def test_one_model_has_no_differences(openbpu: Command, folder: Path) -> None:
    ran = openbpu(*arguments(folder, models="a"))
    assert "Against the first" not in ran.out
    assert "4 samples. Intervals: Wilson's." in ran.out


def test_json_holds_every_score(openbpu: Command, folder: Path) -> None:
    found = openbpu(*arguments(folder, "--metric", "cosine", "--json", "--limit", 2)).json()
    assert (found["samples"], found["of"]) == (2, 4)
    top1, cosine = (
        next(s for s in found["scores"] if s["metric"] == m and s["model"].endswith("b.onnx"))
        for m in ("top1", "cosine")
    )
    assert top1["difference"]["test"] == "McNemar"
    assert top1["difference"]["only_first_right"] == 2
    assert cosine["value"] == pytest.approx(-1.0)
    assert cosine["difference"] is None


def test_every_sample_is_written_in_order(openbpu: Command, folder: Path) -> None:
    ran = openbpu(*arguments(folder, "-o", folder / "out.csv"))
    assert ran.err == f"wrote {folder / 'out.csv'}\n"
    rows = list(csv.DictReader((folder / "out.csv").read_text().splitlines()))
    assert [(r["sample"], r["label"]) for r in rows] == [("0", "0"), ("1", "0"), ("2", "0"), ("3", "1")]
    assert [r[f"{folder / 'b.onnx'}: top1 right"] for r in rows] == ["0", "0", "0", "1"]
    openbpu(*arguments(folder, "-o", folder / "out.json"))
    document = json.loads((folder / "out.json").read_text())
    assert document["samples"][3]["models"][str(folder / "b.onnx")] == {"top1 right": 1, "top1 predicted": 1}


def test_a_page_holds_scores_samples_and_what_is_not_as_asked(openbpu: Command, folder: Path) -> None:
    page = folder / "e.html"
    ran = openbpu(*arguments(folder, "--page", page, "--min-accuracy", "0.5"))
    assert ran.code == 1
    assert f"wrote {page}" in ran.err
    text = page.read_text(encoding="utf-8")
    assert "30.06 % … 95.44 %" in text
    assert "b.onnx: top1 is 0.2500, below 0.5" in text
    assert 'id="samples"' in text
    assert "--page: must be a file of its own" in openbpu(*arguments(folder, "--page", folder / "a.onnx")).err


def test_records_are_gone_on_with(openbpu: Command, folder: Path) -> None:
    first = openbpu(*arguments(folder, "--records", folder / "r.jsonl"))
    again = openbpu(*arguments(folder, "--resume", folder / "r.jsonl"))
    assert first.out == again.out
    fails(openbpu(*arguments(folder, "--records", folder / "r.jsonl")), "must be a new one", "--resume")


def test_what_is_kept_of_a_run_that_fails_is_said(openbpu: Command, folder: Path) -> None:
    np.savez(folder / "d.npz", x=[[1.0, 0.0]] * 4, labels=[0, 0, 5, 1])
    ran = openbpu(*arguments(folder, "--records", folder / "r.jsonl"))
    assert ran.code == 1
    said, error = ran.err.splitlines()
    scores = f"top1 100.00 % of {folder / 'a.onnx'}, top1 0.00 % of {folder / 'b.onnx'}"
    assert said == f"2 of 4 samples are done ({scores}); --resume {folder / 'r.jsonl'} goes on"
    assert error.startswith("openbpu: sample '2': the label must be in 0..1, not 5")
    ran = openbpu(*arguments(folder))
    said = ran.err.splitlines()[0]
    assert said == f"2 of 4 samples are done ({scores}); --records FILE would have kept them"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--min-accuracy", "25%", "--max-drop", "0.5"), 0),
        (("--min-accuracy", "0.3"), 1),
        (("--max-drop", "49.9%"), 1),
    ],
)
def test_limits_make_the_exit_code(
    openbpu: Command, folder: Path, options: tuple[object, ...], code: int
) -> None:
    ran = openbpu(*arguments(folder, *options))
    assert ran.code == code
    assert ran.err.count("b.onnx: top1 is") == code
    assert "75.00 %" in ran.out  # the table comes in any case


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--min-accuracy", "much"), "--min-accuracy: must be a number, not 'much'; as 0.95 or 95%"),
        (("-o", "x.txt"), "-o / --output: must be a .csv or .json file, not 'x.txt'"),
        (("--records", "a", "--resume", "b"), "--records: must be left out with --resume, not 'a'"),
        (("--workers", 2, "--scheduler", "tcp://x:1"), "--workers: must be 0 with --scheduler, not 2"),
        (("--records", "a.csv", "-o", "a.csv"), "must be another file than that of records"),
        (("--max-drop", "1%"), "--max-drop: must be left out for one model, not 0.01; name the model"),
        (("--limit", 0), "--limit: must be a whole number, 1 or more, not 0"),
    ],
)
def test_usage_errors(openbpu: Command, folder: Path, options: tuple[object, ...], said: str) -> None:
    ran = openbpu(*arguments(folder, *options, models="a"))
    assert ran.code == 2
    assert said in " ".join(ran.err.replace("│", " ").split())


def test_what_cannot_be_read_is_said_first(openbpu: Command, folder: Path) -> None:
    fails(openbpu(*arguments(folder, models="ac")), "c.onnx: No such file or directory; check the path")
    (folder / "d.npz").unlink()
    fails(openbpu(*arguments(folder)), "d.npz: the data must be", "not missing")


def test_a_model_is_never_overwritten(openbpu: Command, folder: Path) -> None:
    (folder / "a.onnx").rename(folder / "a.json")
    ran = openbpu(
        "eval", folder / "a.json", "--data", folder / "d.npz", "--metric", "top1", "-o", folder / "a.json"
    )
    fails(ran, "must be another file than the model")


def test_dynamic_inputs_take_a_shape(openbpu: Command, folder: Path) -> None:
    scorer(folder / "n.onnx", 2, batch="N")
    assert openbpu(*arguments(folder, "--shape", "x=2,2", models="n")).code == 0
    wrong = openbpu(*arguments(folder, "--shape", "x=1,3", models="n"))
    fails(wrong, "input 'x': axis 1 must be 2, not 3")


def test_detectors_are_judged_by_coco(openbpu: Command, folder: Path) -> None:
    pytest.importorskip("pycocotools", reason="needs the extra openbpu[eval]")
    truth = coco(folder, {"a.png": [(3, [0, 0, 8, 8])], "b.png": [(3, [0, 0, 8, 8])]}, [3])
    detector(folder / "pixels.onnx", [[0, 0, 4, 4, 0.9, 3]])
    detector(folder / "relative.onnx", [[0, 0, 0.5, 0.5, 0.9, 1]])
    common = ("--data", truth, "--metric", "map", "--resamples", 20, "--json")
    by_id = openbpu("eval", folder / "pixels.onnx", *common, "--class-ids").json()
    assert by_id["scores"][0]["value"] == pytest.approx(1.0)
    from_one = openbpu(
        "eval", folder / "relative.onnx", *common, "--first-class", 1, "--boxes", "relative"
    ).json()
    assert from_one["scores"][0]["value"] == pytest.approx(1.0)


SLOW = """
import time

def slow(outputs, sample):
    time.sleep(0.05)
    return 1.0
"""


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_too_and_what_was_done_is_kept(folder: Path) -> None:
    """The terminal sends it to every process of the group; one message comes out, and no traceback."""
    pytest.importorskip("distributed", reason="needs the extra openbpu[dask]")
    psutil = pytest.importorskip("psutil", reason="comes with openbpu[dask]")
    (folder / "mine.py").write_text(SLOW)
    np.savez(folder / "d.npz", x=np.ones((2000, 2), np.float32))
    records = folder / "r.jsonl"
    options = ["--data", "d.npz", "--metric", "mine:slow", "--workers", "2", "--records", str(records)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "openbpu.cli", "eval", "a.onnx", *options]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as run:
        while not (records.exists() and len(records.read_bytes().splitlines()) > 3) and run.poll() is None:
            time.sleep(0.1)
        started = psutil.Process(run.pid).children(recursive=True)
        os.killpg(run.pid, signal.SIGINT)
        out, err = run.communicate(timeout=60)
    assert run.returncode == 130
    said, last = err.splitlines()
    assert out == ""
    assert said.endswith(f"of 2000 samples are done (mine:slow 1 of a.onnx); --resume {records} goes on")
    assert last == "openbpu: interrupted"
    _, alive = psutil.wait_procs(started, timeout=10)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
