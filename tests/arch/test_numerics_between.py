"""Facts about linear interpolation: within its bound of float64, whatever the weights and the scales."""

import numpy as np
import pytest

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType

QUANTIZED = (DType.INT8, DType.INT16)


@pytest.mark.parametrize("source", QUANTIZED)
@pytest.mark.parametrize("target", QUANTIZED)
@pytest.mark.parametrize("zero", [0, -1])
@pytest.mark.parametrize("finer", [2.0**-12, 0.01, 1.0, 10.0, 300.0, numerics.MAX_FINER])
def test_interpolation_is_within_one_step(source: DType, target: DType, zero: int, finer: float) -> None:
    x_zero = source.qmin if zero else 0
    rng = np.random.default_rng(7)
    x = rng.integers(source.qmin, source.qmax, (4, 20000), endpoint=True)
    # Neighbours of opposite sign and near the point where they cancel: what a fine scale can still tell.
    x[1] = np.clip(2 * x_zero - x[0] + rng.integers(-3, 4, 20000), source.qmin, source.qmax)
    x[3] = np.clip(2 * x_zero - x[2], source.qmin, source.qmax)
    x = x - x_zero
    f, g = rng.random(20000), rng.random(20000)
    g[:10000] = np.clip(0.5 + (g[:10000] - 0.5) / finer, 0, 1)
    reach = float(np.abs(x).max())
    unit = 2.0**numerics.BETWEEN_BITS
    fixed = numerics.fixed_point_sum((finer / unit,), (reach * unit,))
    across = numerics.WEIGHT_BITS - numerics.BETWEEN_BITS
    top, bottom = (numerics.between(x[i], x[i + 1], numerics.weights(g), across) for i in (0, 2))
    v = numerics.between(top, bottom, numerics.weights(f), numerics.WEIGHT_BITS)
    got = numerics.requantize(v * fixed.multipliers[0], fixed.shift, 0, target.qmin, target.qmax)
    real = (1 - f) * ((1 - g) * x[0] + g * x[1]) + f * ((1 - g) * x[2] + g * x[3])
    error = np.abs(got - np.clip(real * finer, target.qmin, target.qmax)).max()
    assert error <= (0.505 if finer <= 10 else 1.0)


def test_halves_and_quarters_are_exact() -> None:
    x = np.array([3, 3, 3, -3]), np.array([8, 8, 8, 8])
    weights = numerics.weights([0.25, 0.5, 1.0, 0.75])
    assert (numerics.between(*x, weights, 15) / 2**15).tolist() == [4.25, 5.5, 8.0, 5.25]
