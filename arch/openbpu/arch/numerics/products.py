"""The factors of a convolution or matrix product: accumulator steps, bias, multiplier, residual."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Float64, Int64
from openbpu.arch.numerics.fixed import FixedPoint, fixed_point_sum

INT32_MAX = 2**31 - 1

_RAW_STEPS = 2**30

_HARM = 1e-6
"""By how many output steps the multipliers of a 32-bit offset may miss: a tenth of what counts as a tie."""


def product_factors(
    unit: Float64,
    bias: Float64,
    reach: Int64,
    zero_sum: Int64,
    out_scale: float,
    residual: tuple[float, float] | None = None,
) -> tuple[Int64, FixedPoint]:
    """Return the accumulator's bias and the fixed point of acc·unit (+ residual), in steps of `out_scale`.

    Per output channel: `unit` is what one accumulator step stands for, `bias` the real bias, `reach` the
    bound Σ|w|·max|code| of the accumulator, `zero_sum` Σw·x_zero. residual: (scale, largest |code|) of what
    is added. The bias is exact: its whole accumulator steps go to the accumulator, the rest to the
    offset, and all of it where the accumulator might overflow. An offset has 32 bits, or 64 where those
    of the multiplier would be lost. Raises OverflowError when the factors fit no fixed point.
    """
    whole, rest = _split_bias(bias, unit, INT32_MAX - reach)
    total = whole - zero_sum
    factors: tuple[npt.ArrayLike, ...] = (unit / out_scale,)
    bounds: tuple[npt.ArrayLike, ...] = (reach + np.abs(total),)
    if residual is not None:
        factors, bounds = (*factors, residual[0] / out_scale), (*bounds, residual[1])
    offset = rest / out_scale
    short = fixed_point_sum(factors, bounds, offset, offset_bits=32)
    missed = sum(_missed(short, i, f, b) for i, (f, b) in enumerate(zip(factors, bounds, strict=True)))
    return total, short if np.max(missed) <= _HARM else fixed_point_sum(factors, bounds, offset)


def _missed(fixed: FixedPoint, term: int, factor: npt.ArrayLike, bound: npt.ArrayLike) -> Float64:
    """By how many output steps the shift of a fixed point costs one of its terms, beyond its 31 bits."""
    real = np.broadcast_to(np.asarray(factor, np.float64), fixed.shift.shape)
    made = fixed.multipliers[term] * np.exp2(-fixed.shift.astype(np.float64))
    lost = np.abs(made - real) - np.abs(real) * 2.0**-31
    most: Float64 = np.maximum(lost, 0) * np.minimum(bound, 2.0**31)
    return most


def packed_params(bias: Int64, fixed: FixedPoint) -> npt.NDArray[np.int32]:
    """Return the parameters of a Conv, int32 [C,4] or [C,5] where some offset needs 64 bits."""
    params = np.zeros((bias.size, 5), np.int64)
    columns = (bias, fixed.multipliers[0], fixed.offset & 0xFFFFFFFF, fixed.shift, fixed.offset >> 32)
    for i, column in enumerate(columns):
        params[:, i] = column
    short = bool((fixed.offset == fixed.offset.astype(np.int32)).all())
    return params[:, : 4 if short else 5].astype(np.uint32).view(np.int32)


def unpacked_params(params: npt.NDArray[np.generic]) -> tuple[Int64, Int64, Int64, Int64]:
    """Return bias, multiplier, offset and shift of the parameters of a Conv, int64 [C] each."""
    bias, mult, offset, shift, *high = params.astype(np.int64).T
    if high:
        offset = (high[0] << 32) | (offset & 0xFFFFFFFF)
    return bias, mult, offset, shift


def raw_bias(unit: Float64, bias: Float64, zero_sum: Int64) -> tuple[Int64, npt.NDArray[np.float32]]:
    """Return bias and offset of a product that stays an accumulator: acc·unit + offset, per output channel.

    Arguments as in `product_factors`. Whole steps go to the accumulator, which is exact however the sum
    cancels; what is left, or a bias of more than 2**30 steps, is a float32 offset. It is 0 where it is less
    than the rounding of the bias itself to float32.
    """
    whole, rest = _split_bias(bias, unit, np.asarray(_RAW_STEPS))
    counts = np.abs(rest) > np.abs(bias) * 2.0**-23
    return whole - zero_sum, np.where(counts, rest, 0.0).astype(np.float32)


def _split_bias(real: Float64, unit: Float64, most: Int64) -> tuple[Int64, Float64]:
    """Split real biases into whole accumulator steps of `unit` and a remainder in reals.

    Channels whose unit is too small for the bias to be fewer than `most` steps (a BatchNorm gain near 0) keep
    all of it as remainder.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.where(unit == 0, np.inf, real / unit)
    fits = np.abs(steps) < most
    whole = np.where(fits, np.rint(np.where(fits, steps, 0)), 0).astype(np.int64)
    return whole, np.where(fits, real - whole * unit, real)
