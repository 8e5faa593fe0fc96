"""Operators that move elements change sides with Q and DQ, and pairs that mean nothing go."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto

from compiler.passing import count, input_dtype, order, passed, proved, values_for
from compiler.reading import model, run
from openbpu.compiler import compile as compile_model
from openbpu.compiler.passes.constants import fold_constants
from openbpu.compiler.passes.moves import (
    cancel_pairs,
    hoist_quantize,
    sink_dequantize,
)
from openbpu.runtime import Session

SCALES = "float s = {0.5}, float t = {0.25}, int8 z = {3}, int8 o = {-5}"
MOVES = {
    "Reshape": ("y = Reshape(f, n)", "int64[2] n = {4, 36}"),
    "Transpose": ("y = Transpose<perm = [0, 2, 3, 1]>(f)", ""),
    "Transpose-default": ("y = Transpose(f)", ""),
    "Flatten": ("y = Flatten(f)", ""),
    "Squeeze": ("y = Squeeze(f, n)", "int64[1] n = {0}"),
    "Unsqueeze": ("y = Unsqueeze(f, n)", "int64[1] n = {1}"),
    "Slice": (
        "y = Slice(f, a, b, c, d)",
        "int64[1] a = {1}, int64[1] b = {6}, int64[1] c = {3}, int64[1] d = {2}",
    ),
    "Identity": ("y = Identity(f)", ""),
    "Expand": ("y = Expand(f, n)", "int64[4] n = {3, 4, 6, 6}"),
    "Tile": ("y = Tile(f, n)", "int64[4] n = {1, 2, 1, 3}"),
    "Gather": ("y = Gather<axis = 1>(f, n)", "int64[3] n = {3, 0, 0}"),
    "DepthToSpace": ("y = DepthToSpace<blocksize = 2>(f)", ""),
    "SpaceToDepth": ("y = SpaceToDepth<blocksize = 2>(f)", ""),
    "Pad": ("y = Pad(f, n)", "int64[8] n = {0, 0, 1, 2, 0, 0, 2, 0}"),
    "Pad-edge": ('y = Pad<mode = "edge">(f, n)', "int64[8] n = {0, 0, 1, 2, 0, 0, 2, 0}"),
    "Pad-reflect": ('y = Pad<mode = "reflect">(f, n)', "int64[8] n = {0, 0, 1, 2, 0, 0, 2, 0}"),
    "Resize": ('y = Resize<mode = "nearest">(f, , n)', "float[4] n = {1, 1, 2, 2}"),
    "MaxPool": ("y = MaxPool<kernel_shape = [2, 2]>(f)", ""),
}


def text(
    body: str, constants: str = "", inputs: str = "int8[1,4,6,6] q", outputs: str = "float y"
) -> ModelProto:
    """A model whose constants are two scales, two zero points and `constants`."""
    return model(f"g ({inputs}) => ({outputs}) <{SCALES}{', ' if constants else ''}{constants}> {{ {body} }}")


def test_what_is_moved_where_an_input_says_is_no_move() -> None:
    proto = text(
        "f = DequantizeLinear(q, s, z) y = Gather<axis = 1>(f, n)", "", "int8[1,4,6,6] q, int64[3] n"
    )
    assert order(passed(proto, sink_dequantize)) == ["DQ", "Gather"]


# --- DQ down ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MOVES)
def test_moves_work_on_codes(name: str) -> None:
    body, constants = MOVES[name]
    graph = proved(text(f"f = DequantizeLinear(q, s, z) {body}", constants), sink_dequantize)
    op = name.split("-", maxsplit=1)[0]
    if op != "Identity":  # the reader drops it
        assert order(graph) == [op, "DQ"]
        assert input_dtype(graph, op) == "int8"


def test_split_works_on_codes_and_every_part_is_dequantized() -> None:
    body = "f = DequantizeLinear(q, s, z) a, b = Split<axis = 1, num_outputs = 2>(f) y = Add(a, b)"
    graph = proved(text(body), sink_dequantize)
    assert order(graph) == ["Split", "DQ", "DQ", "Add"]


def test_a_chain_of_moves_works_on_codes() -> None:
    body = "f = DequantizeLinear(q, s, z) a = Transpose(f) b = Flatten(a) y = Relu(b)"
    assert order(proved(text(body), sink_dequantize)) == ["Transpose", "Flatten", "DQ", "Relu"]


def test_concat_of_one_scale_works_on_codes() -> None:
    body = "f = DequantizeLinear(q, s, z) g = DequantizeLinear(p, s, z) y = Concat<axis = 1>(f, g)"
    graph = proved(text(body, inputs="int8[1,4] q, int8[1,3] p"), sink_dequantize)
    assert order(graph) == ["Concat", "DQ"]


@pytest.mark.parametrize("other", ["t, z", "s, o"], ids=["scale", "zero point"])
def test_concat_of_different_meanings_stays_float(other: str) -> None:
    body = f"f = DequantizeLinear(q, s, z) g = DequantizeLinear(p, {other}) y = Concat<axis = 1>(f, g)"
    graph = proved(text(body, inputs="int8[1,4] q, int8[1,3] p"), sink_dequantize)
    assert order(graph) == ["DQ", "DQ", "Concat"]


@pytest.mark.parametrize(
    "body",
    [
        "y, i = MaxPool<kernel_shape = [2, 2]>(f)",
        'y = Resize<mode = "linear">(f, , n)',
        "y = AveragePool<kernel_shape = [2, 2]>(f)",
        "y = Gather<axis = 1>(f, m)",
    ],
    ids=["pool with indices", "linear resize", "average", "computed indices"],
)
def test_operators_that_look_at_values_or_computed_arguments_stay_float(body: str) -> None:
    outputs = "float y, int64 i" if "y, i" in body else "float y"
    inputs = "int8[1,4,6,6] q, int64[2] m"
    proto = text(f"f = DequantizeLinear(q, s, z) {body}", "float[4] n = {1, 1, 2, 2}", inputs, outputs)
    graph = passed(proto, sink_dequantize)
    assert graph.nodes[0].op == "DequantizeLinear"


@pytest.mark.parametrize(("value", "code"), [(1.0, 5), (-3.5, -4), (0.0, 3), (62.0, 127)])
def test_a_pad_value_that_is_a_code_becomes_that_code(value: float, code: int) -> None:
    constants = f"int64[4] n = {{0, 1, 0, 2}}, float v = {{{value}}}"
    graph = proved(
        text("f = DequantizeLinear(q, s, z) y = Pad(f, n, v)", constants, "int8[2,3] q"), sink_dequantize
    )
    assert order(graph) == ["Pad", "DQ"]
    pad = graph.const(graph.nodes[0].inputs[2])
    assert pad is not None
    assert (pad.dtype.name, int(pad)) == ("int8", code)


@pytest.mark.parametrize(
    "value", [0.3, 62.5, -66.0, 1e9], ids=["between codes", "above", "below", "far above"]
)
def test_a_pad_value_that_no_code_means_keeps_the_pad_float(value: float) -> None:
    constants = f"int64[4] n = {{0, 1, 0, 2}}, float v = {{{value}}}"
    graph = proved(
        text("f = DequantizeLinear(q, s, z) y = Pad(f, n, v)", constants, "int8[2,3] q"), sink_dequantize
    )
    assert order(graph) == ["DQ", "Pad"]


def test_a_dequantized_tensor_with_another_reader_is_still_dequantized_for_it() -> None:
    body = "f = DequantizeLinear(q, s, z) a = Transpose(f) b = Transpose(a) y = Add(b, f)"
    graph = proved(text(body, inputs="int8[2,3] q"), sink_dequantize)
    assert sorted(order(graph)) == ["Add", "DQ", "DQ", "Transpose", "Transpose"]


def test_activations_quantized_per_channel_stay_float() -> None:
    constants = "float[3] p = {0.5, 1, 2}, int8[3] n = {0, 0, 0}"
    proto = text("f = DequantizeLinear<axis = 1>(q, p, n) y = Transpose(f)", constants, "int8[2,3] q")
    assert order(proved(proto, sink_dequantize)) == ["DQ", "Transpose"]


# --- constants --------------------------------------------------------------------------------------------


def test_a_quantize_of_a_constant_becomes_codes() -> None:
    constants = "float[4] c = {-1.25, 0.25, 0.75, 1000}"
    graph = proved(
        text(
            "a = QuantizeLinear(c, s, z) f = DequantizeLinear(a, s, z) y = Add(f, x)", constants, "float[4] x"
        ),
        fold_constants,
    )
    assert order(graph) == ["DQ", "Add"]
    codes = graph.const(graph.nodes[0].inputs[0])
    assert codes is not None
    assert codes.tolist() == [1, 3, 5, 127]  # half to even, saturated


def test_a_quantize_of_a_constant_works_per_axis() -> None:
    constants = "float[2,2] c = {1, 1, 2, 2}, float[2] p = {0.5, 0.25}, int8[2] n = {0, 1}"
    body = "a = QuantizeLinear<axis = 1>(c, p, n) f = DequantizeLinear<axis = 1>(a, p, n) y = Add(f, x)"
    graph = proved(text(body, constants, "float[2,2] x"), fold_constants)
    codes = graph.const(graph.nodes[0].inputs[0])
    assert codes is not None
    assert codes.tolist() == [[2, 5], [4, 9]]


@pytest.mark.parametrize(("perm", "axis"), [("1, 0, 2", 0), ("2, 1, 0", 1), ("0, 2, 1", 2)])
def test_a_transposed_weight_keeps_its_channels(perm: str, axis: int) -> None:
    constants = (
        "int8[2,3,4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24}, "
        "float[3] p = {0.5, 1, 2}, int8[3] n = {0, 1, 2}"
    )
    body = f"f = DequantizeLinear<axis = 1>(w, p, n) a = Transpose<perm = [{perm}]>(f) y = Mul(a, x)"
    graph = proved(text(body, constants, "float x"), sink_dequantize)
    assert order(graph) == ["DQ", "Mul"]
    assert graph.nodes[0].attrs["axis"] == axis


def test_a_reshaped_weight_per_channel_stays_float() -> None:
    constants = (
        "int8[2,3] w = {1,2,3,4,5,6}, float[3] p = {0.5, 1, 2}, int8[3] n = {0, 1, 2}, int64[1] m = {6}"
    )
    body = "f = DequantizeLinear<axis = 1>(w, p, n) a = Reshape(f, m) y = Mul(a, x)"
    assert order(proved(text(body, constants, "float x"), sink_dequantize)) == ["DQ", "Reshape", "Mul"]


# --- Q up -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in MOVES if not n.startswith(("Identity", "MaxPool"))])
def test_a_quantize_is_done_in_front_of_moves(name: str) -> None:
    body, constants = MOVES[name]
    proto = text(
        f"f = Exp(x) {body.replace('y =', 'm =')} y = QuantizeLinear(m, s, z)",
        constants,
        "float[1,4,6,6] x",
        "int8 y",
    )
    graph = proved(proto, hoist_quantize)
    assert order(graph) == ["Exp", "Q", name.split("-", maxsplit=1)[0]]


def test_a_quantize_passes_a_chain_of_moves() -> None:
    body = "f = Exp(x) a = Transpose(f) b = Flatten(a) y = QuantizeLinear(b, s, z)"
    graph = proved(text(body, inputs="float[1,4,6,6] x", outputs="int8 y"), hoist_quantize)
    assert order(graph) == ["Exp", "Q", "Transpose", "Flatten"]


def test_a_quantize_passes_a_concat_on_every_side() -> None:
    body = "f = Exp(x) g = Sin(x) a = Transpose(g) b = Concat<axis = 0>(f, a) y = QuantizeLinear(b, s, z)"
    graph = proved(text(body, inputs="float[3,3] x", outputs="int8 y"), hoist_quantize)
    assert (count(graph, "QuantizeLinear"), order(graph)[-1]) == (2, "Concat")
    assert input_dtype(graph, "Transpose") == "int8"


def test_a_border_of_zeros_becomes_zero_points_when_the_quantize_passes() -> None:
    body = "f = Exp(x) a = Pad(f, n) y = QuantizeLinear(a, s, z)"
    graph = proved(text(body, "int64[4] n = {0, 1, 0, 2}", "float[2,3] x", "int8 y"), hoist_quantize)
    assert order(graph) == ["Exp", "Q", "Pad"]
    pad = graph.const(graph.nodes[-1].inputs[2])
    assert pad is not None
    assert int(pad) == 3


def test_a_border_of_another_value_keeps_the_quantize_behind_it() -> None:
    body = "f = Exp(x) a = Pad(f, n, v) y = QuantizeLinear(a, s, z)"
    constants = "int64[4] n = {0, 1, 0, 2}, float v = {0.3}"
    graph = proved(text(body, constants, "float[2,3] x", "int8 y"), hoist_quantize)
    assert order(graph) == ["Exp", "Pad", "Q"]


@pytest.mark.parametrize(
    ("more", "outputs"),
    [
        ("w = Neg(m)", "int8 y, float w"),
        ("", "int8 y, float m"),
        ("w = QuantizeLinear(m, t, z)", "int8 y, int8 w"),
    ],
    ids=["another reader", "an output", "another quantize"],
)
def test_a_move_whose_floats_are_needed_keeps_its_quantize_behind(more: str, outputs: str) -> None:
    body = f"f = Exp(x) m = Transpose(f) y = QuantizeLinear(m, s, z) {more}"
    graph = proved(text(body, inputs="float[2,3] x", outputs=outputs), hoist_quantize)
    assert input_dtype(graph, "Transpose") == "float32"


def test_a_quantize_per_channel_stays_behind_its_move() -> None:
    constants = "float[3] p = {0.5, 1, 2}, int8[3] n = {0, 0, 0}"
    body = "f = Exp(x) m = Transpose(f) y = QuantizeLinear<axis = 0>(m, p, n)"
    graph = proved(text(body, constants, "float[2,3] x", "int8 y"), hoist_quantize)
    assert order(graph) == ["Exp", "Transpose", "Q"]


# --- Q meets DQ -------------------------------------------------------------------------------------------


def pair(quantize: str, outputs: str = "float y", end: str = "y = DequantizeLinear(c, s, z)") -> ModelProto:
    return text(
        f"f = DequantizeLinear(q, s, z) c = QuantizeLinear(f, {quantize}) {end}",
        inputs="int8[2,3] q",
        outputs=outputs,
    )


def test_codes_that_are_dequantized_and_quantized_alike_stay_as_they_are() -> None:
    assert order(proved(pair("s, z"), cancel_pairs)) == ["DQ"]


@pytest.mark.parametrize("other", ["t, z", "s, o"], ids=["scale", "zero point"])
def test_a_rescale_is_no_pair(other: str) -> None:
    scale, zero = other.split(", ")
    assert order(proved(pair(other, end=f"y = DequantizeLinear(c, {scale}, {zero})"), cancel_pairs)) == [
        "DQ",
        "Q",
        "DQ",
    ]


def test_chains_of_pairs_vanish() -> None:
    body = " ".join(
        f"f{i} = DequantizeLinear(q{i}, s, z) q{i + 1} = QuantizeLinear(f{i}, s, z)" for i in range(4)
    )
    graph = proved(text(f"{body} y = DequantizeLinear(q4, s, z)", inputs="int8[2,3] q0"), cancel_pairs)
    assert order(graph) == ["DQ"]


def test_a_pair_whose_codes_are_an_output_stays() -> None:
    graph = proved(pair("s, z", "int8 c", end=""), cancel_pairs)
    assert order(graph) == ["DQ", "Q"]


def test_a_pair_per_channel_stays() -> None:
    constants = "float[3] p = {0.5, 1, 2}, int8[3] n = {0, 0, 0}"
    body = (
        "f = DequantizeLinear<axis = 1>(q, p, n) c = QuantizeLinear<axis = 1>(f, p, n) "
        "y = DequantizeLinear<axis = 1>(c, p, n)"
    )
    graph = proved(text(body, constants, "int8[2,3] q"), cancel_pairs)
    assert order(graph) == ["DQ", "Q", "DQ"]


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_a_pad_value_off_the_grid_of_the_input_has_a_code_of_the_result(dtype: str) -> None:
    proto = model(
        f"g (float[1,2,4,4] x) => (float y) <float s = {{0.02}}, float t = {{0.05}}, {dtype} z = {{3}}, "
        "int64[8] pads = {0,0,1,0,0,1,2,0}, float v = {-1.2345}> { q = QuantizeLinear(x, s, z) "
        "d = DequantizeLinear(q, s, z) p = Pad(d, pads, v) r = QuantizeLinear(p, t, z) "
        "y = DequantizeLinear(r, t, z) }"
    )
    program = compile_model(proto, march="nash-e")
    assert {row.on for row in program.placement} == {"BPU"}
    feeds = values_for(proto)
    for mode in ("fast", "exact"):
        np.testing.assert_array_equal(
            Session(program, mode=mode).run(feeds).outputs["y"], run(proto, feeds)[0]
        )
