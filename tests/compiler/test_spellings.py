"""Every spelling of a function gives the same codes, over all codes of its input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from compiler.reading import model
from openbpu.compiler import compile as compile_model
from openbpu.runtime import Session

Float64 = npt.NDArray[np.float64]
Function = Callable[[Float64], Float64]

CONSTANTS = {
    "c_m2": -2, "c_m1": -1, "c_mhalf": -0.5, "c_0": 0, "c_quarter": 0.25, "c_half": 0.5, "c_1": 1, "c_2": 2,
    "c_3": 3, "c_4": 4, "c_6": 6,
}  # fmt: skip


def sigmoid(x: Float64) -> Float64:
    return np.asarray(1 / (1 + np.exp(-x)))


SPELLINGS: dict[str, tuple[Function, float, tuple[str, ...]]] = {
    "square": (np.square, 4.0, (
        "%o = Pow(d, c_2)", "%o = Mul(d, d)", "%n = Neg(d) %o = Mul(%n, %n)",
        "%a = Abs(d) %m = Mul(%a, d) %o = Abs(%m)", "%n = Neg(d) %m = Mul(d, %n) %o = Neg(%m)",
        "%a = Mul(d, c_2) %m = Mul(%a, %a) %o = Mul(%m, c_quarter)", "%i = Pow(d, c_1) %o = Mul(%i, d)",
        "%m = Mul(d, d) %o = Div(%m, c_1)",
    )),
    "cube": (lambda x: x**3, 2.0, (
        "%o = Pow(d, c_3)", "%m = Mul(d, d) %o = Mul(%m, d)", "%m = Pow(d, c_2) %o = Mul(%m, d)",
    )),
    "root": (np.sqrt, 8.0, ("%o = Sqrt(d)", "%o = Pow(d, c_half)")),
    "inverse": (lambda x: 1 / x, 8.0, (
        "%o = Reciprocal(d)", "%o = Div(c_1, d)", "%o = Pow(d, c_m1)",
        "%n = Neg(d) %i = Reciprocal(%n) %o = Neg(%i)",
    )),
    "inverse square": (lambda x: 1 / x**2, 8.0, (
        "%o = Pow(d, c_m2)", "%m = Mul(d, d) %o = Reciprocal(%m)", "%m = Pow(d, c_2) %o = Div(c_1, %m)",
    )),
    "inverse root": (lambda x: 1 / np.sqrt(x), 8.0, (
        "%o = Pow(d, c_mhalf)", "%s = Sqrt(d) %o = Reciprocal(%s)", "%s = Sqrt(d) %o = Div(c_1, %s)",
    )),
    "identity": (lambda x: x, 3.0, (
        "%o = Identity(d)", "%o = Pow(d, c_1)", "%o = Mul(d, c_1)", "%o = Div(d, c_1)", "%o = Add(d, c_0)",
        "%n = Neg(d) %o = Neg(%n)", "%n = Sub(c_0, d) %o = Mul(%n, c_m1)",
    )),
    "quarter": (lambda x: x / 4, 3.0, (
        "%o = Div(d, c_4)", "%o = Mul(d, c_quarter)", "%h = Mul(d, c_half) %o = Div(%h, c_2)",
    )),
    "less two": (lambda x: x - 2, 3.0, ("%o = Sub(d, c_2)", "%o = Add(d, c_m2)", "%o = Sum(c_m2, d)")),
    "negative": (np.negative, 3.0, (
        "%o = Neg(d)", "%o = Mul(d, c_m1)", "%o = Sub(c_0, d)", "%o = Div(d, c_m1)",
        "%i = Pow(d, c_1) %o = Neg(%i)",
    )),
    "double": (lambda x: 2 * x, 3.0, (
        "%o = Add(d, d)", "%o = Mul(d, c_2)", "%o = Div(d, c_half)", "%o = Sum(d, d)",
    )),
    "clamp": (lambda x: np.clip(x, 0, 6), 8.0, (
        "%o = Clip(d, c_0, c_6)", "%r = Relu(d) %o = Min(%r, c_6)", "%r = Max(d, c_0) %o = Min(c_6, %r)",
        "%m = Min(d, c_6) %o = Relu(%m)", "%r = Clip(d, c_0) %o = Clip(%r, , c_6)",
    )),
    "hard swish": (lambda x: x * np.clip(x / 6 + 0.5, 0, 1), 4.0, (
        "%o = HardSwish(d)", "%h = HardSigmoid<alpha = 0.16666667163372040, beta = 0.5>(d) %o = Mul(d, %h)",
    )),
    "swish": (lambda x: x * sigmoid(x), 8.0, (
        "%s = Sigmoid(d) %o = Mul(d, %s)", "%s = Sigmoid(d) %o = Mul(%s, d)",
        "%n = Neg(d) %e = Exp(%n) %a = Add(%e, c_1) %o = Div(d, %a)",
    )),
    "softplus": (lambda x: np.log1p(np.exp(x)), 8.0, (
        "%o = Softplus(d)", "%e = Exp(d) %a = Add(%e, c_1) %o = Log(%a)",
    )),
    "hyperbolic tangent": (np.tanh, 4.0, (
        "%o = Tanh(d)", "%m = Mul(d, c_2) %s = Sigmoid(%m) %t = Mul(%s, c_2) %o = Sub(%t, c_1)",
    )),
}  # fmt: skip
TYPES = [("int8", "int8"), ("int8", "int16"), ("int16", "int8"), ("int16", "int16")]


def codes_of(
    bodies: tuple[str, ...], x: tuple[str, float, int], y: tuple[str, float, int]
) -> list[npt.NDArray[Any]]:
    """The codes of every spelling, one model for all; x, y: type, scale, zero point."""
    info = np.iinfo(x[0])
    codes = np.arange(info.min, info.max + 1).astype(x[0]).reshape(1, 1, -1)
    shape = f"[1,1,{codes.size}]"
    constants = ", ".join(f"float {name} = {{{value:.3f}}}" for name, value in CONSTANTS.items())
    scales = ", ".join(
        f"float s{n} = {{{scale:.9e}}}, {kind} z{n} = {{{zero}}}"
        for n, (kind, scale, zero) in (("x", x), ("y", y))
    )
    lines = [
        body.replace("%", f"v{i}_") + f" r{i} = QuantizeLinear(v{i}_o, sy, zy)"
        for i, body in enumerate(bodies)
    ]
    results = ", ".join(f"{y[0]}{shape} r{i}" for i in range(len(bodies)))
    text = f"g ({x[0]}{shape} x) => ({results}) <{scales}, {constants}> {{ d = DequantizeLinear(x, sx, zx) "
    proto = model(text + "\n".join(lines) + "}", opset=22)
    found = Session(compile_model(proto, march="nash-e", opt=0)).run({"x": codes}).outputs
    return [found[f"r{i}"].reshape(-1) for i in range(len(bodies))]


QUICK = {"square", "cube", "inverse", "identity", "less two", "clamp"}
CASES = [
    pytest.param(
        name, zero, kind, out,
        marks=() if name in QUICK and (zero, kind) == (3, "int16") else (pytest.mark.slow,),
    )
    for name in SPELLINGS for kind, out in TYPES for zero in (0, 3)
]  # fmt: skip


@pytest.mark.parametrize(("name", "zero", "kind", "out"), CASES)
def test_spellings_of_a_function_give_the_same_codes(name: str, zero: int, kind: str, out: str) -> None:
    function, reach, bodies = SPELLINGS[name]
    x_scale, steps = float(np.float32(reach / np.iinfo(kind).max)), np.iinfo(out)
    real = (np.arange(np.iinfo(kind).min, np.iinfo(kind).max + 1) - zero) * x_scale
    with np.errstate(all="ignore"):
        wanted: Float64 = np.clip(np.nan_to_num(function(np.asarray(real, np.float64)), nan=0.0), -1e30, 1e30)
    top = float(np.abs(wanted[np.abs(wanted) < 10 * reach]).max())
    y_scale = float(np.float32(top / steps.max))
    found = codes_of(bodies, (kind, x_scale, zero), (out, y_scale, -zero))
    for body, codes in zip(bodies, found, strict=True):
        assert np.array_equal(codes, found[0]), body
    ideal = np.clip(wanted / y_scale - zero, steps.min, steps.max)
    allowed = 0.501 if kind == "int8" or name in EXACT else 1.0 if out == "int8" else 128.0
    assert np.abs(found[0] - ideal).max() <= allowed


EXACT = {"square", "identity", "quarter", "less two", "negative", "double", "clamp"}
