"""`evaluate`: what it counts, that nothing is counted twice, and that where it runs changes nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from evaluation.accuracy_models import FLOAT, QUANTIZED, TEST, coco, detector, pictures, scorer
from openbpu.arch.errors import HbmError, InputError, ModelError
from openbpu.arch.hbm import write_hbm
from openbpu.compiler import compile as build
from openbpu.evaluation.accuracy import Evaluation, evaluate
from openbpu.evaluation.accuracy.data import read_data
from openbpu.evaluation.accuracy.evaluate import Evaluator, Setting, open_evaluator
from openbpu.evaluation.accuracy.metrics import make_metrics
from openbpu.evaluation.accuracy.metrics.cosine import cosine
from openbpu.evaluation.accuracy.models import model_file
from openbpu.evaluation.distribution import Pool
from openbpu.quantization.samples import Pixels

ScoreOf = dict[tuple[str, str], float]
SIXTEENTH = Pixels(1 / 16)


def scores(found: Evaluation) -> ScoreOf:
    return {(Path(s.model).name, s.metric): s.value for s in found.scores}


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Path, Path]:
    """A model that returns what it gets, and four samples of three scores: labels at ranks 0, 1, 2, 0."""
    x = np.array([[3, 2, 1], [3, 2, 1], [3, 2, 1], [0, 0, 9]], np.float32)
    return scorer(tmp_path / "m.onnx"), npz(tmp_path / "d.npz", x=x, labels=[0, 1, 2, 2])


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


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (["top9"], r"top9: k must be below 3, the number of classes, not 9"),
        (["tpo1"], r"--metric: a metric must be top1, top5 .*, not 'tpo1'"),
        (["map"], r"--metric map: the data must be a COCO \.json"),
        (["cosine"], r"--metric cosine: the number of models must be 2 or more, not 1"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused(
    scored: tuple[Path, Path], metrics: list[str], said: str
) -> None:
    if "map" in metrics:
        pytest.importorskip("pycocotools", reason="needs the extra openbpu[eval]")
    with pytest.raises(InputError, match=said):
        evaluate([scored[0]], scored[1], metrics)


def test_the_extra_for_map_is_named_where_it_is_missing(
    scored: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"the package pycocotools must be installed.*openbpu\[eval\]"):
        evaluate([scored[0]], scored[1], ["map"])


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (None, "labels must be a class per sample, not missing; put images into a folder per class"),
        (np.eye(4, 3), r"not ndarray; numpy\.argmax\(labels, 1\) makes classes"),
        (np.zeros(4), "not float; save them as integers"),
    ],
)
def test_labels_that_are_no_classes_are_refused(tmp_path: Path, labels: Any, said: str) -> None:
    arrays = {"x": np.zeros((4, 3), np.float32)} | ({} if labels is None else {"labels": labels})
    with pytest.raises(InputError, match=said):
        evaluate([scorer(tmp_path / "m.onnx")], npz(tmp_path / "d.npz", **arrays))


def test_a_label_beyond_the_scores_names_sample_and_model(tmp_path: Path) -> None:
    data = npz(tmp_path / "d.npz", x=np.zeros((2, 3), np.float32), labels=[0, 3])
    with pytest.raises(InputError, match=r"sample '1': the label must be in 0\.\.2, not 3; .* has 3 scores"):
        evaluate([scorer(tmp_path / "m.onnx")], data)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (
            {"x": np.zeros((2, 4), np.float32)},
            r"sample '0': the shape for input 'x' must be \(1, 3\), not \(1, 4\)",
        ),
        ({"x": np.array([["a"] * 3] * 2)}, r"sample '0': the type of input 'x' must be float32, not <U1"),
        ({"x": np.full((2, 3), np.inf, np.float32)}, None),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, arrays: Any, said: str | None) -> None:
    data = npz(tmp_path / "d.npz", labels=[0, 1], **arrays)
    if said is None:
        evaluate([scorer(tmp_path / "m.onnx")], data)  # ONNX takes infinity
        return
    with pytest.raises(InputError, match=said):
        evaluate([scorer(tmp_path / "m.onnx")], data)


def test_models_of_different_networks_are_refused(scored: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = scored
    other = onnx.load(model)
    other.graph.output.append(other.graph.output[0])
    other.graph.node.append(onnx.helper.make_node("Abs", ["x"], ["z"]))
    other.graph.output[1].name = "z"
    onnx.save(other, tmp_path / "two.onnx")
    with pytest.raises(InputError, match=r"two.onnx: the number of outputs must be 1, as of .*m.onnx, not 2"):
        evaluate([model, tmp_path / "two.onnx"], data)


def test_a_model_of_several_outputs_needs_the_name_of_the_scores(
    scored: tuple[Path, Path], tmp_path: Path
) -> None:
    two = onnx.load(scored[0])
    two.graph.output.append(two.graph.output[0])
    two.graph.node.append(onnx.helper.make_node("Neg", ["x"], ["z"]))
    two.graph.output[1].name = "z"
    onnx.save(two, tmp_path / "two.onnx")
    with pytest.raises(
        InputError, match="the number of outputs must be 1 for scores of classes, not 2: y, z"
    ):
        evaluate([tmp_path / "two.onnx"], scored[1])
    with pytest.raises(InputError, match="--scores: the output must be one of y, z, not 'q'"):
        evaluate([tmp_path / "two.onnx"], scored[1], scores="q")
    assert evaluate([tmp_path / "two.onnx"], scored[1], scores="y").scores[0].value == 0.5
    (tmp_path / "again.onnx").write_bytes((tmp_path / "two.onnx").read_bytes())
    both = evaluate([tmp_path / "two.onnx", tmp_path / "again.onnx"], scored[1], ["cosine"])
    assert [s.metric for s in both.scores] == ["cosine 'y'"] * 2 + ["cosine 'z'"] * 2


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("m.txt", InputError, "the model must be an .onnx or a .hbm file"),
        ("broken.onnx", ModelError, "the model must be an ONNX file"),
        ("broken.hbm", HbmError, "broken.hbm"),
    ],
)
def test_a_file_that_is_no_model_is_refused(
    scored: tuple[Path, Path], tmp_path: Path, name: str, error: type[Exception], said: str
) -> None:
    (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(error, match=said):
        evaluate([scored[0], tmp_path / name], scored[1])


def test_one_model_twice_is_refused(scored: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="every model must be given once"):
        evaluate([scored[0], scored[0]], scored[1])


def test_a_model_that_changes_meanwhile_is_refused(scored: tuple[Path, Path]) -> None:
    file = model_file(scored[0])
    scorer(scored[0], scale=2.0)
    with pytest.raises(InputError, match="the model must be what it was at the start, not changed"):
        file.open(threads=1, march=None, shapes={})


def test_what_is_packed_needs_no_file(tmp_path: Path) -> None:
    """A worker of another machine sees neither models nor pictures."""
    pictures(tmp_path / "d", ["a/1.png", "b/2.png"], (8, 8))
    model = detector(tmp_path / "m.onnx", [[1, 2, 3, 4, 5, 6]])
    write_hbm(build(QUANTIZED, march="nash-e"), tmp_path / "d.hbm")
    for file in (model, tmp_path / "d.hbm"):
        packed = model_file(file).packed()
        file.unlink()
        assert packed.open(threads=1, march=None, shapes={}).inputs
    sample = read_data(tmp_path / "d", ["image"]).samples[1]
    packed_sample = sample.packed()
    with sample.open() as picture:
        expected = picture.read()
    assert sample.path is not None
    sample.path.unlink()
    assert packed_sample.open().read() == expected


def evaluator_of(model: Path, data: Path, **options: Any) -> Evaluator:
    made, _ = open_evaluator(
        [model_file(model)],
        lambda inputs: read_data(data, inputs),
        make_metrics(options.pop("metrics", ["top1"])),
        Setting(**options.pop("setting", {})),
        **options,
    )
    return made


class Counted(Pool):
    """Counts what is worked on, and stops after `most`."""

    def __init__(self, most: int = 1000) -> None:
        super().__init__()
        self.count, self.most = 0, most

    def run(self, task: Any, items: Any, on_result: Any = None) -> Any:
        def counted(number: int, result: Any) -> None:
            on_result(number, result)
            self.count += 1
            if self.count == self.most:
                raise KeyboardInterrupt

        return super().run(task, items, counted)


def test_a_run_goes_on_where_it_was_cut_off(scored: tuple[Path, Path], tmp_path: Path) -> None:
    records = tmp_path / "r.jsonl"
    whole = evaluator_of(*scored).run(Counted())
    with pytest.raises(KeyboardInterrupt):
        evaluator_of(*scored).run(Counted(2), records=records)
    with records.open("ab") as file:
        file.write(b"[3, [[{")  # the line that was being written when the power went
    pool = Counted()
    assert evaluator_of(*scored).run(pool, records=records, resume=True) == whole
    assert pool.count == 2
    assert len(records.read_text().splitlines()) == 1 + 4
    again = Counted()
    assert evaluator_of(*scored).run(again, records=records, resume=True) == whole
    assert again.count == 0


def test_records_of_a_part_serve_the_whole(scored: tuple[Path, Path], tmp_path: Path) -> None:
    records = tmp_path / "r.jsonl"
    evaluator_of(*scored, limit=2).run(Counted(), records=records)
    pool = Counted()
    evaluator_of(*scored).run(pool, records=records, resume=True)
    assert pool.count == 2


def change_model(model: Path, _data: Path) -> dict[str, Any]:
    scorer(model, scale=2.0)
    return {}


def change_data(_model: Path, data: Path) -> dict[str, Any]:
    npz(data, x=np.zeros((4, 3), np.float32), labels=[0, 1, 2, 2])
    return {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_model, r"model '.*m.onnx' must be of digest [0-9a-f]{12}…, as then, not of digest"),
        (change_data, r"the data must be of digest [0-9a-f]{12}…, as then, not of digest"),
        (lambda *_: {"metrics": ["top2"]}, r"option metrics must be \['top1'\], as then, not \['top2'\]"),
        (lambda *_: {"setting": {"pixels": Pixels(2.0)}}, r"option scale must be None, as then, not 2.0"),
    ],
)
def test_records_of_something_else_are_refused_by_name(
    tmp_path: Path, change: Callable[[Path, Path], dict[str, Any]], said: str
) -> None:
    model, records = scorer(tmp_path / "m.onnx"), tmp_path / "r.jsonl"
    data = npz(tmp_path / "d.npz", x=np.arange(12).reshape(4, 3), labels=[0, 1, 2, 2])
    evaluator_of(model, data).run(Counted(), records=records)
    before = records.read_bytes()
    changed = evaluator_of(model, data, **change(model, data))
    with pytest.raises(InputError, match=rf"r\.jsonl: {said}.*begin anew with --records FILE"):
        changed.run(Counted(), records=records, resume=True)
    assert records.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "must be a file of records of openbpu eval, not something else"),
        (b"\xff\xfe\n", "must be a text in UTF-8"),
        (b'{"a": 1}\nmore', "must be a file of records of openbpu eval, not something else"),
        (b"no json\n", ":1: the line must be JSON, not 'no json'"),
        (None, "the file to resume from must be a file of records of openbpu eval, not missing"),
    ],
)
def test_a_file_without_records_is_refused_and_left_alone(
    scored: tuple[Path, Path], tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "r.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        evaluator_of(*scored).run(Counted(), records=path, resume=True)
    assert (path.read_bytes() if path.exists() else None) == content


def test_a_damaged_line_of_records_is_named(scored: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    evaluator_of(*scored).run(Counted(), records=path)
    lines = path.read_text().splitlines()
    lines[2] = '{"x": 1}'
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"r.jsonl:3: the line must be \[sample, records\]"):
        evaluator_of(*scored).run(Counted(), records=path, resume=True)


def test_records_are_used_by_one_process_at_a_time(scored: tuple[Path, Path], tmp_path: Path) -> None:
    from openbpu.arch.journal import Journal

    path = tmp_path / "r.jsonl"
    with Journal(path, new=True), pytest.raises(InputError, match="used by one process, not by another one"):
        evaluator_of(*scored).run(Counted(), records=path, resume=True)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Writes a module `mine` into the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str) -> None:
        sys.modules.pop("mine", None)
        (tmp_path / "mine.py").write_text(text)

    yield write
    sys.modules.pop("mine", None)


def test_a_function_of_the_users_scores_samples(
    scored: tuple[Path, Path], own: Callable[[str], None]
) -> None:
    own("def largest(outputs, sample):\n    return float(outputs['y'].max()) + sample.label")
    (score,) = evaluate([scored[0]], scored[1], ["mine:largest"]).scores
    assert (score.metric, score.value, score.is_share) == ("mine:largest", (3 + 4 + 5 + 11) / 4, False)


def test_true_and_false_are_a_share_with_its_test(
    scored: tuple[Path, Path], own: Callable[[str], None]
) -> None:
    own("def right(outputs, sample):\n    return bool(outputs['y'].argmax() == sample.label)")
    mine, ours = evaluate([scored[0]], scored[1], ["mine:right", "top1"]).scores
    assert replace(mine, metric="top1") == ours


CLASS = """
class Metric:
    def preprocess(self, sample):
        return {"x": sample.arrays["x"] * 2}

    def postprocess(self, outputs, sample):
        return outputs["y"].reshape(-1)

    def update(self, prediction, sample):
        return {"top": prediction.max(), "label": sample.label}

    def result(self, kept):
        return sum(k["top"] for k in kept)
