"""Facts about tensors that one scale would swallow: they are spared, or get int16, or are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from openbpu.arch.dtypes import DType
from openbpu.cli.commands import app
from openbpu.quantization.onnx import Choice, Finding, quantize
from openbpu.quantization.onnx.judge import run_all
from quantization.float_models import float_model, noise, pair_of, rounded, samples

WEIGHTS: dict[str, Any] = {
    "w": 0.3 * noise(8, 3, 1, 1),
    "wb": 0.3 * noise(4, 8, 1, 1, seed=1),
    "ws": 0.3 * noise(4, 8, 1, 1, seed=2),
    "big": np.float32(320),
    "tiny": np.float32(1e-3),
    "flat": np.array([1, 4, 64]),
    "grid": np.arange(256, dtype=np.float32).reshape(1, 4, 8, 8),
    "odd": (np.arange(4) % 2 == 0).reshape(1, 4, 1, 1),
    "at": np.broadcast_to(np.arange(4).reshape(1, 4, 1, 1), (1, 4, 8, 8)).copy(),
    "point": 0.3 * noise(2, 4, 1, 1, seed=5),
    "half": np.array([4, 4]),
    "wide": np.repeat(np.array([[1 / 320, 0], [0, 1]], np.float32), 4, 1).reshape(2, 8, 1, 1),
    "small": np.full((1, 4, 8, 8), 0.01, np.float32) * noise(1, 4, 8, 8, seed=4),
}
HEAD = """f0 = Conv(x, w) f = Relu(f0) b0 = Conv(f, wb) b1 = Sigmoid(b0) boxes = Mul(b1, big)
          s0 = Conv(f, ws) scores = Sigmoid(s0)"""
INT8 = {"tail": DType.INT8}


def made(body: str, **options: Any) -> tuple[ModelProto, ModelProto, tuple[Finding, ...]]:
    """Return the float model, the quantized one, and what was found."""
    model = float_model(f"(float[1,3,8,8] x) => (float y) {{ {HEAD} {body} }}", used(body))
    told: list[Choice] = []
    quantized = quantize(model, samples(model, 4), told=told.append, **options)
    onnx.checker.check_model(quantized, full_check=True)
    return model, quantized, told[0].findings


def used(body: str) -> dict[str, Any]:
    return {name: value for name, value in WEIGHTS.items() if name in (HEAD + body).replace("(", " ")}


def error(model: ModelProto, quantized: ModelProto, part: Any) -> float:
    feeds = [{"x": x} for x in samples(model, 4)["x"]]
    want, got = (run_all(m, ["y"], feeds) for m in (model, quantized))
    return max(float(np.abs(a["y"][part] - b["y"][part]).max()) for a, b in zip(want, got, strict=True))


SPARED = {
    "the output": ("y = Concat <axis = 1> (boxes, scores)", np.s_[:, 4:]),
    "moved": (
        """r = Reshape(boxes, flat) s = Reshape(scores, flat) c = Concat <axis = 1> (r, s)
           y = Transpose <perm = [0, 2, 1]> (c)""",
        np.s_[:, :, 4:],
    ),
    "joined again": (
        """c = Concat <axis = 1> (boxes, scores) d = Concat <axis = 1> (scores, boxes)
           y = Concat <axis = 2> (c, d)""",
        np.s_[:, 4:, :8],
    ),
    "chosen": ("y = Where(odd, boxes, scores)", np.s_[:, 1::2]),
}


@pytest.mark.parametrize("body", SPARED)
@pytest.mark.parametrize("method", ["max", "percentile"])
def test_common_tensor_that_is_the_output_stays_float(body: str, method: str) -> None:
    text, part = SPARED[body]
    model, quantized, found = made(text, **INT8, method=method)
    assert {f.kind for f in found} == {"spared"}
    assert all("'scores'" in f.text and "steps" in f.text for f in found)
    assert rounded(quantized).isdisjoint({"y", "c", "d"})
    assert quantized.opset_import[0].version == 17
    assert error(model, quantized, part) < 0.05


@pytest.mark.parametrize("body", SPARED)
def test_a_tail_of_int16_has_steps_for_both(body: str) -> None:
    text, part = SPARED[body]
    model, quantized, found = made(text)
    assert not found
    assert error(model, quantized, part) < 0.05


NAMED = {
    "added": ("z = Add(scores, grid) y = Sigmoid(z)", "scores"),
    "written": ("z = ScatterElements <axis = 1> (scores, at, boxes) y = Tanh(z)", "scores"),
    "a constant": ("z = Concat <axis = 1> (boxes, small) y = Neg(z)", "small"),
    "cut": ("c = Concat <axis = 1> (boxes, scores) t = Neg(c) y, z = Split <axis = 1> (t, half)", "z"),
}


@pytest.mark.parametrize("case", NAMED)
def test_tensor_that_is_lost_in_int8_is_named_with_its_steps(case: str) -> None:
    body, name = NAMED[case]
    _, _, found = made(body, **INT8)
    (lost,) = [f for f in found if f.tensor == name]
    assert lost.kind == "swallowed"
    assert f"swallows '{name}'" in lost.text
    assert "leave out --int8-tail" in lost.text


def test_common_tensor_that_products_and_others_read_is_int16_where_that_is_allowed() -> None:
    text = """c = Concat <axis = 1> (boxes, scores) o = Conv(c, wide)
              t = Sigmoid(c) u = Conv(t, wide) y = Add(o, u)"""
    model, quantized, found = made(text)
    assert [(f.kind, f.tensor) for f in found] == [("widened", "scores")]
    assert pair_of(quantized, "c")[1].dtype == np.int16
    assert quantized.opset_import[0].version == 21
    _, coarse, warned = made(text, **INT8)
    assert [(f.kind, f.tensor) for f in warned] == [("swallowed", "scores")]
    assert error(model, quantized, np.s_[:, 1]) < 0.1 * error(model, coarse, np.s_[:, 1])


def test_sum_that_no_product_reads_is_int16_and_one_that_a_product_reads_is_named() -> None:
    found = made("a = Add(boxes, scores) t = Tanh(a) y = Conv(t, point)")[2]
    assert [(f.kind, f.tensor) for f in found] == [("widened", "scores")]
    found = made("a = Add(boxes, scores) y = Conv(a, point)")[2]
    assert [(f.kind, f.tensor) for f in found] == [("swallowed", "scores")]


@pytest.mark.parametrize(
    "body",
    [
        "c = Concat <axis = 1> (scores, b1) y = Conv(c, wide)",
        "a = Add(scores, b1) y = Tanh(a)",
        "a = Add(boxes, tiny) y = Tanh(a)",
        "a = Add(boxes, small) y = Tanh(a)",
        "y = Where(odd, boxes, tiny)",
    ],
)
def test_tensors_of_like_ranges_and_numbers_are_not_spoken_of(body: str) -> None:
    assert not made(body, **INT8)[2]


def test_the_command_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = SPARED["the output"][0]
    model = float_model(f"(float[1,3,8,8] x) => (float y) {{ {HEAD} {text} }}", used(text))
    onnx.save(model, tmp_path / "m.onnx")
    np.savez(tmp_path / "c.npz", **samples(model, 4))  # type: ignore[arg-type]
    command = ["quantize", tmp_path / "m.onnx", "--calib", tmp_path / "c.npz", "-o", tmp_path / "q.onnx"]
    with pytest.raises(SystemExit) as ended:
        app([str(a) for a in (*command, "--int8-tail", "--json")], prog_name="openbpu")
    assert not ended.value.code
    out, err = capsys.readouterr()
    (found,) = json.loads(out)["findings"]
    assert (found["kind"], found["tensor"]) == ("spared", "scores")
    assert err.count("one int8 scale would swallow 'scores'") == 1
