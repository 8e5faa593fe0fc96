"""Gemm and MatMul: a constant right side becomes a 1×1 convolution, two computed sides a matrix product."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.arrays import Float64
from openbpu.arch.program import MatMul
from openbpu.compiler.ir import Array, Node
from openbpu.compiler.ir.dialect import Builder, form, operand
from openbpu.compiler.ops.addend import Addend, addend
from openbpu.compiler.ops.mechanical import COLUMNS, ROWS
from openbpu.compiler.ops.pieces import bordered, taken
from openbpu.compiler.ops.rule import Limit, OpRule, Violation, in_range
from openbpu.compiler.ops.site import Leaf, Refused, Site
from openbpu.compiler.ops.tensor_engine import (
    INT32_MAX,
    Convolution,
    Geometry,
    check_pair,
    emit_conv,
    emit_dequantized,
    emit_rows,
    read_weights,
    require_finite,
)

_NOTHING = Addend()


def _rows(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape[:-1], dtype=np.int64))


def _reshaped(site: Site, codes: str, shape: tuple[int, ...]) -> str:
    value = site.rw.values[codes]
    out = site.rw.value(f"{codes}/rows", shape, value.dtype, value.quant)
    site.rw.bpu("Reshape", out, site.origins, x=codes)
    return out


def _product(site: Site, x: Leaf, right: Array, scale: Float64, added: Addend = _NOTHING) -> None:
    """X [..., K] × right [N, K] as a convolution over one row of pixels; `scale` of `right` is [N] or [1].

    Of more than a convolution has channels, K is that many channels of so many taps.
    """
    rows, n = _rows(x.shape), right.shape[0]
    taps = _taps(site, right.shape[1])
    k = -(-right.shape[1] // taps)
    weight = np.zeros((n, taps * k), right.dtype)
    weight[:, : right.shape[1]] = right
    residual = ""
    if site.residual is not None:
        residual = _reshaped(
            site, _spread(site, site.residual), (1, rows, 1, n) if taps > 1 else (1, 1, rows, n)
        )
    codes = _reshaped(site, x.codes, (rows, right.shape[1])) if k * taps != right.shape[1] else x.codes
    codes = bordered(site, codes, 1, (0, k * taps - right.shape[1]), x.z)
    image = (1, rows, taps, k) if taps > 1 else (1, 1, rows, k)
    result = (1, rows, 1, n) if taps > 1 else (1, 1, rows, n)
    conv = Convolution(
        x,
        _reshaped(site, codes, image),
        weight.reshape(n, 1, taps, k),
        scale,
        added.rows[0] if added.rows is not None else None,
        result,
        Geometry((1, taps)),
        residual,
        added.gain,
        site.limit("matmul_n_max"),
    )
    if added.rows is None or len(added.rows) == 1:
        emit_conv(site, conv, lambda codes, target: _back(site, codes, target))
        return
    each = [_row(site, conv, i, row) for i, row in enumerate(added.rows)]
    emit_rows(site, each, lambda codes, target: _back(site, codes, target))


def _taps(site: Site, k: int) -> int:
    """In how many taps K is laid out: as few as its channels need, or more that leave less over."""
    least = -(-k // site.limit("conv_channels_max"))
    return min(range(least, site.limit("conv_kernel_max") + 1), key=lambda taps: (-k % taps, taps))


def _row(site: Site, conv: Convolution, index: int, bias: Float64) -> Convolution:
    """The convolution of one row alone, by the same weight."""
    axis = 1 if conv.y_shape[1] > 1 else 2
    return replace(
        conv, source=taken(site, conv.source, axis, [index]), bias=bias, y_shape=(1, 1, 1, conv.channels)
    )


def _spread(site: Site, leaf: Leaf) -> str:
    """The codes of an operand that is added, in the shape of the result."""
    out = site.out_shape()
    if leaf.shape == out:
        return leaf.codes
    value = site.rw.values[leaf.codes]
    spread = site.rw.value(f"{leaf.codes}/spread", out, value.dtype, value.quant)
    site.rw.bpu("Expand", spread, site.origins, x=leaf.codes)
    return spread


def _back(site: Site, codes: str, target: str) -> int:
    """Reshape the result of a product to its target; columns are the last axis."""
    site.rw.bpu("Reshape", target, site.origins, x=codes)
    return len(site.rw.values[target].shape or ()) - 1


def _lower_gemm(site: Site) -> None:
    attrs = site.node.attrs
    x = _turned(site, site.leaf(0)) if attrs.get("transA", 0) else site.leaf(0)
    trans_b, alpha = bool(attrs.get("transB", 0)), float(attrs.get("alpha", 1.0))
    if not _constant_right(site):
        y = _turned(site, site.leaf(1)) if trans_b else site.leaf(1)
        _dynamic(site, x, y, alpha, _number(site))
        return
    weights = read_weights(site, 1, channel_axis=0 if trans_b else 1)
    right = weights.codes if trans_b else weights.codes.T
    added = addend(site, x.shape[0], right.shape[0])
    site.residual = site.residual if added.codes is None else added.codes
    _product(site, x, right, weights.scale * alpha, added)


def _number(site: Site) -> float:
    """C of a Gemm of two computed operands, whose columns share one requantization."""
    c = site.constant(2)
    if site.has(2) and (c is None or c.min() != c.max()):
        raise Refused(
            "its weight is computed, and its C is no single number", "make it a MatMul, and an Add of its own"
        )
    return 0.0 if c is None else float(c.reshape(-1)[0]) * float(site.node.attrs.get("beta", 1.0))


def _turned(site: Site, x: Leaf) -> Leaf:
    """The transpose of a matrix, as transA asks for it."""
    value, shape = site.rw.values[x.codes], (x.shape[1], x.shape[0])
    out = site.rw.value(f"{x.codes}/turned", shape, value.dtype, value.quant)
    site.rw.bpu("Transpose", out, site.origins, x=x.codes, perm=(1, 0))
    return replace(x, codes=out, shape=shape)


def _lower_matmul(site: Site) -> None:
    b = site.shape(1)
    if _constant_right(site):
        if len(b) == 1:
            site.leaf(1)  # refuses a scale per element
        weights = read_weights(site, 1, channel_axis=len(b) - 1)
        _product(site, site.leaf(0), np.atleast_2d(weights.codes.T), weights.scale)
        return
    _dynamic(site, site.leaf(0), site.leaf(1))


def _dynamic(site: Site, x: Leaf, y: Leaf, alpha: float = 1.0, added: float = 0.0) -> None:
    """Alpha · X · Y + `added`, of two computed operands."""
    if site.residual is not None:
        raise Refused("a product of two computed operands fuses no Add", "quantize its output")
    gain, beta = _even_affine(site)
    beta, gain = beta + gain * added, gain * alpha
    check_pair(site, x.dtype, y.dtype, site.march.matmul_pairs)
    a, b = _matrices(x.shape, y.shape)
    m, k, n = a[-2], a[-1], b[-1]
    batch = np.broadcast_shapes(a[:-2], b[:-2])
    left = _batched(site, x, a, batch)
    other = _batched(site, y, b, batch)
    reach = k * x.reach * y.reach
    attrs: dict[str, Any] = {"a_zero": x.z, "b_zero": y.z, "b_transposed": False, "wide": reach > INT32_MAX}
    size = int(np.prod(batch, dtype=np.int64))
    if site.out is None:
        if (gain, beta) != (1.0, 0.0):
            site.out_quant()
        _dynamic_raw(site, x, y, (left, other), (size, m, n), attrs)
        return
    unit = site.out_quant().s
    fixed = numerics.fixed_point_sum((gain * (x.s * y.s) / unit,), (float(min(reach, 2**31)),), beta / unit)
    low, high = site.bounds()
    out = site.rw.value(f"{site.target}/bmn", (size, m, n), site.out_dtype, site.quant())
    site.rw.bpu(
        "MatMul",
        out,
        site.origins,
        site.node.name,
        a=left,
        b=other,
        mult=fixed.multipliers[0].item(),
        offset=fixed.offset.item(),
        shift=fixed.shift.item(),
        zero=site.out_quant().z,
        lo=low,
        hi=high,
        raw=False,
        **attrs,
    )
    site.rw.set_quant(site.target, site.quant())
    site.rw.bpu("Reshape", site.target, site.origins, x=out)


def _matrices(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of two operands where a vector on the left is a row, and one on the right a column."""
    return (1,) * (2 - len(a)) + a, b if len(b) > 1 else (*b, 1)


