"""QOperator nodes become Dequantize → float operator → Quantize, so that one form is left to read.

QLinearConv(x, sx, zx, w, sw, zw, sy, zy, b)   →   Q(Conv(DQ(x), DQ(w), DQ(b)))

One that keeps channels last stands between two Transposes of its codes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from openbpu.arch.errors import ModelError, must
from openbpu.compiler.ir import Graph, Node, Rewriter
from openbpu.compiler.ir.qdq import DEQUANTIZE, QUANTIZE
from openbpu.compiler.ir.verify import ensures
from openbpu.compiler.reader.contrib import is_channels_last

MS = "com.microsoft"
Rule = Callable[["_Unfold"], None]


class _Unfold:
    """One QOperator node on its way to QDQ form."""

    def __init__(self, rw: Rewriter, node: Node) -> None:
        self.rw, self.node = rw, node

    def has(self, index: int) -> bool:
        return index < len(self.node.inputs) and bool(self.node.inputs[index])

    def dequantized(self, q: str, scale: str, zero: str = "", axis: int = 1) -> str:
        """Dequantize value `q`; returns the float value."""
        value = self.rw.values[q]
        zero = self.spread(zero, scale)
        out = self.rw.value(f"{q}/f", value.shape, "float32")
        inputs = (q, scale, zero) if zero else (q, scale)
        self.rw.add(DEQUANTIZE, inputs, (out,), self.node.origins, axis=axis)
        return out

    def spread(self, zero: str, scale: str) -> str:
        """Return a zero point for every scale: a scalar holds for all of them."""
        one, many = (self.rw.graph.const(n) if n else None for n in (zero, scale))
        if one is None or many is None or one.size != 1 or many.size == 1:
            return zero
        return self.rw.constant(f"{zero}/spread", np.broadcast_to(one.reshape(-1), many.shape))

    def triple(self, index: int, axis: int = 1) -> str:
        """Dequantize the (tensor, scale, zero point) that starts at input `index`."""
        i = self.node.inputs
        return self.dequantized(i[index], i[index + 1], i[index + 2], axis)

    def bias(self, index: int, factor: float = 1.0) -> str:
        """Dequantize a bias in steps of the sums, times `factor`: float32, one or one per channel."""
        x, w = (np.asarray(self.rw.graph.const(self.node.inputs[k]), np.float32) for k in (1, 4))
        q = self.node.inputs[index]
        scale = self.rw.constant(f"{q}/scale", np.asarray(x.reshape(()) * w * np.float32(factor)))
        return self.dequantized(q, scale, axis=0)

    def reshaped(self, q: str, shape: tuple[int, ...], target: str = "") -> str:
        """Give codes another shape; returns the value that has it."""
        out = target or self.rw.value(f"{q}/rows", shape, self.rw.values[q].dtype)
        sizes = self.rw.constant(f"{out}/shape", np.array(shape, np.int64))
        self.rw.add("Reshape", (q, sizes), (out,), self.node.origins)
        return out

    def turned(self, source: str, target: str, perm: tuple[int, ...]) -> None:
        """Move the axes of codes."""
        self.rw.add("Transpose", (source,), (target,), self.node.origins, perm=perm)

    def emit(self, op: str, inputs: list[str], scale: str, zero: str, **attrs: object) -> None:
        """Emit the float operator and, where there is a scale, the Quantize that makes the output."""
        out = self.node.outputs[0]
        if not scale:
            self.rw.add(op, inputs, (out,), self.node.origins, self.node.name, **attrs)
            return
        floats = self.rw.value(f"{out}/f", self.rw.values[out].shape, "float32")
        self.rw.add(op, inputs, (floats,), self.node.origins, self.node.name, **attrs)
        self.rw.add(QUANTIZE, (floats, scale, zero) if zero else (floats, scale), (out,))


def _conv(u: _Unfold) -> None:
    i = u.node.inputs
    x, w = u.triple(0), u.triple(3, axis=0)
    inputs = [x, w]
    if u.has(8):
        inputs.append(u.bias(8))
    u.emit("Conv", inputs, i[6], i[7], **_kept(u.node))


def _matmul(u: _Unfold) -> None:
    rank = len(u.rw.values[u.node.inputs[3]].shape or ())
    u.emit("MatMul", [u.triple(0), u.triple(3, axis=max(rank - 1, 0))], u.node.inputs[6], u.node.inputs[7])


def _gemm(u: _Unfold) -> None:
    i = u.node.inputs
    trans_b = int(u.node.attrs.get("transB", 0))
    inputs = [u.triple(0), u.triple(3, axis=0 if trans_b else 1)]
    if u.has(6):
        inputs.append(u.bias(6, u.node.attrs.get("alpha", 1.0)))
    u.emit("Gemm", inputs, i[7] if u.has(7) else "", i[8] if u.has(8) else "", **u.node.attrs)


def _binary(op: str) -> Rule:
    def rule(u: _Unfold) -> None:
        zero = u.node.inputs[7] if u.has(7) else ""
        u.emit(op, [u.triple(0), u.triple(3)], u.node.inputs[6], zero)

    return rule


def _unary(op: str) -> Rule:
    def rule(u: _Unfold) -> None:
        zero = u.node.inputs[4] if u.has(4) else ""
        u.emit(op, [u.triple(0)], u.node.inputs[3], zero, **_kept(u.node))

    return rule


def _softmax(u: _Unfold) -> None:
    """Attribute `opset` says which Softmax is meant: before 13 all axes from `axis` on are one."""
    i, out = u.node.inputs, u.node.outputs[0]
    shape = u.rw.values[i[0]].shape or ()
    axis = _softmax_axis(u.node, len(shape))
    if u.node.attrs["opset"] >= 13:
        u.emit("Softmax", [u.triple(0)], i[3], i[4] if u.has(4) else "", axis=axis)
        return
    rows = (math.prod(shape[:axis]), math.prod(shape[axis:]))
    flat = u.dequantized(u.reshaped(i[0], rows), i[1], i[2] if u.has(2) else "")
    soft = u.rw.value(f"{out}/f", rows, "float32")
    codes = u.rw.value(f"{out}/rows", rows, u.rw.values[out].dtype)
    u.rw.add("Softmax", (flat,), (soft,), u.node.origins, u.node.name, axis=1)
    u.rw.add(QUANTIZE, (soft, i[3], i[4]) if u.has(4) else (soft, i[3]), (codes,))
    u.reshaped(codes, shape, out)


def _softmax_axis(node: Node, rank: int) -> int:
    """The axis counted from the front; ONNX Runtime knows no QLinearSoftmax without `opset` either."""
    where, axis = f"node '{node.name}' ({node.op})", int(node.attrs.get("axis", -1))
    if "opset" not in node.attrs:
        fix = "give the opset of the Softmax it stands for"
        raise ModelError(must(where, "attribute 'opset'", "given", "absent", fix))
    if not -rank <= axis < rank:
        raise ModelError(must(where, "attribute 'axis'", f"inside rank {rank}", axis))
    return axis % rank


def _concat(u: _Unfold) -> None:
    i = u.node.inputs
    parts = [u.triple(k) for k in range(2, len(i), 3)]
    u.emit("Concat", parts, i[0], i[1], axis=u.node.attrs["axis"])


def _where(u: _Unfold) -> None:
    i = u.node.inputs
    u.emit("Where", [i[0], u.triple(1), u.triple(4)], i[7], i[8])


def _mean(u: _Unfold) -> None:
    axes = u.node.attrs.get("axes") or ()
    inputs = [u.triple(0), *([u.rw.constant("axes", np.array(axes, np.int64))] if axes else [])]
    zero = u.node.inputs[4] if u.has(4) else ""
    u.emit("ReduceMean", inputs, u.node.inputs[3], zero, keepdims=u.node.attrs.get("keepdims", 1))


def _float_matmul(u: _Unfold) -> None:
    """Inputs of MatMulIntegerToFloat: A, B, their scales, their zero points, a bias."""
    i, out = u.node.inputs, u.node.outputs[0]
    rank = len(u.rw.values[i[1]].shape or ())
    zeros = [i[k] if u.has(k) else "" for k in (4, 5)]
    inputs = [u.dequantized(i[0], i[2], zeros[0]), u.dequantized(i[1], i[3], zeros[1], max(rank - 1, 0))]
    if not u.has(6):
        u.emit("MatMul", inputs, "", "")
        return
    product = u.rw.value(f"{out}/product", u.rw.values[out].shape, "float32")
    u.rw.add("MatMul", inputs, (product,), u.node.origins, u.node.name)
    u.rw.add("Add", (product, i[6]), (out,), u.node.origins)


def _pool(u: _Unfold) -> None:
    u.rw.add("MaxPool", u.node.inputs, u.node.outputs, u.node.origins, u.node.name, **u.node.attrs)


def _kept(node: Node) -> dict[str, Any]:
    return {k: v for k, v in node.attrs.items() if k != "channels_last"}


_RULES: dict[tuple[str, str], Rule] = {
    ("", "QLinearConv"): _conv,
    ("", "QLinearMatMul"): _matmul,
    (MS, "QLinearConv"): _conv,
    (MS, "QGemm"): _gemm,
    (MS, "QLinearWhere"): _where,
    (MS, "QLinearReduceMean"): _mean,
    (MS, "MatMulIntegerToFloat"): _float_matmul,
    (MS, "NhwcMaxPool"): _pool,
    (MS, "QLinearAdd"): _binary("Add"),
    (MS, "QLinearMul"): _binary("Mul"),
    (MS, "QLinearSigmoid"): _unary("Sigmoid"),
    (MS, "QLinearLeakyRelu"): _unary("LeakyRelu"),
    (MS, "QLinearAveragePool"): _unary("AveragePool"),
    (MS, "QLinearGlobalAveragePool"): _unary("GlobalAveragePool"),
    (MS, "QLinearSoftmax"): _softmax,
    (MS, "QLinearConcat"): _concat,
}


def without_qoperators(graph: Graph) -> Iterator[str]:
    """What can be unfolded is."""
    for node in graph.nodes:
        if (node.domain, node.op) in _RULES and _readable(graph, node):
            yield must(f"node '{node.name}'", "a quantized operator", "in QDQ form", node.op)


@ensures(without_qoperators)
def unfold_qoperators(graph: Graph) -> Graph:
    """Return the graph with every known QOperator node in QDQ form."""
    if not any((n.domain, n.op) in _RULES for n in graph.nodes):
        return graph
    rw = Rewriter(graph)
    for node in graph.nodes:
        rule = _RULES.get((node.domain, node.op))
        if rule is None or not _readable(graph, node):
            rw.nodes.append(node)
        elif is_channels_last(node):
            _turned(rw, node, rule)
        else:
            rule(_Unfold(rw, node))
    return rw.finish()


def _turned(rw: Rewriter, node: Node, rule: Rule) -> None:
    """Unfold a node that keeps channels last between two Transposes."""
    x, y = node.inputs[0], node.outputs[0]
    shapes = [rw.values[name].shape or () for name in (x, y)]
    rank = len(shapes[0])
    first, last = (0, rank - 1, *range(1, rank - 1)), (0, *range(2, rank), 1)
    image, made = (
        rw.value(f"{name}/nchw", [shape[a] for a in first], rw.values[name].dtype)
        for name, shape in zip((x, y), shapes, strict=True)
    )
    unfold = _Unfold(rw, replace(node, inputs=(image, *node.inputs[1:]), outputs=(made,)))
    unfold.turned(x, image, first)
    rule(unfold)
    unfold.turned(made, y, last)


def _readable(graph: Graph, node: Node) -> bool:
    """Whether what the rule looks at is known."""
    shapes = [graph.values[name].shape for name in (node.inputs[0], node.outputs[0])]
    if (node.op == "QLinearSoftmax" or is_channels_last(node)) and None in shapes:
        return False
    if node.op == "MatMulIntegerToFloat":
        return all(not n or graph.const(n) is not None for n in node.inputs[2:6])
    if node.op not in ("QLinearConv", "QGemm"):
        return True
    x, w = graph.const(node.inputs[1]), graph.const(node.inputs[4])
    if x is None or w is None:
        return False
    return x.size == 1 and w.ndim <= 1 and {x.dtype.kind, w.dtype.kind} == {"f"}
