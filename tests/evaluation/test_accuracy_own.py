"""`evaluate`: the user's own metrics and processing, here and on workers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.accuracy_models import FLOAT, QUANTIZED, pictures
from evaluation.accuracy_runs import Counted, evaluator_of, scores
from openbpu.arch.errors import InputError
from openbpu.arch.hbm import write_hbm
from openbpu.compiler import compile as build
from openbpu.evaluation.accuracy import evaluate
from openbpu.evaluation.accuracy.data import read_data
from openbpu.evaluation.accuracy.evaluate import Evaluator, open_evaluator
from openbpu.evaluation.accuracy.metrics import make_metrics
from openbpu.evaluation.accuracy.models import model_file
from openbpu.evaluation.distribution import Pool


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
@pytest.mark.parametrize("suffix", ["hbm", "HBM"])
def test_a_change_of_any_byte_of_a_model_is_seen(tmp_path: Path, size: int, suffix: str) -> None:
    path = tmp_path / f"net.{suffix}"
    path.write_bytes(bytes(size))
    assert model_file(path).digest == hashlib.sha256(bytes(size)).hexdigest()
    changed = bytes(max(size - 1, 0)) + b"1"
    path.write_bytes(changed)
    assert model_file(path).digest == hashlib.sha256(changed).hexdigest()


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
    assert replace(mine, metric="top1") == replace(ours, classes=())


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
