"""The numbers in docs/numerics.md are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from compiler.test_right_single import APPROXIMATED
from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.arch.numerics.functions import POINTWISE

PAGE = (Path(__file__).parents[2] / "docs" / "numerics.md").read_text(encoding="utf-8")
INT16_ROW = re.compile(r"^\| (\w+)(?: (\d))? \| ±([\d.]+) \| ±([\d.]+) \| ([\d.]+) \|$", re.MULTILINE)
ROWS = INT16_ROW.findall(PAGE)


def test_the_page_lists_functions() -> None:
    assert len(ROWS) > 30


@pytest.mark.parametrize(("op", "operand", "reach", "top", "bound"), ROWS, ids=lambda cell: cell or "-")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # Log of negative numbers
def test_error_of_an_int16_function_is_as_stated(
    op: str, operand: str, reach: str, top: str, bound: str
) -> None:
    x = numerics.codes(DType.INT16) * (float(reach) / 32767.5)
    more = (np.float64(operand),) if operand else ()
    y = np.nan_to_num(POINTWISE[op]({}, x, *more), nan=0.0) / (float(top) / 32767.5)
    table = numerics.segment_table(y, -32768, 32767)
    error = numerics.segment_error(y, table, -32768, 32767)
    assert len(table) <= numerics.MAX_SEGMENTS
    assert float(bound) * 0.8 - 0.1 <= error <= float(bound), f"state {error:.2f}"


def test_stated_bounds_of_approximated_operators_are_the_tested_ones() -> None:
    stated = dict(re.findall(r"^\| (\w+) \| ([\d.]+) \| [\d.]+ \|$", PAGE, re.MULTILINE))
    assert {op: float(bound) for op, bound in stated.items()} == APPROXIMATED


def test_the_page_states_what_the_compiler_refuses() -> None:
    assert f"1/{numerics.SEGMENT_SHARE} of the range of its values" in PAGE
