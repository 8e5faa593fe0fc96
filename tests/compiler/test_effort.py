"""Options of the schedule: what is refused, what is recorded, and the same bits whatever they are."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from openbpu.arch.errors import CompileError
from openbpu.arch.hbm import read_hbm, to_bytes
from openbpu.compiler import compile as compile_model
from openbpu.compiler.schedule.tiling.memo import Memo

DIGITS = Path(__file__).resolve().parents[2] / "models" / "digits" / "digits.q.onnx"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"balance": 101}, r"balance must be a whole number in 0\.\.100, not 101; 0 is for the fewest"),
        ({"balance": True}, r"balance must be a whole number in 0\.\.100, not True"),
        ({"balance": "50"}, r"balance must be a whole number in 0\.\.100, not '50'"),
        ({"max_l2m_size": 4096}, r"max_l2m_size must be 0, not 4096; nash-e has no L2M; nash-p"),
        (
            {"march": "nash-p", "max_l2m_size": -1},
            r"max_l2m_size must be a whole number in 0\.\.25165824, not -1; it is in",
        ),
        (
            {"march": "nash-h", "max_l2m_size": 1 << 25},
            r"max_l2m_size must be a whole number in 0\.\.25165824, not 33554432",
        ),
        ({"core_num": 2}, r"core_num must be 1, not 2; nash-e has 1 BPU core$"),
        (
            {"march": "nash-h", "core_num": 4},
            r"core_num must be a whole number in 1\.\.3, not 4; nash-h has 3 BPU cores",
        ),
        ({"march": "nash-p", "core_num": 0}, r"core_num must be a whole number in 1\.\.4, not 0"),
        ({"march": "nash-p", "core_num": True}, r"core_num must be a whole number in 1\.\.4, not True"),
    ],
)
def test_what_no_schedule_can_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        compile_model(DIGITS, **{"march": "nash-e"} | options)


@pytest.mark.parametrize(
    ("options", "recorded"),
    [
        ({"balance": 30}, {"balance": "30"}),
        ({"max_l2m_size": 4096}, {"max_l2m_size": "4096"}),
        ({"core_num": 2}, {"core_num": "2"}),
    ],
)
def test_options_are_recorded_in_the_file(options: dict[str, Any], recorded: dict[str, str]) -> None:
    program = compile_model(DIGITS, march="nash-p", options=options)
    assert recorded.items() <= dict(read_hbm(to_bytes(program)).options).items()


def test_defaults_are_not_recorded() -> None:
    program = compile_model(DIGITS, march="nash-p", balance=100, max_l2m_size=0, core_num=1)
    assert dict(program.options) == {"opt": "2"}


def test_what_was_searched_is_kept_within_bounds() -> None:
    memo, made = Memo(), list[int]()

    def search(key: int) -> int:
        made.append(key)
        return -key

    for turns, keys in ((1, 100), (2, 100), (3, 300)):
        for key in range(keys):
            assert memo.recall(key, None, partial(search, key), lambda _: 1 << 20) == -key
        assert (made == list(range(100))) == (turns < 3)
    assert made[100:].count(100) == 1
    memo.recall(0, None, partial(search, 0), lambda _: 1 << 20)
    assert made.count(0) == 2  # forgotten when more than 128 MiB were kept
