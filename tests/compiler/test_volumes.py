"""Windows that no unit has, over volumes or wider than the march's: on the BPU, with float64's values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compiler.networks import Network
from compiler.observe import quantized_tensors, run_everything
from compiler.one_operator import conv, pool
from compiler.passing import values_for
from compiler.reading import run
from openbpu.arch.hbm import read_hbm, to_bytes
from openbpu.arch.program import BpuSegment, Conv, Program
from openbpu.compiler import check
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.reference import evaluate
from openbpu.evaluation.reference.compare import compare_layerwise
from openbpu.runtime import Session
from witness.builder import Style
from witness.single_op import Case

ODD = "int8-asymmetric"
CONVS: dict[str, dict[str, Any]] = {
    "volume": {"shape": (2, 3, 4, 5, 6), "pads": 1, "then": "Relu"},
    "strides": {
        "shape": (1, 3, 5, 6, 7), "kernel": (3, 2, 3), "strides": 2, "pads": (0, 1, 2, 2, 0, 1), "style": ODD,
    },
    "groups": {
        "shape": (1, 6, 5, 4, 5), "channels": 4, "group": 2, "dilations": (2, 1, 1), "pads": (2, 1, 1) * 2,
        "style": ODD,
    },
    "depthwise": {"shape": (1, 4, 3, 4, 5), "channels": 4, "group": -1, "auto_pad": "SAME_UPPER"},
    "depthwise-int16": {"shape": (1, 4, 5, 4, 5), "channels": 4, "group": -1, "strides": 2, "style": "int16"},
    "depth": {"shape": (1, 3, 6, 3, 4), "kernel": (3, 1, 1), "pads": (1, 0, 0) * 2, "strides": (2, 1, 1)},
    "frames": {"shape": (1, 3, 4, 6, 5), "kernel": (1, 3, 3), "strides": (2, 2, 1), "style": ODD},
    "point": {"shape": (1, 3, 4, 6, 5), "kernel": 1, "strides": 2, "pads": (1, 0, 0, 1, 0, 0), "style": ODD},
    "tubelets": {"shape": (1, 3, 4, 8, 8), "kernel": (2, 4, 4), "strides": (2, 4, 4)},
    "add": {"shape": (1, 3, 3, 4, 4), "channels": 3, "pads": 1, "then": "Add"},
    "depth-add": {
        "shape": (1, 3, 3, 4, 4), "channels": 3, "kernel": (3, 1, 1), "pads": (1, 0, 0) * 2, "then": "Add",
    },
    "int16": {"shape": (1, 3, 3, 4, 4), "pads": 1, "style": "int16"},
    "wide": {"shape": (1, 2, 3, 45), "kernel": (2, 40), "pads": (1, 2, 0, 3), "style": ODD},
    "wide-both": {"shape": (1, 2, 40, 36), "kernel": (37, 33), "strides": (1, 2), "bias": None},
    "wide-strides": {"shape": (2, 2, 200), "kernel": 80, "strides": 20, "pads": (7, 5), "style": ODD},
    "wide-strides-1": {"shape": (1, 1, 150), "kernel": 100, "strides": 2, "style": "int16"},
    "wide-depthwise": {"shape": (1, 4, 60), "channels": 4, "kernel": 35, "group": -1, "strides": 3},
    "wide-dilation": {"shape": (1, 2, 90), "kernel": 40, "dilations": 2, "pads": 3},
    "wide-depth": {"shape": (1, 2, 40, 3, 2), "kernel": (35, 1, 1)},
    "wide-volume": {"shape": (1, 2, 3, 4, 36), "kernel": (2, 3, 33), "pads": (1, 1, 2) * 2},
}  # fmt: skip

DECONVS: dict[str, dict[str, Any]] = {
    "volume": {"shape": (1, 4, 2, 3, 4), "strides": 2, "pads": 1, "output_padding": (1, 0, 1), "style": ODD},
    "groups": {"shape": (2, 4, 3, 2, 3), "channels": 4, "group": 2, "strides": (2, 1, 3), "kernel": 2},
    "depth": {"shape": (1, 3, 4, 3, 2), "kernel": (3, 1, 1), "strides": (2, 1, 1)},
    "frames": {"shape": (1, 3, 4, 3, 2), "kernel": (1, 2, 2), "strides": (1, 2, 2)},
}

POOLS: dict[str, dict[str, Any]] = {
    "volume": {"shape": (2, 3, 4, 6, 5), "kernel": (2, 3, 2), "strides": 2},
    "pads": {"shape": (1, 2, 4, 5, 6), "kernel": 3, "strides": (1, 2, 2), "pads": 1, "same_scale": False},
    "ceil": {
        "shape": (1, 3, 4, 5, 6), "kernel": (3, 2, 3), "strides": 2, "pads": (0, 1, 1) * 2, "ceil_mode": 1,
        "opset": 22,
    },
    "dilations": {"shape": (1, 2, 5, 6, 5), "kernel": (2, 3, 2), "dilations": (2, 1, 3), "opset": 19},
    "frames": {"shape": (1, 3, 4, 5, 6), "kernel": (1, 2, 2), "strides": (1, 2, 2)},
    "depth": {"shape": (1, 3, 5, 4, 3), "kernel": (2, 1, 1), "strides": (2, 1, 1)},
    "rows": {"shape": (1, 3, 5, 4, 3), "kernel": (2, 3, 1), "strides": (2, 1, 1)},
    "same": {"shape": (1, 2, 4, 5, 6), "kernel": 3, "strides": 2, "auto_pad": "SAME_LOWER", "style": ODD},
    "int16": {"shape": (1, 2, 4, 5, 6), "kernel": 3, "pads": 1, "style": "int16", "same_scale": False},
}  # fmt: skip

RESIZES: dict[str, dict[str, Any]] = {
    "nearest": {"shape": (2, 2, 3, 4, 5), "scales": (2.0, 2.0, 1.5)},
    "linear": {"shape": (2, 2, 3, 4, 5), "scales": (2.0, 2.0, 1.5), "mode": "linear"},
    "linear-frames": {"shape": (1, 2, 3, 4, 5), "scales": (1.0, 2.0, 2.0), "mode": "linear"},
    "linear-depth": {"shape": (1, 2, 3, 4, 5), "scales": (2.0, 0.5, 1.0), "mode": "linear"},
    "linear-corners": {
        "shape": (1, 2, 3, 4, 5), "sizes": (5, 7, 9), "mode": "linear", "coordinates": "align_corners",
    },
    "linear-int16": {
        "shape": (1, 2, 3, 4, 5), "scales": (2.0, 2.0, 2.0), "mode": "linear", "style": "int16",
    },
    "linear-int16-to-int8": {
        "shape": (1, 2, 3, 4, 5), "scales": (2.0, 2.0, 2.0), "mode": "linear", "style": "int16",
        "output": "int8",
    },
}  # fmt: skip

PADDED = {"shape": (1, 2, 4, 5, 6), "kernel": 3, "strides": (1, 2, 2), "pads": 1, "count_include_pad": 1}
EXACT = (
    *(Case("Conv", name, more) for name, more in CONVS.items()),
    *(Case("ConvTranspose", name, more) for name, more in DECONVS.items()),
    *(Case(op, name, more) for op in ("MaxPool", "AveragePool") for name, more in POOLS.items()),
    Case("AveragePool", "include-pad", PADDED),
    Case("AveragePool", "include-pad-zero", {**PADDED, "style": ODD}),
    *(Case(op, "volume", {"shape": (2, 3, 4, 2, 5)}) for op in ("GlobalAveragePool", "GlobalMaxPool")),
    Case("BatchNormalization", "volume", {"shape": (2, 5, 3, 2, 4)}),
    *(Case("Resize", name, more) for name, more in RESIZES.items()),
)


MARCHES = ("nash-e", pytest.param("bayes-e", marks=pytest.mark.slow))


def most(case: Case) -> float:
    """How far from the real value a code may lie, in steps (docs/numerics.md)."""
    if "linear" not in case.name:
        return 0.5
    return 2.5 if case.name == "linear-int16" else 1.0


@pytest.mark.parametrize("march", MARCHES)
@pytest.mark.parametrize("case", EXACT, ids=lambda case: case.id)
def test_it_runs_on_the_bpu_and_means_what_its_graph_means(case: Case, march: str) -> None:
    model, inputs = case.build()
    program = read_hbm(to_bytes(compile_model(model, march=march, opt=0)))
    assert {r.on for r in program.placement if r.op == case.op} == {"BPU"}
    tensors, result = run_everything(program, inputs), model.graph.output[0].name
    reports = compare_layerwise(model, quantized_tensors(model, inputs, tensors), inputs)
    if [n for n in model.graph.node if n.op_type == "QuantizeLinear"][-1].output[0] not in reports:
        assert case.op == "MaxPool", "whose codes are those of its input"
        np.testing.assert_allclose(tensors[result], evaluate(model, inputs).values[result], rtol=1e-6)
    for report in reports.values():
        assert report.exact or report.max_error <= most(case), str(report)


def operators(program: Program) -> list[str]:
    """Names of the operators on the BPU, in the order they run."""
    return [type(o).__name__ for s in program.segments if isinstance(s, BpuSegment) for o in s.operators]


def whole(proto: Any, march: str = "nash-e", **options: Any) -> Program:
    """A program with nothing on the CPU but borders, whose values are ONNX Runtime's but for single ties."""
    program = compile_model(proto, march=march, **options)
    assert {r.on for r in program.placement if "quantize" not in r.op.lower()} == {"BPU"}
    assert sum(isinstance(s, BpuSegment) for s in program.segments) == 1
    feeds = values_for(proto)
    fast, exact = (Session(program, mode=mode).run(feeds).outputs for mode in ("fast", "exact"))
    (found,), (again,), (wanted,) = fast.values(), exact.values(), run(proto, feeds)
    np.testing.assert_array_equal(found, again)
    off = np.abs(found - wanted) / np.abs(wanted).max() * 127
    assert off.max() < 2.5
    assert (off > 0.1).mean() <= 0.02
    return program


