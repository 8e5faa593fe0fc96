"""Operators on codes: channels last, with float results, products of integers, what knows no shape."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper

from compiler.foreign import Foreign, codes, normal, off, on_cpu, spread
from openbpu.compiler import check

MS = "com.microsoft"
X, Y = (0.03, 128, "uint8"), (0.15, 110, "uint8")
Terms = tuple[str, str]


def started() -> tuple[Foreign, str, Terms, Terms]:
    """A graph with an image x [1,8,6,6] as codes, its scaling, and the scaling of results."""
    g = Foreign(13, com_microsoft=1)
    x, y = g.scaling(*X), g.scaling(*Y)
    return g, g.node("QuantizeLinear", g.input("x", (1, 8, 6, 6)), *x), x, y


def weight(g: Foreign) -> list[str]:
    return [g.constant(codes((8, 8, 3, 3)), "int8"), *g.scaling(spread(8), 0, "int8")]


def finished(g: Foreign, q: str, terms: Terms, shape: tuple[int, ...]) -> ModelProto:
    g.output(g.node("DequantizeLinear", q, *terms, out="y"), shape)
    return g.model()


def last_conv(g: Foreign, q: str, x: Terms, y: Terms, *, twin: bool) -> str:
    """A convolution on N×H×W×C; its twin turns the image of a standard one."""
    bias = g.constant(codes((8,), 1, -3000, 3000), "int32")
    attrs: dict[str, Any] = {"pads": [1] * 4, "kernel_shape": [3, 3]}
    if twin:
        return turned(g, g.node("QLinearConv", q, *x, *weight(g), *y, bias, **attrs))
    q = turned(g, q)
    return g.node("QLinearConv", q, *x, *weight(g), *y, bias, domain=MS, channels_last=1, **attrs)


def turned(g: Foreign, q: str) -> str:
    return g.node("Transpose", q, perm=[0, 2, 3, 1])


def back(g: Foreign, q: str) -> str:
    return g.node("Transpose", q, perm=[0, 3, 1, 2])


def added(*, twin: bool) -> tuple[ModelProto, float]:
    g, q, x, y = started()
    q = last_conv(g, q, x, y, twin=twin)
    z = g.scaling(0.31, 100, "uint8")
    q = g.node("QLinearAdd", q, *y, q, *y, *z, domain=MS)
    return finished(g, q, z, (1, 6, 6, 8)), 0.31


def pooled(op: str, *, twin: bool) -> tuple[ModelProto, float]:
    """A pool that keeps channels last, or one behind a Transpose; only element types are recorded."""
    g, q, x, y = started()
    q = last_conv(g, q, x, y, twin=twin)
    window: dict[str, Any] = {} if "Global" in op else {"kernel_shape": [2, 2], "strides": [2, 2]}
    scales = () if op == "NhwcMaxPool" else (*y, *y)
    shape = (1, 1, 1, 8) if "Global" in op else (1, 3, 3, 8)
    if op == "behind a Transpose":
        q, shape = g.node("QLinearAveragePool", back(g, q), *scales, domain=MS, **window), (1, 8, 3, 3)
    elif not twin:
        last: dict[str, Any] = {} if op == "NhwcMaxPool" else {"channels_last": 1}
        q = g.node(op, q, *scales, domain=MS, **window, **last)
    elif op == "NhwcMaxPool":
        q = turned(g, g.node("MaxPool", back(g, q), **window))
    else:
        q = turned(g, g.node(op, back(g, q), *scales, domain=MS, **window))
    model = finished(g, q, y, shape)
    made = [o for n in model.graph.node for o in n.output if o != "y"]
    model.graph.value_info.extend(helper.make_tensor_value_info(n, 2, None) for n in made)
    return model, Y[0]


def chosen() -> tuple[ModelProto, float]:
    g, q, x, y = started()
    mask = g.constant(np.arange(8).reshape(1, 8, 1, 1) % 2 > 0, np.bool_)
    other = g.node("QLinearConv", q, *x, *weight(g), *y, pads=[1] * 4)
    q = g.node("QLinearWhere", mask, q, *x, other, *y, *y, domain=MS)
    return finished(g, q, y, (1, 8, 6, 6)), Y[0]


def averaged(*, twin: bool) -> tuple[ModelProto, float]:
    g, q, x, _ = started()
    y = g.scaling(0.01, 128, "uint8")
    if twin:
        mean = g.node("ReduceMean", g.node("DequantizeLinear", q, *x), axes=[2, 3], keepdims=0)
        q = g.node("QuantizeLinear", mean, *y)
    else:
        q = g.node("QLinearReduceMean", q, *x, *y, domain=MS, axes=[2, 3], keepdims=0)
    return finished(g, q, y, (1, 8)), 0.01


MODELS: dict[str, Callable[..., tuple[ModelProto, float]]] = {
    "QLinearConv, QLinearAdd": added,
    **{
        op: partial(pooled, op)
        for op in ("NhwcMaxPool", "QLinearAveragePool", "QLinearGlobalAveragePool", "behind a Transpose")
    },
    "QLinearReduceMean": averaged,
}


@pytest.mark.parametrize("name", MODELS)
def test_an_operator_on_codes_runs_on_the_bpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "QLinearReduceMean":  # ONNX Runtime has no kernel
        monkeypatch.setattr("witness.ort.is_witness_for", lambda _: False)
    model, step = MODELS[name](twin=False)
    assert off(model, step, twin=MODELS[name](twin=True)[0])[0] <= 1.001


def test_a_choice_between_codes_is_read() -> None:
    found = on_cpu(check(chosen()[0], march="nash-e"))
    assert not any(text.startswith(("QLinearConv", "QLinearWhere")) for text in found), found


# --- products of integers ---------------------------------------------------------------------------------


def matrix() -> tuple[Foreign, str, Terms]:
    g = Foreign(13, com_microsoft=1)
    x = g.scaling(*X)
    return g, g.node("QuantizeLinear", g.input("x", (5, 16)), *x), x


def integers(g: Foreign, q: str, zero: int = 0) -> str:
    zeros = (g.constant(128, "uint8"), g.constant(zero, "int8"))
    product = g.node("MatMulInteger", q, g.constant(codes((16, 12)), "int8"), *zeros)
    return g.node("Cast", product, to=1)


PRODUCTS: dict[str, Callable[[Foreign, str], str]] = {
    "scalar": lambda g, q: g.node("Mul", integers(g, q), g.constant(0.0006)),
    "computed scalar": lambda g, q: g.node(
        "Mul", integers(g, q), g.node("Mul", g.constant(0.03), g.constant(0.02))
    ),
    "per column": lambda g, q: g.node("Mul", g.constant(spread(12) / 20), integers(g, q)),
    "bias": lambda g, q: g.node(
        "Add", g.node("Mul", integers(g, q), g.constant(0.0006)), g.constant(normal((12,)))
    ),
    "zero point": lambda g, q: g.node("Mul", integers(g, q, 3), g.constant(0.0006)),
    "Div": lambda g, q: g.node("Div", integers(g, q), g.constant(1600)),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("quantized", [True, False])
def test_a_product_of_integers_is_one_of_reals(name: str, *, quantized: bool) -> None:
    if not quantized and name in ("bias", "Div"):
        pytest.skip("what follows a float result is the CPU's")
    g, q, _ = matrix()
    y = PRODUCTS[name](g, q)
    if quantized:
        g.pair(y, 0.1013, 128, "uint8", out="y")
    else:
        g.nodes[-1].output[0] = "y"
    g.output("y", (5, 12))
    assert off(g.model(), 0.1013)[0] <= (1.001 if quantized else 1e-4)


def test_a_convolution_of_integers_is_one_of_reals() -> None:
    g, q, _, _ = started()
    zeros = (g.constant(128, "uint8"), g.constant(0, "int8"))
    sums = g.node("ConvInteger", q, g.constant(codes((8, 8, 3, 3)), "int8"), *zeros, pads=[1] * 4)
    y = g.node("Mul", g.node("Cast", sums, to=1), g.constant(spread(8).reshape(1, 8, 1, 1) / 30))
    g.output(g.pair(y, 0.05, 110, "uint8", out="y"), (1, 8, 6, 6))
    assert off(g.model(), 0.05)[0] <= 1.001


def test_a_product_whose_scale_is_computed_stays() -> None:
    g = Foreign(13)
    q = "q"
    g.nodes.append(helper.make_node("DynamicQuantizeLinear", [g.input("x", (5, 16))], ["q", "s", "z"], "d"))
    w = g.constant(codes((16, 12)), "int8")
    product = g.node("MatMulInteger", q, w, "z")
    g.node("Mul", g.node("Cast", product, to=1), "s", out="y")
    g.output("y", (5, 12))
    assert len(on_cpu(check(g.model(), march="nash-e"))) == 4


@pytest.mark.parametrize("op", ["QGemm", "MatMulIntegerToFloat"])
def test_a_float_result_is_an_accumulator(op: str) -> None:
    models = [float_product(op, twin=twin) for twin in (False, True)]
    assert off(models[0], 0.0006, twin=models[1])[0] <= 0.01


def float_product(op: str, *, twin: bool) -> ModelProto:
    g, q, x = matrix()
    w = codes((16, 12))
    scale, zero = g.scaling(0.02, 0, "int8")
    sums = codes((12,), 1, -3000, 3000) * (op == "QGemm")
    if twin:
        product = g.node("MatMul", g.node("DequantizeLinear", q, *x), g.stored(w, 0.02))
        g.node("Add", product, g.constant(sums * 0.03 * 0.02), out="y")
    elif op == "QGemm":
        bias = g.constant(sums, "int32")
        g.node(op, q, *x, g.constant(w.T, "int8"), scale, zero, bias, domain=MS, transB=1, out="y")
    else:
        g.node(op, q, g.constant(w, "int8"), x[0], scale, x[1], zero, domain=MS, out="y")
    g.output("y", (5, 12))
    return g.model()
