"""What the compiler writes otherwise runs on the BPU with the values of its own spelling, or of float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from compiler.networks import Network
from compiler.one_operator import unary
from compiler.passing import values_for
from compiler.reading import run
from openbpu import compiler
from openbpu.arch.program import BpuSegment
from openbpu.runtime import Session
from witness.builder import Style

SHAPE = (1, 2, 3, 4)


def step_of(proto: Any) -> float:
    """The scale of the last QuantizeLinear."""
    last = [n for n in proto.graph.node if n.op_type == "QuantizeLinear"][-1]
    scale = next(t for t in proto.graph.initializer if t.name == last.input[1])
    return (
        float(np.frombuffer(scale.raw_data, np.float32)[0]) if scale.raw_data else float(scale.float_data[0])
    )


def on_bpu(proto: Any, march: str = "nash-e", **options: Any) -> list[Any]:
    """Outputs of a program that has nothing on the CPU but borders; fast and exact agree."""
    program = compiler.compile(proto, march=march, **options)
    assert {r.on for r in program.placement if "quantize" not in r.op.lower()} == {"BPU"}
    assert sum(isinstance(s, BpuSegment) for s in program.segments) == 1
    feeds = values_for(proto)
    fast, exact = (Session(program, mode=mode).run(feeds).outputs for mode in ("fast", "exact"))
    assert all(np.array_equal(fast[name], exact[name]) for name in fast)
    return list(fast.values())


@pytest.mark.parametrize("style", ["int8", "int16", "uint8"])
@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("op", ["Max", "Min", "Sum", "Mean"])
def test_any_number_of_operands_is_a_chain(op: str, count: int, style: str) -> None:
    b = Network(SHAPE, 21, Style(style))
    others = [
        b.quantized_input(((3, 1), SHAPE, (4,), (2, 1, 1))[i], low=-1 - i, high=2) for i in range(count - 1)
    ]
    b.finished(b.qdq(b.node(op, b.x, *others)))
    proto = b.model()
    (found,), (wanted,) = on_bpu(proto), run(proto, values_for(proto))
    off = np.abs(found - wanted) / step_of(proto)
    assert off.max() < 1.01
    assert (off > 0.5).mean() <= 0.05, "single ties of float32"


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("shape", [(6,), (3, 8), (2, 3, 8), (2, 3, 2, 2, 4)])
@pytest.mark.parametrize("op", ["Gelu", "Softmax"])
def test_an_operator_of_one_rank_runs_on_a_view_of_it(op: str, shape: tuple[int, ...], axis: int) -> None:
    if (op == "Gelu" and axis) or axis >= len(shape):
        return
    attrs = {"axis": axis} if op == "Softmax" else {}
    proto = unary(op, shape, **attrs).model()
    (found,) = on_bpu(proto, "bayes-e", bpu_ops=(op,))
    (elsewhere,) = on_bpu(proto, "nash-e")  # which has no such rule
    np.testing.assert_array_equal(found, elsewhere)


MOVES: dict[str, Any] = {
    "window partition": lambda b: b.node("Transpose", b.x, perm=[0, 1, 3, 2, 4]),
    "two groups": lambda b: b.node("Transpose", b.x, perm=[3, 4, 0, 1, 2]),
    "slice": lambda b: b.node("Slice", b.x, *(b.constant(np.array([n])) for n in (1, 3, 2))),
    "concat": lambda b: b.node("Concat", b.x, b.x, axis=2),
    "reduce": lambda b: b.node("ReduceMax", b.x, b.constant(np.array([3, 4])), keepdims=0),
    "gather": lambda b: b.node("Gather", b.x, b.constant(np.array([1, 0])), axis=2),
    "binary": lambda b: b.node("Mul", b.x, b.quantized_input((3, 1))),
    "product": lambda b: b.node("MatMul", b.x, b.qdq(b.node("Transpose", b.x, perm=[0, 1, 2, 4, 3]))),
}


@pytest.mark.parametrize("name", MOVES)
def test_axes_that_stay_together_count_as_one(name: str) -> None:
    b = Network((2, 3, 4, 3, 2), 21)
    b.finished(b.qdq(MOVES[name](b)))
    proto = b.model()
    (found,), (elsewhere,) = on_bpu(proto, "bayes-e"), on_bpu(proto, "nash-e")
    np.testing.assert_array_equal(found, elsewhere)


def test_axes_that_all_change_places_do_not() -> None:
    b = Network((2, 3, 4, 3, 2), 21)
    b.finished(b.qdq(b.node("Transpose", b.x, perm=[4, 3, 2, 1, 0])))
    row = next(r for r in compiler.check(b.model(), march="bayes-e") if r.op == "Transpose")
    assert (row.on, row.reason.rpartition(", not ")[2]) == ("CPU", "5")


def test_a_product_of_more_columns_than_the_matrix_unit_has_is_split() -> None:
    """Raw accumulators with scales per column: the values of float64."""
    b = Network((1, 2, 4), 21)
    weight = b.weight(b.rng.normal(size=(4, 8200)), axis=1)
    b.finished(b.node("MatMul", b.x, weight))
    (found,) = on_bpu(b.model())
    np.testing.assert_allclose(found, run(b.model(), values_for(b.model()))[0], rtol=1e-5, atol=1e-5)


def test_an_add_behind_a_split_product_is_split_too() -> None:
    b = Network((2, 4), 21)
    product = b.node("MatMul", b.x, b.weight(b.rng.normal(size=(4, 8200)), axis=1))
    b.finished(b.qdq(b.node("Relu", b.node("Add", product, b.quantized_input((2, 8200))))))
    proto = b.model()
    (found,), (wanted,) = on_bpu(proto), run(proto, values_for(proto))
    off = np.abs(found - wanted) / step_of(proto)
    assert off.max() < 1.01
    assert (off > 0.5).mean() < 0.01


def test_as_many_rows_as_a_convolution_has_pixels_meet_a_constant() -> None:
    b = Network((8200, 2), 21)
    b.finished(b.qdq(b.node("MatMul", b.x, b.weight(b.rng.normal(size=(2, 3)), axis=1))))
    proto = b.model()
    (found,), (wanted,) = on_bpu(proto), run(proto, values_for(proto))
    assert (np.abs(found - wanted) / step_of(proto) > 0.5).mean() < 0.01


@pytest.mark.parametrize("scale", [0.5, 1.5, 2.0, 3.0])
def test_the_pixels_of_old_converters_stay_whatever_opset_the_model_claims(scale: float) -> None:
    b = Network((1, 2, 8, 8), 21)
    scales = b.constant(np.array([1, 1, scale, scale], np.float32))
    pixels = {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"}
    b.finished(b.qdq(b.node("Resize", b.x, "", scales, mode="nearest", **pixels)))
    proto = b.model()
    (found,) = on_bpu(proto)
    index = np.minimum(np.floor((np.arange(int(8 * scale)) + 0.5) / scale).astype(int), 7)
    (x,) = values_for(proto).values()
    steps = [float(numpy_helper.to_array(t)) for t in proto.graph.initializer if "scale" in t.name]
    held = np.clip(x, -128 * min(steps), 127 * min(steps))
    assert np.abs(found - held[:, :, index][:, :, :, index]).max() < 0.51 * sum(steps)


@pytest.mark.parametrize("raw", [False, True])
def test_a_gemm_of_a_turned_input_is_that_of_its_transpose(raw: bool) -> None:
    found = []
    for turned in (True, False):
        b = Network((5, 3), 21)
        x = b.x if turned else b.qdq(b.node("Transpose", b.x, perm=[1, 0]))
        bias = b.constant(np.arange(4, dtype=np.float32) / 7)
        y = b.node("Gemm", x, b.weight(np.arange(20.0).reshape(5, 4) - 9, axis=1), bias, transA=int(turned))
        b.finished(y if raw else b.qdq(y))
        found.append((b.model(), on_bpu(b.model())[0]))
    (proto, values), _ = found
    off = np.abs(values - run(proto, values_for(proto))[0])
    assert off.max() <= (1e-4 if raw else 1.01 * step_of(proto))
