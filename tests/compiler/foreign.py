"""QDQ graphs as the tools of others write them, node by node, and the proof that the BPU has all of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from openbpu.arch.program import BpuSegment, Placement
from openbpu.compiler import compile as build
from openbpu.evaluation.reference.float64 import evaluate
from openbpu.runtime import Session
from witness import ort

Array = npt.NDArray[Any]
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
_SMALL = ("int4", "uint4", "int2", "uint2")


class Foreign:
    """A graph that grows; every method returns the name of the value it makes."""

    def __init__(self, opset: int = 21, **domains: int) -> None:
        self.opsets = {"": opset, **{name.replace("_", "."): v for name, v in domains.items()}}
        self.nodes: list[NodeProto] = []
        self.inputs: list[ValueInfoProto] = []
        self.outputs: list[ValueInfoProto] = []
        self.constants: list[TensorProto] = []

    def input(self, name: str, shape: tuple[int, ...], kind: int = FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, shape: tuple[int, ...] | None = None, kind: int = FLOAT) -> str:
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def constant(self, data: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        if dtype in _SMALL:
            dtype = helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(dtype.upper()))
        self.constants.append(numpy_helper.from_array(np.asarray(data).astype(dtype), name))
        return name

    def node(self, op: str, *inputs: str, domain: str = "", out: str = "", **attrs: Any) -> str:
        name = out or f"v{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op, inputs, [name], f"{op}_{len(self.nodes)}", domain=domain, **attrs)
        )
        return name

    def nodes_of(self, op: str, *inputs: str, parts: int, **attrs: Any) -> list[str]:
        """A node of several outputs."""
        names = [f"v{len(self.nodes)}_{i}" for i in range(parts)]
        self.nodes.append(helper.make_node(op, inputs, names, f"{op}_{len(self.nodes)}", **attrs))
        return names

    def scaling(self, scale: Any, zero: Any, dtype: str, real: Any = np.float32) -> tuple[str, str]:
        """Scale and zero points; one zero point holds for all scales."""
        zeros = np.broadcast_to(np.asarray(zero), np.shape(scale))
        return self.constant(scale, real), self.constant(zeros, dtype)

    def pair(
        self, x: str, scale: Any, zero: Any = 0, dtype: str = "int8", *, out: str = "", **attrs: Any
    ) -> str:
        """Quantize and Dequantize; `real` among the attributes is the type of the scale."""
        terms = self.scaling(scale, zero, dtype, attrs.pop("real", np.float32))
        codes = self.node("QuantizeLinear", x, *terms, **attrs)
        return self.node("DequantizeLinear", codes, *terms, out=out, **attrs)

    def stored(self, codes: Array, scale: Any, zero: Any = 0, dtype: str = "int8", **attrs: Any) -> str:
        """Dequantize constant codes."""
        terms = self.scaling(scale, zero, dtype, attrs.pop("real", np.float32))
        return self.node("DequantizeLinear", self.constant(codes, dtype), *terms, **attrs)

    def model(self) -> ModelProto:
        graph = helper.make_graph(self.nodes, "foreign", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid(name, version) for name, version in self.opsets.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def codes(shape: tuple[int, ...], seed: int = 0, low: int = -128, high: int = 127) -> Array:
    return np.random.default_rng(seed).integers(low, high + 1, shape)


def spread(count: int, seed: int = 0, low: float = 0.005, high: float = 0.02) -> Array:
    """Scales, no two of them alike."""
    return np.random.default_rng(seed).uniform(low, high, count)


def normal(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def image(opset: int = 21, **domains: int) -> tuple[Foreign, str]:
    """A graph with an image x [1,8,6,6], quantized to uint8."""
    g = Foreign(opset, **domains)
    return g, g.pair(g.input("x", (1, 8, 6, 6)), 0.03, 128, "uint8")


def rows(opset: int = 21, **domains: int) -> tuple[Foreign, str]:
    """A graph with a matrix x [5,16], quantized to uint8."""
    g = Foreign(opset, **domains)
    return g, g.pair(g.input("x", (5, 16)), 0.03, 128, "uint8")


def conv(g: Foreign, x: str, weight: str = "", *more: str, **attrs: Any) -> str:
    """A convolution 3×3 of 8 channels; its weight is int8 per channel where none is given."""
    kernel = weight or g.stored(codes((8, 8, 3, 3)), spread(8), axis=0)
    return g.node("Conv", x, kernel, *more, pads=[1] * 4, **attrs)


def silu(g: Foreign, x: str) -> str:
    """SiLU as exporters write it."""
    return g.node("Mul", x, g.node("Sigmoid", x))


def ended(
    g: Foreign, y: str, scale: float = 0.15, zero: int = 110, shape: tuple[int, ...] = (1, 8, 6, 6)
) -> ModelProto:
    """The model that quantizes y to uint8 and gives its reals."""
    g.output(g.pair(y, scale, zero, "uint8", out="y"), shape)
    return g.model()


def feed_of(model: ModelProto, seed: int = 0) -> dict[str, Array]:
    feeds = {}
    for value in model.graph.input:
        known = value.type.tensor_type
        dtype = helper.tensor_dtype_to_np_dtype(known.elem_type)
        feeds[value.name] = normal(tuple(d.dim_value for d in known.shape.dim), seed).astype(dtype)
    return feeds


def on_cpu(placement: tuple[Placement, ...]) -> list[str]:
    return [f"{row.op}: {row.reason}" for row in placement if row.on == "CPU"]


def off(
    model: ModelProto, step: float, march: str = "nash-e", seed: int = 0, twin: ModelProto | None = None
) -> tuple[float, float]:
    """How far 'y' is from float64, in steps: the largest difference, and the share of elements that differ.

    All of the model is on the BPU, in one segment. Exact mode gives the bits of fast mode, and ONNX Runtime
    without optimizations, where it is a witness, is no further off than ties are. `twin` is the same model in
    standard operators, where float64 is to be asked of that.
    """
    program = build(model, march=march)
    assert on_cpu(program.placement) == []
    assert sum(isinstance(s, BpuSegment) for s in program.segments) == 1
    feed = feed_of(model, seed)
    found = Session(program).run(feed).outputs["y"]
    np.testing.assert_array_equal(Session(program, mode="exact").run(feed).outputs["y"], found)
    if ort.is_witness_for(model):
        seen = ort.run(model, feed)["y"]
        assert seen.dtype == found.dtype
        assert _steps(found, seen, step).max() <= 1.1
    steps = _steps(found, reference(twin or model, feed), step)
    return float(steps.max()), float((steps > 0.5).mean())


def reference(model: ModelProto, feed: Mapping[str, Array]) -> Array:
    """The float64 meaning of 'y'."""
    return np.asarray(evaluate(model, feed).outputs["y"])


def _steps(found: Array, wanted: Array, step: float) -> Array:
    return np.abs(found.astype(np.float64) - wanted.astype(np.float64)) / step


def stored_rows(g: Foreign) -> str:
    """A weight [16,12], int8 per column."""
    return g.stored(codes((16, 12)), spread(12), axis=1)
