"""ONNX's own Attention (opset 23 and newer), written out.

Where no key is left for a query, ONNX says 0; here all keys count alike there, as behind any other mask.
"""

from __future__ import annotations

import numpy as np

from openbpu.quantization.onnx.contrib.attention import (
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
)
from openbpu.quantization.onnx.contrib.writer import KeptError, Writer


def attention(w: Writer) -> list[str]:
    """Q, K, V, mask, past key, past value, lengths → Y, present key, present value, scores"""
    w.need(0, 1, 2)
    flat = w.rank(w.given(0)) == 3
    heads = _heads(w, flat=flat)
    masks = _masks(w, heads)
    found = attend(w, _shared(w, heads), masks=masks, softcap=w.attr("softcap", 0.0))
    mode = w.attr("qk_matmul_output_mode", 0)
    scores = (found.products, found.capped, found.masked, found.weights)
    if mode not in range(len(scores)):
        raise KeptError(f"qk_matmul_output_mode is {mode}")
    y = join_heads(w, found.result) if flat else found.result
    return [y, heads.k, heads.v, scores[mode]]


def _heads(w: Writer, *, flat: bool) -> Heads:
    """Return scaled queries, and keys and values with those of the cache."""
    q, k, v = w.node.input[:3]
    depth, scale = (w.shape(q) or (None,))[-1], w.attr("scale", 0.0)
    if flat:
        queries, keys = known_heads(w, "q_num_heads"), known_heads(w, "kv_num_heads")
        k, v = split_heads(w, k, keys), split_heads(w, v, keys)
        if isinstance(depth, int) and depth % queries:
            raise KeptError(f"its {queries} heads do not share {depth} columns evenly")
        depth = depth // queries if isinstance(depth, int) else None
        q = split_heads(w, scaled(w, q, scale, depth, k), queries)
    else:
        q = scaled(w, q, scale, depth if isinstance(depth, int) else None, k)
    return Heads(q, after(w, w.given(4), k), after(w, w.given(5), v))


def _shared(w: Writer, heads: Heads) -> Heads:
    """Return a key and value head for every query head: some queries may share theirs."""
    queries, keys = (w.attr(f"{which}_num_heads", 0) for which in ("q", "kv"))
    if not queries or not keys:
        queries, keys = (_length(w, position, 1) for position in (0, 1))
    if queries == keys:
        return heads
    if queries % keys:
        raise KeptError(f"{queries} heads of queries share {keys} of keys")
    order = w.const(np.repeat(np.arange(keys), queries // keys))
    return Heads(heads.q, *(w.op("Gather", x, order, axis=1) for x in (heads.k, heads.v)))


def _length(w: Writer, position: int, axis: int) -> int:
    shape = w.shape(w.given(position))
    found = shape[axis] if shape is not None and len(shape) > axis else None
    if not isinstance(found, int) or found < 1:
        raise KeptError(f"axis {axis} of '{w.given(position)}' has no fixed length")
    return found


def _masks(w: Writer, heads: Heads) -> list[str]:
    """Return what is added to the scores: a float mask, and what hides keys."""
    infinity = float("-inf")
    mask, lengths = w.given(3), w.given(6)
    hides, added = list[str](), list[str]()
    if mask:
        mask, is_bool = _as_long_as_keys(w, mask), w.is_bool(mask)
        (hides if is_bool else added).append(mask)
    if lengths:
        hides.append(before(w, heads, lengths))
    if w.attr("is_causal", 0):
        offset = cached(w, w.given(4), 2)
        if lengths and not w.given(4):
            offset = w.op("Sub", per_batch(w, lengths), w.length(heads.q, 2))
        hides.append(causal(w, heads, offset))
    if hides:
        seen = hides[0]
        for other in hides[1:]:
            seen = w.op("And", seen, other)
        added.append(filled(w, seen, infinity))
    return added


def _as_long_as_keys(w: Writer, mask: str) -> str:
    """Return a mask with "never" for keys behind its end."""
    shape, keys = w.shape(mask), w.shape(w.given(1))
    if shape is None:
        raise KeptError(f"the rank of '{mask}' is not known")
    past = w.shape(w.given(4)) if w.given(4) else None
    known = [s[-2] if len(s) == 4 else s[1] for s in (keys, past) if s is not None and len(s) > 2]
    total = sum(n for n in known if isinstance(n, int)) if all(isinstance(n, int) for n in known) else None
    last = shape[-1] if shape else 1
    if not known or not isinstance(total, int) or not isinstance(last, int) or last in {1, total}:
        return mask
    value = np.array(False) if w.is_bool(mask) else np.array(-np.inf, np.float32)
    pads = [0] * (2 * len(shape) - 1) + [total - last]
    return w.op("Pad", mask, w.whole(*pads), w.const(value))
