"""Facts about a softmax that an exporter wrote out."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openbpu.compiler import check
from openbpu.quantization.onnx import quantize
from openbpu.quantization.onnx.engine import run_once
from openbpu.quantization.onnx.net import assemble
from openbpu.quantization.onnx.opset import OPSET_PER_CHANNEL
from openbpu.quantization.onnx.prepare import prepare
from quantization.float_models import float_model, noise, ops, samples
from quantization.patterns.spelled import Writer, written_softmax

STEPS = ["ReduceMax", "Sub", "Exp", "ReduceSum", "Log", "Sub"]
"""What the logarithm of a softmax becomes: operators of the BPU."""


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from((9, 11, 12, 13, 17, 18, 21, 23)),
    st.sampled_from([((2, 6), 1), ((1, 5, 8), 2), ((1, 5, 8), 1), ((1, 6, 4, 5), 1), ((2, 6, 3, 4), 3)]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_every_spelling_of_a_softmax_is_one_operator(
    opset: int, tensor: tuple[tuple[int, ...], int], log: bool, seed: int
) -> None:
    shape, axis = tensor
    writer = Writer(opset, shape, random.Random(seed).choice)
    written_softmax(writer, axis, log=log)
    x = noise(*shape, seed=seed) * 3
    net = prepare(writer.model(), OPSET_PER_CHANNEL)
    assert [node.op_type for node in net.nodes] == (STEPS if log else ["Softmax"])
    e = np.exp(x.astype(np.float64))
    want = e / e.sum(axis, keepdims=True)
    got = run_once(assemble(net), {"x": x}, ["y"])["y"]
    np.testing.assert_allclose(got, np.log(want) if log else want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "body",
    [
        "e = Exp(x)  s = ReduceSum <keepdims = 1> (e, last)  y = Div(s, e)",
        "e = Exp(x)  s = ReduceMean <axes = [-1]> (e)  y = Div(e, s)",
        "h = Mul(x, two)  e = Exp(x)  f = Exp(h)  s = ReduceSum <keepdims = 1> (f, last)  y = Div(e, s)",
        "e = Exp(x)  s = ReduceSum <keepdims = 1> (e, first)  o = Identity(s)  y = Sub(e, o)",
    ],
)
def test_what_is_almost_a_softmax_stays(body: str) -> None:
    constants = {"last": np.asarray([-1]), "first": np.asarray([1]), "two": np.asarray(2, np.float32)}
    used = {name: array for name, array in constants.items() if f" {name})" in body}
    net = prepare(float_model(f"(float[1,4,4] x) => (float[1,4,4] y) {{ {body} }}", used), OPSET_PER_CHANNEL)
    assert not any("Softmax" in node.op_type for node in net.nodes)


def test_a_scaled_and_masked_softmax_is_one_of_what_is_scaled_and_masked() -> None:
    text = """(float[1,4,4] x) => (float[1,4,4] y) {
        h = Mul(x, eighth)  z = Add(h, mask)  m = ReduceMax <axes = [-1]> (z)  d = Sub(z, m)
        e = Exp(d)  s = ReduceSum(e, last)  y = Div(e, s)
    }"""
    constants = {
        "eighth": np.asarray(0.125, np.float32),
        "mask": np.triu(np.full((4, 4), -1e4, np.float32), 1),
        "last": np.asarray([-1]),
    }
    net = prepare(float_model(text, constants), OPSET_PER_CHANNEL)
    assert [node.op_type for node in net.nodes] == ["Mul", "Add", "Softmax"]


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_the_logarithm_of_a_softmax_lies_on_the_bpu_as_a_whole(opset: int) -> None:
    text = "(float[1,6,8] x) => (float[1,6,20] y) { h = MatMul(x, w)  y = LogSoftmax <axis = -1> (h) }"
    model = float_model(text, {"w": noise(8, 20, seed=1)}, opset)
    made = quantize(model, samples(model))
    assert ops(made) == ["MatMul", *STEPS]
    assert all(row.on == "BPU" for row in check(made, march="nash-e"))
    x = noise(1, 6, 8, seed=2)
    want, got = (run_once(m, {"x": x}, ["y"])["y"] for m in (model, made))
    assert np.linalg.norm(got - want) < 0.02 * np.linalg.norm(want)


def test_the_steps_of_a_logarithm_of_a_softmax_keep_their_names() -> None:
    text = """(float[1,4,4] x) => (float[1,4,4] y) {
        m = ReduceMax <axes = [-1]> (x)  d = Sub(x, m)  e = Exp(d)  s = ReduceSum(e, last)  l = Log(s)
        y = Sub(d, l)
    }"""
    net = prepare(float_model(text, {"last": np.asarray([-1])}), OPSET_PER_CHANNEL)
    assert [node.output[0] for node in net.nodes] == [*"mdesly"]


@pytest.mark.parametrize(("epsilon", "left"), [(1e-9, 1), (1e-3, 6)])
def test_a_sum_of_exponentials_may_have_a_small_number_added(epsilon: float, left: int) -> None:
    text = """(float[1,4,4] x) => (float[1,4,4] y) {
        m = ReduceMax <axes = [-1]> (x)  d = Sub(x, m)  e = Exp(d)  s = ReduceSum(e, last)  t = Add(s, eps)
        y = Div(e, t)
    }"""
    constants = {"last": np.asarray([-1]), "eps": np.asarray(epsilon, np.float32)}
    assert len(prepare(float_model(text, constants), OPSET_PER_CHANNEL).nodes) == left


@pytest.mark.parametrize(("bias", "log"), [(-1e4, True), (-np.inf, True), (3.0, False)])
def test_behind_a_mask_a_logarithm_of_a_softmax_is_one_operator(bias: float, log: bool) -> None:
    text = """(float[1,4,8] x) => (float[1,4,8] y) {
        h = MatMul(x, w)  z = Add(h, c)  m = ReduceMax <axes = [-1]> (z)  d = Sub(z, m)
        e = Exp(d)  s = ReduceSum(e, last)  l = Log(s)  y = Sub(d, l)
    }"""
    constants = {
        "w": noise(8, 8),
        "c": np.where(np.arange(8) < 6, 0, bias).astype(np.float32),
        "last": np.asarray([-1]),
    }
    net = prepare(float_model(text, constants), OPSET_PER_CHANNEL)
    assert ("LogSoftmax" in {node.op_type for node in net.nodes}) is log


@pytest.mark.parametrize("log", [False, True])
def test_a_softmax_over_a_free_axis_is_one(log: bool) -> None:
    end = "l = Log(s) y = Sub(d, l)" if log else "y = Div(e, s)"
    text = f"""(float[N,4,T] x) => (float[N,4,T] y) {{
        m = ReduceMax <axes = [-1]> (x)  d = Sub(x, m)  e = Exp(d)  s = ReduceSum(e, last)  {end}
    }}"""
    net = prepare(float_model(text, {"last": np.asarray([-1])}), OPSET_PER_CHANNEL)
    assert [node.op_type for node in net.nodes] == (STEPS if log else ["Softmax"])
