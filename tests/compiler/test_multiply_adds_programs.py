"""Multiply-adds of programs: loops, branches and functions count what they run."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from openbpu import compiler
from openbpu.arch.errors import ModelError
from openbpu.arch.march import get_march
from openbpu.arch.program import Conv, CpuSegment, Program
from openbpu.compiler.ir import Value
from openbpu.compiler.lower.work import Work, work
from openbpu.compiler.reader.nodes import node_of
from openbpu.compiler.reader.tensors import TensorReader
from openbpu.runtime.latency import latency_of

# --- In programs ----------------------------------------------------------------------------------

Shape = tuple[int, ...]


def program_of(nodes: list[onnx.NodeProto], inputs: dict[str, Shape], output: Shape, **more: Any) -> Program:
    """Compile float nodes, which the CPU runs; `weights` by name, `functions` of the model."""
    weights: dict[str, Any] = more.get("weights", {})
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in weights.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    functions = more.get("functions", [])
    model = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10)
    return compiler.compile(model, march="nash-e")


def flops_of(program: Program) -> int:
    return sum(s.flops for s in program.segments if isinstance(s, CpuSegment))


MATRIX = np.ones((16, 16), np.float32)
ONE = 2 * 16 * 16 * 16
"""Operations of one product of two such matrices."""


def body(name: str, inputs: list[str], nodes: list[onnx.NodeProto], outputs: list[str]) -> onnx.GraphProto:
    kinds: dict[str, tuple[int, Any]] = {
        "i": (TensorProto.INT64, []),
        "go": (TensorProto.BOOL, []),
        "still": (TensorProto.BOOL, []),
    }

    def info(n: str) -> onnx.ValueInfoProto:
        kind, shape = kinds.get(n, (TensorProto.FLOAT, None))
        return helper.make_tensor_value_info(n, kind, shape)

    return helper.make_graph(nodes, name, [info(n) for n in inputs], [info(n) for n in outputs])


def loop(op: str = "MatMul", domain: str = "", trips: str = "trips") -> onnx.NodeProto:
    inner = [
        helper.make_node(op, ["s", "w"], ["t"], domain=domain),
        helper.make_node("Identity", ["go"], ["still"]),
    ]
    graph = body("body", ["i", "go", "s"], inner, ["still", "t"])
    return helper.make_node("Loop", [trips, "", "x"], ["y"], body=graph, name="loop")


def near(found: int, products: int) -> bool:
    """A body counts its products, and next to nothing besides."""
    return products <= found <= products * 1.02 + 200


def test_a_loop_with_a_constant_trip_count_runs_its_body_as_often() -> None:
    weights = {"w": MATRIX, "trips": np.array(9)}
    assert near(flops_of(program_of([loop()], {"x": (16, 16)}, (16, 16), weights=weights)), 9 * ONE)


def test_a_loop_without_end_is_refused_before_anything_is_counted() -> None:
    weights = {"w": MATRIX, "trips": np.array(2**63 - 1)}
    with pytest.raises(ModelError, match="the steps it takes must be at most"):
        program_of([loop()], {"x": (16, 16)}, (16, 16), weights=weights)


def test_a_function_inside_a_loop_counts_as_what_it_is() -> None:
    nodes = [helper.make_node("MatMul", ["a", "b"], ["c"]), helper.make_node("MatMul", ["c", "b"], ["d"])]
    twice = helper.make_function("own", "Twice", ["a", "b"], ["d"], nodes, [helper.make_opsetid("", 21)])
    weights = {"w": MATRIX, "trips": np.array(3)}
    program = program_of(
        [loop("Twice", "own")], {"x": (16, 16)}, (16, 16), weights=weights, functions=[twice]
    )
    assert near(flops_of(program), 6 * ONE)


def test_a_scan_runs_its_body_for_every_slice() -> None:
    inner = [helper.make_node("MatMul", ["s", "w"], ["t"]), helper.make_node("Add", ["t", "e"], ["u"])]
    graph = body("body", ["s", "e"], inner, ["u"])
    attrs: dict[str, Any] = {"num_scan_inputs": 1, "scan_input_axes": [1], "body": graph}
    node = helper.make_node("Scan", ["x", "z"], ["y"], name="scan", **attrs)
    program = program_of([node], {"x": (16, 16), "z": (16, 7, 16)}, (16, 16), weights={"w": MATRIX})
    assert 7 * ONE <= flops_of(program) <= 7 * (ONE + 8 * 256 + 8)


def test_an_if_counts_as_its_costlier_branch() -> None:
    cheap = body("cheap", [], [helper.make_node("Identity", ["x"], ["p"])], ["p"])
    inner = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("MatMul", ["m", "w"], ["q"])]
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["yes"], to=TensorProto.BOOL),
        helper.make_node("If", ["yes"], ["y"], then_branch=cheap, else_branch=body("b", [], inner, ["q"])),
    ]
    program = program_of(nodes, {"x": (16, 16)}, (16, 16), weights={"w": MATRIX})
    assert 2 * ONE <= flops_of(program) <= 2 * ONE + 8 * 300


def test_a_loop_in_a_loop_multiplies_both_counts() -> None:
    inner = [loop(trips="inner"), helper.make_node("Identity", ["go"], ["still"])]
    graph = body("outer", ["i", "go", "x"], inner, ["still", "y"])
    node = helper.make_node("Loop", ["trips", "", "start"], ["y"], body=graph, name="outer")
    weights = {"w": MATRIX, "trips": np.array(5), "inner": np.array(4)}
    assert near(flops_of(program_of([node], {"start": (16, 16)}, (16, 16), weights=weights)), 20 * ONE)


@pytest.mark.parametrize("steps", [10, 100])
def test_the_estimate_of_an_lstm_grows_with_its_sequence(steps: int) -> None:
    weights = {"w": np.ones((1, 512, 128), np.float32), "r": np.ones((1, 512, 128), np.float32)}

    def us(steps: int) -> float:
        node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=128, name="lstm")
        program = program_of([node], {"x": (steps, 1, 128)}, (steps, 1, 1, 128), weights=weights)
        return latency_of(program, get_march("nash-e")).cpu_us

    assert us(10 * steps) > 5 * us(steps)


def test_an_upsampling_convolution_multiplies_no_gaps() -> None:
    layer = Conv(
        inputs=(0,), outputs=(1,), weight_id=2, params_id=3, x_shape=(1, 4, 4, 6), y_shape=(1, 8, 8, 5),
        kernel=(4, 3), upsample=(2, 2), groups=2,
    )  # fmt: skip
    assert (layer.terms, layer.multiply_adds) == (2 * 2 * 3, prod((8, 8, 5)) * 12)


def test_a_body_that_onnx_infers_nothing_of_counts_what_is_known_around_it() -> None:
    nodes = [
        helper.make_node("Other", ["x"], ["t"], domain="not.imported"),
        helper.make_node("Neg", ["x"], ["y"]),
    ]
    branch = body("branch", [], nodes, ["y"])
    node = node_of(
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch), TensorReader(None)
    )
    found = work(node, {"x": Value("x", (4, 8), "float32")}, {"": 21})
    assert found == Work(flops=2 * 8 * 32, moved=2 * 4 * 32)
