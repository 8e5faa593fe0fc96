"""The factors of a convolution or matrix product: accumulator steps, bias, multiplier, residual."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openbpu.arch.numerics.fixed import FixedPoint, fixed_point_sum

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

INT32_MAX = 2**31 - 1


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
    offset. Raises OverflowError when the factors fit no fixed point.
    """
    whole, rest = _split_bias(bias, unit, reach)
    total = whole - zero_sum
    factors: tuple[npt.ArrayLike, ...] = (unit / out_scale,)
    bounds: tuple[npt.ArrayLike, ...] = (reach + np.abs(total),)
    if residual is not None:
        factors, bounds = (*factors, residual[0] / out_scale), (*bounds, residual[1])
    return total, fixed_point_sum(factors, bounds, rest / out_scale, offset_bits=32)


def _split_bias(real: Float64, unit: Float64, reach: Int64) -> tuple[Int64, Float64]:
    """Split real biases into whole accumulator steps of `unit` and a remainder in reals.

    Channels whose unit is too small for the bias to fit int32 (a BatchNorm gain near 0) keep all of it as
    remainder.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.where(unit == 0, np.inf, real / unit)
    fits = np.abs(steps) + reach < INT32_MAX
    whole = np.where(fits, np.rint(np.where(fits, steps, 0)), 0).astype(np.int64)
    return whole, np.where(fits, real - whole * unit, real)
