"""A border of zeros is the convolution's own padding; any other border is not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from openbpu.arch.program import BpuSegment, Conv, Pad, Program
from openbpu.compiler import compile as compile_model
from openbpu.quantization.onnx import quantize_random
from openbpu.runtime import Session


def padded(amounts: tuple[int, ...], groups: int = 1) -> Program:
    """Conv → Relu → Pad by zeros → Conv of stride 2, quantized."""
    rng = np.random.default_rng(0)
    channels = 8 + amounts[1] + amounts[5]
    weight = rng.standard_normal((8, channels // groups, 3, 3)).astype(np.float32)
    consts = [
        numpy_helper.from_array(np.array(amounts, np.int64), "amounts"),
        numpy_helper.from_array(rng.standard_normal((8, 8, 1, 1)).astype(np.float32), "w0"),
        numpy_helper.from_array(weight, "w"),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Pad", ["r", "amounts"], ["p"]),
        helper.make_node("Conv", ["p", "w"], ["y"], strides=[2, 2], group=groups),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 12, 12])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "padded", [x], [y], consts)
    model = onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    )
    return compile_model(quantize_random(model), march="nash-e")


def kinds(program: Program) -> set[type]:
    return {type(op) for s in program.segments if isinstance(s, BpuSegment) for op in s.operators}


@pytest.mark.parametrize("groups", [1, 8])
def test_zeros_around_a_convolution_are_its_own_pads(groups: int) -> None:
    program = padded((0, 0, 0, 1, 0, 0, 1, 2), groups)
    assert Pad not in kinds(program)
    convs = [op for s in program.segments if isinstance(s, BpuSegment) for op in s.operators]
    assert [op.pads for op in convs if isinstance(op, Conv)] == [(0, 0, 0, 0), (0, 1, 1, 2)]


def test_channels_of_zeros_stay() -> None:
    assert Pad in kinds(padded((0, 0, 1, 1, 0, 4, 1, 1)))


def test_folded_pads_compute_what_the_pad_and_the_convolution_did() -> None:
    program = padded((0, 0, 0, 1, 0, 0, 1, 2))
    x = np.random.default_rng(1).standard_normal((1, 8, 12, 12)).astype(np.float32)
    fast = Session(program).run({"x": x})
    exact = Session(program, mode="exact").run({"x": x})
    for name, y in fast.outputs.items():
        np.testing.assert_array_equal(y, exact.outputs[name])
