"""Inputs and outputs of a module under the vendor's names: renamed, stripped, with pictures in front."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from openbpu.arch.errors import CompileError
from openbpu.compat.hbdk import Hbm, March, Module, compile, convert  # noqa: A004 - the vendor's name

FLOAT = TensorProto.FLOAT


def picture(*, softmax: bool = False) -> Module:
    """x [1, 3, 8, 8] → Q, DQ, Conv 3 → 2 of ones, [Softmax,] Q, DQ → y."""
    generator = np.random.default_rng(0)
    constants = {
        "s": np.float32(1 / 64),
        "t": np.float32(1 / 8),
        "z": np.int8(0),
        "w": generator.integers(-8, 8, (2, 3, 1, 1)).astype(np.int8),
        "ws": np.float32(1 / 8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], "enter"),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "z"], ["wd"]),
        helper.make_node("Conv", ["xd", "wd"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "t", "z"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "t", "z"], ["cd" if softmax else "y"], "leave"),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["cd"], ["y"], "shares", axis=1))
    graph = helper.make_graph(
        nodes,
        "picture",
        [helper.make_tensor_value_info("x", FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", FLOAT, [1, 2, 8, 8])],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    return Module(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def fed(module: Module, **inputs: Any) -> Any:
    """The first output, converted for nash-e."""
    converted = convert(module, March.nash_e)
    onnx.checker.check_model(converted.model, full_check=True)
    return next(iter(converted[0].feed(inputs).values()))


def image() -> Any:
    return np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)


def test_marches_are_spelled_in_both_cases() -> None:
    assert (March.nash_e, March.NASH_E, March.bayes_e) == ("nash-e", "nash-e", "bayes-e")


def test_a_function_runs_on_the_host_as_the_compiled_file_does(tmp_path: Path) -> None:
    module = convert(picture(), March.NASH_E)
    function = module["picture"]
    assert function.statistics()["DequantizeLinear"] == 3
    compile(module, tmp_path / "m.hbm")
    wanted = Hbm(tmp_path / "m.hbm")[0].feed({"x": image()})["y"]
    np.testing.assert_array_equal(function.feed({"x": image()})["y"], wanted)
    np.testing.assert_array_equal(function(image())[0], wanted)


def test_ends_are_renamed_and_stripped_one_by_one(tmp_path: Path) -> None:
    module = convert(picture(), March.NASH_E)
    (x,), (y,) = module[0].flatten_inputs, module[0].flatten_outputs
    x.name, y.name, x.desc = "photo", "map", "a photo"
    assert (x.scales, x.zero_point, x.is_removable) == ((1 / 64,), 0, (True, ""))
    assert [n.name for n in x.get_attached_op()] == ["enter"]
    assert x.remove_attached_op()[0]
    assert x.scales == (1 / 64,)
    compile(module, tmp_path / "m.hbm")
    graph = Hbm(tmp_path / "m.hbm")[0]
    found = [(v.name, np.dtype(v.type.np_dtype)) for v in (*graph.flatten_inputs, *graph.flatten_outputs)]
    assert found == [("photo", np.dtype(np.int8)), ("map", np.dtype(np.float32))]
    assert module[0].flatten_inputs[0].desc == "a photo"
    assert y.remove_attached_op()[0]
    assert np.dtype(y.type.np_dtype) == np.int8
    with pytest.raises(CompileError, match="the new name must be"):
        y.name = "photo"


def test_types_that_stand_at_no_end_have_nothing_to_remove() -> None:
    whole = picture(softmax=True)
    wanted = fed(picture(), x=image())
    names = whole[0].remove_io_op(op_types=["Quantize", "Dequantize", "Cast", "Reshape", "Softmax"])
    assert names == ["shares", "enter", "leave"]
    codes = np.clip(np.rint(image() * 64), -128, 127).astype(np.int8)
    np.testing.assert_array_equal(fed(whole, x=codes) / np.float32(8), wanted)
    by_name = picture(softmax=True)
    assert by_name[0].remove_io_op(op_names=["shares"]) == ["shares"]
    np.testing.assert_array_equal(fed(by_name, x=image()), wanted)


def test_a_transposed_input_gives_the_same() -> None:
    module = picture()
    module[0].flatten_inputs[0].insert_transpose([0, 3, 1, 2])
    assert module[0].flatten_inputs[0].type.shape == (1, 8, 8, 3)
    rows = np.ascontiguousarray(image().transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(fed(module, x=rows), fed(picture(), x=image()))


@pytest.mark.parametrize(("span", "order", "signed"), [("full", "rgb", True), ("video", "bgr", False)])
def test_the_planes_of_a_camera_become_colours(span: str, order: str, signed: bool) -> None:
    generator = np.random.default_rng(2)
    y = generator.integers(16, 236, (1, 8, 8, 1)).astype(np.uint8)
    uv = generator.integers(96, 160, (1, 4, 4, 2)).astype(np.uint8)
    module = picture()
    first = module[0].flatten_inputs[0].insert_transpose([0, 3, 1, 2])
    first.insert_image_preprocess(f"yuvbt601{span}2{order}", 255, [0.4, 0.5, 0.6], [0.25, 0.5, 1], signed)
    assert np.dtype(first.type.np_dtype) == (np.int8 if signed else np.uint8)
    planes = first.insert_image_convert("nv12")
    assert [(p.name, p.type.shape) for p in planes] == [("x_y", (1, 8, 8, 1)), ("x_uv", (1, 4, 4, 2))]
    found = fed(module, x_y=y, x_uv=uv)
    # the definition of BT.601 in float64: luma of weights .299, .587, .114, chroma scaled to its span
    luma = y[..., 0] / 255.0 if span == "full" else (y[..., 0] - 16) / 219.0
    blue, red = np.moveaxis((uv.astype(np.float64) - 128) / (255 if span == "full" else 224), -1, 0)
    blue, red = (np.kron(c[0], np.ones((2, 2)))[None] for c in (blue, red))
    r, b = luma + 1.402 * red, luma + 1.772 * blue
    g = (luma - 0.299 * r - 0.114 * b) / 0.587
    colours = np.stack([r, g, b] if order == "rgb" else [b, g, r], axis=1)
    mean, std = (np.reshape(v, (1, 3, 1, 1)) for v in ([0.4, 0.5, 0.6], [0.25, 0.5, 1]))
    wanted = fed(picture(), x=((colours - mean) / std).astype(np.float32))
    assert np.abs(found - wanted).max() <= 1 / 8 + 1e-6  # a step, where the input lies between two codes


def test_a_batch_is_split_into_inputs() -> None:
    module = picture()
    parts = module[0].flatten_inputs[0].insert_split(1)
    assert [p.name for p in parts] == ["x_0", "x_1", "x_2"]
    given = {f"x_{i}": image()[:, i : i + 1] for i in range(3)}
    np.testing.assert_array_equal(fed(module, **given), fed(picture(), x=image()))
