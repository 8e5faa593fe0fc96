"""GridSample: what it points to, what it needs of its operands, and images that do not fit on chip."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from openbpu.arch.program import BpuSegment, Program
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.reference.float64 import evaluate
from openbpu.runtime import Session
from witness.builder import GraphBuilder, Style

Codes = npt.NDArray[np.int16]
INT8, INT16 = Style("int8"), Style("int16")
FINE = Style("int16", spread=2.0**-4)
"""A scale 4,096 times finer than that of int8: it saturates."""


def sampled(
    shape: tuple[int, ...],
    grid: Codes | tuple[int, ...],
    *,
    data: str = "int8",
    points: str = "int16",
    scale: float = 1.1 / 32767,
    result: Style = INT8,
    **how: Any,
) -> GraphBuilder:
    """An image of random codes at constant codes of a grid, or at random ones of an input of this shape."""
    b = GraphBuilder(22, 0, Style(data))
    x = b.quantized_input(shape)
    if isinstance(grid, tuple):
        places = b.qdq(b.input(b.rng.uniform(-1.1, 1.1, grid)), Style(points))
    else:
        codes = b.constant(grid)
        places = b.node("DequantizeLinear", codes, b.constant(np.float32(scale)), b.constant(np.int16(0)))
    b.output(b.qdq(b.node("GridSample", x, places, **how), result))
    return b


def both(b: GraphBuilder, march: str) -> tuple[Program, npt.NDArray[Any]]:
    """The program, and its result, which has the same bits layer by layer and tile by tile."""
    program = compile_model(b.model(), march=march)
    assert all(row.on == "BPU" for row in program.placement if "Linear" not in row.op)
    (fast,) = Session(program).run(b.inputs).outputs.values()
    (exact,) = Session(program, mode="exact").run(b.inputs).outputs.values()
    np.testing.assert_array_equal(fast, exact)
    return program, fast


REFUSED: dict[str, tuple[Any, str, str]] = {
    "reflection": (
        lambda: sampled((1, 2, 5, 6), (1, 3, 4, 2), padding_mode="reflection"),
        "padding_mode reflection is not supported (zeros, border)",
        "use border",
    ),
    "cubic": (
        lambda: sampled((1, 2, 5, 6), (1, 3, 4, 2), mode="cubic"),
        "mode cubic is not supported (linear, nearest)",
        "use linear",
    ),
    "volume": (
        lambda: sampled((1, 2, 4, 5, 6), (1, 3, 4, 5, 3)),
        "its input has 5 axes, only [N, C, H, W] is sampled on the BPU",
        "slices",
    ),
    "int8 grid": (
        lambda: sampled((1, 2, 5, 6), (1, 3, 4, 2), points="int8"),
        "is int8 (allowed int16)",
        "quantize that tensor to int16",
    ),
    "int16 image": (
        lambda: sampled((1, 2, 5, 6), (1, 3, 4, 2), data="int16"),
        "is int16 (allowed int8)",
        "quantize that tensor to int8",
    ),
    "coarse grid": (
        lambda: sampled((1, 1, 9, 6), np.zeros((1, 2, 2, 2), np.int16), scale=500.0),
        "a step of its grid must be less than 2048 pixels, not 2,250",
        "quantize the grid over its range",
    ),
    "fine result": (
        lambda: sampled((1, 2, 5, 6), (1, 3, 4, 2), padding_mode="border", result=FINE),
        "the scale of its output must be at least 1/1,024 of the scale of its input, not 1/",
        "quantize its output over its range",
    ),
    "large image": (
        lambda: sampled((1, 1, 1024, 1100), (1, 2, 2, 2)),
        "H·W of its input must fit the 1048576 bytes on chip, not 1024×1100",
        "smaller feature map",
    ),
    "constant grid across a large image": (
        lambda: sampled((1, 1, 1024, 1100), np.array([[[[0, -30000], [0, 30000]]]], np.int16)),
        "what a row of its constant grid reads must fit the 1048576 bytes on chip, not 1024×1100",
        "smaller feature map",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_sampling_of_the_bpu_says_so(name: str) -> None:
    build, reason, fix = REFUSED[name]
    rows = compile_model(build().model(), march="nash-b").placement
    (row,) = (row for row in rows if row.op == "GridSample")
    assert row.on == "CPU"
    assert reason in row.reason
    assert fix in row.fix


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("width", [1, 7, 64, 256])
def test_every_code_points_to_the_pixel_that_is_nearest(width: int, corners: int) -> None:
    codes = np.arange(-32768, 32768, dtype=np.int16)
    grid = np.stack([codes, np.zeros_like(codes)], 1).reshape(1, 256, 256, 2)
    how: dict[str, Any] = {"mode": "nearest", "align_corners": corners, "padding_mode": "border"}
    b = sampled((1, 1, 1, width), grid, scale=1 / 32767, **how)
    program = compile_model(b.model(), march="nash-e", opt=0)
    (got,) = Session(program).run(b.inputs).outputs.values()
    wanted = evaluate(b.model(), b.inputs).outputs[b.outputs[0]]
    np.testing.assert_array_equal(got, wanted.astype(np.float32))


def test_the_nearest_pixel_is_exact_on_any_scale() -> None:
    b = sampled((1, 2, 5, 6), (1, 3, 4, 2), mode="nearest", result=FINE)
    _, got = both(b, "nash-e")
    wanted = evaluate(b.model(), b.inputs).outputs[b.outputs[0]]
    np.testing.assert_array_equal(got, wanted.astype(np.float32))


def test_between_pixels_one_code_in_a_thousand_is_another_one() -> None:
    b = sampled((1, 8, 40, 300), (1, 60, 60, 2))
    (got,) = Session(compile_model(b.model(), march="nash-e", opt=0)).run(b.inputs).outputs.values()
    wanted = evaluate(b.model(), b.inputs).outputs[b.outputs[0]]
    assert (got != wanted.astype(np.float32)).mean() < 1e-3


def bent(rows: int, columns: int) -> Codes:
    """Nearly where they are: what a lens does."""
    y, x = np.meshgrid(np.linspace(-0.9, 0.9, rows), np.linspace(-0.9, 0.9, columns), indexing="ij")
    points = np.stack([x + 0.02 * np.sin(5 * y), y + 0.02 * np.sin(4 * x)], -1)[None] / (1.1 / 32767)
    return np.rint(points).astype(np.int16)


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_a_constant_grid_reads_bands_of_an_image_that_does_not_fit(mode: str, padding: str) -> None:
    b = sampled((1, 2, 1024, 1100), bent(40, 30), mode=mode, padding_mode=padding)
    program, _ = both(b, "nash-b")
    (segment,) = (s for s in program.segments if isinstance(s, BpuSegment))
    assert segment.chip_bytes <= 1 << 20


@pytest.mark.parametrize("march", ["nash-b", "nash-p", "bayes-e"])
def test_tiles_of_points_and_channels_give_the_same_bits(march: str) -> None:
    both(sampled((2, 70, 60, 90), (2, 50, 70, 2), align_corners=1), march)


def test_a_grid_that_is_an_output_of_a_layer_is_sampled_with_it() -> None:
    """A flow that a convolution makes, in the channels' place until it is transposed."""
    b = GraphBuilder(22, 0, Style("int8"))
    x = b.quantized_input((1, 3, 20, 24))
    weight = b.weight(b.rng.normal(size=(2, 3, 3, 3)) * 0.2, axis=0)
    flow = b.qdq(b.node("Conv", x, weight, pads=[1, 1, 1, 1]), INT16)
    grid = b.qdq(b.node("Transpose", flow, perm=[0, 2, 3, 1]), like=flow)
    b.output(b.qdq(b.node("GridSample", x, grid, padding_mode="border")))
    program, got = both(b, "nash-e")
    assert [row.on for row in program.placement] == ["BPU"] * len(program.placement)
    wanted = evaluate(b.model(), b.inputs).outputs[b.outputs[0]]
    assert (got != wanted.astype(np.float32)).mean() < 0.01
