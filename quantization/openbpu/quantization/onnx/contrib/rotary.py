"""RotaryEmbedding, of ONNX and of ONNX Runtime, written out: halves of every head turned by an angle."""

from __future__ import annotations

import numpy as np

from openbpu.quantization.onnx.contrib.writer import KeptError, Writer


def rotary(w: Writer) -> list[str]:
    """X, cosines, sines, positions → X turned"""
    return _rotary(w, w.given(1), w.given(2), w.given(3))


def rotary_of_runtime(w: Writer) -> list[str]:
    """X, positions, cosines, sines → X turned"""
    if w.attr("scale", 1.0) != 1.0 or w.attr("is_packed_batching", 0):
        raise KeptError("it scales, or packs a batch")
    positions = w.value(w.given(1))
    if positions is not None and positions.size == 1:
        raise KeptError("its positions are an offset")
    return _rotary(w, w.given(2), w.given(3), w.given(1))


def _rotary(w: Writer, cosines: str, sines: str, positions: str) -> list[str]:
    w.need(0, 1, 2)
    x, flat = w.given(0), w.rank(w.given(0)) == 3
    shape = w.shape(x) or ()
    if not all(isinstance(n, int) for n in shape):
        raise KeptError(f"the shape of '{x}' is not fixed")
    sizes = [int(n) for n in shape if isinstance(n, int)]
    heads = w.attr("num_heads", 0) if flat else sizes[1]
    if not heads or (flat and sizes[2] % heads):
        raise KeptError("the number of its heads is not known")
    if flat:
        split = w.op("Reshape", x, w.whole(*sizes[:2], heads, sizes[2] // heads))
        x = w.op("Transpose", split, perm=[0, 2, 1, 3])
    depth = sizes[2] // heads if flat else sizes[3]
    turned = w.attr("rotary_embedding_dim", 0) or depth
    angles = [_of_positions(w, name, positions) for name in (cosines, sines)]
    y = _turned(w, w.cut(x, (0, turned), 3) if turned < depth else x, turned, *angles)
    if turned < depth:
        y = w.op("Concat", y, w.cut(x, (turned, depth), 3), axis=3)
    if flat:
        y = w.op("Reshape", w.op("Transpose", y, perm=[0, 2, 1, 3]), w.whole(*sizes))
    return [y]


def _of_positions(w: Writer, cache: str, positions: str) -> str:
    """[B, 1, S, D/2] of a cache of [B, S, D/2], or of [positions, D/2]."""
    array, place = w.value(cache), w.value(positions) if positions else None
    if array is not None and (not positions or place is not None):
        picked = array if place is None else array[place]
        return w.const(np.ascontiguousarray(picked[:, None]))
    return w.unsqueeze(w.op("Gather", cache, positions, axis=0) if positions else cache, 1)


def _turned(w: Writer, x: str, depth: int, cosine: str, sine: str) -> str:
    if w.attr("interleaved", 0):
        ends = (w.whole(depth), w.whole(3), w.whole(2))
        first, second = (w.op("Slice", x, w.whole(start), *ends) for start in (0, 1))
    else:
        first, second = w.cut(x, (0, depth // 2), 3), w.cut(x, (depth // 2, depth), 3)
    real = w.op("Sub", w.op("Mul", first, cosine), w.op("Mul", second, sine))
    imaginary = w.op("Add", w.op("Mul", first, sine), w.op("Mul", second, cosine))
    if not w.attr("interleaved", 0):
        return w.op("Concat", real, imaginary, axis=3)
    pairs = w.op("Concat", w.unsqueeze(real, 4), w.unsqueeze(imaginary, 4), axis=4)
    return w.op("Reshape", pairs, w.whole(0, 0, 0, depth))


def sum_norm(w: Writer) -> list[str] | None:
    """LpNormalization with p = 1: x / Σ|x|; a row of zeros stays zeros."""
    if w.attr("p", 2) != 1:
        return None
    x, axis = w.given(0), int(w.attr("axis", -1))
    size = w.op("ReduceSum", w.op("Abs", x), w.whole(axis), keepdims=1)
    return [w.op("Div", x, w.op("Max", size, w.number(1e-12)))]
