"""Float to integer and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openbpu.arch.dtypes import DType

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.integer]


def quantize(
    x: npt.ArrayLike, scale: npt.ArrayLike, zero_point: npt.ArrayLike = 0, dtype: DType = DType.INT8
) -> Integers:
    """Return clamp(round_half_even(x / scale) + zero_point) in `dtype`: QuantizeLinear of a float32 tensor.

    `x` is float32 of any shape; `scale` (> 0, the value of its float32) and `zero_point` broadcast against
    it. The division is done in float32, the type of the scale, as ONNX has it; a quotient too large for it
    saturates. NaN has no integer: callers refuse it first.
    """
    with np.errstate(over="ignore", under="ignore"):
        quotient: Floats = np.divide(x, scale, dtype=np.float32, casting="same_kind")
    return _coded(quotient, zero_point, dtype)


def nearest(
    x: npt.ArrayLike, scale: npt.ArrayLike, zero_point: npt.ArrayLike = 0, dtype: DType = DType.INT8
) -> Integers:
    """As `quantize`, of real numbers that no float32 tensor holds: divided in float64.

    A bias in accumulator steps, or codes on another grid, whose reals ONNX rounds nowhere on the way.
    """
    return _coded(np.asarray(x, np.float64) / np.asarray(scale, np.float64), zero_point, dtype)


def _coded(quotient: Floats, zero_point: npt.ArrayLike, dtype: DType) -> Integers:
    q = np.rint(quotient).astype(np.float64) + np.asarray(zero_point)
    codes: Integers = np.clip(q, dtype.qmin, dtype.qmax).astype(dtype.numpy)
    return codes


def dequantize(
    q: Integers, scale: npt.ArrayLike, zero_point: npt.ArrayLike = 0, offset: npt.ArrayLike = 0.0
) -> npt.NDArray[np.float32]:
    """Return (q - zero_point) * scale + offset, in float32: the only float arithmetic a BPU result sees.

    The offset is what a bias has left beside whole steps of an accumulator; it is 0 for codes. A product too
    large for float32 is infinite, as in ONNX; 0 times the infinite scale that forged code may load is NaN.
    """
    shifted = np.asarray(q).astype(np.int64) - np.asarray(zero_point, dtype=np.int64)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        real: npt.NDArray[np.float32] = shifted.astype(np.float32) * np.asarray(scale, dtype=np.float32)
        return real + np.asarray(offset, dtype=np.float32)


def unpacked_scales(constant: npt.NDArray[np.generic]) -> tuple[Floats, Floats]:
    """Return scales and offsets, float32 [C] each, of the constant of a Dequantize: [C], or [C,2] of both."""
    columns = constant.astype(np.float32).reshape(constant.shape[0], *(constant.shape[1:] or (1,)))
    scales = columns[:, 0]
    return scales, columns[:, 1] if columns.shape[1] > 1 else np.zeros_like(scales)


def observed_scale(max_abs: npt.ArrayLike, dtype: DType = DType.INT8) -> npt.NDArray[np.float32]:
    """Return the symmetric scale of an observed range: max|x| / ((qmax - qmin) / 2), so 127.5 for int8."""
    return (np.asarray(max_abs, dtype=np.float64) / ((dtype.qmax - dtype.qmin) / 2)).astype(np.float32)
