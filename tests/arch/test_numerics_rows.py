"""Facts about row functions and tables: within their stated bound of float64, for every input."""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

LENGTHS = (1, 2, 3, 16, 100, 1000, 4096, 65535)
QUANTIZED = (DType.INT8, DType.INT16)


def rows(dtype: DType, length: int, spread: float) -> npt.NDArray[np.integer]:
    """A few rows: random over a share of the range, constant, one peak, alternating extremes."""
    rng = np.random.default_rng(length)
    random = rng.integers(round(dtype.qmin * spread), round(dtype.qmax * spread), (3, length), endpoint=True)
    peak = np.full(length, dtype.qmin)
    peak[length // 2] = dtype.qmax
    zigzag = np.where(np.arange(length) % 2, dtype.qmin, dtype.qmax)
    constant = np.full(length, dtype.qmax)
    return np.stack([*random, peak, zigzag, constant]).astype(dtype.numpy)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("source", QUANTIZED)
@pytest.mark.parametrize("target", QUANTIZED)
@pytest.mark.parametrize("scale", [0.001, 0.1, 3.0])
def test_softmax_is_the_real_value_nearly_rounded(
    length: int, source: DType, target: DType, scale: float
) -> None:
    x, out_scale = rows(source, length, 0.3), 1.0 / (target.qmax + 1)
    mult, shift = numerics.exp_factor(scale)
    out_mult, out_shift = numerics.fixed_point(1.0 / (out_scale * 2.0**31))
    got = numerics.softmax_rows(
        x,
        numerics.exp_table(),
        mult,
        shift,
        int(out_mult[0]),
        int(out_shift[0]),
        0,
        target.qmin,
        target.qmax,
    )
    real = x * np.float64(scale)
    e = np.exp(real - real.max(axis=1, keepdims=True))
    wanted = np.clip(e / e.sum(axis=1, keepdims=True) / out_scale, target.qmin, target.qmax)
    assert np.abs(got - wanted).max() <= 0.6


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("source", QUANTIZED)
@pytest.mark.parametrize("target", QUANTIZED)
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("spread", [0.05, 1.0])
def test_normalization_is_the_real_value_rounded(
    length: int, source: DType, target: DType, centred: bool, spread: float
) -> None:
    x = rows(source, length, spread)
    rng = np.random.default_rng(1)
    gain, bias = rng.uniform(0.3, 2, length), rng.uniform(-1, 1, length)
    out_scale, scale, epsilon = 8.0 / target.qmax, 0.05, 1e-5
    got = normalized(x, gain / out_scale, bias / out_scale, epsilon / scale**2, target, centred=centred)
    wide = x.astype(np.float64) * scale
    if centred:
        wide -= wide.mean(axis=1, keepdims=True)
    y = wide / np.sqrt((wide**2).mean(axis=1, keepdims=True) + epsilon) * gain + bias
    wanted = np.clip(y / out_scale, target.qmin, target.qmax)
    assert np.abs(got - wanted).max() <= 0.51


def normalized(
    x: npt.NDArray[np.integer], gain: Float64, bias: Float64, epsilon: float, target: DType, *, centred: bool
) -> Int64:
    """The integers of a normalization whose gain and bias are in output steps, epsilon in input steps²."""
    length = x.shape[1]
    unit = numerics.norm_unit(length, centred=centred)
    shift = int(numerics.fixed_point_sum((gain * unit,), (numerics.MAX_NORMALIZED,), bias).shift.min())
    mantissa, epsilon_shift = numerics.norm_epsilon(epsilon, length, centred=centred)
    return numerics.layernorm_rows(
        x,
        np.rint(gain * unit * 2.0**shift).astype(np.int64),
        np.rint(bias * 2.0**shift).astype(np.int64),
        mantissa,
        epsilon_shift,
        shift,
        0,
        target.qmin,
        target.qmax,
        centred=centred,
    )


def sigmoid(v: Float64) -> Float64:
    return 1 / (1 + np.exp(-v))


def gelu(v: Float64) -> Float64:
    erf = np.array([math.erf(x) for x in (v / math.sqrt(2)).tolist()])
    result: Float64 = 0.5 * v * (1 + erf)
    return result


# function, range of the input, range of the output, bound in int16 steps
FUNCTIONS: list[tuple[str, Callable[[Float64], Float64], float, float, float]] = [
    ("sigmoid", sigmoid, 8.0, 1.0, 4.0),
    ("tanh", np.tanh, 4.0, 1.0, 8.0),
    ("exp", np.exp, 4.0, 54.6, 4.0),
    ("gelu", gelu, 8.0, 8.0, 2.0),
    ("swish", lambda v: v * sigmoid(v), 8.0, 8.0, 2.0),
    ("abs", np.abs, 1.0, 1.0, 1.0),
    ("line", lambda v: 0.3 * v, 1.0, 0.3, 0.51),
    ("step", lambda v: np.where(v > 0.25, 1.0, -1.0), 1.0, 1.0, 0.51),
    ("sqrt", lambda v: np.sqrt(np.maximum(v, 0)), 1.0, 1.0, 3.0),
]


@pytest.mark.parametrize(
    ("name", "function", "x_range", "y_range", "bound"), FUNCTIONS, ids=[f[0] for f in FUNCTIONS]
)
def test_segment_table_is_within_its_bound_for_all_inputs(
    name: str, function: Callable[[Float64], Float64], x_range: float, y_range: float, bound: float
) -> None:
    codes = numerics.codes(DType.INT16)
    real: Float64 = codes.astype(np.float64) * (x_range / 32767.5)
    target = function(real) / (y_range / 32767.5)
    table = numerics.segment_table(target, -32768, 32767)
    assert table.shape[1] == 4
    assert len(table) <= numerics.MAX_SEGMENTS
    assert table[0, 0] == -32768
    assert (np.diff(table[:, 0]) > 0).all()
    got = numerics.segment_lut(codes.astype(np.int16), table, -32768, 32767)
    assert np.abs(got - np.clip(target, -32768, 32767)).max() <= bound


def test_segment_lut_is_the_line_of_the_segment_rounded_half_to_even() -> None:
    table = np.array([[-32768, 5, 3, 1], [0, -7, -1, 2], [100, 12345, 77, 5]], dtype=np.int64)
    x = np.array([-32768, -32767, -1, 0, 1, 2, 3, 99, 100, 101, 32767], dtype=np.int16)
    expected = []
    for value in x.tolist():
        first, base, slope, shift = table[np.searchsorted(table[:, 0], value, side="right") - 1].tolist()
        expected.append(min(max(round(Fraction(base + (value - first) * slope, 1 << shift)), -100), 32767))
    assert numerics.segment_lut(x, table, -100, 32767).tolist() == expected


def test_exp_table_halves_from_end_to_end() -> None:
    table = numerics.exp_table()
    assert table.shape == (numerics.EXP_ENTRIES,)
    assert (table[0], table[-1]) == (1 << 30, 1 << 29)
    assert (np.diff(table) < 0).all()


@pytest.mark.parametrize("dtype", QUANTIZED)
def test_codes_are_all_codes_in_order(dtype: DType) -> None:
    assert numerics.codes(dtype).tolist() == list(range(dtype.qmin, dtype.qmax + 1))
