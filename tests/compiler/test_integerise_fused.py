"""What stands between two roundings is one operator, and nothing is rounded that the graph does not round."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.networks import Network
from compiler.one_operator import conv, ended
from compiler.passing import count, integers, settled, the
from compiler.reading import model
from openbpu.arch.program import BpuSegment, CpuSegment, Program
from openbpu.compiler import compile as compile_model
from openbpu.compiler.ir import Graph, Node
from witness.builder import GraphBuilder, Style

IMAGE = (1, 4, 6, 6)
FREE = ("Transpose", "Reshape", "QuantizeLinear", "DequantizeLinear")


def work(b: GraphBuilder, march: str = "nash-e") -> list[str]:
    """Operators that compute, in order."""
    return [n.op for n in integers(b.model(), march)[0].nodes if n.op not in FREE]


def origins(node: Node) -> list[str]:
    return [o.op_type for o in node.origins]


def norm(b: GraphBuilder, x: str, channels: int) -> str:
    parts = [b.constant(b.rng.uniform(0.5, 2, channels)) for _ in range(4)]
    return b.node("BatchNormalization", x, *parts)


def constant(graph: Graph, node: Node, index: int) -> np.ndarray:
    data = graph.const(node.inputs[index])
    assert data is not None
    return data


# --- behind a convolution ---------------------------------------------------------------------------------


BLOCKS: dict[str, tuple[Callable[[Network, str], str], list[str]]] = {
    "relu": (lambda b, y: b.node("Relu", y), ["Conv", "Relu"]),
    "clip": (lambda b, y: b.node("Clip", y, b.constant(0.0), b.constant(6.0)), ["Conv", "Clip"]),
    "max, min": (
        lambda b, y: b.node("Min", b.constant(6.0), b.node("Max", y, b.constant(0.0))),
        ["Conv", "Max", "Min"],
    ),
    "norm": (lambda b, y: norm(b, y, 4), ["Conv", "BatchNormalization"]),
    "add": (lambda b, y: b.node("Add", y, b.x), ["Conv", "Add"]),
    "add to": (lambda b, y: b.node("Add", b.x, y), ["Conv", "Add"]),
    "norm, relu": (lambda b, y: b.node("Relu", norm(b, y, 4)), ["Conv", "BatchNormalization", "Relu"]),
    "add, relu": (lambda b, y: b.node("Relu", b.node("Add", y, b.x)), ["Conv", "Add", "Relu"]),
    "norm, add, relu": (
        lambda b, y: b.node("Relu", b.node("Add", norm(b, y, 4), b.x)),
        ["Conv", "BatchNormalization", "Add", "Relu"],
    ),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_is_one_operator_with_all_its_names(name: str) -> None:
    build, names = BLOCKS[name]
    b = Network(IMAGE)
    b.finished(b.qdq(build(b, b.conv(b.x, 4))))
    graph = integers(b.model())[0]
    assert [n.op for n in graph.nodes if n.op not in FREE] == ["Conv"]
    assert sorted(origins(the(graph, "Conv"))) == sorted(names)


def test_a_rounding_in_between_makes_two_operators() -> None:
    b = Network(IMAGE)
    b.finished(b.qdq(b.node("Add", b.qdq(b.conv(b.x, 4)), b.x)))
    assert work(b) == ["Conv", "Binary"]


def test_bounds_of_relu_and_clip_become_codes() -> None:
    b = Network(IMAGE)
    y = b.node("Clip", b.conv(b.x, 4), b.constant(-0.25), b.constant(0.5))
    b.finished(b.qdq(b.node("Relu", y)))
    node = the(integers(b.model())[0], "Conv")
    scale = float(b.scale_of(b.outputs[0]))
    assert (node.attrs["lo"], node.attrs["hi"]) == (0, round(0.5 / scale))


def test_bounds_of_max_and_min_are_those_of_clip() -> None:
    b = Network(IMAGE)
    y = b.node("Max", b.constant(-0.25), b.node("Min", b.conv(b.x, 4), b.constant(0.5)))
    b.finished(b.qdq(y))
    node = the(integers(b.model())[0], "Conv")
    scale = float(b.scale_of(b.outputs[0]))
    assert (node.attrs["lo"], node.attrs["hi"]) == (round(-0.25 / scale), round(0.5 / scale))


def test_a_residual_of_another_scale_and_type_is_added_in_its_own_step() -> None:
    b = Network(IMAGE, 21)
    other = b.qdq(b.input(b.rng.uniform(-9, 9, IMAGE)), Style("int16"))
    b.finished(b.qdq(b.node("Add", b.conv(b.x, 4), other)))
    graph = integers(b.model())[0]
    node = the(graph, "Conv")
    assert graph.values[node.inputs[1].removesuffix("/nhwc")].dtype == "int16"
    assert constant(graph, node, 4).shape == (4,)


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (1, 1, 6, 6), (4, 1, 1)])
def test_a_residual_that_is_broadcast_is_not_fused(shape: tuple[int, ...]) -> None:
    b = Network(IMAGE)
    b.finished(b.qdq(b.node("Add", b.conv(b.x, 4), b.quantized_input(shape))))
    assert "Add" in work(b)


def test_a_convolution_added_to_a_convolution_takes_the_other_as_its_residual() -> None:
    b = Network(IMAGE)
    b.finished(b.qdq(b.node("Add", b.conv(b.x, 4), b.qdq(b.conv(b.x, 4)))))
    assert work(b) == ["Conv", "Conv"]


def test_a_float_that_is_an_output_too_is_computed_again() -> None:
    b = Network(IMAGE)
    y = b.node("Relu", b.conv(b.x, 4))
    b.finished(b.qdq(y), y)
    graph, _ = integers(b.model())
    assert sorted(n.attrs["raw"] for n in graph.nodes if n.op == "Conv") == [False, True]


def test_a_transposed_convolution_fuses_like_a_convolution() -> None:
    b = Network(IMAGE)
    y = b.node("ConvTranspose", b.x, b.weight(b.rng.normal(size=(4, 3, 2, 2))), strides=[2, 2])
    b.finished(b.qdq(b.node("Relu", norm(b, y, 3))))
    assert work(b) == ["Conv"]


# --- products ---------------------------------------------------------------------------------------------


def test_a_product_with_weights_is_a_convolution_over_its_rows() -> None:
    b = Network((3, 8))
    b.finished(b.qdq(b.node("MatMul", b.x, b.weight(b.rng.normal(size=(8, 5)), axis=1))))
    graph = integers(b.model())[0]
    assert constant(graph, the(graph, "Conv"), 2).shape == (5, 1, 1, 8)


def test_a_constant_added_to_a_product_is_its_bias() -> None:
    b = Network((3, 8))
    y = b.node("MatMul", b.x, b.weight(b.rng.normal(size=(8, 5)), axis=1))
    b.finished(b.qdq(b.node("Relu", b.node("Add", b.constant(b.rng.normal(size=5)), y))))
    graph = integers(b.model())[0]
    assert [n.op for n in graph.nodes if n.op not in FREE] == ["Conv"]
    assert constant(graph, the(graph, "Conv"), 3)[:, 0].any()


def test_a_product_of_two_tensors_is_a_matrix_product() -> None:
    b = Network((2, 3, 4, 5))
    b.finished(b.qdq(b.node("MatMul", b.x, b.quantized_input((5, 6)))))
    assert work(b) == ["MatMul"]


# --- per channel ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_constants_per_channel_become_a_depthwise_convolution(op: str) -> None:
    b = Network(IMAGE)
    b.finished(b.qdq(b.node(op, b.x, b.constant(b.rng.uniform(0.5, 2, (4, 1, 1))))))
    graph = integers(b.model())[0]
    node = the(graph, "Conv")
    assert node.attrs["groups"] == 4
    assert (constant(graph, node, 2) == 1).all()


def test_a_norm_alone_is_a_depthwise_convolution() -> None:
    b = Network(IMAGE)
    b.finished(b.qdq(norm(b, b.x, 4)))
    assert work(b) == ["Conv"]


# --- biases and zero points -------------------------------------------------------------------------------


def test_a_float_bias_is_exact() -> None:
    """Whole steps of the accumulator go to the bias, the rest to the offset behind the multiplier."""
    b = Network(IMAGE)
    bias = b.rng.uniform(-0.5, 0.5, 4).astype(np.float32)
    w = b.weight(b.rng.normal(size=(4, 4, 3, 3)), axis=0)
    b.finished(b.qdq(b.node("Conv", b.x, w, b.constant(bias))))
    graph = integers(b.model())[0]
    whole, mult, offset, shift = constant(graph, the(graph, "Conv"), 3).T.astype(np.float64)
    steps = (whole * mult + offset) / 2.0**shift
    wanted = bias.astype(np.float64) / float(b.scale_of(b.outputs[0]))
    np.testing.assert_allclose(steps, wanted, rtol=1e-9)
    assert (np.abs(offset) <= mult / 2 + 1).all()


@pytest.mark.parametrize("style", ["int8", "uint8"])
def test_zero_points_go_into_the_bias_and_the_padding(style: str) -> None:
    b = Network(IMAGE, 13, Style(style, symmetric=False))
    w = b.weight(b.rng.normal(size=(4, 4, 3, 3)), axis=0)
    b.finished(b.qdq(b.node("Conv", b.x, w, pads=[1, 1, 1, 1])))
    graph = integers(b.model())[0]
    node = the(graph, "Conv")
    zero = int(b.values[b.parameters[b.x].zero]) - (128 if style == "uint8" else 0)
    weight, params = constant(graph, node, 2).astype(np.int64), constant(graph, node, 3)
    assert node.attrs["pad_value"] == zero
    np.testing.assert_array_equal(params[:, 0], -zero * weight.reshape(4, -1).sum(axis=1))


def test_weights_with_a_zero_point_lose_it() -> None:
    b = Network(IMAGE)
    scale, zero = b.constant(np.float32(0.01)), b.constant(np.uint8(100))
    codes = b.constant(b.rng.integers(0, 256, (4, 4, 1, 1)).astype(np.uint8))
    b.finished(b.qdq(b.node("Conv", b.x, b.node("DequantizeLinear", codes, scale, zero))))
    graph = integers(b.model())[0]
    found = constant(graph, the(graph, "Conv"), 2)
    np.testing.assert_array_equal(found, b.values[codes].transpose(0, 2, 3, 1).astype(int) - 100)
    assert found.dtype == np.int16  # 155 does not fit int8


@pytest.mark.parametrize(("channels", "wide"), [(4, False), (4096, True)])
def test_accumulators_that_may_leave_int32_are_wide(channels: int, wide: bool) -> None:
    b = Network((1, channels, 1, 1), 21, Style("int16"))
    ended(b, b.node("Conv", b.x, b.weight(np.ones((1, channels, 1, 1)))))
    assert the(integers(b.model())[0], "Conv").attrs["wide"] is wide


# --- results without a Quantize ---------------------------------------------------------------------------


def accumulating(march: str) -> Program:
    b = Network(IMAGE)
    b.finished(b.conv(b.layer(b.x, 4), 5))
    return compile_model(b.model(), march=march)


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
def test_a_last_layer_that_is_not_quantized_gives_its_accumulator(march: str) -> None:
    program = accumulating(march)
    ops = [op for s in program.segments if isinstance(s, BpuSegment) for op in s.operators]
    last = [op for op in ops if getattr(op, "raw", False)]
    assert len(last) == 1
    assert program.tensors[last[0].outputs[0]].dtype.value == "int32"
    assert program.tensors[program.outputs[0]].dtype.value == "float32"


def test_its_scales_come_behind_every_change_of_layout() -> None:
    b = Network(IMAGE)
    b.finished(b.conv(b.x, 5))
    nodes = [n.op for n in settled(b.model()).nodes]
    assert nodes[-2:] == ["Transpose", "Dequantize"]


LAST = """g (float[1,4,6,6] x) => (float[1,6,6,4] y, float[1,3] r) <float s = {0.5}, int8 z = {0},
    int8[4,4,1,1] w = {1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8}, bool c = {1}, float[1,3] k = {1,2,3}> {
    xq = QuantizeLinear(x, s, z) xd = DequantizeLinear(xq, s, z) wd = DequantizeLinear(w, s, z)
    a = Conv(xd, wd) y = Transpose <perm = [0, 2, 3, 1]> (a)"""


@pytest.mark.parametrize(
    "node",
    [
        "r = RandomNormal <shape = [1, 3]> ()",
        "r = RandomUniform <shape = [1, 3]> ()",
        """r = Loop("", c, k) <body = b (int64 i, bool t, float[1,3] l) => (bool n, float[1,3] m) {
            u = Cast <to = 9> (i) n = Not(u) m = Relu(l) }>""",
    ],
    ids=["normal", "uniform", "loop"],
)
def test_a_node_without_a_first_input_may_stand_beside_a_moved_accumulator(node: str) -> None:
    graph, _ = integers(model(f"{LAST} {node} }}"))
    assert [n.op for n in graph.nodes if n.outputs == ("r",)] == [node.split()[2].split("(", maxsplit=1)[0]]
    assert next(n for n in graph.nodes if n.outputs == ("y",)).op == "DequantizeLinear"


def test_an_accumulator_takes_nothing_behind_it() -> None:
    b = Network(IMAGE)
    b.finished(b.node("Relu", b.conv(b.x, 4)))
    program = compile_model(b.model(), march="nash-e")
    assert [s.nodes for s in program.segments if isinstance(s, CpuSegment)] == [1]


def test_a_product_of_two_tensors_gives_its_accumulator_too() -> None:
    b = Network((2, 4, 8))
    b.finished(b.node("MatMul", b.x, b.quantized_input((2, 8, 3))))
    assert the(integers(b.model())[0], "MatMul").attrs["raw"]


# --- int16 ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["Mul", "Max"])
def test_an_int16_tensor_that_meets_itself_is_exact(op: str) -> None:
    b = Network((1, 8), 21, Style("int16"))
    b.finished(b.qdq(b.node("Relu", b.node(op, b.x, b.dequantize_again(b.x)))))
    assert work(b) == ["Binary"]


def test_lines_over_int16_are_exact_rescales() -> None:
    b = Network((1, 8), 21, Style("int16"))
    y = b.node("Add", b.node("Mul", b.x, b.constant(0.5)), b.constant(0.25))
    b.finished(b.qdq(b.node("Clip", y, b.constant(0.0), b.constant(0.5))))
    assert work(b) == ["Rescale"]


def test_curves_over_int16_are_lines_between_breakpoints() -> None:
    b = Network((1, 8), 21, Style("int16"))
    b.finished(b.qdq(b.node("Tanh", b.x)))
    graph = integers(b.model())[0]
    segments = constant(graph, the(graph, "SegmentLut"), 1)
    assert segments.shape[0] <= 64
    assert (np.diff(segments[:, 0]) > 0).all()


def test_another_scale_is_a_rescale_of_its_own() -> None:
    b = Network(IMAGE)
    b.finished(b.qdq(b.qdq(b.x, Style(spread=0.5))))
    assert work(b) == ["Lut", "Lut"]
    assert count(settled(b.model()), "Lut") == 1


def test_a_layer_is_one_operator_on_every_march() -> None:
    for march in ("nash-e", "nash-m", "nash-p", "bayes", "bayes-e"):
        assert work(conv(IMAGE, (4, 4, 3, 3)), march)[:1] == ["Conv"]
