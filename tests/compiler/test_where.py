"""Where on the BPU: constant masks are products and a sum, a comparison of the tensor itself is a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from compiler.networks import Network
from compiler.passing import values_for
from compiler.reading import run
from openbpu import compiler
from openbpu.arch.program import BpuSegment
from openbpu.runtime import Session
from witness.builder import Style

MASK = np.array([[True, False, True], [False, False, True]])
SHAPE = (1, 2, 2, 3)


def placed(b: Any, march: str = "nash-e") -> Any:
    return {r.op: r for r in compiler.check(b.model(), march=march)}


def where(b: Network, mask: np.ndarray[Any, Any], x: str, y: str) -> Network:
    b.finished(b.qdq(b.node("Where", b.constant(mask), x, y)))
    return b


def scalar(b: Network, value: float) -> str:
    return b.constant(np.array(value, np.float32))


CASES: dict[str, Any] = {
    "a tensor or 0": lambda b: where(b, MASK, b.x, scalar(b, 0)),
    "a tensor or a constant": lambda b: where(b, MASK, b.x, scalar(b, -0.7)),
    "a constant or a tensor": lambda b: where(b, MASK, scalar(b, 0.3), b.x),
    "two tensors": lambda b: where(b, MASK, b.x, b.quantized_input(SHAPE, low=-2, high=1)),
    "a tensor or constants": lambda b: where(b, MASK, b.x, b.constant(np.ones((2, 1, 1), np.float32))),
    "a smaller tensor": lambda b: where(b, MASK, b.quantized_input((1, 2, 1, 3)), b.x),
    "always": lambda b: where(b, MASK | True, b.x, scalar(b, 9)),
}


@pytest.mark.parametrize("style", ["int8", "int16", "uint8"])
@pytest.mark.parametrize("name", CASES)
def test_a_constant_mask_chooses_on_the_bpu(name: str, style: str) -> None:
    proto = CASES[name](Network(SHAPE, 21, Style(style))).model()
    program = compiler.compile(proto, march="nash-e")
    assert {row.on for row in program.placement} == {"BPU"}
    feeds = values_for(proto)
    step = max(float(numpy_helper.to_array(t)) for t in proto.graph.initializer if "scale" in t.name)
    for mode in ("fast", "exact"):
        found = Session(program, mode=mode).run(feeds).outputs
        wanted = run(proto, feeds)[0]
        np.testing.assert_allclose(next(iter(found.values())), wanted, rtol=0, atol=1.01 * step)


def test_a_comparison_of_the_tensor_itself_is_a_table() -> None:
    b = Network(SHAPE)
    positive = b.node("Greater", b.x, scalar(b, 0))
    b.finished(b.qdq(b.node("Where", positive, b.x, scalar(b, 0.25))))
    program = compiler.compile(b.model(), march="nash-e")
    assert {row.on for row in program.placement} == {"BPU"}
    assert [
        type(op).__name__ for s in program.segments if isinstance(s, BpuSegment) for op in s.operators
    ].count("Lut") == 1


CONDITIONS: dict[str, Any] = {
    "not": lambda b, low, high: b.node("Not", low),
    "and": lambda b, low, high: b.node("And", low, high),
    "or": lambda b, low, high: b.node("Or", b.node("Not", low), b.node("Not", high)),
    "xor": lambda b, low, high: b.node("Xor", low, high),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_comparisons_of_the_tensor_may_be_joined(name: str) -> None:
    b = Network(SHAPE)
    low, high = b.node("Greater", b.x, scalar(b, -0.3)), b.node("Less", b.x, scalar(b, 0.4))
    b.finished(b.qdq(b.node("Where", CONDITIONS[name](b, low, high), b.x, scalar(b, 0.25))))
    proto = b.model()
    program = compiler.compile(proto, march="nash-e")
    assert {row.on for row in program.placement} == {"BPU"}
    feeds = values_for(proto)
    (found,) = Session(program).run(feeds).outputs.values()
    np.testing.assert_array_equal(found, run(proto, feeds)[0])


def test_a_float_side_is_named() -> None:
    b = Network(SHAPE)
    b.finished(b.qdq(b.node("Where", b.constant(MASK), b.x, b.node("Softmax", b.x))))
    assert placed(b)["Where"].reason.startswith("its input 'softmax0' of Softmax")
