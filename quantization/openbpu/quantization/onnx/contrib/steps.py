"""Norms, functions and products of `com.microsoft`, written out."""

from __future__ import annotations

import math

from onnx import AttributeProto

from openbpu.quantization.onnx.contrib.writer import KeptError, Writer


def _norm(w: Writer, x: str, gain: str, shift: str, *, centred: bool, epsilon: float) -> str:
    moved = w.op("Sub", x, w.mean(x)) if centred else x
    square = w.op("Add", w.mean(w.op("Mul", moved, moved)), w.number(epsilon))
    y = w.op("Mul", w.op("Div", moved, w.op("Sqrt", square)), gain)
    return w.op("Add", y, shift) if shift else y


def skip_norm(w: Writer, *, centred: bool = True) -> list[str]:
    """Input, skip, gamma, [beta,] bias → result, –, –, sum"""
    total, bias = w.op("Add", w.node.input[0], w.node.input[1]), w.given(4 if centred else 3)
    total = w.op("Add", total, bias) if bias else total
    epsilon = w.attr("epsilon", 1e-12 if centred else 1e-6)
    shift = w.given(3) if centred else ""
    return [_norm(w, total, w.node.input[2], shift, centred=centred, epsilon=epsilon), "", "", total]


def skip_simplified_norm(w: Writer) -> list[str]:
    """Input, skip, gamma, bias → result, –, –, sum"""
    return skip_norm(w, centred=False)


def simplified_norm(w: Writer) -> list[str]:
    """X, gamma → x / √(mean(x²) + ε) · gamma"""
    if w.attr("axis", -1) != -1:
        raise KeptError("it normalizes other axes than the last one")
    epsilon = w.attr("epsilon", 1e-5)
    return [_norm(w, w.node.input[0], w.node.input[1], "", centred=False, epsilon=epsilon)]


def gelu(w: Writer, x: str = "") -> list[str]:
    """X → x · (1 + erf(x / √2)) / 2"""
    x = x or w.node.input[0]
    inner = w.op("Erf", w.op("Div", x, w.number(math.sqrt(2))))
    half = w.op("Mul", x, w.op("Add", inner, w.number(1.0)))
    return [w.op("Mul", half, w.number(0.5))]


def bias_gelu(w: Writer) -> list[str]:
    """X, bias → the GELU of their sum"""
    return gelu(w, w.op("Add", w.node.input[0], w.node.input[1]))


def fast_gelu(w: Writer) -> list[str]:
    """X, bias → the GELU of their sum, by a tanh"""
    x = w.op("Add", w.node.input[0], w.given(1)) if w.given(1) else w.node.input[0]
    cube = w.op("Mul", w.op("Mul", w.op("Mul", x, x), x), w.number(0.044715))
    inner = w.op("Tanh", w.op("Mul", w.op("Add", x, cube), w.number(math.sqrt(2 / math.pi))))
    return [w.op("Mul", w.op("Mul", x, w.op("Add", inner, w.number(1.0))), w.number(0.5))]


def quick_gelu(w: Writer) -> list[str]:
    """X → x · sigmoid(α·x)"""
    x, alpha = w.node.input[0], w.attr("alpha", 1.702)
    return [w.op("Mul", x, w.op("Sigmoid", w.op("Mul", x, w.number(alpha))))]


def matmul(w: Writer) -> list[str]:
    """A, B → A·B, of matrices that are turned first."""
    if w.attr("transBatchA", 0) or w.attr("transBatchB", 0):
        raise KeptError("it moves an axis of the batch (transBatchA, transBatchB)")
    operands = []
    for name, turned in zip(w.node.input[:2], ("transA", "transB"), strict=True):
        if w.attr(turned, 0) and w.rank(name) > 1:
            axes = list(range(w.rank(name)))
            operands.append(w.op("Transpose", name, perm=[*axes[:-2], axes[-1], axes[-2]]))
        else:  # ONNX Runtime turns no vector
            operands.append(name)
    y, alpha = w.op("MatMul", *operands), w.attr("alpha", 1.0)
    return [w.op("Mul", y, w.number(alpha)) if alpha != 1 else y]


_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


def conv(w: Writer) -> list[str] | None:
    """X, weights, bias, a sum → what an activation makes of the convolution and the sum"""
    kind = w.attr("activation", "")
    numbers = list(w.attr("activation_params", []))
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
