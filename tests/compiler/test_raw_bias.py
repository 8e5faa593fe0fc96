"""A product whose float result is used keeps its whole bias: steps of the accumulator and a float offset."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from compiler.written import model_of, quantized_x
from openbpu.arch.program import BpuSegment, Dequantize, Program
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.reference import evaluate
from openbpu.runtime import Session

Array = np.ndarray[Any, Any]
S = np.float32(0.03)


@dataclass(frozen=True)
class Product:
    """A product of quantized x and an int8 weight, per channel or per tensor, with a float bias."""

    op: str
    x: tuple[int, ...]
    w: tuple[int, ...]
    channels: int
    per_tensor: bool = False
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def axis(self) -> int:
        """Axis of the output channels in w."""
        return int(self.op == "ConvTranspose" or (self.op == "Gemm" and "transB" not in self.attrs))


PRODUCTS = {
    "conv": Product("Conv", (1, 8, 7, 7), (16, 8, 3, 3), 16),
    "conv per tensor": Product("Conv", (1, 8, 7, 7), (16, 8, 3, 3), 16, per_tensor=True),
    "conv of rows": Product("Conv", (2, 8, 9), (5, 8, 3), 5),
    "depthwise": Product("Conv", (1, 24, 5, 5), (24, 1, 3, 3), 24, attrs={"group": 24}),
    "transposed": Product("ConvTranspose", (1, 8, 4, 4), (8, 6, 2, 2), 6, attrs={"strides": [2, 2]}),
    "gemm": Product("Gemm", (4, 32), (32, 6), 6),
    "gemm with factors": Product("Gemm", (4, 32), (6, 32), 6, attrs={"transB": 1, "alpha": 0.5, "beta": 2.0}),
}


def model(
    p: Product, *behind: onnx.NodeProto, size: float = 1.0, zero: int = 0, kind: Any = np.int8
) -> onnx.ModelProto:
    """x → Q → DQ → product → `behind`, which read y0; without them the product makes y."""
    rng, count = np.random.default_rng(0), 1 if p.per_tensor else p.w[p.axis]
    scale = rng.uniform(0.005, 0.02, count).astype(np.float32)
    scale = scale[0] if p.per_tensor else scale
    constants = {
        "s": np.array(S), "z": np.array(zero, kind), "w": rng.integers(-128, 128, p.w).astype(np.int8),
        "ws": np.array(scale), "wz": np.zeros_like(scale, np.int8),
        "b": (rng.normal(size=p.channels) * size).astype(np.float32), "t": np.array(1e-3, np.float32),
        "tz": np.array(0, np.int16), "shape": np.array([1, p.channels, -1]),
    }  # fmt: skip
    nodes = [
        *quantized_x("xf"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=p.axis),
        helper.make_node(p.op, ["xf", "wf", "b"], ["y0" if behind else "y"], **p.attrs),
        *behind,
    ]
    return model_of(nodes, p.x, {"y": None}, constants, 21, 10)


def stored(proto: onnx.ModelProto, name: str) -> onnx.TensorProto:
    found: onnx.TensorProto = next(c for c in proto.graph.initializer if c.name == name)
    return found


def data(p: Product) -> Array:
    return np.random.default_rng(1).normal(size=p.x).astype(np.float32)


def result(program: Program, x: Array) -> Array:
    """The output, the same in both modes."""
    fast = Session(program, mode="fast").run({"x": x}).outputs["y"]
    np.testing.assert_array_equal(fast, Session(program, mode="exact").run({"x": x}).outputs["y"])
    return fast


def check(p: Product, proto: onnx.ModelProto, march: str = "nash-e") -> Program:
    """The result is that of float64 but for the rounding of the product and of the sum to float32."""
    program, x = compile_model(proto, march=march), data(p)
    wanted, found = evaluate(proto, {"x": x}).outputs["y"], result(program, x)
    bias = np.abs(np.frombuffer(stored(proto, "b").raw_data, np.float32)).max()
    allowed = 2.0**-22 * (np.abs(wanted) + bias * float(p.attrs.get("beta", 1.0)))
    assert (np.abs(found - wanted) <= allowed).all()
    return program


def offsets(program: Program) -> list[bool]:
    """Whether each Dequantize has offsets."""
    found = [o for s in program.segments if isinstance(s, BpuSegment) for o in s.operators]
    return [program.constant(o.scales_id).ndim == 2 for o in found if isinstance(o, Dequantize)]


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_the_bias_is_not_rounded_to_steps_of_the_accumulator(name: str, march: str) -> None:
    program = check(PRODUCTS[name], model(PRODUCTS[name]), march)
    assert offsets(program) == ([True] if march == "nash-e" else [])


@pytest.mark.parametrize("size", [1e-6, 1e3, 1e8])
def test_a_bias_may_have_any_size(size: float) -> None:
    check(PRODUCTS["conv"], model(PRODUCTS["conv"], size=size))


@pytest.mark.parametrize(("kind", "zero"), [(np.uint8, 200), (np.int16, 0)])
def test_the_input_may_have_a_zero_point_or_16_bits(kind: Any, zero: int) -> None:
    check(PRODUCTS["conv"], model(PRODUCTS["conv"], kind=kind, zero=zero))


@pytest.mark.parametrize("name", ["conv", "conv per tensor"])
def test_moves_behind_it_stay_on_the_bpu(name: str) -> None:
    moves = [
        helper.make_node("Reshape", ["y0", "shape"], ["y1"]),
        helper.make_node("Transpose", ["y1"], ["y"], perm=[0, 2, 1]),
    ]
    program = check(PRODUCTS[name], model(PRODUCTS[name], *moves))
    assert {r.on for r in program.placement} == {"BPU"}


@pytest.mark.parametrize("name", ["conv", "conv per tensor"])
@pytest.mark.parametrize("axis", [1, 2])
def test_parts_of_it_are_taken_on_the_bpu(name: str, axis: int) -> None:
    bounds = [onnx.numpy_helper.from_array(np.array([v]), n) for n, v in (("a", 1), ("e", 5), ("ax", axis))]
    cuts = [helper.make_node("Slice", ["y0", "a", "e", "ax"], ["y1"])]
    cuts += [helper.make_node("Split", ["y1"], ["y", "rest"], axis=1, num_outputs=2)]
    proto = model(PRODUCTS[name], *cuts)
    proto.graph.initializer.extend(bounds)
    program = check(PRODUCTS[name], proto)
    assert {r.on for r in program.placement} == {"BPU"}


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
def test_a_function_on_the_cpu_behind_it_rounds_as_float64_does(march: str) -> None:
    """7 % of such codes were off by a step while the bias was rounded."""
    behind = [
        helper.make_node("HardSwish", ["y0"], ["h"]),
        helper.make_node("Sin", ["h"], ["h1"]),
        helper.make_node("QuantizeLinear", ["h1", "t", "tz"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "t", "tz"], ["y"]),
    ]
    p = PRODUCTS["conv"]
    proto, x = model(p, *behind), data(p)
    found = result(compile_model(proto, march=march), x)
    steps = np.rint(found / np.float64(np.float32(1e-3))) - evaluate(proto, {"x": x}).roundings["yq"].real
    assert np.abs(steps).max() <= 0.5 + 5e-3


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
def test_a_bare_accumulator_holds_whole_steps_of_its_bias(march: str) -> None:
    p = PRODUCTS["conv"]
    proto, x = model(p), data(p)
    program = compile_model(proto, march=march, remove_io=("dequantize",))
    codes = Session(program).run({"x": x}).outputs["y"]
    (out,) = (program.tensors[i] for i in program.outputs)
    assert codes.dtype == np.int32
    scale = np.array(out.scale).reshape(1, -1, 1, 1)
    assert (np.abs(codes * scale - evaluate(proto, {"x": x}).outputs["y"]) <= 0.5001 * scale).all()


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
def test_an_accumulator_that_cannot_hold_its_bias_is_not_bare(march: str) -> None:
    p = PRODUCTS["conv"]
    proto = model(p, size=1e8)
    program = compile_model(proto, march=march, remove_io=("dequantize",))
    wanted = evaluate(proto, {"x": data(p)}).outputs["y"]
    np.testing.assert_allclose(result(program, data(p)), wanted, rtol=1e-6, atol=64)


def test_a_bias_of_whole_steps_needs_no_offsets() -> None:
    p = PRODUCTS["conv"]
    proto = model(p)
    scales = np.frombuffer(stored(proto, "ws").raw_data, np.float32)
    whole = np.rint(np.random.default_rng(2).normal(size=16) * 1000) * (S * scales)
    stored(proto, "b").raw_data = whole.astype(np.float32).tobytes()
    assert offsets(check(p, proto)) == [False]
