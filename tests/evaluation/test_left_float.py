"""No pair stands around an operator that stays on the CPU: every operator, on every march."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from openbpu.arch.march import march_names
from openbpu.cli.quantizing import Job, corrections, quant_config, quantized_for, samples
from openbpu.compiler import check
from openbpu.evaluation.left_float import rounded_on_cpu
from openbpu.quantization.onnx.classes import ROWS, Kind
from openbpu.quantization.samples import Pixels
from quantization.float_models import float_model, noise

CONSTS: dict[str, Any] = {
    "w": noise(4, 4, 1, 1),
    "k": noise(4, 4, 3, 3),
    "v": noise(8, 8, seed=1),
    "one": np.ones(4, np.float32),
    "low": np.float32(-0.5),
    "high": np.float32(0.5),
    "two": np.float32(2),
    "slope": np.full((4, 1, 1), 0.1, np.float32),
    "by": np.array([1, 4, 8, 8]),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "at": np.array([0, 2]),
    "start": np.array([1]),
    "end": np.array([3]),
    "axes": np.array([1]),
    "ones": np.array([1, 1, 1, 1]),
    "scales": np.array([1, 1, 2, 2], np.float32),
    "where": (np.arange(8) % 2 == 0).reshape(1, 1, 1, 8),
    "line": noise(8, seed=5),
    "rest": np.array([1, 4, 64]),
}
BODIES = {
    "BatchNormalization": "t = Sigmoid(h) y = BatchNormalization(t, one, one, one, one)",
    "Clip": "y = Clip(h, low, high)",
    "Concat": "s = Sigmoid(h) y = Concat <axis = 1> (h, s)",
    "Conv": "y = Conv(h, k)",
    "ConvTranspose": "y = ConvTranspose(h, k)",
    "DepthToSpace": "y = DepthToSpace <blocksize = 2> (h)",
    "Expand": "y = Expand(h, by)",
    "Gather": "y = Gather <axis = 1> (h, at)",
    "Gemm": "f = Flatten <axis = 3> (h) y = Gemm(f, v)",
    "GridSample": "g0 = Gather <axis = 1> (h, at) g1 = Transpose <perm = [0, 2, 3, 1]> (g0) g = Tanh(g1)"
    " y = GridSample(h, g)",
    "InstanceNormalization": "y = InstanceNormalization(h, one, one)",
    "LayerNormalization": "y = LayerNormalization(h, line)",
    "LpNormalization": "y = LpNormalization <axis = 1> (h)",
    "MatMul": "y = MatMul(h, v)",
    "MaxPool": "y = MaxPool <kernel_shape = [2, 2]> (h)",
    "AveragePool": "y = AveragePool <kernel_shape = [2, 2]> (h)",
    "PRelu": "y = PRelu(h, slope)",
    "Pad": "y = Pad(h, pads)",
    "Pow": "s = Sigmoid(h) y = Pow(s, two)",
    "Reshape": "y = Reshape(h, rest)",
    "Resize": 'y = Resize <mode = "linear"> (h, , scales)',
    "Slice": "y = Slice(h, start, end, axes)",
    "SpaceToDepth": "y = SpaceToDepth <blocksize = 2> (h)",
    "Split": "y, z = Split <axis = 1> (h)",
    "Squeeze": "m = ReduceMax <keepdims = 1, axes = [1]> (h) y = Squeeze(m, axes)",
    "Tile": "y = Tile(h, ones)",
    "Transpose": "y = Transpose <perm = [0, 2, 3, 1]> (h)",
    "Unsqueeze": "y = Unsqueeze(h, axes)",
    "Where": "s = Sigmoid(h) y = Where(where, h, s)",
    **{op: f"s = Tanh(h) y = {op}(h, s)" for op in ("Add", "Div", "Max", "Mean", "Min", "Mul", "Sub", "Sum")},
    **{
        op: f"s = Tanh(h) f = {op}(h, s) y = Cast <to = 1> (f)"
        for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    },
    **{op: f"s = Sigmoid(h) y = {op}(s)" for op in ("Acos", "Asin", "Atanh", "Log", "Reciprocal", "Sqrt")},
    "Acosh": "s = Exp(h) e = Add(s, two) y = Acosh(e)",
    **{op: f"y = {op} <axes = [1]> (h)" for op in ("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean")},
    **{op: f"y = {op} <axes = [1]> (h)" for op in ("ReduceMin", "ReduceSumSquare")},
    "ReduceSum": "y = ReduceSum(h, axes)",
}
LATER = {
    "Gelu": 20,
    "GroupNormalization": 21,
    "RMSNormalization": 23,
    "Swish": 24,
    "Mish": 18,
    "GridSample": 16,
}
OTHER = {
    "GroupNormalization": "y = GroupNormalization <num_groups = 2> (h, one, one)",
    "RMSNormalization": "y = RMSNormalization(h, line)",
}
OPS = [row.op for row in ROWS if row.kind is not Kind.CPU]


def model_of(op: str) -> onnx.ModelProto:
    body = BODIES.get(op) or OTHER.get(op) or f"y = {op}(h)"
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split()) | {"w"}
    consts = {name: value for name, value in CONSTS.items() if name in words}
    text = f"(float[1,4,8,8] x) => (float y) {{ h = Conv(x, w) {body} }}"
    return float_model(text, consts, max(17, LATER.get(op, 17)))


def quantized_as_the_command_does(
    model: onnx.ModelProto, march: str, folder: Path, int8: list[str] | None = None
) -> onnx.ModelProto:
    onnx.save(model, folder / "m.onnx")
    np.savez(folder / "c.npz", x=noise(2, 4, 8, 8, seed=9))
    job = Job(
        folder / "m.onnx", folder / "c.npz", folder / "q.onnx", Pixels(None, [0], [1]), None,
        quant_config(None, None, int8, None), False, False, "max", corrections(False, False, None), False,
    )  # fmt: skip
    data, told = samples(job)
    made, _ = quantized_for(job, march, data, told, None)
    return made.model


def test_every_operator_has_its_turn() -> None:
    assert set(BODIES) | set(OTHER) <= set(OPS)


LEFT = ("Erf", "Neg", "Round", "Tan", "PRelu", "ReduceL1", "ReduceL2", "ReduceMin", "Softmax")
"""Operators that a march has no unit for, or prefers on the CPU."""


@pytest.mark.parametrize("op", LEFT)
def test_no_pair_is_put_around_what_stays_on_the_cpu(op: str, tmp_path: Path) -> None:
    made = quantized_as_the_command_does(model_of(op), "bayes-e", tmp_path)
    rows = check(made, march="bayes-e")
    assert not rounded_on_cpu(made, rows)
    assert any(row.on == "CPU" for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("op", OPS)
def test_that_holds_of_every_operator_and_march(op: str, tmp_path: Path) -> None:
    for march in march_names():
        if march != "bernoulli2":  # it compiles for all others
            made = quantized_as_the_command_does(model_of(op), march, tmp_path)
            assert not rounded_on_cpu(made, check(made, march=march)), march


def test_a_type_that_is_asked_for_keeps_its_pairs(tmp_path: Path) -> None:
    model = model_of("Neg")
    model.graph.node[-1].name = "turn"
    made = quantized_as_the_command_does(model, "bayes-e", tmp_path, ["turn"])
    assert list(rounded_on_cpu(made, check(made, march="bayes-e"))) == ["turn"]


def test_another_march_keeps_what_it_has_a_unit_for(tmp_path: Path) -> None:
    made = quantized_as_the_command_does(model_of("Softmax"), "nash-e", tmp_path)
    assert {row.on for row in check(made, march="nash-e")} == {"BPU"}
