"""Inputs of com.microsoft's operators, as ONNX Runtime's own schemas have them."""

from __future__ import annotations

import pytest
from onnx import NodeProto, helper

from openbpu.arch.errors import ModelError
from openbpu.compiler.reader.contrib import check_contrib
from witness import ort

OPERATORS = (
    *(
        "QLinearAdd",
        "QLinearMul",
        "QLinearSigmoid",
        "QLinearLeakyRelu",
        "QLinearAveragePool",
        "QLinearSoftmax",
    ),
    *("QLinearGlobalAveragePool", "QGemm", "QuantizeLinear", "DequantizeLinear", "BiasGelu", "FusedConv"),
    *("FusedGemm", "FastGelu", "Gelu", "QuickGelu"),
)


def node(op: str, count: int, *without: int) -> NodeProto:
    inputs = ["" if i in without else f"x{i}" for i in range(count)]
    return helper.make_node(op, inputs, ["y"], name="n", domain="com.microsoft")


@pytest.mark.parametrize("op", OPERATORS)
def test_an_operator_of_microsoft_has_the_inputs_of_its_schema(op: str) -> None:
    """A zero point may be left out everywhere: it is 0 then."""
    inputs = ort.contrib_inputs(op)
    most, optional = len(inputs), {i for i, (name, needed) in enumerate(inputs) if not needed}
    zeros = {i for i, (name, _) in enumerate(inputs) if name.lower().endswith("zero_point") and i < most - 1}
    check_contrib(node(op, most))
    check_contrib(node(op, most, *optional))
    for index in range(most):
        if index in optional | zeros:
            continue
        with pytest.raises(ModelError, match=f"must be given, not input {index} left out"):
            check_contrib(node(op, most, index))
    with pytest.raises(ModelError, match=f"number of inputs must be at most {most}, not {most + 1}"):
        check_contrib(node(op, most + 1))
