"""What a tensor computes, as a formula of one tensor in front of it: a row per ONNX operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from onnx import NodeProto, TensorProto

from openbpu.quantization.onnx.net import Net, Shape
from openbpu.quantization.onnx.nodes import attribute
from openbpu.quantization.onnx.patterns import algebra
from openbpu.quantization.onnx.patterns.algebra import Axes, Formula

MOST_NODES = 48
"""A formula that takes more nodes than this is none of those that are looked for."""

_REAL = {TensorProto.FLOAT, TensorProto.DOUBLE}
_FLOATS = (np.float32, np.float64)


@dataclass(frozen=True, slots=True)
class View:
    """A formula of a tensor x, and the axes of x that the tensor it describes no longer has.

    `joined`: from which axis on those of x are one axis of it, if not 0.
    """

    formula: Formula
    dropped: Axes = ()
    joined: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether it has the axes of x."""
        return not self.dropped and not self.joined


class Reader:
    """Reads tensors of `net` as formulas of the tensor `x`; `nodes` are the indices of the nodes it met."""

    def __init__(self, net: Net, x: str, producers: Mapping[str, int]) -> None:
        self.net, self.x, self.producers = net, x, producers
        self.shape: Shape = net.shapes[x]
        self.nodes: set[int] = set()
        self._known: dict[str, View | None] = {x: View({algebra.X: np.asarray(1.0)})}

    def view(self, tensor: str) -> View | None:
        """Return what `tensor` is of x; None where it is something else."""
        if tensor not in self._known:
            self._known[tensor] = None
            self._known[tensor] = self._read(tensor)
        return self._known[tensor]

    def _read(self, tensor: str) -> View | None:
        if tensor in self.net.consts:
            array = self.net.consts[tensor]
            fits = array.dtype in _FLOATS and (array.size == 1 or array.ndim <= len(self.shape))
            return View(algebra.number(array)) if fits and np.isfinite(array).all() else None
        index = self.producers.get(tensor)
        if index is None or len(self.nodes) >= MOST_NODES:
            return None
        node = self.net.nodes[index]
        read = READ.get(node.op_type) if node.domain in {"", "ai.onnx"} else None
        if read is None or node.output[0] != tensor:
            return None
        self.nodes.add(index)
        return read(self, node)

    def number(self, name: str) -> float | None:
        """Return a constant of one element."""
        array = self.net.consts.get(name)
        return float(array.reshape(())) if array is not None and array.size == 1 else None

    def axes(self, node: NodeProto, joined: int = 0) -> Axes | None:
        """Return the axes of x that a reduction works on, from attribute or input; None if computed."""
        given = attribute(node, "axes", None)
        if given is None and len(node.input) > 1 and node.input[1]:
            array = self.net.consts.get(node.input[1])
            if array is None:
                return None
            given = array.reshape(-1).tolist()
        rank = joined + 1 if joined else len(self.shape)
        if not rank or (not given and attribute(node, "noop_with_empty_axes", 0)):
            return None
        named = {int(axis) % rank for axis in given or range(rank)}
        behind = range(joined, len(self.shape)) if joined and joined in named else ()
        return tuple(sorted({*named, *behind}))

    def count(self, axes: Axes) -> Formula:
        """Return how many elements lie along `axes`, some of which may be free."""
        free = tuple(axis for axis in axes if not isinstance(self.shape[axis], int))
        known = math.prod(size for axis in axes if isinstance(size := self.shape[axis], int))
        return {
            algebra.power_of("size", algebra.ONE, free) if free else algebra.ONE: np.asarray(float(known))
        }


Read = Callable[[Reader, NodeProto], View | None]
_Binary = Callable[[Formula, Formula], Formula | None]
_Unary = Callable[[Formula], Formula | None]


def _made(formula: Formula | None, like: View | None = None) -> View | None:
    """Return the view of a formula that has the axes of another one, or those of x."""
    return None if formula is None else replace(like or View(formula), formula=formula)


def _is_scalar(view: View) -> bool:
    return all(algebra.is_number(c) for c in view.formula.values())


def _binary(combine: _Binary) -> Read:
    def read(reader: Reader, node: NodeProto) -> View | None:
        total: View | None = None
        for name in node.input:
            other = reader.view(name)
            if other is None:
                return None
            total = other if total is None else _combined(total, other, combine)
            if total is None:
                return None
        return total

    return read


