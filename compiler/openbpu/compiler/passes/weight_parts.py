"""Weights too wide for the march's matrix become sums of int8 weights that read their channels again.

Conv(x: int16, w − z)      becomes      Conv(Gather(x, [0, 1, …, 1, …]), [a | b])      with w − z = a + b

Exact, and only the channels that need it are there twice. It is what the correction of a zero point by the
sum of the inputs is, without a sum that leaves 16 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from openbpu.arch.arrays import Int64
from openbpu.arch.dtypes import DType
from openbpu.arch.march import March
from openbpu.compiler.ir import Graph, Node, Rewriter
from openbpu.compiler.ir.qdq import DEQUANTIZE
from openbpu.compiler.ops import Site
from openbpu.compiler.ops.site import Leaf

_PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})


def split_wide_weights(graph: Graph, march: March) -> Graph:
    """Return the graph with int8 weights, where the march has no others for an input."""
    site = Site(graph, Rewriter(graph), march, graph.producers(), Node("", (), ()), None, "")
    found = {id(n): parts for n in graph.nodes if (parts := _operands(site, n)) is not None}
    if not found:
        return graph
    rw = Rewriter(graph)
    for node in graph.nodes:
        operands = found.get(id(node))
        rw.nodes.append(node if operands is None else _split(rw, node, *operands))
    return rw.finish()


def _operands(site: Site, node: Node) -> tuple[Leaf, Leaf] | None:
    """Input and weight of a product of which the march does not have the pair, but that with int8 weights."""
    if node.domain or node.op not in _PRODUCTS or node.attrs.get("transA", 0):
        return None
    x, w = (site.leaf_or_none(name) for name in node.inputs[:2])
    if x is None or w is None or w.const is None or x.const is not None or not x.scaling.per_tensor:
        return None
    if w.const.ndim < 2 or (node.op != "Conv" and w.const.ndim != 2) or len(x.shape) < 2:
        return None
    pairs = site.march.conv_pairs
    kind = DType(x.dtype)
    if (kind, DType.INT16) in pairs or (kind, DType.INT8) not in pairs or w.dtype != "int8":
        return None
    plain = _plain(w)
    return (x, w) if plain.min() < -128 or plain.max() > 127 else None


def _plain(w: Leaf) -> Int64:
    """Codes without their zero points."""
    if w.const is None:
        raise ValueError(f"'{w.codes}' is not a constant")
    shape = [1] * w.const.ndim
    if not w.scaling.per_tensor:
        shape[w.scaling.axis] = -1
    codes: Int64 = w.const.astype(np.int64) - w.scaling.zero.reshape(shape)
    return codes


def _split(rw: Rewriter, node: Node, x: Leaf, w: Leaf) -> Node:
    axis = 1 if node.op == "Conv" or node.attrs.get("transB", 0) else 0
    parts = _parts(_plain(w))
    others = tuple(a for a in range(parts[0].ndim) if a != axis)
    again = [np.flatnonzero(part.any(axis=others)) for part in parts[1:]]
    codes = [parts[0], *(np.take(p, i, axis) for p, i in zip(parts[1:], again, strict=True))]
    groups = int(node.attrs.get("group", 1)) if node.op == "Conv" else 1
    index = _index(parts[0].shape[axis], groups, again)
    image = _gathered(rw, x, index, 1 if node.op == "Conv" else len(x.shape) - 1)
    return replace(node, inputs=(image, _weight(rw, w, codes, axis), *node.inputs[2:]))


def _parts(codes: Int64) -> list[Int64]:
    """Codes of int8 whose sum is `codes`."""
    parts = []
    while codes.any():
        parts.append(np.clip(codes, -128, 127))
        codes = codes - parts[-1]
    return parts


def _index(size: int, groups: int, again: Sequence[Int64]) -> Int64:
    """The channels that every group reads: its own, then those that it reads again."""
    own = np.concatenate([np.arange(size), *again])
    return (own + size * np.arange(groups)[:, None]).reshape(-1)


def _gathered(rw: Rewriter, x: Leaf, index: Int64, axis: int) -> str:
    shape = tuple(index.size if a == axis else n for a, n in enumerate(x.shape))
    codes = rw.value(f"{x.codes}/again", shape, x.dtype)
    rw.add("Gather", (x.codes, rw.constant(f"{codes}/index", index)), (codes,), axis=axis)
    return _dequantized(rw, codes, x, shape, -1)


def _weight(rw: Rewriter, w: Leaf, codes: Sequence[Int64], axis: int) -> str:
    whole = np.concatenate(codes, axis).astype(np.int8)
    return _dequantized(
        rw, rw.constant(f"{w.codes}/parts", whole), w, whole.shape, w.scaling.axis, zero=False
    )


def _dequantized(
    rw: Rewriter, codes: str, leaf: Leaf, shape: Sequence[int], axis: int, *, zero: bool = True
) -> str:
    """Dequantize codes as `leaf` is, without its zero point where that is in the codes."""
    scale = leaf.scaling
    data = scale.scale if not scale.per_tensor else scale.scale.reshape(())
    zeros = (scale.zero * zero).astype(leaf.dtype).reshape(data.shape)
    out = rw.value(f"{codes}/f", shape, "float32")
    terms = (rw.constant(f"{codes}/scale", data), rw.constant(f"{codes}/zero", zeros))
    rw.add(DEQUANTIZE, (codes, *terms), (out,), leaf.origins, axis=max(axis, 0))
    return out