def _even_affine(site: Site) -> tuple[float, float]:
    """Gain and bias behind a product of two computed operands, whose columns share one requantization."""
    if site.affine is None:
        return 1.0, 0.0
    require_finite(*site.affine)
    if any(np.ptp(part) for part in site.affine):
        fix = "use one value for all columns, or quantize the output of the product"
        raise Refused("a product of two computed operands takes no constant per column", fix)
    return float(site.affine[0][0]), float(site.affine[1][0])


def _dynamic_raw(
    site: Site,
    x: Leaf,
    y: Leaf,
    inputs: tuple[str, str],
    shape: tuple[int, int, int],
    attrs: dict[str, Any],
) -> None:
    if np.isfinite(site.clamp).any():
        raise Refused("its output is not quantized, so nothing can be fused behind it", "quantize the output")
    out = site.rw.value(f"{site.target}/bmn", shape, "int32")
    a, b = inputs
    site.rw.bpu("MatMul", out, site.origins, site.node.name, a=a, b=b, raw=True, **attrs)
    scale = np.array([x.s * y.s], np.float32)
    emit_dequantized(site, out, scale, lambda codes, target: _back(site, codes, target))


def _batched(site: Site, leaf: Leaf, shape: tuple[int, ...], batch: tuple[int, ...]) -> str:
    """Return the operand as [B, rows, cols], B = 1 or the product of the batch axes."""
    own = shape[:-2]  # of the operand as a matrix
    size = int(np.prod(own, dtype=np.int64))
    total = int(np.prod(batch, dtype=np.int64))
    codes = leaf.codes
    if size not in (1, total):
        full = (*batch, *shape[-2:])
        value = site.rw.values[codes]
        expanded = site.rw.value(f"{codes}/batch", full, value.dtype, value.quant)
        site.rw.bpu("Expand", expanded, site.origins, x=codes)
        codes, size = expanded, total
    return _reshaped(site, codes, (size, *shape[-2:]))


