"""Small graphs that take every kind of operator, quantized: nodes, grids and constants are as they were.

Weights and samples are sums of powers of two, so that sums of float32 are exact in any order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from conftest import Golden
from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx import Choice, Corrections, quantize, quantize_random, quantize_unseen
from quantization.float_models import Array, float_model


def eighths(*shape: int, seed: int = 0, most: int = 8) -> Array:
    return (np.random.default_rng(seed).integers(-most, most + 1, shape) / 8).astype(np.float32)


def positive(*shape: int, seed: int = 0) -> Array:
    return np.asarray(np.abs(eighths(*shape, seed=seed)) + np.float32(0.5))


I64 = np.int64
C: dict[str, Any] = {
    "w": eighths(4, 4, 3, 3), "b": eighths(4, seed=1), "dw": eighths(4, 1, 3, 3, seed=2),
    "p": eighths(4, 4, 1, 1, seed=3), "t": eighths(4, 2, 2, 2, seed=4), "m": eighths(8, 8, seed=5),
    "g": positive(4, seed=6), "mean": eighths(4, seed=7), "var": positive(4, seed=8),
    "c1": eighths(1, 4, 1, 1, seed=9), "eight": eighths(8, seed=10), "half": np.float32(0.5),
    "two": np.float32(2), "six": np.float32(6), "three": np.float32(3), "zero": np.float32(0),
    "one": np.float32(1), "third": np.float32(0.25), "root2": np.float32(1.4142135),
    "eps": np.float32(0.0078125), "axis": np.array([-1], I64), "first": np.array([0], I64),
    "flat": np.array([1, -1], I64), "sizes": np.array([1, 4, 4, 4], I64), "begin": np.array([1], I64),
    "end": np.array([3], I64), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], I64),
    "scales": np.array([1, 1, 2, 2], np.float32), "table": eighths(6, 8, seed=11),
    "keep": eighths(8, 8, seed=12) > 0, "far": np.float32(-1e9), "slopes": positive(4, 1, 1, seed=13),
    "parts": np.array([1, 3], I64), "k": np.array([2], I64),
}  # fmt: skip

IMAGE = "(float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y)"
OPEN = "(float[1, 4, 8, 8] x) => (float y)"
ROWS = "(float[1, 8, 8] x) => (float y)"
CONV = "Conv <pads = [1, 1, 1, 1]>"
TEXTS = {
    "conv and what follows": IMAGE
    + (
        "{ a = Conv <pads = [1, 1, 1, 1]>(x, w, b) c = Relu(a) d = Conv <pads = [1, 1, 1, 1]>(c, w) y = "
        "Clip(d, zero, six) }"
    ),
    "depthwise": IMAGE + "{ a = Conv <group = 4, pads = [1, 1, 1, 1]>(x, dw, b) y = HardSwish(a) }",
    "transposed": OPEN + "{ y = ConvTranspose <group = 2, strides = [2, 2]>(x, t) }",
    "norm folded": IMAGE
    + ("{ a = Conv <pads = [1, 1, 1, 1]>(x, w, b) c = BatchNormalization(a, g, b, mean, var) y = Relu(c) }"),
    "norm alone": IMAGE
    + ("{ a = BatchNormalization(x, g, b, mean, var) y = Conv <pads = [1, 1, 1, 1]>(a, w) }"),
    "scaled and shifted": IMAGE
    + (
        "{ a = Conv <pads = [1, 1, 1, 1]>(x, w) c = Mul(a, c1) d = Add(c, c1) e = Sub(d, half) y = Div(e, "
        "two) }"
    ),
    "residual": IMAGE
    + (
        "{ a = Conv <pads = [1, 1, 1, 1]>(x, w) c = Relu(a) d = Conv <pads = [1, 1, 1, 1]>(c, w) e = "
        "Add(d, x) y = Relu(e) }"
    ),
    "gate": IMAGE + "{ a = GlobalAveragePool(x) c = Conv(a, p, b) d = Sigmoid(c) y = Mul(x, d) }",
    "pools": OPEN
    + (
        "{ a = MaxPool <kernel_shape = [2, 2], strides = [2, 2]>(x) y = AveragePool <kernel_shape = [3, "
        "3]>(a) }"
    ),
    "matmuls": ROWS
    + ("{ a = MatMul(x, m) c = Add(a, eight) d = Transpose <perm = [0, 2, 1]>(c) y = MatMul(c, d) }"),
    "gemm": ("(float[2, 8] x) => (float y) { y = Gemm <alpha = 0.5, beta = 2.0, transB = 1>(x, m, eight) }"),
    "attention": ROWS
    + (
        "{ q = MatMul(x, m) u = Transpose <perm = [0, 2, 1]>(x) s = MatMul(q, u) d = Div(s, two) k0 = "
        "Where(keep, far, d) o = Softmax <axis = -1>(k0) y = MatMul(o, x) }"
    ),
    "gelu": ROWS
    + ("{ a = MatMul(x, m) d = Div(a, root2) e = Erf(d) f = Add(e, one) h = Mul(a, f) y = Mul(h, half) }"),
    "layer norm": ROWS
    + (
        "{ a = ReduceMean <axes = [-1]>(x) c = Sub(x, a) d = Pow(c, two) e = ReduceMean <axes = [-1]>(d) "
        "f = Add(e, eps) h = Sqrt(f) i = Div(c, h) j = Mul(i, eight) y = Add(j, eight) }"
    ),
    "hard swish": IMAGE
    + (
        "{ a = Conv <pads = [1, 1, 1, 1]>(x, w) c = Add(a, three) d = Clip(c, zero, six) e = Mul(a, d) y "
        "= Div(e, six) }"
    ),
    "swish": IMAGE + "{ a = Conv <pads = [1, 1, 1, 1]>(x, w) c = Sigmoid(a) y = Mul(a, c) }",
    "moves": OPEN
    + (
        "{ a = Slice(x, begin, end, begin) c = Concat <axis = 1>(a, x) d = Pad(c, pads) e = Resize(d, , "
        "scales) f, h = Split <axis = 1>(e) i = Transpose <perm = [0, 2, 3, 1]>(f) y = Reshape(i, flat) }"
    ),
    "pointwise": OPEN
    + (
        "{ a = LeakyRelu <alpha = 0.25>(x) c = PRelu(a, slopes) d = Abs(c) e = Sqrt(d) f = Max(e, x) y = "
        "Min(f, a) }"
    ),
    "reductions": OPEN
    + (
        "{ a = ReduceMax <axes = [1]>(x) c = ReduceMean <axes = [2, 3]>(a) d = ReduceL2 <axes = [1]>(x) y "
        "= Add(c, d) }"
    ),
    "on the CPU": OPEN
    + (
        "{ a = Conv <pads = [1, 1, 1, 1]>(x, w) c, i = TopK <axis = 1>(a, k) d = LRN <size = 3>(c) e = "
        "Cast <to = 1>(d) y = Relu(e) }"
    ),
    "embedding": "(int64[1, 3] x) => (float y) { a = Gather(table, x) y = MatMul(a, m) }",
    "ends": (
        "(float[1, 8] x) => (float[1, 8] x2, float y, float z) { x2 = Identity(x) y = Relu(x) a = Mul(y, "
        "y) z = Softmax(a) }"
    ),
    "two inputs": (
        "(float[1, 8] x, float[1, 8] u) => (float y) { a = Concat <axis = 0>(x, u) c = MatMul(a, m) y = "
        "Sum(c, a) }"
    ),
    "shapes": OPEN
    + ("{ s = Shape(x) h = Gather(s, first) r = Concat <axis = 0>(h, axis) a = Reshape(x, r) y = Relu(a) }"),
    "beside": OPEN + "{ a = Conv <pads = [1, 1, 1, 1]>(x, w) y = Greater(a, x) }",
}


def model_of(text: str) -> ModelProto:
    used = {
        k: v for k, v in C.items() if any(k in part.replace(")", ",").split(",") for part in _operands(text))
    }
    model = float_model(text, used)
    for node in model.graph.node:
        node.name = f"n_{node.output[0]}"
    return model


def _operands(text: str) -> list[str]:
    return [piece.partition(")")[0].replace(" ", "") for piece in text.split("(")[3:]]


def fed(model: ModelProto, count: int = 4) -> dict[str, Array]:
    known = {t.name for t in model.graph.initializer}
    made: dict[str, Array] = {}
    for n, value in enumerate(v for v in model.graph.input if v.name not in known):
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        values = eighths(count, *shape, seed=20 + n, most=24)
        made[value.name] = (
            values if value.type.tensor_type.elem_type == 1 else np.abs(values).astype(np.int64)
        )
    return made


def described(model: ModelProto) -> dict[str, Any]:
    """Nodes with their attributes, and what constants hold: type, shape, sum and the first values."""
    return {
        "nodes": [_node(node) for node in model.graph.node],
        "constants": {t.name: _constant(numpy_helper.to_array(t)) for t in model.graph.initializer},
        "ends": [v.name for v in (*model.graph.input, *model.graph.output)],
        "opset": [o.version for o in model.opset_import],
    }


def _node(node: Any) -> str:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    shown = {k: v for k, v in attributes.items() if isinstance(v, (int, float, list, bytes))}
    ends = f"({', '.join(node.input)}) → {', '.join(node.output)}"
    return f"{node.name}: {node.op_type}{ends} {shown or ''}".strip()


def _constant(array: Array) -> list[Any]:
    wide = array.astype(np.float64)
    return [array.dtype.name, list(array.shape), float(wide.sum()), wide.reshape(-1)[:3].tolist()]


def chosen(choice: Choice) -> dict[str, Any]:
    return {
        "method": choice.method,
        "ranges": {
            n: [r.range, r.largest, r.dtype.value, r.method, r.zero_point] for n, r in choice.ranges.items()
        },
        "findings": [[f.kind, f.tensor, f.node, f.text] for f in choice.findings],
        "counts": dict(choice.counts),
        "corrections": [c.sentence for c in choice.corrections],
    }


@pytest.mark.parametrize("name", TEXTS)
def test_a_graph_is_quantized_as_it_was(golden: Golden, name: str) -> None:
    model, told = model_of(TEXTS[name]), list[Choice]()
    made = quantize(model, fed(model), told=told.append)
    found: dict[str, Any] = {"model": described(made), "choice": chosen(told[0])}
    golden(f"quantized_{name.replace(' ', '_')}", found, near=True)


OPTIONS: dict[str, dict[str, Any]] = {
    "int16": {"activation": DType.INT16},
    "int16 weights": {"weight": DType.INT16},
    "int8 tail": {"tail": DType.INT8},
    "asymmetric": {"asymmetric": True},
    "symmetric": {"asymmetric": False},
    "percentile": {"method": "percentile"},
    "mse": {"method": "mse"},
    "kl": {"method": "kl"},
    "mix": {"method": "mix"},
    "corrected": {"corrections": Corrections(True, True, True)},
    "judged": {"judge": True},
    "configured": {
        "config": {
            "op_config": {"Relu": {"qtype": "int16"}},
            "node_config": {"n_d": {"qtype": "int16"}, "n_y": {"qtype": "float"}},
        }
    },
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_makes_of_a_graph_what_it_made(golden: Golden, name: str) -> None:
    model, told = model_of(TEXTS["residual"]), list[Choice]()
    made = quantize(model, fed(model, 12), told=told.append, **OPTIONS[name])
    report = told[0].report
    found: dict[str, Any] = {"model": described(made), "choice": chosen(told[0])}
    if report is not None:
        found["report"] = [
            dict(report.cosines),
            report.calibrated,
            report.judged,
            dict(report.types),
            list(report.same),
        ]
        found["inputs"] = [[i.low, i.high, i.mean, i.std, i.kind, list(i.doubts)] for i in report.inputs]
        found["used"] = [[u.tensor, u.range, u.clipped, u.used, u.steps] for u in report.ranges]
    golden(f"quantized_with_{name.replace(' ', '_')}", found, near=True)


@pytest.mark.parametrize("how", [quantize_random, quantize_unseen])
def test_a_graph_is_quantized_without_data_as_it_was(golden: Golden, how: Any) -> None:
    golden(
        f"quantized_by_{how.__name__}",
        {n: described(how(model_of(TEXTS[n]))) for n in ("gate", "matmuls")},
        near=True,
    )
