"""Graphs that are legal but odd: what testers found, each pinned down."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.written import model_of, quantized_x
from openbpu.arch.errors import CompileError, QuantizationError
from openbpu.arch.march import get_march, with_values
from openbpu.compiler import check
from openbpu.compiler import compile as compile_model
from openbpu.runtime import Session


def qdq_model(
    op: str,
    shape: list[int],
    out: list[int] | None,
    opset: int,
    extra: dict[str, np.ndarray],
    **attrs: Any,
) -> onnx.ModelProto:
    """Q → DQ → op(x, *extra) → Q → DQ with scale 1/16."""
    scale: dict[str, np.ndarray] = {"s": np.array(1 / 16, np.float32), "z": np.array(0, np.int8)}
    nodes = [
        *quantized_x("xf"),
        helper.make_node(op, ["xf", *extra], ["yf"], name="the_op", **attrs),
        helper.make_node("QuantizeLinear", ["yf", "s", "z"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "s", "z"], ["y"]),
    ]
    return model_of(nodes, shape, {"y": out}, {**scale, **extra}, opset)


@pytest.mark.parametrize("opset", [13, 17, 19])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pool_window_that_starts_in_the_padding_is_dropped(op: str, opset: int) -> None:
    attrs = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1], "ceil_mode": 1}
    model = qdq_model(op, [1, 2, 9, 8], None, opset, {}, **attrs)
    program = compile_model(model, march="nash-e")
    assert program.tensors[program.outputs[0]].shape == (1, 2, 5, 4)
    x = np.random.default_rng(0).normal(size=(1, 2, 9, 8)).astype(np.float32)
    assert Session(program).run({"x": x}).outputs["y"].shape == (1, 2, 5, 4)


def test_nan_in_a_quantized_constant_is_refused_by_name() -> None:
    weight = np.full((4, 2, 1, 1), np.nan, np.float32)
    model = qdq_model("Conv", [1, 2, 4, 4], [1, 4, 4, 4], 13, {"w": weight})
    model.graph.node.insert(2, helper.make_node("QuantizeLinear", ["w", "s", "z"], ["wq"], name="quantize_w"))
    model.graph.node.insert(3, helper.make_node("DequantizeLinear", ["wq", "s", "z"], ["wf"]))
    model.graph.node[4].input[1] = "wf"
    with pytest.raises(QuantizationError, match=r"quantize_w.*constant 'w' must be made of numbers, not NaN"):
        compile_model(model, march="nash-e")


def test_clip_at_nan_stays_on_the_cpu_with_that_reason() -> None:
    model = qdq_model("Clip", [1, 4], [1, 4], 13, {"low": np.array(np.nan, np.float32)})
    (row,) = [r for r in check(model, march="nash-e") if r.op == "Clip"]
    assert (row.on, row.reason) == ("CPU", "its constant 'low' is NaN")


def test_split_with_an_empty_part_stays_on_the_cpu() -> None:
    model = qdq_model("Split", [1, 7], [1, 7], 13, {"sizes": np.array([7, 0], np.int64)}, axis=1)
    model.graph.node[2].output.append("empty")
    model.graph.output.append(helper.make_tensor_value_info("empty", TensorProto.FLOAT, [1, 0]))
    program = compile_model(model, march="nash-e", opt=0)
    x = np.zeros((1, 7), np.float32)
    assert Session(program).run({"x": x}).outputs["empty"].shape == (1, 0)


def test_dilated_window_larger_than_the_chip_stays_on_the_cpu() -> None:
    weight = numpy_helper.from_array(np.ones((8, 64, 15, 15), np.int8), "wq")
    model = qdq_model("Conv", [1, 64, 256, 256], [1, 8, 4, 4], 13, {}, dilations=[18, 18])
    model.graph.initializer.append(weight)
    model.graph.node.insert(2, helper.make_node("DequantizeLinear", ["wq", "s", "z"], ["wf"]))
    model.graph.node[3].input.append("wf")
    (row,) = [
        r
        for r in check(model, march=with_values(get_march("nash-e"), {"chip.chip_bytes": 1 << 20}))
        if r.op == "Conv"
    ]
    assert row.on == "CPU"
    assert "must fit 786432 bytes on chip, not 4096576" in row.reason


def test_options_may_come_as_one_mapping() -> None:
    model = qdq_model("Relu", [1, 4], [1, 4], 13, {})
    together = compile_model(model, march="nash-e", options={"opt": 1, "remove_io": ["quantize"]})
    assert together == compile_model(model, march="nash-e", opt=1, remove_io=["quantize"])
    with pytest.raises(
        CompileError, match=r"an option must be opt, balance, .*remove_io, bpu_ops, not 'optimise'"
    ):
        compile_model(model, march="nash-e", options={"optimise": 1})


def test_a_string_attribute_that_is_no_text_is_refused_in_words() -> None:
    model = qdq_model("Resize", [1, 4, 4, 4], None, 13, {}, mode="nearest")
    resize = model.graph.node[2]
    resize.input.extend(["", "sc"])
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "sc"))
    next(a for a in resize.attribute if a.name == "mode").s = b"\xff"
    placed = {p.node: p for p in check(model, march="nash-e")}
    assert placed["the_op"].on == "CPU"


@pytest.mark.parametrize("given", ["s", "z", "w"])
def test_a_constant_that_is_an_output_too_stays_one_for_its_readers(given: str) -> None:
    weight = np.random.default_rng(1).integers(-127, 128, (4, 2, 1, 1)).astype(np.int8)
    model = qdq_model("Conv", [1, 2, 4, 4], [1, 4, 4, 4], 13, {"w": weight})
    model.graph.node.insert(2, helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wf"]))
    model.graph.node[3].input[1] = "wf"
    dtype = TensorProto.FLOAT if given == "s" else TensorProto.INT8
    alone = compile_model(model, march="nash-e")
    model.graph.output.append(helper.make_tensor_value_info(given, dtype, None))
    program = compile_model(model, march="nash-e")
    assert [row.op for row in program.placement if row.on == "CPU"] == []
    x = {"x": np.random.default_rng(0).normal(size=(1, 2, 4, 4)).astype(np.float32)}
    found = Session(program).run(x).outputs
    np.testing.assert_array_equal(found["y"], Session(alone).run(x).outputs["y"])
    (wanted,) = [numpy_helper.to_array(t) for t in model.graph.initializer if t.name == given]
    np.testing.assert_array_equal(found[given], wanted)
