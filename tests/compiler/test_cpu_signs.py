"""Integer products on the CPU are what ONNX says, also where a processor multiplies two signs wrongly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper, numpy_helper

from openbpu.arch.program import CpuSegment
from openbpu.compiler import compile as compile_model
from openbpu.runtime import Session

Array = npt.NDArray[Any]
MS = "com.microsoft"
BYTES = ("uint8", "int8")


def codes(shape: tuple[int, ...], dtype: str) -> Array:
    """Codes near the ends of the range, where sums of two products leave 16 bits."""
    ends = np.iinfo(dtype)
    return np.random.default_rng(0).choice([ends.min, ends.max - 2, ends.max], shape).astype(dtype)


def segment_of(
    op: str,
    inputs: list[str],
    feeds: dict[str, Array],
    constants: dict[str, Array],
    out: int,
    domain: str = "",
) -> tuple[Array, onnx.ModelProto]:
    """The result of one node, and the model of its CPU segment."""
    declared = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for k, v in feeds.items()
    ]
    graph = helper.make_graph(
        [helper.make_node(op, inputs, ["y"], domain=domain)],
        "product",
        declared,
        [helper.make_tensor_value_info("y", out, None)],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(MS, 1)]
    program = compile_model(helper.make_model(graph, opset_imports=imports, ir_version=10), march="nash-e")
    (segment,) = (s for s in program.segments if isinstance(s, CpuSegment))
    return Session(program).run(feeds).outputs["y"], onnx.ModelProto.FromString(segment.model)


@pytest.mark.parametrize("is_constant", [True, False])
@pytest.mark.parametrize("zeros", [True, False])
@pytest.mark.parametrize("right", BYTES)
@pytest.mark.parametrize("left", BYTES)
def test_matmul_integer(left: str, right: str, zeros: bool, is_constant: bool) -> None:
    a, b = codes((3, 64), left), codes((64, 5), right)
    points = {"za": np.array(2, left), "zb": np.arange(5).astype(right)} if zeros else {}
    feeds = {"a": a} if is_constant else {"a": a, "b": b}
    constants = {"b": b, **points} if is_constant else points
    found, model = segment_of("MatMulInteger", ["a", "b", *points], feeds, constants, onnx.TensorProto.INT32)
    za, zb = (points["za"].astype(int), points["zb"].astype(int)) if zeros else (0, 0)
    np.testing.assert_array_equal(found, (a.astype(int) - za) @ (b.astype(int) - zb))
    assert len(model.graph.initializer) <= 4  # the weights once, in the one form or the other


@pytest.mark.parametrize("right", BYTES)
@pytest.mark.parametrize("left", BYTES)
def test_conv_integer(left: str, right: str) -> None:
    x, w = codes((1, 16, 6, 6), left), codes((8, 16, 3, 3), right)
    found, _ = segment_of("ConvInteger", ["x", "w"], {"x": x}, {"w": w}, onnx.TensorProto.INT32)
    windows = np.lib.stride_tricks.sliding_window_view(x[0].astype(int), (3, 3), (1, 2))
    np.testing.assert_array_equal(found[0], np.einsum("chwij,ocij->ohw", windows, w.astype(int)))


@pytest.mark.parametrize("right", BYTES)
def test_matmul_integer_to_float(right: str) -> None:
    a, b, scale = codes((3, 64), "uint8"), codes((64, 5), right), np.array(0.01, np.float32)
    names = ["a", "b", "s", "s"]
    found, _ = segment_of(
        "MatMulIntegerToFloat", names, {"a": a}, {"b": b, "s": scale}, onnx.TensorProto.FLOAT, MS
    )
    np.testing.assert_allclose(found, (a.astype(int) @ b.astype(int)) * 1e-4, rtol=1e-5)


@pytest.mark.parametrize("right", BYTES)
def test_dynamic_quantize_matmul(right: str) -> None:
    b, scale = codes((64, 5), right), np.array(0.01, np.float32)
    a = np.random.default_rng(1).uniform(0, 1, (3, 64)).astype(np.float32)
    found, _ = segment_of(
        "DynamicQuantizeMatMul", ["a", "b", "s"], {"a": a}, {"b": b, "s": scale}, onnx.TensorProto.FLOAT, MS
    )
    step = 64 * 128 * 0.01 / 255  # half a step of each activation, at most
    np.testing.assert_allclose(found, a @ b.astype(np.float64) * 0.01, atol=step)