def _combined(a: View, b: View, combine: _Binary) -> View | None:
    """Return a ∘ b; both must lack the same axes of x, but for numbers, which have none."""
    tensors = [v for v in (a, b) if set(v.formula) - {algebra.ONE} or not _is_scalar(v)]
    if len({(v.dropped, v.joined) for v in tensors}) > 1:
        return None
    like = tensors[0] if tensors else a
    if not like.is_whole and not (_is_scalar(a) and _is_scalar(b)):
        return None
    return _made(combine(a.formula, b.formula), like)


def _unary(function: _Unary) -> Read:
    def read(reader: Reader, node: NodeProto) -> View | None:
        view = reader.view(node.input[0])
        return None if view is None else _made(function(view.formula), view)

    return read


def _pow(reader: Reader, node: NodeProto) -> View | None:
    base, exponent = reader.view(node.input[0]), reader.number(node.input[1])
    if base is None or exponent is None:
        return None
    return _made(algebra.power(base.formula, exponent), base)


def _divided(a: Formula, b: Formula) -> Formula | None:
    inverse = algebra.power(b, -1)
    return None if inverse is None else algebra.multiply(a, inverse)


def _same(reader: Reader, node: NodeProto) -> View | None:
    return reader.view(node.input[0])


def _cast(reader: Reader, node: NodeProto) -> View | None:
    """Between float32 and float64 nothing is lost that float32 has."""
    before = reader.net.types.get(node.input[0])
    return reader.view(node.input[0]) if {before, attribute(node, "to", 0)} <= _REAL else None


def _reduced(before: _Unary, after: _Unary, *, total: bool) -> Read:
    """A reduction: after(mean of before(x)), or of the sum."""

    def read(reader: Reader, node: NodeProto) -> View | None:
        view = reader.view(node.input[0])
        axes = None if view is None else reader.axes(node, view.joined)
        if view is None or view.dropped or axes is None:
            return None
        average = _averaged(reader, view, axes, before, total=total)
        made = None if average is None else _made(after(average), view)
        return _dropped(made, axes, keep=bool(attribute(node, "keepdims", 1)))

    return read


def _averaged(reader: Reader, view: View, axes: Axes, before: _Unary, *, total: bool) -> Formula | None:
    inner = before(view.formula)
    average = None if inner is None else algebra.mean(inner, axes, len(reader.shape))
    return algebra.multiply(average, reader.count(axes)) if average and total else average


def _dropped(view: View | None, axes: Axes, *, keep: bool) -> View | None:
    """Return the view without `axes`; leading ones need not be there, since broadcasting brings them back."""
    if view is None or keep or axes == tuple(range(len(axes))):
        return view
    return replace(view, dropped=axes, joined=view.joined if view.joined not in axes else 0)


def _maximum_along(reader: Reader, node: NodeProto) -> View | None:
    axes, view = reader.axes(node), reader.view(node.input[0])
    if axes is None or view is None or not view.is_whole:
        return None
    made = _made(algebra.maximum_along(view.formula, axes))
    return _dropped(made, axes, keep=bool(attribute(node, "keepdims", 1)))


def _global_average(reader: Reader, node: NodeProto) -> View | None:
    axes = tuple(range(2, len(reader.shape)))
    view = reader.view(node.input[0])
    whole = view is not None and view.is_whole
    return _made(_averaged(reader, view, axes, _as_it_is, total=False)) if view and whole else None


def _reshaped(reader: Reader, node: NodeProto) -> View | None:
    """A reshape that brings the axes of x back, joins its last ones, or does nothing at all."""
    view, shape = reader.view(node.input[0]), reader.net.shapes.get(node.output[0])
    if view is None or shape is None or not _is_scalar(view):
        return None
    atoms = [atom for monomial in view.formula for atom, _ in monomial]
    axes = [
        axis
        for axis in range(len(reader.shape))
        if all(algebra.is_constant_along(atom, (axis,)) for atom in atoms)
    ]
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(reader.shape))
    if _is_shape(shape, kept):
        return View(view.formula)
    start = len(shape) - 1
    joins = not axes and view.is_whole and _is_joined(shape, kept, start)
    return replace(view, joined=start) if joins else None


def _is_joined(shape: Shape, whole: Shape, start: int) -> bool:
    """Whether a shape is the whole one with the axes from `start` on as one, not another of its size."""
    front, behind = whole[:start], [size for size in whole[start:] if isinstance(size, int)]
    if not 0 < start < len(whole) - 1:
        return False
    if len(behind) == len(whole) - start:
        return shape[-1] == math.prod(behind) and _is_shape(shape[:-1], front)
    return not isinstance(shape[-1], int) and shape[:-1] == front and None not in front


