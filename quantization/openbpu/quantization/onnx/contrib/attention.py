"""Attention written out: what all its operators share.

    q ─► Mul(scale) ─► MatMul(·, kᵀ) ─► Add(bias) ─► Add(mask) ─► Softmax ─► MatMul(·, v) ─► heads together

Tensors are [batch, heads, rows, depth]. A mask is written as exporters write it, a sum in front of the
Softmax: `masks` finds it there. What shapes decide is computed by Shape, Range and Less,
and folds where it is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openbpu.quantization.onnx.contrib.writer import FLOAT, INT64, KeptError, Writer

LOWEST = float(np.finfo(np.float32).min)
"""What stands for "never" where an operator does not say."""


@dataclass(frozen=True, slots=True)
class Heads:
    """Queries, keys and values of every head, [B, N, S, D]; keys and values of all steps, T of them."""

    q: str
    k: str
    v: str


@dataclass(frozen=True, slots=True)
class Found:
    """What attention makes: [B, N, S, D], and the scores before and behind each step."""

    result: str
    products: str
    capped: str
    masked: str
    weights: str


def turned(w: Writer, x: str) -> str:
    """[B, S, N, D] ↔ [B, N, S, D]"""
    return w.op("Transpose", x, perm=[0, 2, 1, 3])


def split_heads(w: Writer, x: str, heads: int) -> str:
    """[B, S, N·D] → [B, N, S, D]"""
    return turned(w, w.op("Reshape", x, w.whole(0, 0, heads, -1)))


def join_heads(w: Writer, x: str) -> str:
    """[B, N, S, D] → [B, S, N·D]"""
    return w.op("Reshape", turned(w, x), w.whole(0, 0, -1))


def scaled(w: Writer, q: str, scale: float, depth: int | None, like: str) -> str:
    """Return queries times `scale`; where that is 0, times 1/√D.

    D is `depth`, or where that is not known the last axis of `like` [B, N, S, D]. A product in front of
    them takes the factor in.
    """
    if not scale and depth is None:
        return w.op("Div", q, w.op("Sqrt", w.op("Cast", w.length(like, 3), to=FLOAT)))
    return w.op("Mul", q, w.number(scale or 1 / math.sqrt(depth or 1)))


def attend(w: Writer, heads: Heads, *, masks: Sequence[str] = (), softcap: float = 0.0) -> Found:
    """Return what the heads, whose queries are scaled, make of their values; `masks` are added in turn."""
    scores = products = w.op("MatMul", heads.q, w.op("Transpose", heads.k, perm=[0, 1, 3, 2]))
    if softcap:
        bent = w.op("Tanh", w.op("Div", scores, w.number(softcap)))
        scores = w.op("Mul", bent, w.number(softcap))
    capped = scores
    for mask in masks:
        scores = w.op("Add", scores, mask)
    weights = w.op("Softmax", scores, axis=-1)
    return Found(w.op("MatMul", weights, heads.v), products, capped, scores, weights)


def after(w: Writer, past: str, new: str) -> str:
    """Return the steps of a cache and the new ones, [B, N, T, D]."""
    return w.op("Concat", past, new, axis=2) if past else new


# --- masks: which keys a query sees, as bool, and what is added for the others -----------------------------


def steps(w: Writer, count: str) -> str:
    """Return 0 … count − 1, of int64."""
    zero, one = (w.const(np.array(n, np.int64)) for n in (0, 1))
    return w.op("Range", zero, count, one)


def causal(w: Writer, heads: Heads, offset: str) -> str:
    """Return whether key j is none of the future of query i, j ≤ i + offset: [S, T], or [B, 1, S, T].

    offset: a scalar, or [B, 1, 1, 1]
    """
    rows = w.unsqueeze(steps(w, w.length(heads.q, 2)), 1)
    last = w.op("Add", rows, offset)
    return w.op("Not", w.op("Greater", steps(w, w.length(heads.k, 2)), last))


def cached(w: Writer, past: str, axis: int) -> str:
    """Return how many steps a cache has, 0 where there is none."""
    return w.length(past, axis) if past else w.const(np.array(0, np.int64))


def before(w: Writer, heads: Heads, ends: str) -> str:
    """Return whether a key lies before the end of its batch, `ends` [B] of int: [B, 1, 1, T]."""
    return w.op("Less", steps(w, w.length(heads.k, 2)), per_batch(w, ends))


def per_batch(w: Writer, numbers: str) -> str:
    """[B] of any int → [B, 1, 1, 1] of int64"""
    return w.op("Cast", w.op("Reshape", numbers, w.whole(-1, 1, 1, 1)), to=INT64)


def filled(w: Writer, seen: str, fill: float, otherwise: str = "") -> str:
    """Return 0, or `otherwise`, where a key is seen, and `fill` where it is not."""
    return w.op("Where", seen, otherwise or w.number(0.0), w.number(fill))


def known_heads(w: Writer, name: str) -> int:
    """Return an attribute that says how many heads there are; raises KeptError where it says nothing."""
    heads = w.attr(name, 0)
    if not isinstance(heads, int) or heads < 1:
        raise KeptError(f"{name} is {heads}")
    return heads
