"""Multiply-adds of ONNX operators, counted from shapes: the one place for everything that runs on the CPU.

A product that is added to a sum counts once; so does one with a zero of the padding, which runtimes multiply
too. Functions of single elements are no multiply-adds and have no row here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np

from openbpu.compiler.ir import Node, Value

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Operands:
    """A node and what is known of the tensors around it."""

    node: Node
    values: Mapping[str, Value]

    def has(self, index: int) -> bool:
        """Whether the node has this input and its shape is known."""
        return self._shape(self.node.inputs, index) is not None

    def shape(self, index: int) -> Shape:
        """Shape of an input; raises ValueError when it is absent or not known."""
        return _known(self._shape(self.node.inputs, index))

    def out(self, index: int = 0) -> Shape:
        """Shape of an output; raises ValueError as `shape` does."""
        return _known(self._shape(self.node.outputs, index))

    def const(self, index: int) -> Any:
        """Data of an input, None when it is absent or no constant."""
        name = self.node.inputs[index] if index < len(self.node.inputs) else ""
        return self.values[name].const if name in self.values else None

    def attr(self, name: str, default: Any) -> Any:
        """An attribute, or the default of the specification."""
        return self.node.attrs.get(name, default)

    def _shape(self, names: tuple[str, ...], index: int) -> Shape | None:
        name = names[index] if index < len(names) else ""
        return self.values[name].shape if name in self.values else None


Rule: TypeAlias = Callable[[Operands], int]


def _known(shape: Shape | None) -> Shape:
    if shape is None:
        raise ValueError("the shape is not known")
    return shape


def multiply_adds(node: Node, values: Mapping[str, Value]) -> int | None:
    """Return the multiply-adds of a node without its subgraphs, None for an operator that makes none.

    0 where a shape that decides is not known, or contradicts the operator.
    """
    rule = RULES.get(f"{node.domain}.{node.op}" if node.domain else node.op)
    if rule is None:
        return None
    try:
        return max(int(rule(Operands(node, values))), 0)
    except (ArithmeticError, AttributeError, IndexError, TypeError, ValueError):
        return 0  # an estimate of what no runtime will run is no reason to fail


# --- Convolutions ---------------------------------------------------------------------------------


def _conv(weight: int) -> Rule:
    """An element of the output sums over the input channels of its group and the kernel."""
    return lambda at: prod(at.out()) * prod(at.shape(weight)[1:])


def _conv_transpose(at: Operands) -> int:
    """An element of the input goes to the output channels of its group and the kernel."""
    return prod(at.shape(0)) * prod(at.shape(1)[1:])


# --- Products of matrices -------------------------------------------------------------------------


def _matrix(at: Operands, index: int, letter: str) -> Shape:
    """Shape of an operand as [batch…, rows, columns] after what the attributes transpose."""
    shape = at.shape(index)
    if len(shape) == 1:
        return (1, *shape) if letter == "A" else (*shape, 1)
    if at.attr(f"transBatch{letter}", 0):
        shape = (*shape[1:-1], shape[0], shape[-1])
    if at.attr(f"trans{letter}", 0):
        shape = (*shape[:-2], shape[-1], shape[-2])
    return shape


def _matmul(right: int) -> Rule:
    def count(at: Operands) -> int:
        a, b = _matrix(at, 0, "A"), _matrix(at, right, "B")
        return prod(np.broadcast_shapes(a[:-2], b[:-2])) * a[-2] * a[-1] * b[-1]

    return count


def _packed_matmul(at: Operands) -> int:
    """Weights packed to a few bits: their shape stands in attributes."""
    return prod(at.shape(0)) * int(at.attr("N", 0))


Labels: TypeAlias = tuple[str, ...]


def _labels(term: str, rank: int) -> Labels:
    """The labels of an operand; those behind an ellipsis count from its end, as broadcasting aligns them."""
    before, dots, after = term.partition("...")
    hidden = rank - len(before) - len(after) if dots else 0
    return (*before, *(f".{i}" for i in range(hidden, 0, -1)), *after)


def _einsum(at: Operands) -> int:
    """Operands meet one after another; what one alone has, and nobody needs later, is summed first."""
    left, arrow, right = at.attr("equation", "").replace(" ", "").partition("->")
    shapes = [at.shape(i) for i in range(len(at.node.inputs))]
    terms = [_labels(term, len(shape)) for term, shape in zip(left.split(","), shapes, strict=True)]
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for label, size in zip(term, shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1)) if size else 0
    flat = [label for term in terms for label in term]
    dots = {label for label in flat if label.startswith(".")}
    wanted = set(right.replace("...", "")) | dots if arrow else {x for x in flat if flat.count(x) == 1} | dots
    return _pairwise([set(term) for term in terms], wanted, sizes)


def _pairwise(terms: list[set[str]], wanted: set[str], sizes: Mapping[str, int]) -> int:
    total, made = 0, terms[0]
    for i, term in enumerate(terms[1:], 1):
        needed = wanted.union(*terms[i + 1 :])
        both = (made & (term | needed)) | (term & (made | needed))
        total += prod(sizes[label] for label in both)
        made = both & needed
    return total


# --- Recurrences and attention --------------------------------------------------------------------


def _recurrent(gates: int) -> Rule:
    """Every step multiplies its input and the last state with the weights of all gates."""

    def count(at: Operands) -> int:
        x, state = at.shape(0), at.shape(2)
        directions, hidden = state[0], int(at.attr("hidden_size", state[-1]))
        lengths = at.const(4)
        steps = x[0] * x[1] if lengths is None else int(np.asarray(lengths).sum())
        return directions * steps * gates * hidden * (x[2] + hidden)

    return count


def _past(at: Operands, index: int, axis: int = -2) -> int:
    """Steps that an earlier run left in a cache."""
    return at.shape(index)[axis] if at.has(index) else 0


def _attention(at: Operands) -> int:
    """Scores and their sum over the values; [B, heads, S, D], or [B, S, heads·D] with attributes."""
    q, k, v = at.shape(0), at.shape(1), at.shape(2)
    if len(q) == 4:
        (batch, heads, rows, depth), columns, width = q, k[2], v[3]
    else:
        batch, rows, heads = q[0], q[1], int(at.attr("q_num_heads", 1))
        depth, columns, width = q[2] // heads, k[1], v[2] // int(at.attr("kv_num_heads", 1))
    return batch * heads * rows * (columns + _past(at, 4)) * (depth + width)


def _projected_attention(past: int) -> Rule:
    """ONNX Runtime's own, which projects first: x [B, S, C] · weights [C, 3·hidden]."""

    def count(at: Operands) -> int:
        (batch, rows, channels), columns = at.shape(0), at.shape(1)[1]
        sizes = at.attr("qkv_hidden_sizes", None) or (columns // 3,) * 3
        return batch * rows * (channels * columns + (rows + _past(at, past)) * (sizes[0] + sizes[2]))

    return count


def _multi_head(past: int) -> Rule:
    """MultiHeadAttention of ONNX Runtime: separate [B, S, hidden] operands, or packed [B, S, heads, 3, D]."""

    def count(at: Operands) -> int:
        q = at.shape(0)
        if len(q) == 5:
            return 2 * q[0] * q[1] * q[1] * q[2] * q[4]
        k, v = at.shape(1), at.shape(2)
        columns = k[2] if len(k) == 4 else k[1]
        width = v[1] * v[3] if len(v) == 4 else v[2]
        return q[0] * q[1] * (columns + _past(at, past)) * (q[2] + width)

    return count


def _grouped(at: Operands) -> int:
    """GroupQueryAttention of ONNX Runtime; queries may hold keys and values too."""
    (batch, rows, width), heads = at.shape(0), int(at.attr("num_heads", 1))
    packed = not at.has(1)
    depth = width // (heads + 2 * int(at.attr("kv_num_heads", 1))) if packed else width // heads
    return 2 * batch * rows * (rows + _past(at, 3)) * heads * depth


# --- Transforms -----------------------------------------------------------------------------------


def _fourier(n: int) -> int:
    """Real multiply-adds of a transform of n points, 4 per complex product; Bluestein's unless n is 2ᵏ."""
    if n & (n - 1) == 0:
        return 2 * n * (n.bit_length() - 1)
    longer = 1 << (2 * n - 2).bit_length()
    return 3 * _fourier(longer) + 4 * (longer + 2 * n)


def _scalar(at: Operands, index: int, default: int) -> int:
    value = at.const(index)
    return default if value is None or np.size(value) != 1 else int(np.asarray(value).item())


def _dft(at: Operands) -> int:
    shape = at.shape(0)
    axis = _scalar(at, 2, int(at.attr("axis", -2 if len(at.node.inputs) > 2 else 1)))
    others = prod(shape[:-1]) // max(shape[axis], 1)
    return others * _fourier(_scalar(at, 1, shape[axis]))


def _stft(at: Operands) -> int:
    batch, frames = at.out()[:2]
    window = at.shape(2)[0] if at.has(2) else 0
    return batch * frames * _fourier(_scalar(at, 3, window))


def _affine_grid(at: Operands) -> int:
    """Every coordinate is a row of theta times a point."""
    return prod(at.out()) * at.shape(0)[-1]


def _eliminated(at: Operands) -> int:
    """Elimination of square matrices: n rows left, then n − 1, each from all below it."""
    *batch, n, _ = at.shape(0)
    return prod(batch) * ((n - 1) * n * (2 * n - 1) // 6 + n - 1)


def _classical(weights: str) -> Rule:
    """Models of one layer: every sample times the weights that an attribute holds."""
    return lambda at: prod(at.shape(0)[:-1]) * len(at.attr(weights, ()))


_MS, _ML = "com.microsoft.", "ai.onnx.ml."
RULES: dict[str, Rule] = {
    **dict.fromkeys(("Conv", "ConvInteger", "DeformConv"), _conv(1)),
    **dict.fromkeys((f"{_MS}FusedConv", f"{_MS}NhwcFusedConv", f"{_MS}NhwcConv"), _conv(1)),
    **dict.fromkeys(("QLinearConv", f"{_MS}QLinearConv"), _conv(3)),
    **dict.fromkeys(("ConvTranspose", f"{_MS}ConvTransposeWithDynamicPads"), _conv_transpose),
    **dict.fromkeys(("Gemm", "MatMul", "MatMulInteger"), _matmul(1)),
    **dict.fromkeys((f"{_MS}FusedGemm", f"{_MS}GemmFastGelu", f"{_MS}GemmFloat8"), _matmul(1)),
    **dict.fromkeys(
        (f"{_MS}FusedMatMul", f"{_MS}TransposeMatMul", f"{_MS}FusedMatMulActivation"), _matmul(1)
    ),
    **dict.fromkeys((f"{_MS}MatMulIntegerToFloat", f"{_MS}DynamicQuantizeMatMul"), _matmul(1)),
    f"{_MS}MatMulInteger16": _matmul(1),
    **dict.fromkeys(("QLinearMatMul", f"{_MS}QGemm"), _matmul(3)),
    **dict.fromkeys((f"{_MS}MatMulNBits", f"{_MS}MatMulBnb4", f"{_MS}MatMulFpQ4"), _packed_matmul),
    "Einsum": _einsum,
    **dict.fromkeys(("LSTM", f"{_MS}DynamicQuantizeLSTM"), _recurrent(4)),
    "GRU": _recurrent(3),
    "RNN": _recurrent(1),
    "Attention": _attention,
    f"{_MS}Attention": _projected_attention(4),
    f"{_MS}QAttention": _projected_attention(8),
    f"{_MS}MultiHeadAttention": _multi_head(6),
    f"{_MS}DecoderMaskedMultiHeadAttention": _multi_head(5),
    f"{_MS}GroupQueryAttention": _grouped,
    "DFT": _dft,
    "STFT": _stft,
    "AffineGrid": _affine_grid,
    "Det": _eliminated,
    **dict.fromkeys((f"{_ML}LinearRegressor", f"{_ML}LinearClassifier"), _classical("coefficients")),
    **dict.fromkeys((f"{_ML}SVMRegressor", f"{_ML}SVMClassifier"), _classical("support_vectors")),
}
"""Operator ("domain.op" outside ai.onnx) → its rule."""
