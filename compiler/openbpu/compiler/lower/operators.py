"""BPU nodes → operators of the program: geometry collapsed to what an engine sees, names to tensor ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from openbpu.arch import program as p
from openbpu.arch.dtypes import DType
from openbpu.compiler.ir import Node
from openbpu.compiler.ir.geometry import Ints, broadcast_strides, collapse, dense_strides, product
from openbpu.compiler.lower.tensors import TensorTable

_NO_CONSTANTS: Mapping[str, str] = {}


class OperatorBuilder:
    """Turns the BPU nodes of one segment into operators, in order."""

    def __init__(self, table: TensorTable) -> None:
        self.table = table
        self.operators: list[p.Operator] = []
        self._entry = -1

    def add(self, node: Node, entry: int) -> None:
        """Append what `node` becomes; `entry` is its line in the debug map. A Reshape becomes a view."""
        self._entry = entry
        _LOWER[node.op](self, node)

    def shape(self, name: str) -> Ints:
        """Return the static shape of a value."""
        return self.table.graph.values[name].shape or ()

    def push(
        self,
        kind: type[p.Operator],
        inputs: Sequence[str],
        outputs: Sequence[str],
        constants: Mapping[str, str] = _NO_CONSTANTS,
        **fields: Any,
    ) -> None:
        """Append an operator; `constants` maps its `…_id` fields to values ("" is an absent one)."""
        ids = self._ids(inputs), self._ids(outputs)
        constant_ids = {key: self.table.id_of(n) if n else -1 for key, n in constants.items()}
        self.operators.append(kind(inputs=ids[0], outputs=ids[1], node=self._entry, **constant_ids, **fields))

    def push_move(self, source: str, target: str, shape: Ints, strides: Ints, offset: int = 0) -> None:
        """Append a Move; `shape` and `strides` walk `source` from `offset`, in elements."""
        collapsed, (packed,) = collapse(shape, (strides,))
        self.push(p.Move, (source,), (target,), shape=collapsed, strides=packed, offset=offset)

    def _ids(self, names: Sequence[str]) -> Ints:
        return tuple(self.table.id_of(n) for n in names)


def _conv(b: OperatorBuilder, node: Node) -> None:
    x, residual, weight, params, rmult, table = node.inputs
    b.push(
        p.Conv,
        (x, residual) if residual else (x,),
        node.outputs,
        {"weight_id": weight, "params_id": params, "rmult_id": rmult, "table_id": table},
        x_shape=b.shape(x),
        y_shape=b.shape(node.outputs[0]),
        **node.attrs,
    )


def _matmul(b: OperatorBuilder, node: Node) -> None:
    left, right, table = node.inputs
    (a_batch, m, k), (b_batch, *sides) = b.shape(left), b.shape(right)
    n = sides[0] if node.attrs["b_transposed"] else sides[1]
    geometry = {"a_batch": a_batch, "b_batch": b_batch, "m": m, "k": k, "n": n}
    b.push(p.MatMul, (left, right), node.outputs, {"table_id": table}, **geometry, **node.attrs)


def _binary(b: OperatorBuilder, node: Node) -> None:
    left, right, table = node.inputs
    shape = b.shape(node.outputs[0])
    operands = tuple(broadcast_strides(b.shape(n), shape) for n in (left, right))
    collapsed, (a_strides, b_strides) = collapse(shape, operands)
    geometry = {"shape": collapsed, "a_strides": a_strides, "b_strides": b_strides}
    b.push(p.Binary, (left, right), node.outputs, {"table_id": table}, **geometry, **node.attrs)


def _lut(b: OperatorBuilder, node: Node) -> None:
    b.push(p.Lut, node.inputs[:1], node.outputs, {"table_id": node.inputs[1]})


def _segment_lut(b: OperatorBuilder, node: Node) -> None:
    b.push(p.SegmentLut, node.inputs[:1], node.outputs, {"segments_id": node.inputs[1]}, **node.attrs)


def _pool(b: OperatorBuilder, node: Node) -> None:
    x, counts = node.inputs
    shapes = {"x_shape": b.shape(x), "y_shape": b.shape(node.outputs[0])}
    b.push(p.Pool, (x,), node.outputs, {"counts_id": counts}, **shapes, **node.attrs)


def _reduce(b: OperatorBuilder, node: Node) -> None:
    """Axes [A, R, B]; reduced axes with others between them are first moved to the end."""
    attrs = dict(node.attrs)
    shape, axes = b.shape(node.inputs[0]), attrs.pop("axes")
    long = [a for a in axes if shape[a] != 1] or list(axes[:1])
    kept = [a for a in range(len(shape)) if a not in long]
    reduced = product([shape[a] for a in long])
    geometry = (product(shape[: long[0]]), reduced, product(shape[long[-1] + 1 :]))
    if not any(a not in long and shape[a] != 1 for a in range(long[0], long[-1] + 1)):
        b.push(p.Reduce, node.inputs, node.outputs, shape=geometry, **attrs)
        return
    moved = _to_end(b, node, kept, long)
    b.push(p.Reduce, (moved,), node.outputs, shape=(product([shape[a] for a in kept]), reduced, 1), **attrs)


def _to_end(b: OperatorBuilder, node: Node, kept: Sequence[int], last: Sequence[int]) -> str:
    """Append a transpose of input 0 into a temporary tensor that ends in the axes `last`; returns it."""
    source = node.inputs[0]
    shape, perm = b.shape(source), (*kept, *last)
    moved, strides = tuple(shape[i] for i in perm), dense_strides(shape)
    dtype = DType(b.table.graph.values[source].dtype)
    target = b.table.add_temporary(f"{node.outputs[0]}/moved", moved, dtype)
    b.push_move(source, target, moved, tuple(strides[i] for i in perm))
    return target


def _softmax(b: OperatorBuilder, node: Node) -> None:
    x, exp = node.inputs
    shape = b.shape(x)
    rows = (product(shape[:-1]), shape[-1])
    b.push(p.Softmax, (x,), node.outputs, {"exp_id": exp}, shape=rows, **node.attrs)


def _layernorm(b: OperatorBuilder, node: Node) -> None:
    x, gain, bias = node.inputs
    attrs = dict(node.attrs)
    length = attrs.pop("length")
    rows = (product(b.shape(x)) // length, length)
    b.push(p.LayerNorm, (x,), node.outputs, {"gain_id": gain, "bias_id": bias}, shape=rows, **attrs)


def _reshape(b: OperatorBuilder, node: Node) -> None:
    b.table.make_view(node.outputs[0], node.inputs[0])


def _move(b: OperatorBuilder, node: Node, strides: Ints, offset: int = 0) -> None:
    b.push_move(node.inputs[0], node.outputs[0], b.shape(node.outputs[0]), strides, offset)


def _transpose(b: OperatorBuilder, node: Node) -> None:
    strides = dense_strides(b.shape(node.inputs[0]))
    _move(b, node, tuple(strides[i] for i in node.attrs["perm"]))


def _slice(b: OperatorBuilder, node: Node) -> None:
    strides, starts, steps = dense_strides(b.shape(node.inputs[0])), node.attrs["starts"], node.attrs["steps"]
    offset = sum(s * start for s, start in zip(strides, starts, strict=True))
    _move(b, node, tuple(s * step for s, step in zip(strides, steps, strict=True)), offset)


def _expand(b: OperatorBuilder, node: Node) -> None:
    _move(b, node, broadcast_strides(b.shape(node.inputs[0]), b.shape(node.outputs[0])))


def _concat(b: OperatorBuilder, node: Node) -> None:
    attrs = dict(node.attrs)
    axis = attrs.pop("axis")
    shapes = [b.shape(n) for n in node.inputs]
    sizes = tuple(product(s[axis:]) for s in shapes)
    b.push(p.Concat, node.inputs, node.outputs, outer=product(shapes[0][:axis]), sizes=sizes, **attrs)


def _pad(b: OperatorBuilder, node: Node) -> None:
    b.push(p.Pad, node.inputs, node.outputs, shape=b.shape(node.inputs[0]), **node.attrs)


def _gather(b: OperatorBuilder, node: Node) -> None:
    x, indices = node.inputs
    shape = _around(b.shape(x), node.attrs["axis"])
    b.push(p.Gather, (x,), node.outputs, {"indices_id": indices}, shape=shape)


def _resize(b: OperatorBuilder, node: Node) -> None:
    x, rows, cols = node.inputs
    shapes = {"x_shape": b.shape(x), "y_shape": b.shape(node.outputs[0])}
    b.push(p.Resize, (x,), node.outputs, {"rows_id": rows, "cols_id": cols}, **shapes, **node.attrs)


def _dequantize(b: OperatorBuilder, node: Node) -> None:
    x, scales = node.inputs
    per_tensor = b.shape(scales)[0] == 1
    shape = (1, 1, product(b.shape(x))) if per_tensor else _around(b.shape(x), node.attrs["axis"])
    zero = node.attrs["x_zero"]
    b.push(p.Dequantize, (x,), node.outputs, {"scales_id": scales}, shape=shape, x_zero=zero)


def _around(shape: Ints, axis: int) -> Ints:
    """[A, R, B]: what is in front of an axis, the axis, and what is behind it."""
    return product(shape[:axis]), shape[axis], product(shape[axis + 1 :])


def _as_it_is(kind: type[p.Operator]) -> Callable[[OperatorBuilder, Node], None]:
    """A kind whose fields are the node's attributes."""

    def lower(b: OperatorBuilder, node: Node) -> None:
        b.push(kind, node.inputs, node.outputs, **node.attrs)

    return lower


_LOWER: dict[str, Callable[[OperatorBuilder, Node], None]] = {
    "Conv": _conv,
    "MatMul": _matmul,
    "Binary": _binary,
    "Lut": _lut,
    "SegmentLut": _segment_lut,
    "Rescale": _as_it_is(p.Rescale),
    "Pool": _pool,
    "Reduce": _reduce,
    "Softmax": _softmax,
    "LayerNorm": _layernorm,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Slice": _slice,
    "Expand": _expand,
    "Concat": _concat,
    "Pad": _pad,
    "Gather": _gather,
    "Resize": _resize,
    "Quantize": _as_it_is(p.Quantize),
    "Dequantize": _dequantize,
}
