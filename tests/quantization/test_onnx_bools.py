"""Comparisons and choices of float models: quantized, all of them run on the BPU, bools without a pair."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from openbpu import compiler
from openbpu.quantization.onnx import quantize
from quantization.float_models import Array, constant, float_model, noise, quantized, rounded

HEAD = "(float[1,4,8,8] a, float[1,4,8,8] b) => (float[1,4,8,8] y)"
MASKED = "(float[1,4,8,8] a, bool[1,1,8,8] m) => (float[1,4,8,8] y)"
WEIGHTS: dict[str, Any] = {"w": noise(4, 4, 3, 3) / 5, "half": np.float32(0.5), "never": np.float32(-1e9)}
CONV = "x = Conv<pads = [1,1,1,1]>(a, w)"

CHOICES = {
    "the larger": f"{HEAD} {{ c = Greater(a, b) h = Mul(b, half) y = Where(c, a, h) }}",
    "behind a Conv": f"{HEAD} {{ {CONV} c = Less(x, b) y = Where(c, x, b) }}",
    "joined": f"{HEAD} {{ c = Greater(a, b) d = Less(a, half) e = And(c, d) n = Not(e) y = Where(n, a, b) }}",
    "cast": f"{HEAD} {{ c = Equal(a, b) f = Cast<to = 1>(c) y = Mul(a, f) }}",
    "never NaN": f"{HEAD} {{ {CONV} s = Softmax(x) n = IsNaN(s) y = Where(n, half, s) }}",
    "a mask": f"{MASKED} {{ {CONV} h = Where(m, x, never) y = Softmax(h) }}",
    "its opposite": f"{MASKED} {{ {CONV} n = Not(m) h = Where(n, never, x) y = Softmax(h) }}",
    "a mask that is cast": f"{MASKED} {{ {CONV} f = Cast<to = 1>(m) y = Mul(x, f) }}",
    "a remainder": f"{HEAD} {{ h = Mul(a, half) r = Mod<fmod = 1>(h, half) y = Add(r, b) }}",
    "whole numbers": f"{HEAD} {{ h = Cast<to = 6>(a) i = Cast<to = 1>(h) y = Sub(a, i) }}",
}


def made(text: str) -> ModelProto:
    model = float_model(text, {k: v for k, v in WEIGHTS.items() if k in text})
    mask: Array = np.random.default_rng(0).random((2, 1, 1, 8, 8)) < 0.6
    other: dict[str, Array] = {"m": mask} if "bool" in text else {"b": noise(2, 1, 4, 8, 8, seed=1)}
    return quantize(model, {"a": noise(2, 1, 4, 8, 8), **other})


@pytest.mark.parametrize("name", CHOICES)
def test_nothing_is_left_to_the_cpu(name: str) -> None:
    rows = compiler.check(made(CHOICES[name]), march="nash-e")
    assert [(r.op, r.reason) for r in rows if r.on == "CPU"] == []


def test_a_bool_has_no_pair() -> None:
    assert rounded(made(CHOICES["joined"])).isdisjoint({"c", "d", "e", "n"})
    assert rounded(made(CHOICES["a mask"])).isdisjoint({"m"})


def test_a_tensor_is_compared_with_the_numbers_of_the_model() -> None:
    levels = np.array([0.1, 0.2, -0.3, 5.0], np.float32).reshape(4, 1, 1)
    text = "(float[1,4,8,8] a) => (float[1,4,8,8] y) { c = Greater(a, k) z = Mul(a, a) y = Where(c, a, z) }"
    np.testing.assert_array_equal(constant(quantized(text, {"k": levels}), "k"), levels)