def block(b: Network) -> str:
    """What video networks are made of: 3-D residual blocks, (2+1)-D ones, pools, a classifier."""
    x = b.layer(b.x, 8, pads=[1] * 6, strides=[1, 2, 2])
    x = b.residual(x)
    x = b.qdq(b.node("MaxPool", x, kernel_shape=[2] * 3, strides=[2] * 3))
    flat = b.weight(b.rng.normal(size=(6, 8, 1, 3, 3)) * 0.3, axis=0)
    x = b.qdq(b.node("Relu", b.node("Conv", x, flat, pads=[0, 1, 1] * 2)))
    deep = b.weight(b.rng.normal(size=(8, 6, 3, 1, 1)) * 0.3, axis=0)
    x = b.qdq(b.node("Relu", b.node("Conv", x, deep, pads=[1, 0, 0] * 2)))
    x = b.qdq(b.node("GlobalAveragePool", x))
    x = b.node("Flatten", x)
    return b.qdq(b.node("Gemm", x, b.weight(b.rng.normal(size=(8, 5)), axis=1)))


@pytest.mark.parametrize("march", MARCHES)
@pytest.mark.parametrize("style", ["int8", "int16"])
def test_a_video_network_has_nothing_on_the_cpu(march: str, style: str) -> None:
    b = Network((2, 3, 4, 8, 8), 21, Style(style))
    whole(b.finished(block(b)).model(), march)


