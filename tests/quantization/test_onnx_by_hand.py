"""Bytes of tensors in other files, constants of every form, and limits of operands, counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from openbpu.arch.errors import ModelError
from openbpu.quantization.onnx.extents import Extent
from openbpu.quantization.onnx.files import _nbytes
from openbpu.quantization.onnx.limits import _operand_limit
from openbpu.quantization.onnx.load import load
from openbpu.quantization.onnx.masks import factor_of, steps_back
from openbpu.quantization.onnx.net import Net, _constant
from openbpu.quantization.onnx.prepare import read
from quantization.float_models import float_model

ELEMENTS = sorted(helper.get_all_tensor_dtypes() - {TensorProto.STRING})


@pytest.mark.parametrize("element", ELEMENTS, ids=TensorProto.DataType.Name)
@pytest.mark.parametrize("shape", [(), (3,), (2, 5), (0, 4)])
def test_a_tensor_takes_the_bytes_that_onnx_writes(element: int, shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, helper.tensor_dtype_to_np_dtype(element))
    written = numpy_helper.from_array(array)
    assert written.data_type == element
    assert _nbytes(written) == len(written.raw_data)


def test_a_tensor_of_no_known_type_takes_none() -> None:
    assert _nbytes(TensorProto(data_type=99, dims=[3])) == 0
    assert _nbytes(TensorProto(data_type=TensorProto.FLOAT, dims=[-3])) == 0


CONSTANTS: dict[str, Any] = {
    "value_float": (0.5, np.float32),
    "value_floats": ([0.5, -2.0], np.float32),
    "value_int": (3, np.int64),
    "value_ints": ([3, -4], np.int64),
}


@pytest.mark.parametrize("form", CONSTANTS)
def test_a_constant_of_numbers_is_an_array(form: str) -> None:
    value, dtype = CONSTANTS[form]
    found = _constant(helper.make_node("Constant", [], ["y"], **{form: value}))
    assert found is not None
    assert (found.dtype, found.tolist()) == (dtype, value)


def test_a_constant_holds_a_tensor_or_is_none() -> None:
    tensor = numpy_helper.from_array(np.array([[1, 2]], np.int8))
    found = _constant(helper.make_node("Constant", [], ["y"], value=tensor))
    assert found is not None
    assert found.tolist() == [[1, 2]]
    assert _constant(helper.make_node("Constant", [], ["y"], value_string="a")) is None
    assert _constant(helper.make_node("Relu", ["x"], ["y"])) is None
    assert _constant(helper.make_node("Constant", [], ["y"], domain="other", value_int=1)) is None


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (NodeProto(op_type="Constant", output=["y"]), "Constant 'y'.* not 0 attributes, 1 outputs"),
        (
            helper.make_node("Constant", [], [], "n", value_int=1),
            "Constant 'n'.* not 1 attributes, 0 outputs",
        ),
        (
            helper.make_node("Constant", [], ["y"], value_int=1, value_float=1.0),
            "what it holds must be one value for one output, not 2 attributes, 1 outputs",
        ),
    ],
)
def test_a_constant_of_several_values_or_none_is_refused(node: NodeProto, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        _constant(node)


C: dict[str, Any] = {
    "h": np.float32(0.5),
    "k": np.float32(-4),
    "v": np.array([2, 4], np.float32),
    "w": np.array([-1, 1], np.float32),
}
LIMIT = (-6.0, 8.0)
EXTENTS = {"a": Extent(-1.0, 3.0, count=2), "b": Extent(-2.0, 5.0, count=2)}


def net(text: str) -> Net:
    return read(load(float_model(f"(float[2] a, float[2] b) => (float[2] y) {{ y = {text} }}", C)), None)


def limits(text: str) -> list[tuple[str, tuple[float, float]]]:
    found = net(text)
    (node,) = found.nodes
    steps = list(steps_back(node, found))
    return [
        (name, _operand_limit(node, found, LIMIT, sign, steps[:n] + steps[n + 1 :], EXTENTS))
        for n, (name, sign) in enumerate(steps)
    ]


OPERANDS: dict[str, list[tuple[str, tuple[float, float]]]] = {
    "Add(a, b)": [("a", (-11, 10)), ("b", (-9, 9))],  # a = y − b: −6 − 5 … 8 + 2
    "Sum(a, b)": [("a", (-11, 10)), ("b", (-9, 9))],
    "Sub(a, b)": [("a", (-8, 13)), ("b", (-9, 9))],  # a = y + b; b = a − y: −1 − 8 … 3 + 6
    "Neg(a)": [("a", (-8, 6))],
    "Relu(a)": [],
    "Mul(a, h)": [("a", (-12, 16))],
    "Mul(k, a)": [("a", (-2, 1.5))],
    "Div(a, h)": [("a", (-3, 4))],
    "Div(h, a)": [],
    "Mul(a, v)": [("a", (-3, 4))],  # the smaller factor: what is below −3 there is below −6 at least
    "Mul(a, w)": [],  # of both signs
    "Max(a, b)": [("a", (-2, 8)), ("b", (-1, 8))],
    "Min(a, b)": [("a", (-6, 5)), ("b", (-6, 3))],
}


@pytest.mark.parametrize("text", OPERANDS)
def test_an_operand_has_the_limits_that_its_result_leaves_it(text: str) -> None:
    assert limits(text) == OPERANDS[text]


def test_an_operand_beside_one_that_was_never_seen_is_free_in_a_sum() -> None:
    found = net("Add(a, b)")
    made = _operand_limit(found.nodes[0], found, LIMIT, 1, [("b", 1)], {"b": Extent()})
    assert made == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("text", "factor"),
    [("Mul(a, h)", 0.5), ("Mul(h, a)", 0.5), ("Div(a, k)", -0.25), ("Div(k, a)", None), ("Mul(a, w)", None),
     ("Mul(a, b)", None), ("Add(a, h)", None)],
)  # fmt: skip
def test_a_factor_is_one_constant_of_one_sign(text: str, factor: float | None) -> None:
    found = net(text)
    made = factor_of(found.nodes[0], found)
    assert made is None if factor is None else made is not None and made.tolist() == factor
