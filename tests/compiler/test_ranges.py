"""Range of constants: as many elements as ONNX says, up to the ends of every element type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from openbpu.arch.errors import ModelError
from openbpu.compiler import compile  # noqa: A004 - the word of the field
from openbpu.runtime import Session

TOP = 2**63 - 1


def range_model(dtype: str, start: float, limit: float, delta: float) -> ModelProto:
    """y = Range(…) + x, where x is an input of one element."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ends = {"start": start, "limit": limit, "delta": delta}
    graph = helper.make_graph(
        [helper.make_node("Range", [*ends], ["r"]), helper.make_node("Add", ["r", "x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, [1])],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.array(value, dtype), name) for name, value in ends.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("dtype", "start", "limit", "delta"),
    [
        ("int64", TOP - 5, TOP, 2),
        ("int64", -TOP - 1, TOP, 2**62),
        ("int64", -TOP - 1, TOP, TOP),
        ("int64", TOP, -TOP - 1, -(2**62)),
        ("int64", TOP, -TOP - 1, -TOP - 1),
        ("int64", 5, 0, 1),
        ("int32", -(2**31), 2**31 - 1, 2**30),
        ("int16", -(2**15), 2**15 - 1, 20000),
    ],
)
def test_a_range_of_integers_has_the_elements_of_pythons(
    dtype: str, start: int, limit: int, delta: int
) -> None:
    got = Session(compile(range_model(dtype, start, limit, delta), march="nash-e")).run(
        {"x": np.zeros(1, dtype)}
    )
    np.testing.assert_array_equal(got.outputs["y"], np.array(range(start, limit, delta), dtype), strict=True)


@pytest.mark.parametrize(
    "ends", [(0.0, 1.0, 0.1), (0.0, 0.3, 0.1), (1.0, 0.0, -0.1), (2.0**24, 2.0**24 + 10, 1.0)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_range_of_floats_is_start_and_multiples_of_delta(
    dtype: str, ends: tuple[float, float, float]
) -> None:
    start, limit, delta = (float(np.array(v, dtype)) for v in ends)
    count = int(np.ceil((limit - start) / delta))
    got = Session(compile(range_model(dtype, *ends), march="nash-e")).run({"x": np.zeros(1, dtype)})
    expected = np.array([start + i * delta for i in range(count)], dtype)
    np.testing.assert_array_equal(got.outputs["y"], expected, strict=True)


@pytest.mark.parametrize(
    ("dtype", "ends", "said"),
    [
        ("int64", (0, TOP, 1), "size must be at most 2 GiB"),
        ("int64", (-TOP - 1, TOP, 1), "size must be at most 2 GiB"),
        ("float32", (0.0, 1.0, 1e-12), "size must be at most 2 GiB"),
        ("int64", (0, 5, 0), "delta must be other than 0"),
        ("float32", (0.0, np.inf, 1.0), "start, limit and delta must be finite"),
        ("float32", (0.0, np.nan, 1.0), "start, limit and delta must be finite"),
        ("float32", (0.0, 1.0, 1e-45), "size must be at most 2 GiB"),
        ("int64", (TOP - 2**24, TOP, 1), "start and limit of so many elements must be within"),
    ],
)
def test_a_range_that_nothing_can_make_is_refused_with_its_node(
    dtype: str, ends: tuple[Any, Any, Any], said: str
) -> None:
    with pytest.raises(ModelError, match=rf"\(Range\):.* ?{said}"):
        compile(range_model(dtype, *ends), march="nash-e")
