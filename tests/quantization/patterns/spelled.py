"""Spellings of one function: graphs written as exporters write them, every choice drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
Choose = Callable[[Sequence[Any]], Any]
"""Takes one of several choices."""


@dataclass
class Writer:
    """Builds a graph of one input 'x' and one output 'y'; `choose` decides between spellings."""

    opset: int
    shape: tuple[int, ...]
    choose: Choose
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def const(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def op(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        name = out or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], f"{kind}_{len(self.nodes)}", **attributes))
        return name

    def model(self, *more: str) -> ModelProto:
        ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)]
        outs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", *more)]
        for value in outs:
            value.type.tensor_type.ClearField("shape")
        graph = helper.make_graph(self.nodes, "spelled", ends, outs, self.constants)
        ids = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=ids, ir_version=10)

    # Arithmetic, in any order of operands.

    def both(self, kind: str, a: str, b: str) -> str:
        return self.op(kind, *self.choose([(a, b), (b, a)]))

    def mul(self, a: str, b: str) -> str:
        return self.both("Mul", a, b)

    def add(self, a: str, b: str) -> str:
        return self.both("Add", a, b)

    def through(self, x: str) -> str:
        """Sometimes what changes nothing."""
        if self.choose([True, True, True, False]):
            return x
        ways = [lambda: self.op("Identity", x), lambda: self.op("Cast", x, to=TensorProto.FLOAT)]
        return str(self.choose(ways)())

    def square(self, x: str) -> str:
        ways = [
            lambda: self.op("Pow", x, self.const(2.0)),
            lambda: self.op("Mul", x, x),
            lambda: self.op("Pow", self.op("Abs", x), self.const([2.0])),
        ]
        return str(self.choose(ways)())

    def reduce(self, kind: str, x: str, axes: Sequence[int], *, keep: bool = True) -> str:
        """A reduction with its axes where the opset has them, counted from either side."""
        rank = len(self.shape)
        written = (
            [axis - rank for axis in axes] if self.opset >= 11 and self.choose([True, False]) else [*axes]
        )
        keeps: dict[str, Any] = {} if keep and self.choose([True, False]) else {"keepdims": int(keep)}
        since = 13 if kind == "ReduceSum" else 18
        if self.opset >= since:
            return self.op(kind, x, self.const(written, np.int64), **keeps)
        return self.op(kind, x, axes=written, **keeps)

    def widened(self, x: str, axes: Sequence[int]) -> str:
        kept = [1 if axis in axes else size for axis, size in enumerate(self.shape)]
        ways = [lambda: self.op("Reshape", x, self.const(kept, np.int64))]
        if self.opset >= 13:
            ways.append(lambda: self.op("Unsqueeze", x, self.const([*axes], np.int64)))
        else:
            ways.append(lambda: self.op("Unsqueeze", x, axes=[*axes]))
        return str(self.choose(ways)())

    def mean(self, x: str, axes: Sequence[int]) -> str:
        n = float(np.prod([self.shape[axis] for axis in axes]))
        ways = [
            lambda: self.reduce("ReduceMean", x, axes),
            lambda: self.reduce("ReduceMean", x, axes),
            lambda: self.widened(self.reduce("ReduceMean", x, axes, keep=False), axes),
            lambda: self.op("Div", self.reduce("ReduceSum", x, axes), self.const(n)),
            lambda: self.mul(self.reduce("ReduceSum", x, axes), self.const(1 / n)),
        ]
        if list(axes) == list(range(2, len(self.shape))):
            ways.append(lambda: self.op("GlobalAveragePool", x))
        return str(self.choose(ways)())

    def inverse_root(self, x: str) -> str:
        ways = [
            lambda: self.op("Reciprocal", self.op("Sqrt", x)),
            lambda: self.op("Pow", x, self.const(-0.5)),
            lambda: self.op("Div", self.const(1.0), self.op("Sqrt", x)),
            lambda: self.op("Sqrt", self.op("Reciprocal", x)),
        ]
        return str(self.choose(ways)())


def written_norm(
    w: Writer, axes: Sequence[int], epsilon: float, gain: Array | None, bias: Array | None
) -> None:
    """Mean and variance of 'x' along `axes`, brought to 0 and 1, times `gain`, plus `bias`, as 'y'."""
    x = w.through("x")
    m = w.mean(x, axes)
    again = w.mean(x, axes) if w.choose([False, False, True]) else m
    d = w.op("Sub", x, m)

    def moments() -> str:
        least = w.op("Sub", w.mean(w.square(x), axes), w.square(again))
        ways = [lambda: w.op("Relu", least), lambda: w.op("Max", least, w.const(0.0)), lambda: least]
        return str(w.choose(ways)())

    twice = w.op("Sub", x, again) if w.choose([False, True]) else d
    variance = w.choose([lambda: w.mean(w.square(twice), axes), moments])()
    shifted = w.add(variance, w.const(epsilon))

    def divided() -> str:
        return _affine(w, w.op("Div", w.through(d), w.op("Sqrt", shifted)), gain, bias)

    def multiplied() -> str:
        return _affine(w, w.mul(d, w.inverse_root(shifted)), gain, bias)

    def gain_first() -> str:
        r = w.inverse_root(shifted)
        return _affine(w, w.mul(d, r if gain is None else w.mul(r, w.const(gain))), None, bias)

    def numerator_scaled() -> str:
        scaled = d if gain is None else w.mul(w.const(gain), d)
        return _affine(w, w.op("Div", scaled, w.op("Pow", shifted, w.const(0.5))), None, bias)

    def as_batch_norm() -> str:
        r = w.inverse_root(shifted)
        r = r if gain is None else w.mul(r, w.const(gain))
        shift = w.mul(again, r)
        if bias is None:
            return w.op("Sub", w.mul(x, r), shift)
        return w.add(w.mul(x, r), w.op("Sub", w.const(bias), shift))

    y = w.choose([divided, multiplied, gain_first, numerator_scaled, as_batch_norm])()
    w.nodes[-1].output[0] = "y" if w.nodes[-1].output[0] == y else y


def _affine(w: Writer, x: str, gain: Array | None, bias: Array | None) -> str:
    x = x if gain is None else w.mul(x, w.const(gain))
    return x if bias is None else w.add(x, w.const(bias))


def written_rms(w: Writer, axes: Sequence[int], epsilon: float, gain: Array | None) -> None:
    """'x' over the root of its mean square, times `gain`, as 'y'."""
    x = w.through("x")
    shifted = w.add(w.mean(w.square(x), axes), w.const(epsilon))

    def gain_first() -> str:
        return w.mul(x, w.mul(w.const(1.0 if gain is None else gain), w.inverse_root(shifted)))

    ways = [
        lambda: _affine(w, w.mul(x, w.inverse_root(shifted)), gain, None),
        lambda: _affine(w, w.op("Div", x, w.op("Sqrt", shifted)), gain, None),
        gain_first,
    ]
    w.choose(ways)()
    w.nodes[-1].output[0] = "y"


def written_length(w: Writer, axis: int, least: float) -> None:
    """'x' over its length along `axis`, which is taken as `least` at least, as 'y'."""
    x, axes = w.through("x"), [axis]
    squares = [
        lambda: w.reduce("ReduceSumSquare", x, axes),
        lambda: w.reduce("ReduceSum", w.square(x), axes),
    ]

    def length() -> str:
        roots = [
            lambda: w.reduce("ReduceL2", x, axes),
            lambda: w.op("Sqrt", w.choose(squares)()),
            lambda: w.op("Pow", w.choose(squares)(), w.const(0.5)),
        ]
        return str(w.choose(roots)())

    def clipped(value: str, bound: float) -> str:
        if w.opset >= 11:
            ways = [lambda: w.op("Clip", value, w.const(bound)), lambda: w.both("Max", value, w.const(bound))]
        else:
            ways = [lambda: w.op("Clip", value, min=bound), lambda: w.both("Max", value, w.const([bound]))]
        return str(w.choose(ways)())

    def guarded() -> str:
        bound = clipped(length(), least)
        if w.choose([True, False]):
            bound = w.op("Expand", bound, w.const(w.shape, np.int64))
        return w.op("Div", x, bound)

    ways = [
        guarded,
        lambda: w.op("Div", x, w.add(length(), w.const(least))),
        lambda: w.mul(x, w.inverse_root(clipped(w.choose(squares)(), least**2))),
        lambda: w.mul(x, w.op("Reciprocal", clipped(length(), least))),
    ]
    w.choose(ways)()
    w.nodes[-1].output[0] = "y"


def written_softmax(w: Writer, axis: int, *, log: bool) -> None:
    """Softmax of 'x' along `axis`, or its logarithm, as 'y'."""
    axes = [axis]
    shifted = w.op("Sub", "x", w.reduce("ReduceMax", "x", axes)) if w.choose([True, True, False]) else "x"
    if log:
        ways = [
            lambda: w.op("Sub", shifted, w.op("Log", w.reduce("ReduceSum", w.op("Exp", shifted), axes))),
            lambda: w.op("Sub", shifted, w.reduce("ReduceLogSumExp", shifted, axes)),
            lambda: w.op("Sub", shifted, w.reduce("ReduceLogSum", w.op("Exp", shifted), axes)),
        ]
        if w.opset >= 13:
            ways.append(lambda: w.op("Log", w.op("Softmax", shifted, axis=axis)))
    else:
        e = w.op("Exp", shifted)
        s = w.reduce("ReduceSum", e, axes)
        ways = [lambda: w.op("Div", e, s), lambda: w.mul(e, w.op("Reciprocal", s))]
        if w.opset >= 13:
            ways.append(lambda: w.op("Exp", w.op("LogSoftmax", "x", axis=axis)))
    w.choose(ways)()
    w.nodes[-1].output[0] = "y"
