"""Networks and runs that the tests of `verify` judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from compiler.networks import Network
from openbpu.arch.program import Program
from openbpu.compiler import compile as compile_model
from openbpu.evaluation import Verification, verify
from witness.builder import Style

SHAPE = (1, 3, 6, 6)
Array = Any


def network(style: str = "int8") -> Network:
    b = Network(SHAPE, 21, Style(style, symmetric=not style.startswith("u")))
    b.finished(b.layer(b.layer(b.x, 4), 5))
    return b


def ends_in_codes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without its last DequantizeLinear."""
    last = next(n for n in model.graph.node if n.output[0] == model.graph.output[0].name)
    (codes,) = (t for t in model.graph.initializer if t.name == last.input[2])
    model.graph.node.remove(last)
    model.graph.output[0].name = last.input[0]
    model.graph.output[0].type.tensor_type.elem_type = codes.data_type
    return model


def with_wrong_weight(model: onnx.ModelProto, index: int) -> onnx.ModelProto:
    """The model with the weights of one layer negated."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    weights = [t for t in other.graph.initializer if t.name.startswith("weight")]
    array = onnx.numpy_helper.to_array(weights[index])
    weights[index].CopyFrom(onnx.numpy_helper.from_array(-np.maximum(array, -127), weights[index].name))
    return other


def given(**more: Any) -> tuple[Program, Verification]:
    model = network().model()
    program = compile_model(model, march="nash-e")
    return program, verify(model, program, **more)
