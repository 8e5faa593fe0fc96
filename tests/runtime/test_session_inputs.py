"""A wrong input is refused with one sentence before anything runs."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import InputError
from openbpu.runtime import Session
from runtime.models import bpu_program, cpu_program

GOOD = np.zeros((2, 3), np.float32)


def with_nan() -> Any:
    x = GOOD.copy()
    x[1, 2] = np.nan
    return x


CASES: dict[str, tuple[Any, str]] = {
    "not a dict": (GOOD, r'must be a dict of arrays by name, not ndarray; call run\(\{"name": array\}\)'),
    "unknown name": (
        {"image": GOOD, "imagee": GOOD},
        "a name must be one of 'image', not 'imagee'; did you mean 'image'?",
    ),
    "name that is no text": ({0: GOOD}, "a name must be one of 'image', not '0'"),
    "missing name": ({}, "inputs: 'image' is missing; the model's inputs are 'image'"),
    "shape": (
        {"image": np.zeros((3, 2), np.float32)},
        "input 'image': shape must be 2×3, not 3×2; the number of elements fits: reshape or transpose it",
    ),
    "batch": ({"image": np.zeros(3, np.float32)}, "shape must be 2×3, not 3; add the batch axis"),
    "scalar": ({"image": np.float32(1)}, r"shape must be 2×3, not \(\) \(a scalar\)"),
    "float64": ({"image": np.zeros((2, 3))}, r"float32, not float64; cast it: x.astype\(np.float32\)"),
    "list": ({"image": [[1.0, 2.0, 3.0]] * 2}, "dtype must be float32, not float64; cast it"),
    "ragged": ({"image": [[1.0], [1.0, 2.0]]}, "the value must be an array, not list"),
    "text": ({"image": np.array([["a"] * 3] * 2)}, "dtype must be float32, not <U1; give a numeric array"),
    "byte order": ({"image": GOOD.astype(">f4")}, "dtype must be float32, not >f4; cast it"),
    "NaN": (
        {"image": with_nan()},
        r"every value must be finite, not NaN \(1 of 6 elements, the first at \[1, 2\]\)",
    ),
    "NaN and infinity": (
        {"image": np.array([[np.inf, 0, 0], [0, np.nan, 0]], np.float32)},
        r"not NaN and infinity \(2 of 6 elements, the first at \[0, 0\]\)",
    ),
    "minus infinity": ({"image": GOOD - np.inf}, r"not infinity \(6 of 6 elements, the first at \[0, 0\]\)"),
    "infinity": (
        {"image": GOOD + np.inf},
        r"not infinity \(6 of 6 elements, the first at \[0, 0\]\); .* finite=False",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_is_refused(case: str) -> None:
    given, message = CASES[case]
    with pytest.raises(InputError, match=message):
        Session(cpu_program()).run(given)


def test_float_for_an_integer_input_says_how_to_quantize() -> None:
    program = bpu_program()
    tensors = list(program.tensors)
    tensors[0] = replace(tensors[0], dtype=DType.INT8, scale=(0.5,), zero_point=3)
    session = Session(replace(program, tensors=tuple(tensors)))
    with pytest.raises(
        InputError, match=r"takes integers: quantize it first \(scale 0.5, zero point 3\)"
    ) as said:
        session.run({"x": np.zeros((1, 4, 4, 8), np.float32)})
    assert "clip(rint(x / scale) + zero point, -128, 127) as int8" in str(said.value)
    assert "`openbpu info` shows both" in str(said.value)


def test_nothing_is_loaded_for_a_wrong_input() -> None:
    session = Session(cpu_program("NoSuchOperator"))
    with pytest.raises(InputError):
        session.run({})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "quick"}, "mode must be 'fast' or 'exact', not 'quick'"),
        ({"threads": 0}, "threads must be an integer of at least 1, not 0"),
        ({"threads": 1.5}, "threads must be an integer of at least 1, not 1.5"),
    ],
)
def test_wrong_argument_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Session(cpu_program(), **arguments)


def test_layout_of_the_array_does_not_matter() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
    session = Session(cpu_program())
    expected = session.run({"image": x}).outputs["result"]
    strided = np.zeros((4, 6), np.float32)
    strided[::2, ::2] = x
    for same in (np.asfortranarray(x), strided[::2, ::2], x[::-1, ::-1][::-1, ::-1]):
        np.testing.assert_array_equal(session.run({"image": same}).outputs["result"], expected)
