"""Matrix products."""

from __future__ import annotations

import numpy as np

from openbpu.evaluation.reference.kernel import Array, Call, kernel


@kernel("MatMul")
def matmul(call: Call) -> Array:
    """Numpy's matmul is ONNX's."""
    return np.asarray(np.matmul(call[0], call[1]))


def gemm(call: Call, a: Array, b: Array, c: Array | None) -> Array:
    """``alpha * A' B' + beta * C``."""
    a = a.T if call.attr("transA", 0) else a
    b = b.T if call.attr("transB", 0) else b
    product: Array = call.real("alpha", 1.0) * np.matmul(a, b)
    return product if c is None else np.asarray(product + call.real("beta", 1.0) * c)


@kernel("Gemm")
def gemm_float(call: Call) -> Array:
    """Gemm as the specification has it."""
    return gemm(call, call[0], call[1], call.get(2))


def _along(zero: Array | None, axis: int, rank: int) -> Array:
    """A zero point per row (axis -2) or per column (axis -1) of a matrix of this rank."""
    if zero is None:
        return np.zeros((), np.int64)
    if zero.ndim != 1:
        return zero.astype(np.int64)
    shape = [1] * rank
    shape[axis] = -1
    return zero.astype(np.int64).reshape(shape)


@kernel("MatMulInteger")
def matmul_integer(call: Call) -> Array:
    """Product of the integers minus their zero points, to int32."""
    a, b = call[0].astype(np.float64), call[1].astype(np.float64)
    a = a - _along(call.get(2), -2, a.ndim)
    b = b - _along(call.get(3), -1, b.ndim)
    return np.asarray(np.matmul(a, b).astype(np.int32))


@kernel("Einsum")
def einsum(call: Call) -> Array:
    """Numpy's einsum is ONNX's."""
    operands = [call[i] for i in range(len(call.inputs))]
    return np.asarray(np.einsum(call.attrs["equation"].replace(" ", ""), *operands))
