"""BPU nodes → operators of the program: geometry collapsed to what an engine sees, names turned into tensor ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from openbpu.arch import program as p
from openbpu.arch.dtypes import DType
from openbpu.compiler.ir import Node
from openbpu.compiler.lower.tensors import TensorTable

Ints = tuple[int, ...]


class OperatorBuilder:
    """Turns the BPU nodes of one segment into operators, in order."""

    def __init__(self, table: TensorTable) -> None:
        self.table = table
        self.operators: list[p.Operator] = []

    def add(self, node: Node, entry: int) -> None:
        """Append what `node` becomes; `entry` is its line in the debug map. A Reshape becomes a view, no operator."""
        _LOWER[node.op](self, node, entry)

    # --- helpers ---------------------------------------------------------------------------------------------

    def ids(self, *names: str) -> Ints:
        return tuple(self.table.id_of(n) for n in names)

    def optional(self, name: str) -> int:
        return self.table.id_of(name) if name else -1

    def shape(self, name: str) -> Ints:
        return self.table.graph.values[name].shape or ()

    def push(self, operator: p.Operator) -> None:
        self.operators.append(operator)

    # --- one method per kind -----------------------------------------------------------------------------------

    def conv(self, node: Node, entry: int) -> None:
        x, residual, weight, params, rmult, table = node.inputs
        self.push(
            p.Conv(
                inputs=self.ids(x, residual) if residual else self.ids(x),
                outputs=self.ids(*node.outputs),
                node=entry,
                weight_id=self.table.id_of(weight),
                params_id=self.table.id_of(params),
                rmult_id=self.optional(rmult),
                table_id=self.optional(table),
                x_shape=self.shape(x),
                y_shape=self.shape(node.outputs[0]),
                **node.attrs,
            )
        )

    def matmul(self, node: Node, entry: int) -> None:
        a, b, table = node.inputs
        (a_batch, m, k), b_shape = self.shape(a), self.shape(b)
        n = b_shape[1] if node.attrs["b_transposed"] else b_shape[2]
        self.push(
            p.MatMul(
                inputs=self.ids(a, b),
                outputs=self.ids(*node.outputs),
                node=entry,
                table_id=self.optional(table),
                a_batch=a_batch,
                b_batch=b_shape[0],
                m=m,
                k=k,
                n=n,
                **node.attrs,
            )
        )

    def binary(self, node: Node, entry: int) -> None:
        a, b, table = node.inputs
        shape = self.shape(node.outputs[0])
        collapsed, (sa, sb) = collapse(
            shape, (broadcast_strides(self.shape(a), shape), broadcast_strides(self.shape(b), shape))
        )
        self.push(
            p.Binary(
                inputs=self.ids(a, b),
                outputs=self.ids(*node.outputs),
                node=entry,
                table_id=self.optional(table),
                shape=collapsed,
                a_strides=sa,
                b_strides=sb,
                **node.attrs,
            )
        )

    def lut(self, node: Node, entry: int) -> None:
        x, table = node.inputs
        self.push(
            p.Lut(
                inputs=self.ids(x),
                outputs=self.ids(*node.outputs),
                node=entry,
                table_id=self.table.id_of(table),
            )
        )

    def segment_lut(self, node: Node, entry: int) -> None:
        x, segments = node.inputs
        self.push(
            p.SegmentLut(
                inputs=self.ids(x),
                outputs=self.ids(*node.outputs),
                node=entry,
                segments_id=self.table.id_of(segments),
                **node.attrs,
            )
        )

    def rescale(self, node: Node, entry: int) -> None:
        self.push(
            p.Rescale(
                inputs=self.ids(*node.inputs), outputs=self.ids(*node.outputs), node=entry, **node.attrs
            )
        )

    def pool(self, node: Node, entry: int) -> None:
        x, counts = node.inputs
        self.push(
            p.Pool(
                inputs=self.ids(x),
                outputs=self.ids(*node.outputs),
                node=entry,
                counts_id=self.table.id_of(counts),
                x_shape=self.shape(x),
                y_shape=self.shape(node.outputs[0]),
                **node.attrs,
            )
        )

    def reduce(self, node: Node, entry: int) -> None:
        attrs = dict(node.attrs)
        shape, axes = self.shape(node.inputs[0]), attrs.pop("axes")
        long = [a for a in axes if shape[a] != 1] or list(axes[:1])
        source = self.ids(*node.inputs)
        kept = [a for a in range(len(shape)) if a not in long]
        between = [a for a in range(long[0], long[-1] + 1) if a not in long and shape[a] != 1]
        if between:
            perm = (*kept, *long)
            source = (self._moved(node, shape, perm, entry),)
            geometry = (_prod(shape[a] for a in kept), _prod(shape[a] for a in long), 1)
        else:
            geometry = (_prod(shape[: long[0]]), _prod(shape[a] for a in long), _prod(shape[long[-1] + 1 :]))
        self.push(
            p.Reduce(inputs=source, outputs=self.ids(*node.outputs), node=entry, shape=geometry, **attrs)
        )

    def _moved(self, node: Node, shape: Ints, perm: Sequence[int], entry: int) -> int:
        """Emit a transpose into a temporary tensor; returns its id."""
        moved = tuple(shape[i] for i in perm)
        strides = dense_strides(shape)
        dtype = DType(self.table.graph.values[node.inputs[0]].dtype)
        target = self.table.add_temporary(f"{node.outputs[0]}/moved", moved, dtype)
        self._move(self.table.id_of(node.inputs[0]), target, moved, tuple(strides[i] for i in perm), 0, entry)
        return target

    def _move(self, source: int, target: int, shape: Ints, strides: Ints, offset: int, entry: int) -> None:
        collapsed, (packed,) = collapse(shape, (strides,))
        self.push(
            p.Move(
                inputs=(source,),
                outputs=(target,),
                node=entry,
                shape=collapsed,
                strides=packed,
                offset=offset,
            )
        )

    def softmax(self, node: Node, entry: int) -> None:
        x, exp = node.inputs
        shape = self.shape(x)
        self.push(
            p.Softmax(
                inputs=self.ids(x),
                outputs=self.ids(*node.outputs),
                node=entry,
                exp_id=self.table.id_of(exp),
                shape=(_prod(shape[:-1]), shape[-1]),
                **node.attrs,
            )
        )

    def layernorm(self, node: Node, entry: int) -> None:
        x, gain, bias = node.inputs
        attrs = dict(node.attrs)
        length = attrs.pop("length")
        self.push(
            p.LayerNorm(
                inputs=self.ids(x),
                outputs=self.ids(*node.outputs),
                node=entry,
                gain_id=self.table.id_of(gain),
                bias_id=self.table.id_of(bias),
                shape=(_prod(self.shape(x)) // length, length),
                **attrs,
            )
        )

    def reshape(self, node: Node, entry: int) -> None:
        self.table.make_view(node.outputs[0], node.inputs[0])

    def transpose(self, node: Node, entry: int) -> None:
        shape, perm = self.shape(node.inputs[0]), node.attrs["perm"]
        strides = dense_strides(shape)
        self._to_output(node, tuple(strides[i] for i in perm), 0, entry)

    def _to_output(self, node: Node, strides: Ints, offset: int, entry: int) -> None:
        (source,), (target,) = self.ids(node.inputs[0]), self.ids(*node.outputs)
        self._move(source, target, self.shape(node.outputs[0]), strides, offset, entry)

    def sliced(self, node: Node, entry: int) -> None:
        strides = dense_strides(self.shape(node.inputs[0]))
        offset = sum(s * start for s, start in zip(strides, node.attrs["starts"], strict=True))
        self._to_output(
            node, tuple(s * t for s, t in zip(strides, node.attrs["steps"], strict=True)), offset, entry
        )

    def expand(self, node: Node, entry: int) -> None:
        strides = broadcast_strides(self.shape(node.inputs[0]), self.shape(node.outputs[0]))
        self._to_output(node, strides, 0, entry)

    def concat(self, node: Node, entry: int) -> None:
        attrs = dict(node.attrs)
        axis = attrs.pop("axis")
        shapes = [self.shape(n) for n in node.inputs]
        self.push(
            p.Concat(
                inputs=self.ids(*node.inputs),
                outputs=self.ids(*node.outputs),
                node=entry,
                outer=_prod(shapes[0][:axis]),
                sizes=tuple(_prod(s[axis:]) for s in shapes),
                **attrs,
            )
        )

    def pad(self, node: Node, entry: int) -> None:
        self.push(
            p.Pad(
                inputs=self.ids(*node.inputs),
                outputs=self.ids(*node.outputs),
                node=entry,
                shape=self.shape(node.inputs[0]),
                **node.attrs,
            )
        )

    def gather(self, node: Node, entry: int) -> None:
        x, indices = node.inputs
        shape, axis = self.shape(x), node.attrs["axis"]
        self.push(
            p.Gather(
                inputs=self.ids(x),
                outputs=self.ids(*node.outputs),
                node=entry,
                indices_id=self.table.id_of(indices),
                shape=(_prod(shape[:axis]), shape[axis], _prod(shape[axis + 1 :])),
            )
        )

    def resize(self, node: Node, entry: int) -> None:
        x, rows, cols = node.inputs
        self.push(
            p.Resize(
                inputs=self.ids(x),
                outputs=self.ids(*node.outputs),
                node=entry,
                rows_id=self.table.id_of(rows),
                cols_id=self.table.id_of(cols),
                x_shape=self.shape(x),
                y_shape=self.shape(node.outputs[0]),
                **node.attrs,
            )
        )

    def quantize(self, node: Node, entry: int) -> None:
        self.push(
            p.Quantize(
                inputs=self.ids(*node.inputs), outputs=self.ids(*node.outputs), node=entry, **node.attrs
            )
        )

    def dequantize(self, node: Node, entry: int) -> None:
        x, scales = node.inputs
        shape, axis = self.shape(x), node.attrs["axis"]
        count = self.table.graph.values[scales].size
        geometry = (1, 1, _prod(shape))
        if count > 1:
            geometry = (_prod(shape[:axis]), shape[axis], _prod(shape[axis + 1 :]))
        self.push(
            p.Dequantize(
                inputs=self.ids(x),
                outputs=self.ids(*node.outputs),
                node=entry,
                scales_id=self.table.id_of(scales),
                shape=geometry,
                x_zero=node.attrs["x_zero"],
            )
        )


def _prod(values: Any) -> int:
    return int(np.prod(tuple(values), dtype=np.int64))


def dense_strides(shape: Sequence[int]) -> Ints:
    """Element strides of a dense row-major tensor."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def broadcast_strides(shape: Sequence[int], target: Sequence[int]) -> Ints:
    """Element strides that read a tensor of `shape` as one of `target` (NumPy broadcasting)."""
    full = (1,) * (len(target) - len(shape)) + tuple(shape)
    return tuple(
        0 if f == 1 and t != 1 else s for f, t, s in zip(full, target, dense_strides(full), strict=True)
    )


