"""A bias of any size is exact, and never takes the bits of the multiplier, whatever the product is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from compiler.written import model_of
from openbpu.arch.program import BpuSegment, Conv
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.reference import evaluate
from openbpu.runtime import Session

Array = np.ndarray[Any, Any]
Constants = dict[str, Array]


@dataclass(frozen=True)
class Product:
    """A product of quantized x and an int8 weight; `bias_as`: an input of it, or an Add behind it."""

    op: str
    x: tuple[int, ...]
    w: tuple[int, ...]
    channels: int
    bias_as: str = "input"
    attrs: dict[str, Any] = field(default_factory=dict)


PRODUCTS = {
    "conv": Product("Conv", (1, 8, 5, 5), (6, 8, 3, 3), 6),
    "grouped": Product("Conv", (1, 8, 5, 5), (6, 4, 3, 3), 6, attrs={"group": 2}),
    "depthwise": Product("Conv", (1, 24, 5, 5), (24, 1, 3, 3), 24, attrs={"group": 24}),
    "transposed": Product("ConvTranspose", (1, 8, 4, 4), (8, 6, 2, 2), 6, attrs={"strides": [2, 2]}),
    "gemm": Product("Gemm", (4, 32), (32, 6), 6),
    "gemm with factors": Product("Gemm", (4, 32), (6, 32), 6, attrs={"transB": 1, "alpha": 0.5, "beta": 2.0}),
    "matmul": Product("MatMul", (4, 32), (32, 6), 6, "add"),
    "long gemm": Product("Gemm", (4, 2048), (2048, 6), 6),
}
SX, SW = 1e-4, 1e-3


def model(
    p: Product, steps: float, kind: Any, *, out: Any, zero: int = 0, residual: bool = False
) -> onnx.ModelProto:
    """x → Q → DQ → product (+ residual) → Q → DQ; the biases are around `steps` accumulator steps."""
    rng = np.random.default_rng(0)
    axis = 1 if p.op in ("MatMul", "ConvTranspose") or (p.op == "Gemm" and "transB" not in p.attrs) else 0
    grouped = p.w[axis]
    scale = rng.uniform(0.5, 1, grouped).astype(np.float32) * np.float32(SW)
    bias = (steps * SX * SW * rng.uniform(0.5, 1, p.channels) * rng.choice([-1, 1], p.channels)).astype(
        np.float32
    )
    info = np.iinfo(kind)
    most = float(np.abs(bias).max()) * 2 * float(p.attrs.get("beta", 1))
    most = max(most, SX * SW * info.max * 127 * np.sqrt(np.prod(p.w) / p.channels) / 2)
    constants: Constants = {
        "s": np.array(SX, np.float32), "z": np.array(zero, kind),
        "w": rng.choice([-127, 127, 60], p.w).astype(np.int8), "ws": scale, "wz": np.zeros(grouped, np.int8),
        "b": bias, "t": np.array(most / np.iinfo(out).max, np.float32), "tz": np.array(0, out),
    }  # fmt: skip
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        make("DequantizeLinear", ["xq", "s", "z"], ["xf"]),
        make("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=axis),
    ]
    if p.bias_as == "input":
        nodes.append(make(p.op, ["xf", "wf", "b"], ["y0"], **p.attrs))
    else:
        nodes += [make(p.op, ["xf", "wf"], ["y1"], **p.attrs), make("Add", ["y1", "b"], ["y0"])]
    if residual:
        nodes += [make("Add", ["y0", "xf"], ["y2"])]
    nodes += [
        make("QuantizeLinear", ["y2" if residual else "y0", "t", "tz"], ["yq"]),
        make("DequantizeLinear", ["yq", "t", "tz"], ["y"]),
    ]
    return model_of(nodes, p.x, {"y": None}, constants, 21, 10)


def worst(proto: onnx.ModelProto, p: Product, kind: Any, **options: Any) -> float:
    """The largest distance, in steps, of a code from the real value that it rounds; all on the BPU."""
    info = np.iinfo(kind)
    x = (np.random.default_rng(1).uniform(info.min, info.max, p.x) * SX).astype(np.float32)
    program = compile_model(proto, march="nash-e")
    assert {r.on for r in program.placement} == {"BPU"}
    exact = evaluate(proto, {"x": x})
    step = next(float(c.float_data[0] if c.float_data else np.frombuffer(c.raw_data, np.float32)[0])
                for c in proto.graph.initializer if c.name == "t")  # fmt: skip
    found = {}
    for mode in ("fast", "exact"):
        (y,) = Session(program, mode=mode).run({"x": x}).outputs.values()
        found[mode] = y
    np.testing.assert_array_equal(found["fast"], found["exact"])
    return float(np.abs(np.rint(found["fast"] / np.float64(step)) - exact.roundings["yq"].real).max())


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("steps", [2.0**20, 2.0**31, 2.0**34, 2.0**42])
def test_a_bias_of_many_accumulator_steps_is_exact(name: str, steps: float) -> None:
    p = PRODUCTS[name]
    assert worst(model(p, steps, np.int16, out=np.int16), p, np.int16) <= 0.5 + 1e-4


@pytest.mark.parametrize(("kind", "zero"), [(np.int8, 0), (np.uint8, 200), (np.uint16, 40000)])
@pytest.mark.parametrize("steps", [2.0**31, 2.0**38])
def test_so_it_is_beside_zero_points_and_int8(kind: Any, zero: int, steps: float) -> None:
    p = PRODUCTS["conv"]
    assert worst(model(p, steps, kind, out=np.int16, zero=zero), p, kind) <= 0.5 + 1e-4
    assert worst(model(p, steps, kind, out=np.int8, zero=zero), p, kind) <= 0.5 + 1e-5


def test_so_it_is_beside_a_residual() -> None:
    p = Product("Conv", (1, 8, 5, 5), (8, 8, 3, 3), 8, attrs={"pads": [1, 1, 1, 1]})
    assert worst(model(p, 2.0**33, np.int16, out=np.int16, residual=True), p, np.int16) <= 0.5 + 1e-4


def test_a_channel_without_gain_costs_the_others_no_word() -> None:
    """A dead channel (a BatchNorm gain near 0) has a bias of any number of steps; its sums do not count."""
    p = PRODUCTS["conv"]
    proto = model(p, 2.0**20, np.int8, out=np.int8)
    for c in proto.graph.initializer:
        if c.name == "ws":
            scales = np.frombuffer(c.raw_data, np.float32).copy()
            scales[0] = 1e-20
            c.raw_data = scales.tobytes()
    assert worst(proto, p, np.int8) <= 0.5 + 1e-5
    program = compile_model(proto, march="nash-e")
    convs = [
        o for s in program.segments if isinstance(s, BpuSegment) for o in s.operators if isinstance(o, Conv)
    ]
    assert [program.constant(o.params_id).shape[1] for o in convs] == [4]
