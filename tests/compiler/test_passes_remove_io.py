"""Models that speak integers at their ends: the same bits, with the scale beside them."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pytest

from compiler.networks import Network
from compiler.passing import order, passed, values_for
from compiler.reading import Array, model
from openbpu.arch import numerics
from openbpu.arch.errors import CompileError
from openbpu.arch.program import BpuSegment, CpuSegment, Program
from openbpu.compiler import compile as compile_model
from openbpu.compiler.passes.remove_io import remove_io
from openbpu.evaluation import verify
from openbpu.runtime import Session
from witness.builder import Style

SHAPE = (1, 3, 6, 6)


def network(style: str = "int8") -> Network:
    """Its scales are powers of two: quantizing in float32 and in float64 gives the same codes."""
    b = Network(SHAPE, 21, Style(style, power_of_two=True))
    b.finished(b.layer(b.x, 4))
    return b


def compiled(b: Network, kinds: Collection[str], march: str = "nash-e") -> Program:
    return compile_model(b.model(), march=march, remove_io=kinds)


def run(program: Program, inputs: dict[str, Array]) -> dict[str, Array]:
    return Session(program).run(inputs).outputs


def ends(program: Program) -> tuple[str, str]:
    """Types of the first input and output."""
    first, last = program.tensors[program.inputs[0]], program.tensors[program.outputs[0]]
    return first.dtype.value, last.dtype.value


@pytest.mark.parametrize(
    ("kinds", "types"),
    [
        ((), ("float32", "float32")),
        (("quantize",), ("int8", "float32")),
        (("dequantize",), ("float32", "int8")),
        (("quantize", "dequantize"), ("int8", "int8")),
    ],
)
def test_each_end_can_be_bare(kinds: tuple[str, ...], types: tuple[str, str]) -> None:
    assert ends(compiled(network(), kinds)) == types


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
@pytest.mark.parametrize("style", ["int8", "int16", "uint8"])
def test_the_integers_of_a_bare_model_are_those_of_the_whole_one(style: str, march: str) -> None:
    b = network(style)
    whole, bare = compiled(b, (), march), compiled(b, ("quantize", "dequantize"), march)
    x, y = bare.tensors[bare.inputs[0]], bare.tensors[bare.outputs[0]]
    codes = numerics.quantize(b.inputs["input0"], np.float32(x.scale[0]), x.zero_point, x.dtype)
    result = run(bare, {x.name: codes})[y.name]
    reals = numerics.dequantize(result, np.float32(y.scale[0]), y.zero_point)
    np.testing.assert_array_equal(reals, run(whole, {x.name: b.inputs["input0"]})[y.name])


def test_ends_keep_their_names() -> None:
    bare = compiled(network(), ("quantize", "dequantize"))
    whole = compiled(network(), ())
    assert [bare.tensors[i].name for i in (*bare.inputs, *bare.outputs)] == [
        whole.tensors[i].name for i in (*whole.inputs, *whole.outputs)
    ]


def test_a_bare_model_runs_on_the_bpu_alone_where_the_march_quantizes_on_the_cpu() -> None:
    parts = [
        isinstance(s, CpuSegment) for s in compiled(network(), ("quantize", "dequantize"), "bayes-e").segments
    ]
    assert parts == [False]


def test_an_accumulator_at_the_end_says_the_scale_of_every_channel() -> None:
    b = Network(SHAPE)
    b.finished(b.conv(b.x, 4))
    bare = compiled(b, ("dequantize",))
    y = bare.tensors[bare.outputs[0]]
    assert (y.dtype.value, len(y.scale), y.axis) == ("int32", 4, 1)
    whole = compiled(b, ())
    result = run(bare, b.inputs)[y.name]
    scale = np.array(y.scale, np.float32).reshape(1, 4, 1, 1)
    np.testing.assert_array_equal(numerics.dequantize(result, scale), run(whole, b.inputs)[y.name])


BARE = ("quantize", "dequantize", "transpose")


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
def test_images_at_the_ends_can_be_channels_last(march: str) -> None:
    b = network()
    first, last = compiled(b, BARE[:2], march), compiled(b, BARE, march)
    x, y = last.tensors[last.inputs[0]], last.tensors[last.outputs[0]]
    assert (x.shape, y.shape) == ((1, 6, 6, 3), (1, 6, 6, 4))
    assert "Move" not in {
        type(o).__name__ for s in last.segments if isinstance(s, BpuSegment) for o in s.operators
    }
    codes = np.random.default_rng(0).integers(-128, 128, SHAPE).astype(np.int8)
    wanted = run(first, {x.name: codes})[y.name]
    got = run(last, {x.name: np.ascontiguousarray(codes.transpose(0, 2, 3, 1))})[y.name]
    np.testing.assert_array_equal(got.transpose(0, 3, 1, 2), wanted)


def test_verify_turns_images_for_a_program_that_takes_channels_last() -> None:
    b = Network((1, 4, 4, 4))  # as many channels as rows and columns: no shape tells which is which
    b.finished(b.layer(b.x, 4))
    found = verify(b.model(), compiled(b, BARE))
    assert found.passed
    assert [c.differing for c in found.outputs] == [0]


def test_an_accumulator_channels_last_says_its_scales_along_the_last_axis() -> None:
    b = Network(SHAPE)
    b.finished(b.conv(b.x, 4))
    last = compiled(b, BARE)
    y = last.tensors[last.outputs[0]]
    assert (y.dtype.value, y.shape, len(y.scale), y.axis) == ("int32", (1, 6, 6, 4), 4, 3)


def test_an_end_stays_channels_first_where_turning_it_saves_nothing() -> None:
    b = Network(SHAPE)
    b.finished(b.qdq(b.node("Reshape", b.layer(b.x, 4), b.constant(np.array([1, 6, 6, 4])))))
    last = compiled(b, BARE)
    assert last.tensors[last.inputs[0]].shape == (1, 6, 6, 3)
    assert last.tensors[last.outputs[0]].shape == (1, 6, 6, 4)


def test_float_ends_stay_channels_first() -> None:
    last = compiled(network(), ("transpose",))
    assert last.tensors[last.inputs[0]].shape == SHAPE


def test_an_input_quantized_in_two_ways_stays_float() -> None:
    b = Network(SHAPE)
    other = b.qdq("input0", Style(spread=0.5))
    b.finished(b.layer(b.x, 4), b.layer(other, 4))
    assert ends(compiled(b, ("quantize",)))[0] == "float32"


def test_an_input_that_a_float_operator_reads_as_well_stays_float() -> None:
    b = Network(SHAPE)
    b.finished(b.layer(b.x, 4), b.node("Cos", "input0"))
    assert ends(compiled(b, ("quantize",)))[0] == "float32"


def test_an_output_that_is_read_again_stays_float() -> None:
    b = Network(SHAPE)
    y = b.layer(b.x, 4)
    b.finished(y, b.node("Cos", y))
    assert ends(compiled(b, ("dequantize",)))[1] == "float32"


QUANTIZE, DEQUANTIZE = "q = QuantizeLinear(x, s, z)", "y = DequantizeLinear(q, s, z)"


@pytest.mark.parametrize(
    ("inputs", "outputs", "body", "left"),
    [
        ("float[4] x", "int8 q", QUANTIZE, ["Q"]),
        ("int8[4] q", "float y", DEQUANTIZE, ["DQ"]),
        ("float[4] x", "float y, int8 q", f"{QUANTIZE} {DEQUANTIZE}", ["Q", "DQ"]),
        ("float[4] x", "float y", f"{QUANTIZE} {DEQUANTIZE}", ["DQ"]),
    ],
    ids=["quantize alone", "dequantize alone", "codes are an output", "one must stay"],
)
def test_an_end_is_never_both_an_input_and_an_output(
    inputs: str, outputs: str, body: str, left: list[str]
) -> None:
    kinds = frozenset({"quantize", "dequantize"})
    proto = model(f"g ({inputs}) => ({outputs}) <float s = {{0.5}}, int8 z = {{3}}> {{ {body} }}")
    graph = passed(proto, lambda g: remove_io(g, kinds))
    assert order(graph) == left
    assert set(values_for(proto)) == set(graph.inputs)


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        CompileError, match="remove_io must be quantize, dequantize or transpose, not softmax"
    ):
        compile_model(network().model(), march="nash-e", remove_io=("softmax",))
