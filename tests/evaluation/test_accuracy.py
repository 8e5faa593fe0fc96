"""`evaluate`: what it counts, that nothing is counted twice, and that where it runs changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluation.accuracy_models import FLOAT, QUANTIZED, TEST, coco, detector, scorer
from evaluation.accuracy_runs import SIXTEENTH, npz, scores
from openbpu.arch.errors import InputError
from openbpu.arch.hbm import write_hbm
from openbpu.compiler import compile as build
from openbpu.evaluation.accuracy import evaluate
from openbpu.evaluation.accuracy.metrics.cosine import cosine
from openbpu.quantization.samples import Pixels


def test_top_k_counts_the_rank_of_the_true_class(scored: tuple[Path, Path]) -> None:
    model, data = scored
    found = evaluate([model], data, ["top1", "top2"])
    assert scores(found) == {("m.onnx", "top1"): 0.5, ("m.onnx", "top2"): 0.75}
    assert [r.cells[str(model)]["top1 predicted"] for r in found.rows] == [0, 0, 0, 2]
    assert [r.label for r in found.rows] == [0, 1, 2, 2]


def test_of_equal_scores_the_lower_class_wins_and_nan_is_wrong(tmp_path: Path) -> None:
    x = np.array([[1, 1, 0], [1, 1, 0], [np.nan, 1, 0], [np.nan] * 3], np.float32)
    data = npz(tmp_path / "d.npz", x=x, labels=[0, 1, 0, 0])
    found = evaluate([scorer(tmp_path / "m.onnx")], data, ["top1"])
    assert [r.cells[found.models[0]]["top1 right"] for r in found.rows] == [1, 0, 0, 0]


def test_float_quantized_and_compiled_stand_side_by_side(tmp_path: Path) -> None:
    """On the 200 images that ship, with the accuracy that their README states."""
    hbm = tmp_path / "digits.hbm"
    write_hbm(build(QUANTIZED, march="nash-e"), hbm)
    found = evaluate([FLOAT, QUANTIZED, hbm], TEST, ["top1", "cosine"], pixels=SIXTEENTH, resamples=50)
    by_name = scores(found)
    names = ("digits.onnx", "digits.q.onnx", "digits.hbm")
    assert [by_name[n, "top1"] for n in names] == [0.995] * 3
    assert by_name["digits.onnx", "cosine"] == 1.0
    assert all(0.999 < by_name[n, "cosine"] < 1.0 for n in names[1:])
    assert found.told == ()


def test_a_binary_of_codes_and_channels_last_is_fed_as_its_model(tmp_path: Path) -> None:
    """`--remove-io` changes what it takes, not what it makes."""
    found = {}
    for name, ends in (("plain", ()), ("codes", ("quantize", "dequantize", "transpose"))):
        write_hbm(build(QUANTIZED, march="nash-e", remove_io=ends), tmp_path / f"{name}.hbm")
        made = evaluate([FLOAT, tmp_path / f"{name}.hbm"], TEST, ["cosine"], pixels=SIXTEENTH, limit=20)
        found[name] = [r.cells[made.models[1]] for r in made.rows]
    assert found["plain"] == found["codes"]


def test_a_batch_takes_samples_together_and_the_last_is_filled_up(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    data = npz(tmp_path / "d.npz", x=x, labels=x.argmax(1))
    models = [scorer(tmp_path / "one.onnx"), scorer(tmp_path / "four.onnx", batch=4)]
    models += [scorer(tmp_path / "any.onnx", batch="N"), scorer(tmp_path / "six.onnx", batch=6)]
    found = evaluate(models, data, ["top1", "cosine"])
    assert set(scores(found).values()) == {1.0}
    assert len(found.rows) == 7


def test_arrays_may_be_whole_runs(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    models = [scorer(tmp_path / f"{n}.onnx", 5, batch=4) for n in "ab"]
    found = evaluate(models, npz(tmp_path / "d.npz", x=x), ["cosine"])
    assert found.samples == 3


def test_integers_are_scaled_only_when_asked_and_that_is_said(tmp_path: Path) -> None:
    data = npz(tmp_path / "d.npz", x=np.array([[0, 2, 4]], np.uint8), labels=[2])
    models = [scorer(tmp_path / "m.onnx")]
    (told,) = evaluate(models, data).told
    assert told == "array 'x' is uint8, given as it is (0..4 in the first sample); see --scale"
    assert evaluate(models, data, pixels=Pixels(1.0)).told == ()
    floats = npz(tmp_path / "f.npz", x=np.zeros((1, 3), np.float32), labels=[2])
    with pytest.raises(InputError, match="an array must be of integers to be scaled, not float32; leave out"):
        evaluate(models, floats, pixels=Pixels(0.5))


def test_a_model_that_guesses_is_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 6)).astype(np.float32)
    data = npz(tmp_path / "d.npz", x=x, labels=rng.integers(0, 6, 60))
    (told,) = evaluate([scorer(tmp_path / "m.onnx", 6)], data).told
    assert "as if it guessed: are --scale" in told


def test_significance_is_of_the_samples_that_one_alone_has_right(tmp_path: Path) -> None:
    """The second model turns the order of scores: right where the first is wrong, of two classes."""
    x = np.tile(np.array([[1, 0]], np.float32), (12, 1))
    data = npz(tmp_path / "d.npz", x=x, labels=[0] * 9 + [1] * 3)
    models = [scorer(tmp_path / "a.onnx", 2), scorer(tmp_path / "b.onnx", 2, scale=-1.0)]
    first, second = evaluate(models, data).scores
    assert first.difference is None
    assert second.difference is not None
    assert (second.difference.only_first, second.difference.only_this) == (9, 3)
    assert second.difference.p == pytest.approx(0.14599609375)
    assert second.difference.value == -0.5
    assert second.difference.interval is not None
    assert second.difference.interval.low < -0.5 < second.difference.interval.high


def test_scores_too_low_or_too_far_below_are_named(tmp_path: Path) -> None:
    x = np.tile(np.array([[1, 0]], np.float32), (4, 1))
    data = npz(tmp_path / "d.npz", x=x, labels=[0, 0, 0, 1])
    models = [scorer(tmp_path / "a.onnx", 2), scorer(tmp_path / "b.onnx", 2, scale=-1.0)]
    found = evaluate(models, data)
    assert found.failures(at_least=0.25, at_most_lost=0.5) == []
    assert found.failures(at_least=0.5) == [f"{models[1]}: top1 is 0.2500, below 0.5"]
    (said,) = found.failures(at_most_lost=0.1)
    assert said == f"{models[1]}: top1 is 0.5000 below {models[0]}, more than 0.1"


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2], [2, 4], 1.0),
        ([1, 0], [0, 1], 0.0),
        ([1, 1], [-1, -1], -1.0),
        ([0, 0], [0, 0], 1.0),
        ([0, 0], [1, 0], 0.0),
        ([1, np.nan], [1, 2], 0.0),
        ([np.inf, 1], [np.inf, 1], 0.0),
    ],
)
def test_cosine_of_two_arrays(a: list[float], b: list[float], expected: float) -> None:
    assert cosine(np.array(a), np.array(b)) == pytest.approx(expected, abs=1e-15)


def test_map_of_boxes_in_the_pictures_own_pixels(tmp_path: Path) -> None:
    """Pictures of 16×16, a model of 8×8: its boxes are twice as large there; the first class is 0."""
    pytest.importorskip("pycocotools", reason="needs the extra openbpu[eval]")
    truth = coco(
        tmp_path, {"a.png": [(3, [0, 0, 8, 8])], "b.png": [(3, [0, 0, 8, 8]), (9, [8, 8, 8, 8])]}, [3, 9]
    )
    right = detector(tmp_path / "right.onnx", [[0, 0, 4, 4, 0.9, 0], [4, 4, 8, 8, 0.8, 1], [0] * 6])
    wrong = detector(tmp_path / "wrong.onnx", [[0, 0, 4, 4, 0.9, 1], [4, 4, 8, 8, 0.8, 0], [0] * 6])
    near = detector(tmp_path / "near.onnx", [[0, 0, 4, 3, 0.9, 0], [0] * 6, [0] * 6])
    found = scores(evaluate([right, wrong, near], truth, ["map", "map50"], resamples=20))
    # of class 9 one of two detections is right, and it is found first or second alike: 0.5 of all recalls
    assert found["right.onnx", "map50"] == pytest.approx((1 + 0.5) / 2, abs=0.01)
    assert found["right.onnx", "map"] == pytest.approx((1 + 0.5) / 2, abs=0.01)
    assert found["wrong.onnx", "map"] == 0.0
    # an overlap of 0.75 counts at 0.5, 0.55 … 0.75: six of ten; class 9 is never found
    assert found["near.onnx", "map50"] == pytest.approx(0.5)
    assert found["near.onnx", "map"] == pytest.approx(0.3)


def test_detections_of_a_class_that_there_is_not_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools", reason="needs the extra openbpu[eval]")
    truth = coco(tmp_path, {"a.png": [(3, [0, 0, 8, 8])]}, [3])
    model = detector(tmp_path / "m.onnx", [[0, 0, 4, 4, 0.9, 1]])
    with pytest.raises(
        InputError, match=r"the class of a detection must be in 0\.\.0, not 1; see --first-class"
    ):
        evaluate([model], truth, ["map"])
