"""Float operators of `com.microsoft` that ONNX Runtime's optimizer and exporters write, as ONNX operators.

    x, skip → SkipLayerNormalization → y      becomes      x, skip → Add → LayerNormalization, written out →

They are written out in full; `fuse_patterns` makes norms and GELUs of that. The last node keeps the name and
the origin. A form that is not known here (a transposed batch, a mean that is an output) is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto, NodeProto, helper

from openbpu.quantization.onnx.findings import Finding
from openbpu.quantization.onnx.net import Array, Names, Net, attribute, infer

DOMAIN = "com.microsoft"


class _Writer:
    """Collects the nodes that stand for one."""

    def __init__(self, net: Net, names: Names, node: NodeProto, consts: dict[str, Array]) -> None:
        self.net, self.node, self._names, self._consts = net, node, names, consts
        self.made: list[NodeProto] = []

    def op(self, op: str, *inputs: str, **more: Any) -> str:
        """Add a node and return its result."""
        base = f"{self.node.name or self.node.output[0]}_{op}"
        out = self._names.fresh(base)
        self.made.append(helper.make_node(op, list(inputs), [out], self._names.fresh(base), **more))
        return out

    def number(self, value: float) -> str:
        """Add a scalar."""
        return self.const(np.array(value, np.float32))

    def const(self, value: Array) -> str:
        """Add a constant."""
        name = self._names.fresh(f"{self.node.name or self.node.output[0]}_constant")
        self._consts[name] = value
        return name

    def mean(self, x: str) -> str:
        """Return the mean along the last axis."""
        if self.net.opset < 18:
            return self.op("ReduceMean", x, axes=[-1], keepdims=1)
        return self.op("ReduceMean", x, self.const(np.array([-1])), keepdims=1)

    def given(self, position: int) -> str:
        """Return an input, "" where it is left out."""
        return self.node.input[position] if position < len(self.node.input) else ""


def unfold_contrib(net: Net) -> Net:
    """Return `net` with ONNX operators for those of com.microsoft that are known here."""
    if not any(node.op_type in _KNOWN and node.domain in {"", DOMAIN} for node in net.nodes):
        return net
    net = infer(net)  # a product is turned by its rank
    names, consts, nodes, changed = Names(net), dict[str, Array](), list[NodeProto](), False
    for node in net.nodes:
        write = _KNOWN.get(node.op_type)
        its = node.domain == DOMAIN or (node.op_type in _EVERYWHERE and not node.domain)
        found = None
        if write is not None and its:
            writer = _Writer(net, names, node, consts)
            found = write(writer)
        if found is None or not _renamed(writer.made, node, found):
            nodes.append(node)
            continue
        nodes += writer.made
        changed = True
    return infer(net.with_nodes(nodes, consts)) if changed else net


def _renamed(made: list[NodeProto], node: NodeProto, results: Sequence[str]) -> bool:
    """Let the nodes make what `node` makes; False where that has a result which they lack."""
    wanted = {place: name for place, name in enumerate(node.output) if name}
    if any(place >= len(results) or not results[place] for place in wanted):
        return False
    new = {results[place]: name for place, name in wanted.items()}
    for one in made:
        one.input[:] = [new.get(name, name) for name in one.input]
        one.output[:] = [new.get(name, name) for name in one.output]
    last = next(one for one in made if node.output[0] in one.output)
    last.name = node.name
    last.metadata_props.extend(node.metadata_props)
    return True


def _norm(w: _Writer, x: str, gain: str, shift: str, *, centred: bool, epsilon: float) -> str:
    moved = w.op("Sub", x, w.mean(x)) if centred else x
    square = w.op("Add", w.mean(w.op("Mul", moved, moved)), w.number(epsilon))
    y = w.op("Mul", w.op("Div", moved, w.op("Sqrt", square)), gain)
    return w.op("Add", y, shift) if shift else y


def _skip(w: _Writer, *, centred: bool) -> list[str]:
    """input, skip, gamma, [beta,] bias → result, –, –, sum"""
    total, bias = w.op("Add", w.node.input[0], w.node.input[1]), w.given(4 if centred else 3)
    total = w.op("Add", total, bias) if bias else total
    epsilon = attribute(w.node, "epsilon", 1e-12 if centred else 1e-6)
    shift = w.given(3) if centred else ""
    return [_norm(w, total, w.node.input[2], shift, centred=centred, epsilon=epsilon), "", "", total]


def _simplified(w: _Writer) -> list[str] | None:
    if attribute(w.node, "axis", -1) != -1:
        return None
    epsilon = attribute(w.node, "epsilon", 1e-5)
    return [_norm(w, w.node.input[0], w.node.input[1], "", centred=False, epsilon=epsilon)]


def _gelu(w: _Writer, x: str) -> list[str]:
    inner = w.op("Erf", w.op("Div", x, w.number(math.sqrt(2))))
    half = w.op("Mul", x, w.op("Add", inner, w.number(1.0)))
    return [w.op("Mul", half, w.number(0.5))]


def _bias_gelu(w: _Writer) -> list[str]:
    return _gelu(w, w.op("Add", w.node.input[0], w.node.input[1]))


def _fast_gelu(w: _Writer) -> list[str]:
    x = w.op("Add", w.node.input[0], w.given(1)) if w.given(1) else w.node.input[0]
    cube = w.op("Mul", w.op("Mul", w.op("Mul", x, x), x), w.number(0.044715))
    inner = w.op("Tanh", w.op("Mul", w.op("Add", x, cube), w.number(math.sqrt(2 / math.pi))))
    return [w.op("Mul", w.op("Mul", x, w.op("Add", inner, w.number(1.0))), w.number(0.5))]


def _quick_gelu(w: _Writer) -> list[str]:
    x, alpha = w.node.input[0], attribute(w.node, "alpha", 1.702)
    return [w.op("Mul", x, w.op("Sigmoid", w.op("Mul", x, w.number(alpha))))]


def _matmul(w: _Writer) -> list[str] | None:
    if attribute(w.node, "transBatchA", 0) or attribute(w.node, "transBatchB", 0):
        return None
    operands = []
    for name, turned in zip(w.node.input[:2], ("transA", "transB"), strict=True):
        known = name in w.net.consts or name in w.net.shapes
        shape = w.net.consts[name].shape if name in w.net.consts else w.net.shapes.get(name)
        if not attribute(w.node, turned, 0):
            operands.append(name)
        elif not known or not shape or len(shape) < 2:
            return None
        else:
            axes = list(range(len(shape)))
            operands.append(w.op("Transpose", name, perm=[*axes[:-2], axes[-1], axes[-2]]))
    y, alpha = w.op("MatMul", *operands), attribute(w.node, "alpha", 1.0)
    return [w.op("Mul", y, w.number(alpha)) if alpha != 1 else y]


_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


def _conv(w: _Writer) -> list[str] | None:
    kind = attribute(w.node, "activation", "")
    numbers = list(attribute(w.node, "activation_params", []))
    if kind not in {"", "Relu", "Tanh", "Sigmoid", "LeakyRelu", "Clip", "HardSigmoid"}:
        return None
    own: list[AttributeProto] = [a for a in w.node.attribute if a.name in _CONV]
    y = w.op("Conv", *[name for name in w.node.input[:3] if name])
    w.made[-1].attribute.extend(own)
    y = w.op("Add", y, w.given(3)) if w.given(3) else y
    if kind == "Clip":
        return [w.op("Clip", y, *(w.number(n) for n in numbers))] if len(numbers) == 2 else None
    keys = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta")}.get(kind, ())
    return [w.op(kind, y, **dict(zip(keys, numbers, strict=False)))] if kind else [y]


_KNOWN: dict[str, Callable[[_Writer], list[str] | None]] = {
    "SkipLayerNormalization": lambda w: _skip(w, centred=True),
    "SkipSimplifiedLayerNormalization": lambda w: _skip(w, centred=False),
    "SimplifiedLayerNormalization": _simplified,
    "Gelu": lambda w: _gelu(w, w.node.input[0]),
    "BiasGelu": _bias_gelu,
    "FastGelu": _fast_gelu,
    "QuickGelu": _quick_gelu,
    "FusedMatMul": _matmul,
    "FusedConv": _conv,
}

_EVERYWHERE = frozenset({"SimplifiedLayerNormalization"})
"""ONNX Runtime writes these without a domain."""

_FUSED = frozenset(
    {
        *("Attention", "BiasAdd", "BiasSoftmax", "BiasSplitGelu", "DecoderMaskedMultiHeadAttention"),
        *("EmbedLayerNormalization", "FusedGemm", "GroupNorm", "GroupQueryAttention", "MultiHeadAttention"),
        *("NhwcConv", "NhwcFusedConv", "PackedMultiHeadAttention", "RotaryEmbedding", "SkipGroupNorm"),
    }
)
"""Other fusions of float operators."""


def contrib_findings(net: Net) -> tuple[Finding, ...]:
    """Return a finding for every fused operator of com.microsoft that stays float, on the CPU."""
    fix = "export the model without it, or save what ONNX Runtime loads at ORT_DISABLE_ALL"
    kept = [n for n in net.nodes if n.domain == DOMAIN and (n.op_type in _KNOWN or n.op_type in _FUSED)]
    return tuple(
        Finding("kept", "", n.name, f"node '{n.name}' ({n.op_type} of {DOMAIN}) stays float: {fix}")
        for n in kept
    )
