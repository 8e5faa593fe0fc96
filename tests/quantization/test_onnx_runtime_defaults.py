"""What is written loads and runs in ONNX Runtime with its default options, whatever was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx import quantize
from quantization.float_models import float_model, noise, samples
from witness import ort

I8, I16 = DType.INT8, DType.INT16
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "int8 tail": {"tail": I8},
    "int16": {"activation": I16},
    "int16 weights": {"weight": I16},
    "int16 weights, int8 tail": {"weight": I16, "tail": I8},
}

ROWS, IMAGE = "(float[1,5,8] x) => (float y)", "(float[1,4,8,8] x) => (float y)"
W: Mapping[str, npt.ArrayLike] = {
    **{f"w{i}": 0.3 * noise(8, 8, seed=i) for i in range(4)},
    **{f"b{i}": noise(8, seed=9 + i) for i in range(4)},
    "batched": noise(1, 8, 8),
    **{f"kernel{i}": 0.3 * noise(4, 4, 3, 3, seed=i) for i in range(2)},
    "shift": noise(4, seed=5),
    "flat": np.array([1, -1]),
    "three": np.array([3]),
    "one": np.array([1]),
    "two": np.array([2]),
    "spot": np.array([[0]]),
    "past": np.tri(5) > 0,
    "low": np.float32(-np.inf),
}
CONV = "Conv <pads = [1, 1, 1, 1]>"
FIRST = f"c = {CONV}(x, kernel0, shift)"
GRAPHS = {
    "linear": f"{ROWS} {{ m = MatMul(x, w0) a = Add(m, b0) y = Sigmoid(a) }}",
    "linear, bias first": f"{ROWS} {{ m = MatMul(x, w0) a = Add(b0, m) y = Relu(a) }}",
    "linear alone": f"{ROWS} {{ m = MatMul(x, w0) y = Add(m, b0) }}",
    "two layers": f"""{ROWS} {{ m = MatMul(x, w0) a = Add(m, b0) r = Tanh(a) n = MatMul(r, w1)
        y = Add(n, b1) }}""",
    "residual": f"{ROWS} {{ m = MatMul(x, w0) a = Add(m, b0) y = Add(a, x) }}",
    "matrix": "(float[3,8] x) => (float y) { m = MatMul(x, w0) a = Add(m, b0) y = Sigmoid(a) }",
    "matrix per sample": f"{ROWS} {{ m = MatMul(x, batched) y = Sigmoid(m) }}",
    "attention": f"""{ROWS} {{ q0 = MatMul(x, w0) q = Add(q0, b0) k0 = MatMul(x, w1) k = Add(k0, b1)
        v0 = MatMul(x, w2) v = Add(v0, b2) t = Transpose <perm = [0, 2, 1]> (k) s = MatMul(q, t)
        m = Where(past, s, low) p = Softmax <axis = -1> (m) h = MatMul(p, v) o = MatMul(h, w3)
        y = Add(o, b3) }}""",
    "log softmax": f"{ROWS} {{ m = MatMul(x, w0) a = Add(m, b0) y = LogSoftmax <axis = -1> (a) }}",
    "convolutions": f"{IMAGE} {{ {FIRST} r = Relu(c) e = {CONV}(r, kernel1, shift) y = Sigmoid(e) }}",
    "silu": f"{IMAGE} {{ {FIRST} s = Sigmoid(c) y = Mul(c, s) }}",
    "sum": f"{IMAGE} {{ {FIRST} s = Add(c, x) y = Relu(s) }}",
    "pools": f"""{IMAGE} {{ {FIRST} m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)
        g = GlobalAveragePool(m) y = Reshape(g, flat) }}""",
    "concat": f"{IMAGE} {{ {FIRST} s = Sigmoid(x) y = Concat <axis = 1> (s, c) }}",
    "split": f"{IMAGE} {{ {FIRST} a, b = Split <axis = 1> (c) y = Mul(a, b) }}",
    "best": f"{IMAGE} {{ {FIRST} f = Reshape(c, flat) y, i = TopK <axis = 1> (f, three) }}",
    "written in place": f"""{IMAGE} {{ {FIRST} r = Reshape(c, flat) s = Sigmoid(r) t = Tanh(s)
        u = ScatterND(s, spot, t) p = Slice(u, one, two, one) m = Neg(p) y = Concat <axis = 1> (u, m) }}""",
    "moved on the CPU": f"""{IMAGE} {{ {FIRST} e = Einsum <equation = "nchw->nhwc"> (c)
        t = Transpose <perm = [0, 3, 1, 2]> (e) z = Neg(t) r = Reshape(z, flat) y, i = TopK (r, three) }}""",
    "cut on the CPU": f"""{IMAGE} {{ {FIRST} e = Einsum <equation = "nchw->nhwc"> (c)
        t = Slice(e, one, two, one) y = Neg(t) }}""",
    "reshaped and cut on the CPU": f"""{IMAGE} {{ {FIRST} e = Einsum <equation = "nchw->nhwc"> (c)
        r = Reshape(e, flat) t = Slice(r, one, two, one) y = Neg(t) }}""",
}


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("option", OPTIONS)
def test_result_runs_by_default_and_has_the_values_of_the_graph(graph: str, option: str) -> None:
    """Values with the option that spares processors without VNNI the overflow of two products."""
    used = {name: value for name, value in W.items() if name in GRAPHS[graph]}
    model = float_model(GRAPHS[graph], used)
    given = samples(model, 4)
    for opset in (17, 21) if option == "default" else (17,):
        model.opset_import[0].version = opset
        if opset == 21 and "Split" in GRAPHS[graph]:
            continue  # which has to say in how many
        made = quantize(model, given, **OPTIONS[option])
        feed = {name: x.reshape(4, *x.shape[2:])[1:2] if x.ndim > 4 else x[1] for name, x in given.items()}
        want = ort.run(made, feed)["y"]
        assert ort.run_by_default(made, feed)["y"].shape == want.shape
        near = ort.run_by_default(made, feed, "session.x64quantprecision")["y"]
        assert np.abs(near - want).max() < 0.03 * np.abs(want).max()
