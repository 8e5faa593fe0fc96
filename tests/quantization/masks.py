"""Attention with a mask in front of its Softmax, as text, and its calibration data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from quantization.float_models import Array, float_model, noise

L, D = 10, 16
FUTURE = np.triu(np.ones((L, L), dtype=bool), 1)
LEAST = float(np.finfo(np.float32).min)

HEAD = """q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv) t = Transpose <perm = [0, 2, 1]> (k)
          g = MatMul(q, t) s = Mul(g, scale)"""
TAIL = "p = Softmax <axis = -1> (m) y = MatMul(p, v)"
ENDS = f"(float[1,{L},{D}] x) => (float[1,{L},{D}] y, float[1,{L},{L}] p)"
PADDED = f"(float[1,{L},{D}] x, float[1,1,{L}] keep) => (float[1,{L},{D}] y, float[1,{L},{L}] p)"
ADDED = f"(float[1,{L},{D}] x, float[1,{L},{L}] mask) => (float[1,{L},{D}] y, float[1,{L},{L}] p)"


def attention(
    body: str, consts: Mapping[str, npt.ArrayLike], ends: str = ENDS, size: float = 0.5
) -> ModelProto:
    """Return attention over x; `body` makes the masked scores `m` of the scores `s`, with `consts`."""
    weights: dict[str, npt.ArrayLike] = {f"w{n}": size * noise(D, D, seed=i) for i, n in enumerate("qkv", 1)}
    weights["scale"] = np.float32(0.5)
    weights.update({n: np.asarray(v, np.asarray(v).dtype) for n, v in consts.items()})
    return float_model(f"{ends} {{ {HEAD} {body} {TAIL} }}", weights)


def causal(fill: float) -> npt.NDArray[np.float32]:
    """Return the mask that is added: 0, and `fill` for the future."""
    return np.where(FUTURE, fill, 0).astype(np.float32)


def lengths(count: int) -> Array:
    """Return padding masks (count, 1, L): 1 where a token is, 0 behind the last."""
    return np.stack([np.arange(L)[None] < (L, 4, 7)[i % 3] for i in range(count)]).astype(np.float32)


def data(model: ModelProto, count: int = 6, fill: float = 0.0) -> dict[str, Array]:
    """Return calibration samples of every input; `fill` is that of a mask which is an input."""
    given: dict[str, Any] = {"x": 0.7 * noise(count, L, D, seed=9)}
    names = {v.name for v in model.graph.input}
    if "keep" in names:
        given["keep"] = lengths(count)
    if "mask" in names:
        given["mask"] = np.broadcast_to(causal(fill), (count, L, L))
    return given