@pytest.mark.parametrize("kernel", [(1, 3, 3), (3, 1, 1), (1, 1, 1)], ids=lambda k: "x".join(map(str, k)))
def test_where_two_axes_or_one_are_spanned_nothing_is_laid_out(kernel: tuple[int, ...]) -> None:
    """Channels last, a volume is images, or rows of them: one Conv, and a Move at each end."""
    b = Network((1, 4, 4, 5, 6), 21)
    w = b.weight(b.rng.normal(size=(4, 4, *kernel)), axis=0)
    b.finished(b.qdq(b.node("Conv", b.x, w, pads=[k // 2 for k in kernel] * 2)))
    made = operators(whole(b.model()))
    assert sorted(made) == ["Conv", "Dequantize", "Move", "Move", "Quantize"]


def test_a_stride_of_a_wide_kernel_is_channels_without_a_copy() -> None:
    """A front end of audio: 400 samples, 160 apart, are three taps of 160 channels."""
    b = Network((1, 1, 1680), 21)
    b.finished(b.qdq(b.node("Conv", b.x, b.weight(b.rng.normal(size=(6, 1, 400)), axis=0), strides=[160])))
    program = whole(b.model())
    (found,) = (
        o for s in program.segments if isinstance(s, BpuSegment) for o in s.operators if isinstance(o, Conv)
    )
    assert (found.kernel, found.x_shape[3], found.strides) == ((1, 3), 160, (1, 1))
    assert "Concat" not in operators(program)


@pytest.mark.parametrize(
    ("network", "actual"),
    [
        (conv((1, 3000, 3, 2, 2), (1, 3000, 3, 2, 2)), "1..8192, not 9000"),
        (conv((1, 2500, 3, 3, 3), (1, 2500, 3, 3, 3)), "1..65536, not 67500"),
        (
            conv((5, 1, 1000, 1, 2), (1, 1, 3, 1, 2), pads=[1, 0, 0] * 2),
            "batch × depth must be 1..4096, not 5000",
        ),
        (pool("MaxPool", (2, 1, 3000, 2, 2), (1, 2, 2)), "batch × depth must be 1..4096, not 6000"),
        (conv((1, 1, 1, 70000), (1, 1, 1, 66000)), "1..65536, not 1×1×70000"),
        (conv((1, 700, 1, 200), (1, 700, 1, 100)), "1..65536, not 70000"),
        (pool("AveragePool", (1, 1, 18, 18, 4), (17, 17, 2)), "1..256, not 289×2"),
        (pool("MaxPool", (1, 1, 300, 2, 2), (257, 1, 1)), "1..256, not 257×1×1"),
    ],
    ids=["depth", "taps", "images", "pooled images", "size", "wide", "slices", "largest"],
)
def test_what_is_beyond_the_march_is_refused_by_name(network: Network, actual: str) -> None:
    rows = [r for r in check(network.model(), march="nash-e") if r.op in ("Conv", "AveragePool", "MaxPool")]
    assert [r.on for r in rows] == ["CPU"]
    assert actual in rows[0].reason


def test_no_window_spans_four_axes() -> None:
    b = Network((1, 1, 2, 2, 2, 2), 21)
    b.finished(b.qdq(b.node("MaxPool", b.x, kernel_shape=[2] * 4)))
    (row,) = (r for r in check(b.model(), march="nash-e") if r.op == "MaxPool")
    assert "windows over 1, 2 or 3 axes" in row.reason