def _left(site: Site) -> tuple[int, ...]:
    """The shape of the left operand as it is multiplied."""
    shape = site.shape(0)
    return shape[::-1] if site.node.op == "Gemm" and site.node.attrs.get("transA", 0) else shape


def _k(site: Site) -> Violation:
    key = "conv_taps_max" if _constant_right(site) else "matmul_k_max"
    return in_range(_left(site)[-1], 1, site.limit(key))


def _constant_right(site: Site) -> bool:
    """Whether the product is a convolution over rows, of which the columns are split."""
    right = site.leaf_or_none(site.node.inputs[1])
    return right is not None and right.const is not None and len(right.shape) in (1, 2)


def _n(site: Site) -> Violation:
    key = "binary_channels_max" if _constant_right(site) else "matmul_n_max"
    return in_range(site.out_shape()[-1] if len(site.shape(1)) > 1 else 1, 1, site.limit(key))


def _m(site: Site) -> Violation:
    shape = _left(site)
    key = "conv_size_max" if _constant_right(site) else "matmul_m_max"
    return in_range(shape[-2] if len(shape) > 1 else 1, 1, site.limit(key))


_LIMITS = (
    Limit("M (rows) must be 1..{matmul_m_max}, or 1..{conv_size_max} by a constant", _m, ROWS),
    Limit(
        "K (inner dimension) must be 1..{matmul_k_max}, or 1..{conv_taps_max} by a constant",
        _k,
        "split K, quantize the partial products and add them",
    ),
    Limit(
        "N (columns) must be 1..{matmul_n_max}, or 1..{binary_channels_max} of a constant",
        _n,
        COLUMNS,
    ),
)
_DTYPES = "int8 × int8, int8 × int16, int16 × int8 → int8, int16, int32"

RULES = (
    OpRule(
        "Gemm",
        "TAE",
        _DTYPES,
        _lower_gemm,
        _LIMITS,
        fuses=True,
        raw=True,
        note="a C that is no bias is quantized, or of at most 64 rows; beside a computed B it is a number",
    ),
    OpRule(
        "MatMul",
        "TAE",
        _DTYPES,
        _lower_matmul,
        _LIMITS,
        fuses=True,
        raw=True,
        note="vectors too; by a constant, rows and columns are split, and K is taps",
    ),
)


@form(MatMul, "a b table?", geometry="a_batch b_batch m k n")
def _matmul(b: Builder, node: Node) -> None:
    (a_batch, m, k), (b_batch, *sides) = b.shape(operand(node, "a")), b.shape(operand(node, "b"))
    n = sides[0] if node.attrs["b_transposed"] else sides[1]
    b.push(node, a_batch=a_batch, b_batch=b_batch, m=m, k=k, n=n)
