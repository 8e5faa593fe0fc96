"""`evaluate`: a run goes on where it was cut off, and nothing is counted twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.accuracy_models import scorer
from evaluation.accuracy_runs import Counted, evaluator_of, npz
from openbpu.arch.errors import InputError
from openbpu.quantization.samples import Pixels


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
