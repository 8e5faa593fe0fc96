"""Facts about normalizations that an exporter wrote out: one operator computes what the steps did."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openbpu.quantization.onnx import quantize
from openbpu.quantization.onnx.engine import run_once
from openbpu.quantization.onnx.net import Net, assemble
from openbpu.quantization.onnx.opset import OPSET_PER_CHANNEL
from openbpu.quantization.onnx.prepare import prepare
from quantization.float_models import float_model, noise, ops, quantized
from quantization.patterns.spelled import Writer, written_length, written_norm, written_rms

Array = npt.NDArray[Any]
OPSETS = (9, 10, 11, 12, 13, 14, 16, 17, 18, 20, 21, 23)
SHAPES = ((2, 6), (1, 5, 8), (3, 4, 8), (1, 6, 4, 5), (2, 6, 3, 4), (1, 2, 3, 4, 5))
STEPS = {"ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL2", "GlobalAveragePool", "Sqrt", "Pow", "Div"}


@st.composite
def spelling(draw: st.DrawFn) -> tuple[Writer, list[int], np.random.Generator]:
    """Draw a writer, the axes of a norm and numbers; the choices between spellings follow a drawn seed."""
    shape = draw(st.sampled_from(SHAPES))
    rank, seed = len(shape), draw(st.integers(0, 2**32 - 1))
    several = [list(range(2, rank)), list(range(1, rank))] if rank > 2 else []
    axes = draw(st.sampled_from([[rank - 1], [1], *several]))
    writer = Writer(draw(st.sampled_from(OPSETS)), shape, random.Random(seed).choice)
    return writer, axes, np.random.default_rng(seed)


def parameter(writer: Writer, axes: list[int], rng: np.random.Generator) -> Array | None:
    rank = len(writer.shape)
    shapes = [
        (writer.shape[-1],),
        tuple(size if axis in axes else 1 for axis, size in enumerate(writer.shape)),
        (writer.shape[1], *(1,) * (rank - 2)),
        (1,),
    ]
    shape = writer.choose([None, *shapes])
    return None if shape is None else np.asarray(rng.uniform(0.5, 1.5, shape), np.float32)


def computed(net: Net, x: Array) -> Array:
    return run_once(assemble(net), {"x": x}, ["y"])["y"]


def fused(writer: Writer) -> Net:
    net = prepare(writer.model(), OPSET_PER_CHANNEL)
    assert not STEPS & {node.op_type for node in net.nodes}, [node.op_type for node in writer.nodes]
    return net


def over(x: Array, axes: list[int], centre: npt.ArrayLike, epsilon: float) -> Array:
    d: Array = np.asarray(x, np.float64) - np.asarray(centre)
    return np.asarray(d / np.sqrt((d**2).mean(tuple(axes), keepdims=True) + epsilon))


@settings(max_examples=40, deadline=None)
@given(spelling())
def test_every_spelling_of_a_norm_is_one_operator_and_computes_the_norm(
    drawn: tuple[Writer, list[int], np.random.Generator],
) -> None:
    writer, axes, rng = drawn
    gain, bias = parameter(writer, axes, rng), parameter(writer, axes, rng)
    written_norm(writer, axes, 0.01, gain, bias)
    x = rng.normal(0.3, 2, writer.shape).astype(np.float32)
    y = over(x, axes, np.mean(x, tuple(axes), np.float64, keepdims=True), 0.01)
    y = y * (1 if gain is None else gain) + (0 if bias is None else bias)
    net = fused(writer)
    assert "LayerNormalization" in {node.op_type for node in net.nodes}
    np.testing.assert_allclose(computed(net, x), y, rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(spelling())
def test_every_spelling_of_a_norm_without_a_mean_is_one_operator(
    drawn: tuple[Writer, list[int], np.random.Generator],
) -> None:
    writer, axes, rng = drawn
    gain = parameter(writer, axes, rng)
    written_rms(writer, axes, 1e-6, gain)
    x = rng.normal(0.3, 2, writer.shape).astype(np.float32)
    y = over(x, axes, 0.0, 1e-6) * (1 if gain is None else gain)
    net = fused(writer)
    assert "RMSNormalization" in {node.op_type for node in net.nodes}
    np.testing.assert_allclose(computed(net, x), y, rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(spelling(), st.sampled_from([1e-12, 1e-6]))
def test_division_by_the_length_is_a_norm_and_leaves_zeros_alone(
    drawn: tuple[Writer, list[int], np.random.Generator], least: float
) -> None:
    writer, (axis, *_), rng = drawn
    written_length(writer, axis, least)
    x = np.moveaxis(rng.uniform(1, 2, writer.shape), axis, 0)
    x[:, ..., -1] = 0
    x = np.moveaxis(x, 0, axis).astype(np.float32)
    length = np.sqrt((x.astype(np.float64) ** 2).sum(axis, keepdims=True))
    net = fused(writer)
    assert "RMSNormalization" in {node.op_type for node in net.nodes}
    np.testing.assert_allclose(computed(net, x), x / np.maximum(length, least), rtol=1e-5, atol=1e-6)


LAYER_NORM = """(float[1,6,8] x) => (float[1,6,8] y) {
    m = ReduceMean <axes = [-1]> (x)  d = Sub(x, m)  s = Pow(d, two)  v = ReduceMean <axes = [-1]> (s)
    e = Add(v, eps)  r = Sqrt(e)  n = Div(d, r)  h = Mul(n, g)  y = Add(h, b)
}"""
CONSTANTS: dict[str, Array] = {
    "two": np.asarray(2, np.float32),
    "eps": np.asarray(1e-5, np.float32),
    "g": noise(8, seed=1),
    "b": noise(8, seed=2),
}


def test_a_fused_norm_has_the_name_and_the_metadata_of_its_last_node() -> None:
    model = float_model(LAYER_NORM, CONSTANTS, opset=12)
    last = model.graph.node[-1]
    last.name = "/encoder/norm/Add_1"
    last.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="net.py:7")
    (node,) = prepare(model, OPSET_PER_CHANNEL).nodes
    assert (node.op_type, node.name, [*node.output]) == ("LayerNormalization", "/encoder/norm/Add_1", ["y"])
    assert [(p.key, p.value) for p in node.metadata_props] == [("pkg.torch.onnx.stack_trace", "net.py:7")]


LEFT = {
    "m": "RMSNormalization",  # of what the mean is taken from
    "d": "RMSNormalization",
    **dict.fromkeys("sver", ""),
    "n": "LayerNormalization",
}


@pytest.mark.parametrize("inner", LEFT)
def test_a_norm_is_fused_no_further_than_what_is_an_output_or_read_elsewhere(inner: str) -> None:
    outputs = "(float[1,6,8] y, float z)"
    read = LAYER_NORM.replace("(float[1,6,8] y)", outputs).replace("h, b)", f"h, b)  z = Tanh({inner})")
    given = LAYER_NORM.replace("(float[1,6,8] y)", outputs.replace("z", inner))
    for text in (read, given):
        model = float_model(text, CONSTANTS)
        net = prepare(model, OPSET_PER_CHANNEL)
        assert [n.op_type for n in net.nodes if n.op_type.endswith("Normalization")] == [LEFT[inner]][
            : bool(LEFT[inner])
        ]
        names, feed = [value.name for value in model.graph.output], {"x": noise(1, 6, 8)}
        want, got = run_once(model, feed, names), run_once(assemble(net), feed, names)
        for name in names:
            np.testing.assert_allclose(got[name], want[name], rtol=1e-4, atol=1e-5)


ALMOST = (
    ("s = Pow(d, two)", "s = Pow(d, eps)"),
    ("v = ReduceMean <axes = [-1]> (s)", "v = ReduceMean <axes = [1]> (s)"),
    ("n = Div(d, r)", "n = Div(r, d)"),
    ("n = Div(d, r)", "n = Mul(d, r)"),
    ("d = Sub(x, m)", "d = Add(x, m)"),
    ("d = Sub(x, m)", "d = Sub(m, x)  o = Sub(x, m)"),
    ("e = Add(v, eps)", "e = Sub(v, eps)"),
    ("r = Sqrt(e)", "r = Exp(e)"),
    ("m = ReduceMean <axes = [-1]> (x)", "m = ReduceMax <axes = [-1]> (x)"),
)


@pytest.mark.parametrize(("old", "new"), ALMOST)
def test_what_is_almost_a_norm_computes_what_it_did(old: str, new: str) -> None:
    model, feed = float_model(LAYER_NORM.replace(old, new), CONSTANTS), {"x": noise(1, 6, 8)}
    net = prepare(model, OPSET_PER_CHANNEL)
    want = run_once(model, feed, ["y"])["y"]
    np.testing.assert_allclose(run_once(assemble(net), feed, ["y"])["y"], want, rtol=1e-4, atol=1e-5)
    assert ("LayerNormalization" in {node.op_type for node in net.nodes}) is ("m, x" in new)  # with gain −g


def test_nodes_that_nobody_reads_do_not_keep_a_norm_apart() -> None:
    text = LAYER_NORM.replace("y = Add(h, b)", "y = Add(h, b)  unused = Sub(x, m)")
    assert ops(quantized(text, CONSTANTS)) == ["LayerNormalization"]


def test_a_norm_of_a_free_batch_is_fused() -> None:
    text = LAYER_NORM.replace("float[1,6,8] x", "float[N,6,8] x").replace("float[1,6,8] y", "float[N,6,8] y")
    assert ops(quantized(text, CONSTANTS)) == ["LayerNormalization"]


CHANNELS_LAST = {
    "[1, 2]": ((1, 1, 1, 6), ["Transpose", "LayerNormalization", "Conv", "Transpose"]),
    "[1, 2, 4]": (
        (1, 1, 1, 3, 2),
        ["Reshape", "Transpose", "LayerNormalization", "Reshape", "Conv", "Reshape", "Transpose", "Reshape"],
    ),
}


@pytest.mark.parametrize("axes", CHANNELS_LAST)
def test_norms_of_channels_last_have_gain_and_bias_in_a_depthwise_convolution(axes: str) -> None:
    """As Keras writes them: x · (r · g) + (b − mean · r · g)."""
    shape, left = CHANNELS_LAST[axes]
    grouped = len(shape) > 4
    front, back = (
        ("z = Reshape(x, split)", "y = Reshape(h, whole)")
        if grouped
        else ("z = Identity(x)", "y = Identity(h)")
    )
    text = f"""(float[2,4,5,6] x) => (float[2,4,5,6] y) {{
        {front}  m = ReduceMean <axes = {axes}> (z)  d = Sub(z, m)  s = Mul(d, d)
        v = ReduceMean <axes = {axes}> (s)  e = Add(v, eps)  r = Sqrt(e)  i = Reciprocal(r)  k = Mul(i, g)
        p = Mul(z, k)  q = Mul(m, k)  o = Sub(b, q)  h = Add(p, o)  {back}
    }}"""
    constants = {
        "g": noise(*shape, seed=1),
        "b": noise(*shape, seed=2),
        "eps": np.asarray(1e-3, np.float32),
        "split": np.asarray([2, 4, 5, 3, 2]),
        "whole": np.asarray([2, 4, 5, 6]),
    }
    used = {name: array for name, array in constants.items() if f", {name})" in text or name == "b"}
    model = float_model(text, used, opset=13)
    net, x = prepare(model, OPSET_PER_CHANNEL), noise(2, 4, 5, 6, seed=3)
    assert [node.op_type for node in net.nodes if node.op_type != "Identity"] == left
    want = run_once(model, {"x": x}, ["y"])["y"]
    np.testing.assert_allclose(computed(net, x), want, rtol=1e-4, atol=1e-5)


def test_moments_of_flattened_pixels_are_moments_of_the_image() -> None:
    """As style transfer takes them."""
    text = """(float[N,6,H,5] x) => (float[N,6,H,5] y) {
        f = Reshape(x, rows)  m = ReduceMean <axes = [2], keepdims = 0> (f)  c = Reshape(m, image)
        k = ReduceMean <axes = [2]> (f)  d = Sub(f, k)  s = Mul(d, d)
        v = ReduceMean <axes = [2], keepdims = 0> (s)  e = Add(v, eps)  r = Sqrt(e)  w = Reshape(r, image)
        o = Sub(x, c)  y = Div(o, w)
    }"""
    constants = {
        "rows": np.asarray([0, 6, -1]),
        "image": np.asarray([-1, 6, 1, 1]),
        "eps": np.asarray(1e-3, np.float32),
    }
    x = noise(2, 6, 4, 5)
    for form, fused in ((text, True), (text.replace("N,6,H,5", "2,6,4,5"), True), (text, False)):
        rows = constants if fused else {**constants, "rows": np.asarray([-1, 6, 5])}
        model = float_model(form, rows, opset=13)
        net = prepare(model, OPSET_PER_CHANNEL)
        assert [node.op_type for node in net.nodes] == ["LayerNormalization"] or not fused
        assert fused or "LayerNormalization" not in {node.op_type for node in net.nodes}
        if fused:
            want = run_once(model, {"x": x}, ["y"])["y"]
            np.testing.assert_allclose(computed(net, x), want, rtol=1e-4, atol=1e-5)


FREE = {
    "InstanceNormalization(x, g, b)": ["LayerNormalization", "Conv"],
    "GroupNormalization <num_groups = 2> (x, g, b)": [
        *("Reshape", "LayerNormalization", "Reshape", "Conv", "Shape", "Reshape"),
    ],
    "LogSoftmax <axis = 3> (x)": ["ReduceMax", "Sub", "Exp", "ReduceSum", "Log", "Sub"],
    "MeanVarianceNormalization (x)": ["Transpose", "LayerNormalization", "Transpose"],
}


@pytest.mark.parametrize("form", FREE)
def test_free_axes_are_normalized_as_fixed_ones(form: str) -> None:
    parameters = {"g": noise(6, seed=1), "b": noise(6, seed=2)} if "g, b" in form else {}
    model = float_model(f"(float[N,6,H,W] x) => (float[N,6,H,W] y) {{ y = {form} }}", parameters, 21)
    net = prepare(model, OPSET_PER_CHANNEL)
    assert [node.op_type for node in net.nodes] == FREE[form]
    for shape in ((1, 6, 4, 5), (2, 6, 7, 3)):
        x = noise(*shape, seed=3)
        want = run_once(model, {"x": x}, ["y"])["y"]
        np.testing.assert_allclose(computed(net, x), want, rtol=1e-4, atol=1e-5)


def test_casts_to_float64_and_back_are_seen_through() -> None:
    text = """(float[1,6,8] x) => (float[1,6,8] y) {
        w = Cast <to = 11> (x)  s = Mul(w, w)  v = ReduceMean <axes = [-1]> (s)
        e = Add(v, eps)  r = Sqrt(e)  n = Div(w, r)  h = Cast <to = 1> (n)  y = Mul(h, g)
    }"""
    model = float_model(text, {"eps": np.asarray(1e-6), "g": CONSTANTS["g"]})
    assert [node.op_type for node in prepare(model, OPSET_PER_CHANNEL).nodes] == ["RMSNormalization"]


def test_a_root_or_a_deviation_that_epsilon_is_added_to_is_fused_where_epsilon_is_small() -> None:
    for epsilon, left in ((1e-6, True), (1e-3, False)):
        text = LAYER_NORM.replace("e = Add(v, eps)  r = Sqrt(e)", "e = Sqrt(v)  r = Add(e, eps)")
        net = prepare(
            float_model(text, CONSTANTS | {"eps": np.asarray(epsilon, np.float32)}), OPSET_PER_CHANNEL
        )
        assert any(node.op_type == "LayerNormalization" for node in net.nodes) is left


ONE_NODE = {
    "InstanceNormalization <epsilon = 0.01> (x, g, b)": 21,
    "GroupNormalization <num_groups = 3, epsilon = 0.01> (x, g, b)": 21,
    "GroupNormalization <num_groups = 3, epsilon = 0.01> (x, gg, gb)": 18,
    "MeanVarianceNormalization <axes = [0, 2, 3]> (x)": 17,
    "MeanVarianceNormalization <axes = [1]> (x)": 17,
    "LpNormalization <axis = 1> (x)": 17,
    "LpNormalization (x)": 17,
}


@pytest.mark.parametrize("form", ONE_NODE)
def test_norms_that_the_bpu_lacks_become_the_ones_it_has(form: str) -> None:
    parameters = {
        "g": noise(6, seed=1),
        "b": noise(6, seed=2),
        "gg": noise(3, seed=3),
        "gb": noise(3, seed=4),
    }
    used = {name: array for name, array in parameters.items() if f" {name}" in form}
    model = float_model(f"(float[2,6,4,5] x) => (float[2,6,4,5] y) {{ y = {form} }}", used, ONE_NODE[form])
    x = noise(2, 6, 4, 5, seed=5)
    net = prepare(model, OPSET_PER_CHANNEL)
    assert {n.op_type for n in net.nodes} & {"LayerNormalization", "RMSNormalization"}
    want = run_once(model, {"x": x}, ["y"])["y"]
    np.testing.assert_allclose(computed(net, x), want, rtol=1e-4, atol=1e-5)


def test_norms_that_the_bpu_cannot_take_either_stay() -> None:
    for text in (
        "(float[1,2,256,257] x) => (float y) { y = InstanceNormalization(x, g, b) }",
        "(float[1,2,H,65536] x) => (float y) { y = InstanceNormalization(x, g, b) }",
        "(float[1,2,4,H] x) => (float y) { y = LpNormalization (x) }",
    ):
        parameters = {"g": noise(2, seed=1), "b": noise(2, seed=2)} if "g, b" in text else {}
        (node,) = prepare(float_model(text, parameters), OPSET_PER_CHANNEL).nodes
        assert node.op_type in {"InstanceNormalization", "LpNormalization"}


def test_a_norm_written_out_is_as_exact_in_int8_as_one_that_is_not() -> None:
    """Rows differ in size: steps of int8 for squares and roots lose the small ones."""
    weights = CONSTANTS | {"w": noise(8, 4, seed=3)}
    text = LAYER_NORM.replace("(float[1,6,8] y)", "(float[1,6,4] z)").replace(
        "b)\n", "b)  z = MatMul(y, w)\n"
    )
    model = float_model(text, weights)
    x = noise(4, 6, 8, seed=4)
    x[:, 2] *= 12
    want, made = run_once(model, {"x": x[:1]}, ["z"])["z"], quantize(model, {"x": x})
    got = run_once(made, {"x": x[:1]}, ["z"])["z"]
    assert np.linalg.norm(got - want, axis=-1).max() < 0.2 * np.linalg.norm(want, axis=-1).min()