def _is_shape(shape: Shape, wanted: Shape) -> bool:
    """Whether a shape is the wanted one; one free axis may have lost its name."""
    pairs = list(zip(shape, wanted, strict=False))
    known = [(a, b) for a, b in pairs if isinstance(a, int) and isinstance(b, int)]
    return len(shape) == len(wanted) and len(pairs) - len(known) <= 1 and all(a == b for a, b in known)


def _expanded(reader: Reader, node: NodeProto) -> View | None:
    """Broadcasting to the shape of x, which would happen anyway."""
    view, shape = reader.view(node.input[0]), reader.net.shapes.get(node.output[0])
    if view is None or not view.is_whole or shape is None or len(shape) != len(reader.shape):
        return None
    fits = all(a in (b, 1) or not isinstance(a, int) for a, b in zip(shape, reader.shape, strict=True))
    return view if fits else None


def _clip(reader: Reader, node: NodeProto) -> View | None:
    """A lower bound alone: a guard."""
    limits = [attribute(node, "min", None), attribute(node, "max", None)]
    for position, name in enumerate(node.input[1:3]):
        if name:
            limits[position] = reader.number(name)
            if limits[position] is None:
                return None
    view, (low, high) = reader.view(node.input[0]), limits
    if view is None or low is None or (high is not None and high < _LARGE):
        return None
    return _made(algebra.at_least(view.formula, low), view)


_LARGE = 1e30


def _max(reader: Reader, node: NodeProto) -> View | None:
    least = next((n for n in map(reader.number, node.input) if n is not None), None)
    rest = [name for name in node.input if reader.number(name) is None]
    view = reader.view(rest[0]) if len(rest) == 1 and len(node.input) == 2 else None
    if view is None or least is None:
        return None
    return _made(algebra.at_least(view.formula, least), view)


def _softmax(reader: Reader, node: NodeProto) -> View | None:
    rank, default = len(reader.shape), -1 if reader.net.opset >= 13 else 1
    axis = attribute(node, "axis", default) % max(rank, 1)
    if reader.net.opset < 13 and axis != rank - 1:
        return None  # over several axes
    view = reader.view(node.input[0])
    if view is None or not view.is_whole:
        return None
    top = algebra.exponential(view.formula)
    average = None if top is None else algebra.mean(top, (axis,), rank)
    total = None if average is None else algebra.multiply(average, reader.count((axis,)))
    formula = None if top is None or total is None else _divided(top, total)
    return _made(algebra.logarithm(formula) if formula and node.op_type == "LogSoftmax" else formula)


def _as_it_is(a: Formula) -> Formula:
    return a


def _square(a: Formula) -> Formula | None:
    return algebra.power(a, 2)


def _root(a: Formula) -> Formula | None:
    return algebra.power(a, 0.5)


READ: Mapping[str, Read] = {
    "Abs": _unary(algebra.absolute),
    "Add": _binary(algebra.add),
    "Cast": _cast,
    "Clip": _clip,
    "Div": _binary(_divided),
    "Exp": _unary(algebra.exponential),
    "Expand": _expanded,
    "GlobalAveragePool": _global_average,
    "Identity": _same,
    "Log": _unary(algebra.logarithm),
    "LogSoftmax": _softmax,
    "Max": _max,
    "Mul": _binary(algebra.multiply),
    "Neg": _unary(lambda a: algebra.multiply(a, algebra.number(-1.0))),
    "Pow": _pow,
    "Reciprocal": _unary(lambda a: algebra.power(a, -1)),
    "ReduceL2": _reduced(_square, _root, total=True),
    "ReduceLogSum": _reduced(_as_it_is, algebra.logarithm, total=True),
    "ReduceLogSumExp": _reduced(algebra.exponential, algebra.logarithm, total=True),
    "ReduceMax": _maximum_along,
    "ReduceMean": _reduced(_as_it_is, _as_it_is, total=False),
    "ReduceSum": _reduced(_as_it_is, _as_it_is, total=True),
    "ReduceSumSquare": _reduced(_square, _as_it_is, total=True),
    "Relu": _unary(lambda a: algebra.at_least(a, 0.0)),
    "Reshape": _reshaped,
    "Softmax": _softmax,
    "Sqrt": _unary(_root),
    "Squeeze": _reshaped,
    "Sub": _binary(lambda a, b: algebra.add(a, b, -1.0)),
    "Sum": _binary(algebra.add),
    "Unsqueeze": _reshaped,
}
