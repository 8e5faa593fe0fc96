"""Cross-layer equalisation: the float function stays, the channels of what lies between layers even out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from onnx import ModelProto, ValueInfoProto

from openbpu.compiler import check
from openbpu.quantization.onnx import Choice, Corrections, quantize
from openbpu.quantization.onnx.corrections.equalise import WIDEST, equalise, factors, junctions
from openbpu.quantization.onnx.judge import run_all
from openbpu.quantization.onnx.net import Net, assemble
from openbpu.quantization.onnx.prepare import prepare
from openbpu.quantization.onnx.scaled import is_scaled
from quantization.float_models import Array, float_model, noise

UNEVEN = (2.0 ** -np.arange(8)).astype(np.float32)

CONV = {"w": noise(8, 3, 3, 3) * UNEVEN.reshape(-1, 1, 1, 1), "b": noise(8, seed=1) * UNEVEN}
DENSE = {"e": noise(6, 8, seed=2) * UNEVEN, "q": noise(8, 5, seed=3)}
Weights = Mapping[str, npt.ArrayLike]


def image(nodes: str, out: str, weights: Weights) -> Net:
    text = f"(float[1,3,8,8] x) => (float[{out}] y) {{ c = Conv <pads=[1,1,1,1]> (x, w, b) {nodes} }}"
    return prepare(float_model(text, {**CONV, **weights}), 21)


def rows(nodes: str, weights: Weights) -> Net:
    return prepare(
        float_model(f"(float[1,7,6] x) => (float[1,7,5] y) {{ {nodes} }}", {**DENSE, **weights}), 21
    )


NEXT = {"v": noise(4, 8, 3, 3, seed=4)}
EQUAL = {
    "relu": image("r = Relu(c) y = Conv(r, v)", "1,4,6,6", NEXT),
    "nothing between": image("y = Conv(c, v)", "1,4,6,6", NEXT),
    "prelu": image("r = PRelu(c, s) y = Conv(r, v)", "1,4,6,6", {**NEXT, "s": noise(8, 1, 1, seed=5)}),
    "leaky, pools and padding": image(
        """r = LeakyRelu(c) m = MaxPool <kernel_shape=[2,2], strides=[2,2]> (r) p = Pad(m, pads)
        a = AveragePool <kernel_shape=[2,2]> (p) y = Conv(a, v)""",
        "1,4,3,3",
        {**NEXT, "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])},
    ),
    "depthwise": image(
        "r = Relu(c) y = Conv <group=8> (r, d)", "1,16,6,6", {"d": noise(16, 1, 3, 3, seed=6)}
    ),
    "two readers": image(
        "r = Relu(c) p = Conv(r, v) q = Conv(r, u) y = Add(p, q)",
        "1,4,6,6",
        {**NEXT, "u": noise(4, 8, 3, 3, seed=7)},
    ),
    "transposed": image("r = Relu(c) y = ConvTranspose(r, t)", "1,4,10,10", {"t": noise(8, 4, 3, 3, seed=8)}),
    "batch norm": image(
        "n = BatchNormalization(c, g, h, mean, var) r = Relu(n) y = Conv(r, v)",
        "1,4,6,6",
        {
            **NEXT,
            "g": noise(8, seed=9),
            "h": noise(8, seed=10),
            "mean": noise(8),
            "var": np.ones(8, dtype="f"),
        },
    ),
    "head": image(
        "r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p) y = Gemm <transB=1> (f, z, zb)",
        "1,5",
        {"z": noise(5, 8, seed=11), "zb": noise(5)},
    ),
    "matrices": rows("m = MatMul(x, e) a = Add(m, o) r = Relu(a) y = MatMul(r, q)", {"o": noise(8) * UNEVEN}),
    "norm": rows(
        "n = LayerNormalization(x, g, h) y = MatMul(n, z)",
        {"g": UNEVEN[:6], "h": noise(6) * UNEVEN[:6], "z": noise(6, 5)},
    ),
}
OTHER = {
    "a bound": image(
        "r = Clip(c, low, high) y = Conv(r, v)",
        "1,4,6,6",
        {**NEXT, "low": np.float32(0), "high": np.float32(6)},
    ),
    "a curve": image("r = Sigmoid(c) y = Conv(r, v)", "1,4,6,6", NEXT),
    "a reader that is no product": image(
        "r = Relu(c) p = Conv(r, k) y = Add(p, r)", "1,8,8,8", {"k": noise(8, 8, 1, 1)}
    ),
    "a padding with ones": image(
        "p = Pad(c, pads, one) y = Conv(p, v)",
        "1,4,8,8",
        {**NEXT, "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "one": np.float32(1)},
    ),
    "groups": image("r = Relu(c) y = Conv <group=2> (r, k)", "1,4,6,6", {"k": noise(4, 4, 3, 3)}),
    "weights that are shared": image(
        "r = Relu(c) p = Conv(r, v) y = Conv(p, v)", "1,8,4,4", {"v": noise(8, 8, 3, 3)}
    ),
    "features in place of channels": image("r = Relu(c) y = MatMul(r, z)", "1,8,8,5", {"z": noise(8, 5)}),
    "places beside channels": rows(
        "m = MatMul(x, e) r = Relu(m) f = Flatten(r) g = MatMul(f, z) y = Reshape(g, s)",
        {"z": noise(56, 35), "s": np.array([1, 7, 5])},
    ),
}


def feeds(net: Net) -> list[dict[str, Array]]:
    shape = [int(d or 1) for d in net.shapes["x"] if not isinstance(d, str)]
    return [{"x": noise(*shape, seed=30 + n)} for n in range(4)]


def spread(net: Net, name: str, axis: int) -> float:
    """Return the largest range of a channel over the smallest one."""
    values = np.stack([run[name] for run in run_all(with_output(net, name), [name], feeds(net))])
    tops = np.abs(np.moveaxis(values, axis + 1, -1)).reshape(-1, values.shape[axis + 1]).max(axis=0)
    return float(tops.max() / tops.min())


def with_output(net: Net, name: str) -> Net:
    header = ModelProto()
    header.CopyFrom(net.header)
    header.graph.output.append(ValueInfoProto(name=name))
    return replace(net, header=header)


@pytest.mark.parametrize("name", EQUAL)
def test_the_float_function_stays_and_channels_even_out(name: str) -> None:
    net = EQUAL[name]
    (junction,) = junctions(net)
    made, changed = equalise(net, feeds(net), lambda *_: None)
    assert changed == 1
    assert [n.output for n in made.nodes] == [n.output for n in net.nodes]
    assert {n.output[0] for n in made.nodes if is_scaled(n)} == set(junction.way)
    assert any((made.consts[n] != net.consts[n]).any() for n in net.consts)
    for a, b in zip(
        run_all(net, net.outputs, feeds(net)), run_all(made, net.outputs, feeds(net)), strict=True
    ):
        np.testing.assert_allclose(b["y"], a["y"], rtol=1e-5, atol=1e-6 * np.abs(a["y"]).max())
    before, after = (spread(n, junction.source, junction.axis) for n in (net, made))
    assert after < before / 2
    if name == "depthwise":
        assert after == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("name", OTHER)
def test_what_does_not_scale_with_its_input_is_left_out(name: str) -> None:
    net = OTHER[name]
    assert not junctions(net)
    made, changed = equalise(net, feeds(net), lambda *_: None)
    assert changed == 0
    assert made.consts == net.consts


def test_factors_widen_what_is_small_and_leave_what_is_dead() -> None:
    by = factors(np.array([8.0, 2.0, 0.0, 1e-9]), None)
    np.testing.assert_allclose(by, [1, 0.25, 1, 1 / WIDEST])
    by = factors(np.array([8.0, 2.0, 8.0]), np.array([1.0, 1.0, 0.25]))
    np.testing.assert_allclose(by, [0.5, 0.25, 1.0])


@pytest.mark.parametrize("name", ["depthwise", "relu", "matrices"])
def test_it_wins_on_uneven_channels_and_everything_stays_on_the_bpu(name: str) -> None:
    net = EQUAL[name]
    model, found = assemble(net), list[Choice]()
    every = Corrections(True, True, True)
    made = quantize(model, feeds(net), corrections=every, asymmetric=False, told=found.append)
    equalised = found[0].corrections[0]
    assert equalised.name == "cross-layer equalisation"
    assert equalised.kept
    assert 1 - equalised.after < 0.8 * (1 - equalised.before)
    assert all(row.on == "BPU" for row in check(made, march="nash-e"))
