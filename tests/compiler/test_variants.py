"""Forms of operators that networks seldom have: each must still be what ONNX says, on the BPU."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from compiler.networks import Network
from compiler.scheduling import chip_of
from compiler.test_right_random import check_meaning
from openbpu.arch.isa import GatherTile, decode
from openbpu.arch.program import BpuSegment
from openbpu.compiler import check
from openbpu.compiler import compile as compile_model
from openbpu.runtime import Session
from witness import ort
from witness.builder import Style

REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [(0, 2), (1, 3), (0, 3), (0, 1, 3), (-3, -1), (2, 0)])
@pytest.mark.parametrize("op", REDUCTIONS)
def test_a_reduction_over_axes_that_lie_apart(op: str, axes: tuple[int, ...], keepdims: int) -> None:
    b = Network((3, 4, 5, 6), opset=20)
    y = b.qdq(b.node(op, b.x, b.constant(np.array(axes)), keepdims=keepdims))
    model = b.finished(y).model()
    program = compile_model(model, march="nash-e")
    assert [row.on for row in program.placement if row.op == op] == ["BPU"]
    (found,) = Session(program).run(b.inputs).outputs.values()
    (wanted,) = ort.run(model, b.inputs).values()
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 1.01 * b.scale_of(y)


@pytest.mark.parametrize("style", ["int8", "int16"])
def test_a_gather_whose_input_does_not_fit_loads_the_rows_it_needs(style: str) -> None:
    b = Network((3000, 40), opset=21, style=Style(style))
    rows = np.sort(np.random.default_rng(0).choice(3000, 700, replace=False))
    y = b.qdq(b.node("Gather", b.x, b.constant(rows), axis=0), like=b.x)
    model = b.finished(y).model()
    program = compile_model(model, march=chip_of(1 << 15))
    tiles = [i for s in program.segments if isinstance(s, BpuSegment) for i in decode(s.code[0])]
    bases = {tile.base for tile in tiles if isinstance(tile, GatherTile)}
    assert len(bases) > 2, "tiles must begin at rows of their own"
    (wanted,) = ort.run(model, b.inputs).values()
    for mode in ("exact", "fast"):
        (found,) = Session(program, mode=mode).run(b.inputs).outputs.values()
        np.testing.assert_array_equal(found, wanted)


def test_progress_goes_from_nothing_to_all_within_each_stage() -> None:
    b = Network((1, 4, 9, 9))
    told: list[tuple[str, float]] = []
    y = b.x
    for _ in range(3):
        y = b.qdq(b.node("Hardmax", b.layer(y, 4)))  # one segment of the BPU in front of each
    compile_model(b.finished(y).model(), march="nash-e", progress=lambda *call: told.append(call))
    by_stage = {k: [share for _, share in v] for k, v in itertools.groupby(told, lambda call: call[0])}
    assert list(by_stage)[:3] == ["read", "quantization", "layout"]
    for shares in by_stage.values():
        assert shares == sorted(shares)
        assert shares[0] == 0.0
        assert all(0.0 <= share <= 1.0 for share in shares)
    schedule = by_stage["schedule"]
    assert len(schedule) > 2
    assert schedule[1] - schedule[0] == pytest.approx(1 / len(schedule))


@pytest.mark.parametrize("march", ["nash-e", "bayes"])
@pytest.mark.parametrize(
    "more",
    [
        {"output_shape": [9, 12]},
        {"output_shape": [8, 11], "auto_pad": "VALID"},
        {"output_shape": [12, 14]},
        {"output_shape": [8, 11], "auto_pad": "SAME_UPPER"},
        {"output_shape": [8, 11], "auto_pad": "SAME_LOWER"},
        {"auto_pad": "SAME_UPPER"},
        {"auto_pad": "SAME_LOWER"},
        {"auto_pad": "VALID"},
        {"auto_pad": "VALID", "output_padding": [1, 0]},
    ],
    ids=str,
)
def test_a_transposed_convolution_pads_as_its_attributes_say(more: dict[str, Any], march: str) -> None:
    b = Network((1, 4, 5, 6))
    weight = b.weight(np.random.default_rng(0).normal(size=(4, 3, 3, 3)), axis=1)
    b.finished(b.qdq(b.node("ConvTranspose", b.x, weight, strides=[2, 2], **more)))
    check_meaning(b.model(), b.inputs, march)
    assert row_of(b, march) == "BPU"


def row_of(b: Network, march: str) -> str:
    """Where the transposed convolution runs."""
    return next(r.on for r in check(b.model(), march=march) if r.op == "ConvTranspose")
