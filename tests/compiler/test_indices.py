"""ArgMax, ArgMin and TopK on the BPU: the indices of ONNX Runtime, in the type that is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from compiler.networks import Network
from openbpu.arch.program import BpuSegment, CpuSegment
from openbpu.compiler import check
from openbpu.compiler import compile as build
from openbpu.quantization.onnx import quantize
from openbpu.runtime import Session
from quantization.float_models import float_model, noise
from witness.builder import Style
from witness.ort import run

SHAPE = (2, 5, 6, 7)
STYLES = {
    "int8": Style("int8", spread=48.0),
    "int16": Style("int16", spread=4096.0),
    "uint8": Style("uint8", symmetric=False, spread=48.0),
}
"""So coarse that many codes are equal."""
Emit = Callable[[Network, str], str]


def found(op: str = "ArgMax", axis: int = 1, keepdims: int = 0, last: int = 0) -> Emit:
    return lambda b, x: b.node(op, x, axis=axis, keepdims=keepdims, select_last_index=last)


def then(op: str, *constants: Any, first: Emit | None = None, **attrs: Any) -> Emit:
    """What is done to indices; constants are the operands behind them."""
    make = first or found()
    return lambda b, x: b.node(op, make(b, x), *(b.constant(np.array(c)) for c in constants), **attrs)


def largest(axis: int = 1, k: int = 3, output: int = 0, **attrs: Any) -> Emit:
    return lambda b, x: b.nodes("TopK", [x, b.constant(np.array([k]))], 2, axis=axis, **attrs)[output]


FOUND: dict[str, Emit] = {
    "channels": found(),
    "first axis": found("ArgMin", 0, keepdims=1),
    "rows": found("ArgMin", -1),
    "columns, the last": found("ArgMax", 2, last=1),
    "rows, the last": found("ArgMin", 3, keepdims=1, last=1),
    "squeezed": then("Squeeze", [1], first=found(keepdims=1)),
    "another layout": then("Transpose", perm=[1, 2, 0]),
    "a vector": then("Reshape", [-1]),
    "a part": then("Slice", [1], [6], [2], [2]),
    "some, backwards": then("Gather", [4, 0], axis=1),
    "repeated": then("Tile", [2, 1, 3]),
    "spread": then("Expand", [2, 5, 6, 7], first=found(keepdims=1)),
    "squeezed, cast": then("Cast", first=then("Squeeze", [1], first=found(keepdims=1)), to=TensorProto.INT32),
    **{f"cast to {t}": then("Cast", to=getattr(TensorProto, t)) for t in ("INT8", "UINT8", "INT16", "INT32")},
    "cast to FLOAT": then("Cast", to=TensorProto.FLOAT),
    "of the largest": largest(output=1),
    "of the smallest": largest(axis=-1, output=1, largest=0),
    "of the largest, as floats": then("Cast", first=largest(k=5, output=1), to=TensorProto.FLOAT),
    "of the largest, moved": then("Transpose", first=largest(axis=2, output=1), perm=[3, 2, 1, 0]),
    "quantized": lambda b, x: b.qdq(then("Cast", to=TensorProto.FLOAT)(b, x)),
}


def network(emit: Emit, style: str = "int8", shape: tuple[int, ...] = SHAPE) -> Network:
    b = Network(shape, 21, STYLES[style])
    b.output(emit(b, b.qdq(b.node("Neg", b.x))))
    return b


@pytest.mark.parametrize("march", ["nash-e", "nash-p"])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", FOUND)
def test_indices_are_those_of_onnx_runtime_and_their_types(name: str, style: str, march: str) -> None:
    b = network(FOUND[name], style)
    model = b.model()
    program = build(model, march=march)
    (wanted,) = run(model, b.inputs).values()
    assert np.unique(wanted).size > 1
    for mode in ("fast", "exact"):
        (made,) = Session(program, mode=mode).run(b.inputs).outputs.values()
        assert made.dtype == wanted.dtype, mode
        np.testing.assert_array_equal(made, wanted, mode)
    assert [type(s) for s in program.segments].count(BpuSegment) == 1
    assert style == "uint8" or {r.on for r in program.placement} == {"BPU"}


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_codes_are_searched_as_what_they_stand_for(op: str, dtype: Any) -> None:
    """As quantizers to QOperator models write it."""
    b = Network(SHAPE, 21, Style("uint8", symmetric=False, spread=48.0))
    scale, zero = b.constant(np.float32(0.125)), b.constant(np.array(3, dtype))
    codes = b.node("QuantizeLinear", b.node("Neg", b.x), scale, zero)
    b.output(b.node(op, codes, axis=1, keepdims=0))
    program = build(b.model(), march="nash-e")
    (made,), (wanted,) = Session(program).run(b.inputs).outputs.values(), run(b.model(), b.inputs).values()
    np.testing.assert_array_equal(made, wanted)
    assert [r.on for r in program.placement if r.op == op] == ["BPU"]


def test_many_equal_codes_are_met() -> None:
    b = network(found())
    first, last = (run(network(found(last=n)).model(), b.inputs) for n in (0, 1))
    assert sum(np.count_nonzero(a != z) for a, z in zip(first.values(), last.values(), strict=True)) > 20


def test_every_reader_gets_its_type() -> None:
    b = Network(SHAPE, 21, STYLES["int8"])
    index = b.node("ArgMax", b.qdq(b.node("Neg", b.x)), axis=1, keepdims=0)
    b.finished(index, b.node("Cast", index, to=TensorProto.INT32), b.node("Add", index, b.constant(3)))
    program = build(b.model(), march="nash-e")
    made, wanted = Session(program).run(b.inputs).outputs, run(b.model(), b.inputs)
    for name, value in wanted.items():
        assert made[name].dtype == value.dtype
        np.testing.assert_array_equal(made[name], value)
    assert [r.op for r in program.placement if r.on == "CPU"] == ["Add"]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("scale", ["its own", "another", "floats"])
def test_the_largest_elements_are_those_of_onnx_runtime(scale: str, style: str) -> None:
    b = Network(SHAPE, 21, STYLES[style])
    x = b.qdq(b.node("Neg", b.x))
    elements = largest(axis=2, k=4)(b, x)
    b.output(elements if scale == "floats" else b.qdq(elements, like=x if scale == "its own" else None))
    program, (wanted,) = build(b.model(), march="nash-e"), run(b.model(), b.inputs).values()
    for mode in ("fast", "exact"):
        (made,) = Session(program, mode=mode).run(b.inputs).outputs.values()
        np.testing.assert_allclose(made, wanted, rtol=1e-6, err_msg=mode)
    assert "CPU" not in {r.on for r in program.placement if r.op == "TopK"}


def test_a_march_without_a_scalar_unit_orders_on_the_cpu() -> None:
    rows = check(network(largest(output=1)).model(), march="nash-b")
    assert [r.reason for r in rows if r.op == "TopK"] == ["nash-b has no BPU unit for TopK"]


def test_a_computed_k_is_refused_in_words() -> None:
    b = Network(SHAPE, 21, STYLES["int8"])
    count = b.node("Cast", b.node("ReduceMax", b.x, keepdims=0), to=TensorProto.INT64)
    count = b.node("Max", b.node("Reshape", count, b.constant(np.array([1]))), b.constant(np.array([1])))
    b.finished(*b.nodes("TopK", [b.x, count], 2, axis=1))
    (reason,) = (r.reason for r in check(b.model(), march="nash-e") if r.op == "TopK")
    assert reason.startswith("its k ")
    assert "computed" in reason


@pytest.mark.parametrize(
    ("emit", "shape", "march", "reason"),
    [
        (found(axis=2), SHAPE, "bayes-e", "the axis must be number 1, not 2"),
        (found(), (1, 65, 2, 2), "bayes-e", "the axis must be 1..64 long, not 65"),
        (found(), (1, 32768), "nash-e", "the axis must be 1..32767 long, not 32768"),
    ],
)
def test_what_a_march_cannot_search_stays_on_the_cpu(
    emit: Emit, shape: tuple[int, ...], march: str, reason: str
) -> None:
    rows = check(network(emit, shape=shape).model(), march=march)
    assert [r.reason for r in rows if r.op == "ArgMax"] == [reason]


def test_a_cast_that_does_not_hold_the_indices_stays_on_the_cpu() -> None:
    b = network(then("Cast", to=TensorProto.INT8), shape=(1, 200, 3))
    program = build(b.model(), march="nash-e")
    assert [(r.op, r.reason) for r in program.placement if r.on == "CPU"] == [
        ("Cast", "its type must hold indices up to 199, not int8, which ends at 127")
    ]
    (made,), (wanted,) = Session(program).run(b.inputs).outputs.values(), run(b.model(), b.inputs).values()
    np.testing.assert_array_equal(made, wanted)


def test_channels_of_64_are_searched_on_bayes() -> None:
    b = network(found(), shape=(1, 64, 5, 3))
    program = build(b.model(), march="bayes-e")
    assert [r.on for r in program.placement if r.op == "ArgMax"] == ["BPU"]
    (made,), (wanted,) = Session(program).run(b.inputs).outputs.values(), run(b.model(), b.inputs).values()
    np.testing.assert_array_equal(made, wanted)


def test_a_float_head_of_classes_is_quantized_onto_the_bpu() -> None:
    head = float_model(
        """(float[1,3,17,17] x) => (int64[1,33,33] y) { c = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w)
        r = Relu(c) h = Conv(r, v) u = Resize<mode="linear">(h, , , sizes)
        y = ArgMax<axis=1, keepdims=0>(u) }""",
        {
            "w": noise(8, 3, 3, 3) * 0.3,
            "v": noise(19, 8, 1, 1, seed=1),
            "sizes": np.array([1, 19, 33, 33]),
        },
    )
    data = {"x": np.concatenate([noise(1, 3, 17, 17, seed=n) for n in range(3)])}
    quantized = quantize(head, data)
    program = build(quantized, march="nash-e")
    assert not any(isinstance(s, CpuSegment) for s in program.segments)
    image = {"x": data["x"][:1]}
    np.testing.assert_array_equal(Session(program).run(image).outputs["y"], run(quantized, image)["y"])
    assert (run(head, image)["y"] == run(quantized, image)["y"]).mean() > 0.95
