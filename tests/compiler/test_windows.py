"""What a window costs a CPU: an element of a result is made from so many of the input, counted one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from openbpu import compiler
from openbpu.arch.program import CpuSegment

X = (1, 2, 12, 12)
PER_ELEMENT = 8


def flops(op: str, *others: Any, **attributes: Any) -> tuple[int, int]:
    """Operations of a node on X (constants besides), and the elements of its output."""
    names = ["x", *(f"c{i}" if c is not None else "" for i, c in enumerate(others))]
    constants = [onnx.numpy_helper.from_array(c, f"c{i}") for i, c in enumerate(others) if c is not None]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    program = compiler.compile(model, march="nash-e")
    (segment,) = (s for s in program.segments if isinstance(s, CpuSegment))
    size = int(np.prod(program.tensors[program.outputs[0]].shape))
    return segment.flops, size


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize(("kernel", "taken"), [([3, 3], 9), ([5, 2], 10), ([11, 11], 121)])
def test_a_pool_takes_every_element_of_its_window(op: str, kernel: list[int], taken: int) -> None:
    found, size = flops(op, kernel_shape=kernel)
    assert found == max(2 * taken * size, PER_ELEMENT * 2 * 12 * 12)


def test_a_small_window_costs_what_any_element_does() -> None:
    found, size = flops("MaxPool", kernel_shape=[1, 2], pads=[0, 0, 0, 1])
    assert found == PER_ELEMENT * size


def test_a_local_response_adds_the_squares_of_its_channels() -> None:
    found, size = flops("LRN", size=9)
    assert found == 2 * 9 * size


FLOATS = np.array([1, 1, 2, 3], np.float32)
RESIZED = [
    ({"mode": "nearest"}, FLOATS, 1),
    ({"mode": "linear"}, FLOATS, 4),
    ({"mode": "cubic"}, FLOATS, 16),
    ({"mode": "cubic"}, np.array([1, 1, 3, 1], np.float32), 4),
    ({"mode": "cubic", "antialias": 1}, np.array([1, 1, 0.25, 0.5], np.float32), 4 * 4 * 4 * 2),
]


@pytest.mark.parametrize(("attributes", "scales", "taken"), RESIZED)
def test_an_interpolation_takes_its_samples(attributes: dict[str, Any], scales: Any, taken: int) -> None:
    found, size = flops("Resize", None, scales, **attributes)
    assert found == max(2 * taken * size, PER_ELEMENT * max(size, 2 * 12 * 12))


@pytest.mark.parametrize(("mode", "taken"), [("nearest", 1), ("linear", 4), ("cubic", 16)])
def test_a_grid_samples_between_its_neighbours(mode: str, taken: int) -> None:
    found, size = flops("GridSample", np.zeros((1, 20, 20, 2), np.float32), mode=mode)
    assert found == max(2 * taken, PER_ELEMENT) * size


def test_a_region_samples_every_cell_as_often_as_it_is_told() -> None:
    boxes, images = np.array([[0, 0, 9, 9]], np.float32), np.zeros(1, np.int64)
    found, size = flops("RoiAlign", boxes, images, output_height=4, output_width=4, sampling_ratio=3)
    assert found == 2 * 4 * 9 * size
