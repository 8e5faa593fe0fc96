"""One node as several, each of a part: of the batch, of rows, columns or channels, of a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto

from openbpu.compiler.ops.mechanical import BATCH, COLUMNS, ROWS, TABLE
from openbpu.evaluation.fixing.draft import Draft, attribute, changed
from openbpu.evaluation.fixing.table import Example, codes, example, fix

_Cuts = dict[int, int]
"""Which inputs are cut, and along which axis."""


def _batches() -> Sequence[Example]:
    text = "(float[4100,2,3,3] x) => (float y)\nd = pair(x); {}; y = pair(c)"
    return (
        example(text.format("k = codes(w); c = Conv(d, k)"), w=codes(2, 2, 3, 3)),
        example(text.format("c = MaxPool<kernel_shape=[2,2]>(d)")),
    )


@fix(BATCH, "Conv ConvTranspose MaxPool AveragePool", examples=_batches)
def batch_in_pieces(draft: Draft, node: NodeProto) -> bool:
    """Conv of 4100 images → Split → 2 Convs of 2050 → Concat."""
    return _in_pieces(draft, node, {0: 0}, draft.march.limits["batch_max"], 0)


def _tall() -> Sequence[Example]:
    text = """(float[8200,4] x, float[4,3] u) => (float y)
        d = pair(x); e = pair(u); c = MatMul(d, e); y = pair(c)"""
    return (example(text),)


@fix(ROWS, "MatMul Gemm", examples=_tall)
def rows_in_pieces(draft: Draft, node: NodeProto) -> bool:
    """MatMul of 8200 rows → Split → 2 MatMuls of 4100 → Concat."""
    left, result = draft.shape(node.input[0]), draft.shape(node.output[0])
    if left is None or result is None or attribute(node, "transA", 0) or len(left) != len(result):
        return False
    cuts = {0: len(left) - 2} | _of_bias(draft, node, len(result) - 2, result)
    return _in_pieces(draft, node, cuts, draft.march.limits["matmul_m_max"], len(result) - 2)


def _broad() -> Sequence[Example]:
    text = """(float[3,4] x, float[4,8200] u) => (float y)
        d = pair(x); e = pair(u); c = MatMul(d, e); y = pair(c)"""
    return (example(text),)


@fix(COLUMNS, "MatMul Gemm", examples=_broad)
def columns_in_pieces(draft: Draft, node: NodeProto) -> bool:
    """MatMul of 8200 columns → Split → 2 MatMuls of 4100 → Concat."""
    right, result = draft.shape(node.input[1]), draft.shape(node.output[0])
    if right is None or result is None or len(right) < 2:
        return False
    axis = 0 if attribute(node, "transB", 0) else len(right) - 1
    cuts = {1: axis} | _of_bias(draft, node, len(result) - 1, result)
    return _in_pieces(draft, node, cuts, draft.march.limits["matmul_n_max"], len(result) - 1)


def _of_bias(draft: Draft, node: NodeProto, axis: int, result: Sequence[int]) -> _Cuts:
    """The cut of a Gemm's C, where it has that axis of the result."""
    shape = draft.shape(node.input[2]) if len(node.input) > 2 else None
    at = axis - len(result) + len(shape or ())
    return {2: at} if shape and at >= 0 and shape[at] == result[axis] else {}


def _in_pieces(draft: Draft, node: NodeProto, cuts: _Cuts, most: int, axis: int) -> bool:
    """Cut operands along an axis, compute each part, and concatenate along that of the result."""
    out = node.output[0]
    parts = _cut(draft, node, cuts, most)
    if parts is None or any(node.output[1:]):
        return False
    made, inputs = parts
    joined = list[str]()
    for n, given in enumerate(inputs):
        one = changed(node, given, draft.fresh(f"{out}_part"))
        one.name = draft.fresh(f"{node.name}_part") if n else node.name
        rounded, pair = draft.rounded(one.output[0], out)
        made, joined = [*made, one, *pair], [*joined, rounded]
    draft.replace(node, [*made, draft.op("Concat", joined, out, axis=axis)])
    return True


def _cut(
    draft: Draft, node: NodeProto, cuts: _Cuts, most: int
) -> tuple[list[NodeProto], list[list[str]]] | None:
    """The nodes that cut the operands, and the inputs of each part; None where there is nothing to cut."""
    first, axis = next(iter(cuts.items()))
    shape = draft.shape(node.input[first])
    count = 0 if shape is None else -(-shape[axis] // most)
    if shape is None or count < 2 or draft.opset < 13:
        return None
    sizes = [len(part) for part in np.array_split(np.arange(shape[axis]), count)]
    split = draft.add(np.array(sizes, np.int64), f"{node.output[0]}_sizes")
    made, inputs = list[NodeProto](), [list(node.input) for _ in sizes]
    for index, along in cuts.items():
        names = [draft.fresh(f"{node.input[index]}_part") for _ in sizes]
        one = draft.op("Split", [node.input[index], split], names[0], axis=along)
        one.output.extend(names[1:])
        made.append(one)
        for given, name in zip(inputs, names, strict=True):
            given[index] = name
    return made, inputs


def _table() -> Sequence[Example]:
    text = "(float[1,40000] x) => (float y)\nd = pair(x); c = Gather<axis=1>(d, i); y = pair(c)"
    return (example(text, i=np.array([39999, 3, 32768, 0, 35000])),)


@fix(TABLE, "Gather", examples=_table)
def table_in_pieces(draft: Draft, node: NodeProto) -> bool:
    """Gather of 40000 → Slices of 20000 → Gathers → Concat → Gather in the order that was."""
    shape, index = draft.shape(node.input[0]), draft.const(node.input[1])
    if shape is None or index is None or index.ndim != 1 or not index.size:
        return False
    out, axis = node.output[0], attribute(node, "axis", 0) % len(shape)
    most = draft.march.limits["gather_index_max"]
    wanted = np.where(index < 0, index + shape[axis], index)
    made, parts, order = list[NodeProto](), list[str](), list[int]()
    for first in range(0, shape[axis], most):
        at = np.flatnonzero((wanted >= first) & (wanted < first + most))
        if not at.size:
            continue
        bounds = [draft.add(np.array([v], np.int64), f"{out}_part") for v in (first, first + most, axis)]
        cut = draft.op("Slice", [node.input[0], *bounds], stem=out)
        rows = draft.add((wanted[at] - first).astype(np.int64), f"{out}_index")
        take = draft.op("Gather", [cut.output[0], rows], stem=out, axis=axis)
        made, parts, order = [*made, cut, take], [*parts, str(take.output[0])], [*order, *at.tolist()]
    whole = draft.op("Concat", parts, stem=out, axis=axis)
    back = draft.add(np.argsort(order).astype(np.int64), f"{out}_order")
    last = changed(node, [whole.output[0], back], out)
    draft.replace(node, [*made, whole, last])
    return True