"""


def test_a_class_of_the_users_does_all_of_it(scored: tuple[Path, Path], own: Callable[[str], None]) -> None:
    own(CLASS)
    found = evaluate([scored[0]], scored[1], ["mine:Metric", "top1"], resamples=10)
    assert found.scores[0].value == 2 * (3 + 3 + 3 + 9)
    assert found.scores[0].interval is not None
    assert json.loads(str(found.rows[3].cells[str(scored[0])]["mine:Metric kept"])) == {
        "top": 18.0,
        "label": 2,
    }


def test_preprocessing_and_postprocessing_serve_the_known_metrics(
    scored: tuple[Path, Path], own: Callable[[str], None]
) -> None:
    own("def pre(sample): return -sample.arrays['x']\ndef post(outputs, sample): return -outputs['y'][0]")
    plain = scores(evaluate([scored[0]], scored[1], ["top1"]))
    assert scores(evaluate([scored[0]], scored[1], ["top1"], preprocess="mine:pre")) != plain
    both = evaluate([scored[0]], scored[1], ["top1"], preprocess="mine:pre", postprocess="mine:post")
    assert scores(both) == plain


@pytest.mark.parametrize(
    ("text", "spec", "said"),
    [
        ("", "nowhere:f", "the module must be a file in .*, or installed, not 'nowhere'"),
        ("", "mine", "the name must be MODULE:NAME"),
        ("", "mi ne:f", "the name must be MODULE:NAME"),
        (
            "def right(): ...",
            "mine:rihgt",
            "a name in mine must be right, not 'rihgt'; did you mean 'right'?",
        ),
        (
            "1/0",
            "mine:f",
            r"module mine cannot be imported: ZeroDivisionError: .* \(mine.py, line 1\); mend it",
        ),
        ("import nowhere_2", "mine:f", "module mine cannot be imported: ModuleNotFoundError: .*nowhere_2"),
        ("f = 3", "mine:f", r"mine:f must be a function\(outputs, sample\), or a class with update"),
        ("class F:\n def __init__(self): 1/0", "mine:F", r"mine:F: it failed: ZeroDivisionError.*line 2"),
        (
            "def f(o, s): return {}[3]",
            "mine:f",
            r"mine:f: it failed for sample '0': KeyError: 3 \(mine.py, line 1\)",
        ),
        (
            "def f(o, s): return 'a'",
            "mine:f",
            "what is kept must be a number, not str; give the class a result",
        ),
        ("def f(o, s): return {1, 2}", "mine:f", "what is kept must be what JSON holds: .*set is none"),
        ("def f(o, s): return float('nan')", "mine:f", "what is kept must be what JSON holds"),
    ],
)
def test_what_is_wrong_with_the_users_code_is_said(
    scored: tuple[Path, Path], own: Callable[[str], None], text: str, spec: str, said: str
) -> None:
    own(text)
    with pytest.raises(InputError, match=said):
        evaluate([scored[0]], scored[1], [spec if ":" in spec else f"{spec}:"])


def test_a_result_that_is_no_number_is_refused(scored: tuple[Path, Path], own: Callable[[str], None]) -> None:
    own("class M:\n def update(self, p, s): return [1]\n def result(self, kept): return 'many'")
    with pytest.raises(InputError, match=r"mine:M.result: what it returns must be a finite number, not many"):
        evaluate([scored[0]], scored[1], ["mine:M"])


def test_what_the_metric_returns_does_not_depend_on_records(
    scored: tuple[Path, Path], own: Callable[[str], None], tmp_path: Path
) -> None:
    """A tuple comes back from a file as a list: so it is one from the start."""
    own("class M:\n def update(self, p, s): return (1, 2)\n def result(self, kept): return kept[0] == [1, 2]")
    made = evaluator_of(*scored, metrics=["mine:M"])
    assert made.run(Counted(), records=tmp_path / "r.jsonl").scores[0].value == 1.0
    assert made.run(Counted(), records=tmp_path / "r.jsonl", resume=True).scores[0].value == 1.0


@pytest.mark.slow
def test_workers_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores, intervals and rows, bit for bit; also where they see no file, and where one is killed."""
    import os
    import signal

    pytest.importorskip("distributed", reason="needs the extra openbpu[dask]")
    hbm = tmp_path / "digits.hbm"
    write_hbm(build(QUANTIZED, march="nash-e"), hbm)
    pictures(tmp_path / "images", [f"{n % 10}/{n}.png" for n in range(40)], (9, 9))
    models = [model_file(m) for m in (FLOAT, QUANTIZED, hbm)]

    def made() -> Evaluator:
        metrics = make_metrics(["top1", "top3", "cosine"])
        return open_evaluator(models, lambda i: read_data(tmp_path / "images", i), metrics)[0]

    here = made().run(Counted(), records=tmp_path / "here.jsonl")
    with Pool(workers=2) as pool:
        assert made().run(pool) == here
        monkeypatch.setattr(pool, "sees", lambda _: False)
        assert made().run(pool) == here
        pids = list(pool._cluster._client.run(os.getpid).values())  # type: ignore[union-attr]

        def kill_one(done: int, _total: int) -> None:
            if done == 3:
                os.kill(pids[0], signal.SIGKILL)

        assert made().run(pool, records=tmp_path / "killed.jsonl", progress=kill_one) == here
    lines = [p.read_text().splitlines() for p in (tmp_path / "here.jsonl", tmp_path / "killed.jsonl")]
    assert sorted(lines[0]) == sorted(lines[1])


@pytest.mark.slow
def test_the_users_code_reaches_workers_that_do_not_have_it(
    scored: tuple[Path, Path], own: Callable[[str], None]
) -> None:
    pytest.importorskip("distributed", reason="needs the extra openbpu[dask]")
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        own(CLASS)
        address = cluster.scheduler_address
        found = evaluate([scored[0]], scored[1], ["mine:Metric"], resamples=0, scheduler=address)
    assert found.scores[0].value == 36
