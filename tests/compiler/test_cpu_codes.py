"""Operators on codes that the BPU refuses run on the CPU, whatever ONNX Runtime has kernels for."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from compiler.written import model_of, quantized_x
from openbpu.compiler import compile as compile_model
from openbpu.runtime import Session
from witness import ort


def graph(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], shape: list[int], end: str
) -> onnx.ModelProto:
    """`nodes` read `f`, x quantized to int16 with the constants s and z."""
    constants = {"s": np.array(1 / 4096, np.float32), "z": np.array(0, np.int16), **constants}
    return model_of([*quantized_x(), *nodes], shape, {end: None}, constants, 21, 10)


def check_agrees(model: onnx.ModelProto, shape: list[int], march: str, cpu: str) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    (wanted,) = ort.run(model, {"x": x}).values()
    for opt in (0, 2):
        program = compile_model(model, march=march, opt=opt)
        assert next(r.on for r in program.placement if r.op == cpu) == "CPU"
        (found,) = Session(program).run({"x": x}).outputs.values()
        np.testing.assert_array_equal(found, wanted)


def requantized(source: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [source, "s", "z"], ["pq"]),
        helper.make_node("DequantizeLinear", ["pq", "s", "z"], ["y"]),
    ]


def test_a_max_pool_of_int16_that_the_bpu_refuses() -> None:
    pool = helper.make_node("MaxPool", ["f"], ["p"], name="pool", kernel_shape=[257, 257])
    shape = [1, 2, 260, 260]
    check_agrees(graph([pool, *requantized("p")], {}, shape, "y"), shape, "bayes-e", "MaxPool")


@pytest.mark.parametrize(
    ("op", "extra", "attrs"),
    [
        ("Pad", {"pads": np.array([0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0])}, {}),
        ("Resize", {"": np.zeros(0), "sizes": np.array([2, 2, 1, 1, 2, 2], np.float32)}, {"mode": "nearest"}),
    ],
)
def test_a_move_of_int16_with_too_many_axes(
    op: str, extra: dict[str, np.ndarray], attrs: dict[str, Any]
) -> None:
    node = helper.make_node(op, ["f", *extra], ["p"], name="move", **attrs)
    shape = [2, 4, 2, 2, 3, 3]  # six axes longer than one: more than bayes-e has
    constants = {k: v for k, v in extra.items() if k}
    check_agrees(graph([node, *requantized("p")], constants, shape, "y"), shape, "bayes-e", op)


def test_a_max_pool_behind_a_product_that_stays_an_accumulator() -> None:
    constants: dict[str, np.ndarray] = {
        "wq": np.array([[3], [-5], [7]], np.int8),
        "ws": np.array(1 / 64, np.float32),
        "wz": np.array(0, np.int8),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["w"]),
        helper.make_node("MatMul", ["f", "w"], ["m"]),
        helper.make_node("MaxPool", ["m"], ["p"], name="pool", kernel_shape=[257, 1]),
        helper.make_node("QuantizeLinear", ["p", "s", "z"], ["pq"]),
        helper.make_node("DequantizeLinear", ["pq", "s", "z"], ["y"]),
    ]
    shape = [1, 2, 260, 3]
    check_agrees(graph(nodes, constants, shape, "y"), shape, "bayes-e", "MaxPool")
