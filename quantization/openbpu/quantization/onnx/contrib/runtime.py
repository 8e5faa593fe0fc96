"""The attention operators of `com.microsoft`, written out as ONNX Runtime computes them on a CPU.

    Attention                       x · weights + bias, the heads of queries, keys and values side by side
    QAttention                      the same of codes
    DecoderMaskedSelfAttention      the same for one step behind a cache
    MultiHeadAttention              queries, keys and values that were computed outside
    DecoderMaskedMultiHeadAttention the same for one step behind a cache

What hides a key is `mask_filter_value` (−10⁴), what hides the future the lowest float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from openbpu.quantization.onnx.contrib.attention import (
    LOWEST,
    Heads,
    after,
    attend,
    before,
    cached,
    causal,
    filled,
    join_heads,
    known_heads,
    per_batch,
    scaled,
    split_heads,
    steps,
    turned,
)
from openbpu.quantization.onnx.contrib.writer import KeptError, Writer

_FILL = -10000.0


@dataclass(frozen=True, slots=True)
class _Inputs:
    """At which positions an operator reads what they have in common; None where it lacks it.

    steps: the axis of the cache that counts them · forbidden: what stands for a cache that calls share
    """

    bias: int
    mask: int
    past: int
    steps: int
    added: int | None
    forbidden: tuple[int, ...] = ()


_ATTENTION = _Inputs(bias=2, mask=3, past=4, steps=3, added=5, forbidden=(6,))
_DECODER = _Inputs(bias=2, mask=3, past=4, steps=3, added=5, forbidden=(7, 8))
_QUANTIZED = _Inputs(bias=2, mask=5, past=8, steps=3, added=None)
_MULTI = _Inputs(bias=3, mask=4, past=6, steps=2, added=5, forbidden=(8, 9))
_DECODER_MULTI = _Inputs(bias=10, mask=3, past=5, steps=2, added=4, forbidden=(8, 9))


def attention(w: Writer) -> list[str]:
    """Input, weights, bias, mask, past, added → output, present"""
    return _of_weights(w, _ATTENTION)


def decoder_attention(w: Writer) -> list[str]:
    """Input [B, 1, C], weights, bias, mask, past, added → output, present"""
    return _of_weights(w, _DECODER)


def quantized_attention(w: Writer) -> list[str]:
    """Codes, codes of weights, bias, their scales, mask, their zero points, past → output, present"""
    w.need(0, 1, 2, 3, 4)
    x = w.op("DequantizeLinear", *(name for name in (w.given(0), w.given(3), w.given(6)) if name))
    sizes = _sizes(w, w.given(1))
    scale, zero = w.given(4), w.given(7)
    given = [name for name in (scale, zero) if name]
    shared = (w.shape(scale) or ()) in {(), (1,)}
    weights = []
    for part in sizes:
        grid = given if shared else [w.cut(name, part, 0) for name in given]
        axis = {} if shared else {"axis": 1}
        weights.append(w.op("DequantizeLinear", w.cut(w.given(1), part, -1), *grid, **axis))
    return _projected(w, x, sizes, weights, _QUANTIZED)


def multi_head(w: Writer) -> list[str]:
    """Query, key, value, bias, mask, added, past key, past value → output, present key and value, scores"""
    return _given_heads(w, _MULTI)


def decoder_multi_head(w: Writer) -> list[str]:
    """Query [B, 1, C], key, value, mask, added, past key and value → output, present key and value, scores"""
    return _given_heads(w, _DECODER_MULTI)


# --- heads --------------------------------------------------------------------------------------------------


def _refuse_caches(w: Writer, at: _Inputs) -> None:
    """Refuse what stands for state of a generation loop on a GPU."""
    if w.attr("past_present_share_buffer", 0) or any(w.given(i) for i in at.forbidden):
        raise KeptError("its cache is shared between calls (past_present_share_buffer)")
    if w.attr("do_rotary", 0):
        raise KeptError("it turns queries and keys itself (do_rotary)")


def _sizes(w: Writer, weights: str) -> list[tuple[int, int]]:
    """Return where queries, keys and values lie among the columns of merged weights."""
    sizes = list(w.attr("qkv_hidden_sizes", []))
    columns = (w.shape(weights) or (None,))[-1]
    if not sizes and isinstance(columns, int) and columns % 3 == 0:
        sizes = [columns // 3] * 3
    if len(sizes) != 3 or min(sizes) < 1 or (isinstance(columns, int) and sum(sizes) != columns):
        told = f", with qkv_hidden_sizes of {sizes}" if w.attr("qkv_hidden_sizes", []) else ""
        raise KeptError(f"its weights have {columns} columns{told}: not those of queries, keys and values")
    if any(size % known_heads(w, "num_heads") for size in sizes):
        raise KeptError(f"its {w.attr('num_heads', 0)} heads do not share {sizes} columns evenly")
    return list(pairwise(accumulate(sizes, initial=0)))


def _of_weights(w: Writer, at: _Inputs) -> list[str]:
    """Cut the weights of queries, keys and values apart: three products have three scales."""
    w.need(0, 1)
    sizes = _sizes(w, w.given(1))
    return _projected(w, w.given(0), sizes, [w.cut(w.given(1), part, -1) for part in sizes], at)


def _projected(
    w: Writer, x: str, sizes: Sequence[tuple[int, int]], weights: Sequence[str], at: _Inputs
) -> list[str]:
    _refuse_caches(w, at)
    heads, bias = known_heads(w, "num_heads"), w.given(at.bias)
    made = [w.op("MatMul", x, weight) for weight in weights]
    if bias:
        made = [w.op("Add", m, w.cut(bias, part, 0)) for m, part in zip(made, sizes, strict=True)]
    q = scaled(w, made[0], w.attr("scale", 0.0), sizes[0][1] // heads, "")
    q, k, v = (split_heads(w, part, heads) for part in (q, *made[1:]))
    past = w.given(at.past)
    if past:
        k, v = (after(w, w.pick(past, i, 0), new) for i, new in enumerate((k, v)))
    every = Heads(q, k, v)
    found = attend(w, every, masks=_masks(w, every, at))
    present = w.op("Concat", w.unsqueeze(k, 0), w.unsqueeze(v, 0), axis=0) if w.wants(1) else ""
    return [join_heads(w, found.result), present]


def _given_heads(w: Writer, at: _Inputs) -> list[str]:
    _refuse_caches(w, at)
    w.need(0, *([1, 2] if w.rank(w.given(0)) == 3 and w.given(1) and w.rank(w.given(1)) < 5 else []))
    if not w.given(1) and w.rank(w.given(0)) != 5:
        raise KeptError("its queries hold keys and values, too")
    q, k, v = _with_bias(w, at.bias)
    heads, rank = known_heads(w, "num_heads"), w.rank(w.given(1) or w.given(0))
    depth = _depth(w, heads)
    if depth == 0:
        raise KeptError(f"its {heads} heads do not share its queries evenly")
    if w.rank(w.given(0)) == 5:  # [B, S, N, 3, D]
        q, k, v = (turned(w, w.pick(q, i, 3)) for i in range(3))
    elif rank == 5:  # [B, S, N, 2, D]
        k, v = (turned(w, w.pick(k, i, 3)) for i in range(2))
    elif rank == 3:
        k, v = split_heads(w, k, heads), split_heads(w, v, heads)
    q = scaled(w, q, w.attr("scale", 0.0), depth, k)
    q = q if w.rank(w.given(0)) == 5 else split_heads(w, q, heads)
    every = Heads(q, after(w, w.given(at.past), k), after(w, w.given(at.past + 1), v))
    found = attend(w, every, masks=_masks(w, every, at))
    return [join_heads(w, found.result), every.k, every.v, found.masked]


def _with_bias(w: Writer, position: int) -> tuple[str, str, str]:
    """Return queries, keys and values with their parts of the bias; those in heads already have theirs."""
    given, bias = (w.given(0), w.given(1), w.given(2)), w.given(position)
    if not bias:
        return given
    ranks = [w.rank(name) if name else 0 for name in given]
    if ranks not in ([3, 3, 3], [3, 4, 4]):
        raise KeptError("it has a bias for queries, keys and values that share a tensor")
    (columns,) = w.shape(bias) or (None,)
    width = (w.shape(given[0]) or (None,))[-1]
    if not isinstance(columns, int):
        raise KeptError(f"the length of '{bias}' is not known")
    first = width if isinstance(width, int) else columns // 3
    q = w.op("Add", given[0], w.cut(bias, (0, first), 0))
    if ranks[1] == 4:
        return q, given[1], given[2]
    k, v = (w.cut(bias, part, 0) for part in ((first, 2 * first), (2 * first, columns)))
    return q, w.op("Add", given[1], k), w.op("Add", given[2], v)


def _depth(w: Writer, heads: int) -> int | None:
    """Return the length of a query of one head, where it is known."""
    shape = w.shape(w.given(0))
    last = shape[-1] if shape else None
    if not shape or not isinstance(last, int):
        return None
    return last if len(shape) == 5 else 0 if last % heads else last // heads


# --- masks --------------------------------------------------------------------------------------------------


def _masks(w: Writer, heads: Heads, at: _Inputs) -> list[str]:
    """Return what is added to the scores: a bias of the positions, and what hides keys."""
    added = w.given(at.added) if at.added is not None else ""
    seen = _seen(w, heads, w.given(at.mask)) if w.given(at.mask) else ""
    hides = filled(w, seen, w.attr("mask_filter_value", _FILL)) if seen else ""
    if w.attr("unidirectional", 0):
        _refuse_more_keys(w)
        hides = filled(w, causal(w, heads, cached(w, w.given(at.past), at.steps)), LOWEST, hides)
    return [mask for mask in (added, hides) if mask]


def _refuse_more_keys(w: Writer) -> None:
    """Refuse new keys behind the last query: ONNX Runtime hides them from all queries but the last."""
    if w.node.op_type == "MultiHeadAttention" and w.given(1):
        queries, keys = ((w.shape(w.given(i)) or (None,) * 3) for i in (0, 1))
        rows, columns = queries[1], keys[2 if len(keys) == 4 else 1]
        if isinstance(rows, int) and isinstance(columns, int) and columns > rows:
            raise KeptError(f"it is causal with {columns} keys for {rows} queries")


def _seen(w: Writer, heads: Heads, mask: str) -> str:
    """Return whether a key is seen, of a mask in one of its forms."""
    rank = w.rank(mask)
    if rank == 1:
        return _between(w, heads, mask)
    if rank not in {2, 3}:
        raise KeptError(f"its mask has {rank} axes")
    seen = w.op("Greater", mask, w.const(np.array(0, np.int32)))
    return w.unsqueeze(seen, *([1, 2] if rank == 2 else [1]))


def _between(w: Writer, heads: Heads, mask: str) -> str:
    """Return it of the ends [B], or the ends and then the starts [2·B], of every batch."""
    (given,), batch = w.shape(mask) or (None,), (w.shape(w.given(0)) or (None,))[0]
    if given is not None and given == batch:
        return before(w, heads, mask)
    if not isinstance(given, int) or not isinstance(batch, int) or given != 2 * batch:
        raise KeptError(
            f"its mask has {given} numbers for a batch of {batch}, which is no form that is known"
        )
    ends, starts = w.cut(mask, (0, batch), 0), w.cut(mask, (batch, given), 0)
    late = w.op("Less", steps(w, w.length(heads.k, 2)), per_batch(w, starts))
    return w.op("And", before(w, heads, ends), w.op("Not", late))
