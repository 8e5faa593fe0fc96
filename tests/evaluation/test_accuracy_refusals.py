"""`evaluate`: data, labels, metrics and models that do not fit are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from evaluation.accuracy_models import QUANTIZED, detector, pictures, scorer
from evaluation.accuracy_runs import npz
from openbpu.arch.errors import HbmError, InputError, ModelError
from openbpu.arch.hbm import write_hbm
from openbpu.compiler import compile as build
from openbpu.evaluation.accuracy import evaluate
from openbpu.evaluation.accuracy.data import read_data
from openbpu.evaluation.accuracy.models import model_file


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
