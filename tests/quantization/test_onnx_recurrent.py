"""LSTM, GRU, RNN and RotaryEmbedding, written out: the same floats, and on the BPU once quantized."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from openbpu import compiler
from openbpu.quantization.onnx import optimized, quantize
from openbpu.quantization.onnx.contrib.recurrent import MOST
from quantization.float_models import Array, float_model, noise, samples
from witness import ort

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
T, B, INPUTS, H = 5, 2, 6, 4


def recurrent(op: str, steps: int = T, **options: Any) -> ModelProto:
    """A layer with all of its outputs; `start`: states before the first step, `bias`: with one."""
    given = {"direction": "forward", "start": False, "bias": True, "attrs": "", **options}
    sides, gates = 1 + (given["direction"] == "bidirectional"), GATES[op]
    weights: dict[str, Array] = {
        "w": noise(sides, gates * H, INPUTS, seed=1) / 2,
        "r": noise(sides, gates * H, H, seed=2) / 2,
    }
    if given["bias"]:
        weights["b"] = noise(sides, 2 * gates * H, seed=3) / 4
    states = ["h", "c"][: 1 + (op == "LSTM")] if given["start"] else []
    more = "".join(f", float[{sides},{B},{H}] {name}" for name in states)
    operands = ", ".join(["x", "w", "r", "b" if given["bias"] else "", *(["", *states] if states else [])])
    ends = ["y", "yh", "yc"][: 2 + (op == "LSTM")]
    attributes = f'hidden_size = {H}, direction = "{given["direction"]}"{given["attrs"]}'
    outputs = ", ".join(f"float {name}" for name in ends)
    layer = f"{', '.join(ends)} = {op}<{attributes}>({operands})"
    text = f"(float[{steps},{B},{INPUTS}] x{more}) => ({outputs}) {{ {layer} }}"
    return float_model(text, weights)


FORMS: dict[str, dict[str, Any]] = {
    "forward": {},
    "reverse": {"direction": "reverse"},
    "both ways": {"direction": "bidirectional", "start": True},
    "without a bias": {"bias": False},
    "one step": {"steps": 1, "start": True},
}
LAYERS = [(op, name) for op in GATES for name in FORMS]


def same(model: ModelProto, tolerance: float = 1e-5) -> ModelProto:
    """The model as it is calibrated, which computes what the model does."""
    made = optimized(model)
    feeds = {name: array[0] for name, array in samples(model).items()}
    wanted, found = ort.run(model, feeds), ort.run(made, feeds)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance)
    return made


@pytest.mark.parametrize(("op", "form"), LAYERS)
def test_a_layer_is_written_out_as_what_it_computes(op: str, form: str) -> None:
    assert op not in {n.op_type for n in same(recurrent(op, **FORMS[form])).graph.node}


@pytest.mark.parametrize("start", [False, True])
def test_a_gru_resets_h_or_its_product(start: bool) -> None:
    for attrs in ("", ", linear_before_reset = 1"):
        same(recurrent("GRU", start=start, attrs=attrs))


def test_other_functions_and_gates() -> None:
    same(recurrent("RNN", attrs=', activations = ["Relu"]'))
    same(recurrent("LSTM", attrs=', activations = ["Sigmoid", "Softsign", "Tanh"]'))


@pytest.mark.parametrize("op", GATES)
def test_a_quantized_layer_runs_on_the_bpu(op: str) -> None:
    model = recurrent(op, steps=3)
    made = quantize(model, samples(model))
    assert [(r.op, r.reason) for r in compiler.check(made, march="nash-e") if r.on == "CPU"] == []
    feeds = {name: array[0] for name, array in samples(model).items()}
    for name, value in ort.run(model, feeds).items():
        found = ort.run(made, feeds)[name]
        assert np.abs(found - value).max() < 0.06


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"steps": MOST + 1}, f"its {MOST + 1} steps, written out, are more than {MOST}"),
        ({"attrs": ", clip = 3.0"}, "it clips what goes into its gates"),
        ({"attrs": ', activations = ["Affine", "Tanh", "Tanh"]'}, "its gates use Affine, Tanh, Tanh"),
    ],
)
def test_what_stays_one_operator_says_why(options: dict[str, Any], why: str) -> None:
    model = recurrent("LSTM", **options)
    assert "LSTM" in {n.op_type for n in optimized(model).graph.node}


HEADS = "(float[2,3,4,8] x) => (float y)"
ROTARY = {
    "halves": f"{HEADS} {{ y = RotaryEmbedding(x, c, s) }}",
    "pairs": f"{HEADS} {{ y = RotaryEmbedding<interleaved = 1>(x, c, s) }}",
    "positions": f"{HEADS} {{ y = RotaryEmbedding(x, rows, columns, p) }}",
    "a part": f"{HEADS} {{ y = RotaryEmbedding<rotary_embedding_dim = 4>(x, short, low) }}",
    "tokens": "(float[2,4,24] x) => (float y) { y = RotaryEmbedding<num_heads = 3>(x, c, s) }",
}
ANGLES = noise(2, 4, 4, seed=4)
CACHES: dict[str, Array] = {
    "c": np.cos(ANGLES), "s": np.sin(ANGLES), "rows": np.cos(noise(9, 4)), "columns": np.sin(noise(9, 4)),
    "short": np.cos(ANGLES[..., :2]), "low": np.sin(ANGLES[..., :2]),
    "p": np.array([[0, 3, 1, 8], [2, 2, 7, 5]]),
}  # fmt: skip


@pytest.mark.parametrize("name", ROTARY)
def test_a_rotary_embedding_is_products_with_constants(name: str) -> None:
    text = ROTARY[name]
    model = float_model(text, {k: v for k, v in CACHES.items() if f" {k}," in text or f" {k})" in text}, 23)
    assert "RotaryEmbedding" not in {n.op_type for n in same(model).graph.node}
    made = quantize(model, samples(model))
    assert [(r.op, r.reason) for r in compiler.check(made, march="nash-e") if r.on == "CPU"] == []


def test_a_norm_by_the_sum_of_magnitudes_is_a_quotient() -> None:
    model = float_model("(float[2,3,4,8] x) => (float y) { y = LpNormalization<axis = 1, p = 1>(x) }")
    same(model)
    rows = compiler.check(quantize(model, samples(model)), march="nash-e")
    assert [(r.op, r.reason) for r in rows if r.on == "CPU"] == []