def collapse(shape: Sequence[int], operands: Sequence[Ints]) -> tuple[Ints, tuple[Ints, ...]]:
    """Merge neighbouring axes that every operand walks as one; axes of length 1 go. Returns shape and strides."""
    dims: list[int] = []
    strides: list[list[int]] = [[] for _ in operands]
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        if dims and all(s[-1] == o[axis] * size for s, o in zip(strides, operands, strict=True)):
            dims[-1] *= size
            for s, o in zip(strides, operands, strict=True):
                s[-1] = o[axis]
            continue
        dims.append(size)
        for s, o in zip(strides, operands, strict=True):
            s.append(o[axis])
    if not dims:
        return (1,), tuple((1,) for _ in operands)
    return tuple(dims), tuple(tuple(s) for s in strides)


_LOWER: dict[str, Callable[[OperatorBuilder, Node, int], None]] = {
    "Conv": OperatorBuilder.conv,
    "MatMul": OperatorBuilder.matmul,
    "Binary": OperatorBuilder.binary,
    "Lut": OperatorBuilder.lut,
    "SegmentLut": OperatorBuilder.segment_lut,
    "Rescale": OperatorBuilder.rescale,
    "Pool": OperatorBuilder.pool,
    "Reduce": OperatorBuilder.reduce,
    "Softmax": OperatorBuilder.softmax,
    "LayerNorm": OperatorBuilder.layernorm,
    "Reshape": OperatorBuilder.reshape,
    "Transpose": OperatorBuilder.transpose,
    "Slice": OperatorBuilder.sliced,
    "Expand": OperatorBuilder.expand,
    "Concat": OperatorBuilder.concat,
    "Pad": OperatorBuilder.pad,
    "Gather": OperatorBuilder.gather,
    "Resize": OperatorBuilder.resize,
    "Quantize": OperatorBuilder.quantize,
    "Dequantize": OperatorBuilder.dequantize,
}
