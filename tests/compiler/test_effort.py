"""Options of the schedule: what is refused, what is recorded, and the same bits whatever they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openbpu.arch.errors import CompileError
from openbpu.arch.hbm import read_hbm, to_bytes
from openbpu.compiler import compile as compile_model

DIGITS = Path(__file__).resolve().parents[2] / "models" / "digits" / "digits.q.onnx"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"balance": 101}, r"balance must be a whole number in 0\.\.100, not 101; 0 is for the fewest"),
        ({"balance": True}, r"balance must be a whole number in 0\.\.100, not True"),
        ({"balance": "50"}, r"balance must be a whole number in 0\.\.100, not '50'"),
    ],
)
def test_what_no_schedule_can_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        compile_model(DIGITS, march="nash-e", **options)


@pytest.mark.parametrize(("options", "recorded"), [({"balance": 30}, {"balance": "30"})])
def test_options_are_recorded_in_the_file(options: dict[str, Any], recorded: dict[str, str]) -> None:
    program = compile_model(DIGITS, march="nash-p", options=options)
    assert recorded.items() <= dict(read_hbm(to_bytes(program)).options).items()


def test_defaults_are_not_recorded() -> None:
    program = compile_model(DIGITS, march="nash-p", balance=100)
    assert dict(program.options) == {"opt": "2"}
