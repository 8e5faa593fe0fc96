"""Facts about the integer arithmetic, each against exact rational numbers or printed values."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType

LIMIT = 5 << 60  # 1.25 · 2^62
SHIFTS = st.integers(0, numerics.MAX_SHIFT)
INT64 = np.iinfo(np.int64)


def as_array(values: list[int]) -> npt.NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


@given(values=st.lists(st.integers(-LIMIT, LIMIT), min_size=1, max_size=20), shift=SHIFTS)
@example(values=[1, 3, -1, -3, 5, 2], shift=1)
@example(values=[LIMIT, -LIMIT, 1 << 61, 3 << 60, -(1 << 61)], shift=62)
def test_round_shift_rounds_half_to_even(values: list[int], shift: int) -> None:
    expected = [round(Fraction(v, 1 << shift)) for v in values]
    assert numerics.round_shift(as_array(values), shift).tolist() == expected


@given(
    values=st.lists(st.integers(-LIMIT, LIMIT), min_size=1, max_size=8),
    shift=SHIFTS,
    zero=st.integers(-128, 127),
    bounds=st.sampled_from([(-128, 127), (-32768, 32767), (0, 100), (-(2**31), 2**31 - 1)]),
)
def test_requantize_rounds_then_adds_zero_then_clamps(
    values: list[int], shift: int, zero: int, bounds: tuple[int, int]
) -> None:
    lo, hi = bounds
    expected = [min(max(round(Fraction(v, 1 << shift)) + zero, lo), hi) for v in values]
    assert numerics.requantize(as_array(values), shift, zero, lo, hi).tolist() == expected


def test_shift_may_differ_by_channel() -> None:
    got = numerics.round_shift(as_array([3, 6, 12, 24]), as_array([0, 1, 2, 3]))
    assert got.tolist() == [3, 3, 3, 3]


@given(factor=st.floats(2.0**-32, 2.0**31, exclude_max=True), sign=st.sampled_from([1, -1]))
@example(factor=1.0, sign=1)
@example(factor=1.0 - 2.0**-53, sign=-1)
@example(factor=2.0**-32, sign=1)
@example(factor=2.0**31 - 1, sign=1)
def test_fixed_point_is_within_2_to_minus_31(factor: float, sign: int) -> None:
    assume(np.rint(factor) < 2**31)
    mult, shift = numerics.fixed_point(sign * factor)
    assert 2**30 <= abs(int(mult[0])) < 2**31
    assert 0 <= shift[0] <= numerics.MAX_SHIFT
    error = abs(Fraction(int(mult[0]), 1 << int(shift[0])) - Fraction(sign * factor))
    assert error <= Fraction(factor) / 2**31


@given(factor=st.floats(0, 2.0**-32))
def test_tiny_factor_keeps_the_largest_shift(factor: float) -> None:
    mult, shift = numerics.fixed_point(factor)
    assert abs(Fraction(int(mult[0]), 1 << int(shift[0])) - Fraction(factor)) <= Fraction(1, 1 << 63)


def test_fixed_point_of_zero_is_zero() -> None:
    assert numerics.fixed_point(0.0)[0].tolist() == [0]


@pytest.mark.parametrize("factor", [2.0**31, 1e30, -(2.0**32), np.inf, -np.inf, np.nan])
def test_factor_that_cannot_be_is_refused(factor: float) -> None:
    with pytest.raises(OverflowError):
        numerics.fixed_point(factor)


def test_fixed_point_works_per_channel() -> None:
    factors = np.array([0.5, 3.0, 1e-3, 0.0])
    mult, shift = numerics.fixed_point(factors)
    assert np.allclose(mult / 2.0**shift, factors, rtol=2.0**-31)


factor = st.floats(-1e4, 1e4).filter(lambda f: f == 0 or abs(f) > 1e-12)


@given(
    factors=st.tuples(factor, factor),
    bounds=st.tuples(st.integers(1, 1 << 40), st.integers(1, 1 << 40)),
    offset=st.floats(-1e9, 1e9),
)
def test_no_sum_within_its_bounds_leaves_64_bits(
    factors: tuple[float, float], bounds: tuple[int, int], offset: float
) -> None:
    fixed = numerics.fixed_point_sum(factors, bounds, offset)
    mults, off = [int(m[0]) for m in fixed.multipliers], int(fixed.offset[0])
    shift = int(fixed.shift[0])
    largest = sum(abs(m) * b for m, b in zip(mults, bounds, strict=True)) + abs(off)
    assert largest + (1 << max(shift - 1, 0)) <= INT64.max


@given(factors=st.tuples(factor, factor), offset=st.floats(-1e6, 1e6))
def test_terms_share_one_shift_and_round_to_it(factors: tuple[float, float], offset: float) -> None:
    fixed = numerics.fixed_point_sum(factors, (1 << 15, 1 << 15), offset)
    half = Fraction(1, 2 << int(fixed.shift[0]))
    for value, wanted in zip((*fixed.multipliers, fixed.offset), (*factors, offset), strict=True):
        assert abs(Fraction(int(value[0]), 1 << int(fixed.shift[0])) - Fraction(wanted)) <= half


@given(factors=st.tuples(factor, factor))
@example(factors=(78_000.0, 1.0))  # a mask of -10,000 in front of scores in steps of 0.001
def test_every_term_of_a_sum_has_31_bits_where_they_fit(factors: tuple[float, float]) -> None:
    fixed = numerics.fixed_point_sum(factors, (1 << 15, 1 << 15), every=True)
    fits = max(map(abs, factors)) * 2.0**47 < min(map(abs, factors)) * 2.0**62
    if fits and min(map(abs, factors)) > 2.0**-31:
        assert min(abs(int(m[0])) for m in fixed.multipliers) >= 1 << 30


@given(offset=st.floats(-(2.0**30), 2.0**30), bits=st.sampled_from([32, 40]))
@example(offset=2.0**20, bits=32)
@example(offset=-(2.0**20), bits=32)
@example(offset=2.0**20 - 2.0**-33, bits=32)
@example(offset=2.0**13, bits=32)
def test_offset_fits_the_bits_it_is_given(offset: float, bits: int) -> None:
    fixed = numerics.fixed_point_sum((1e-6,), (1 << 31,), offset, offset_bits=bits)
    assert -(1 << (bits - 1)) <= int(fixed.offset[0]) < 1 << (bits - 1)


@pytest.mark.parametrize("offset", [1.0, 1.2, -1.2, 2.0**20, -(2.0**20), 1.2 * 2.0**30, 2.0**40])
def test_offset_has_63_bits_unless_it_is_given_fewer(offset: float) -> None:
    """The sum may reach 1.25 · 2⁶²."""
    fixed = numerics.fixed_point_sum((0.0,), (1 << 31,), offset)
    assert 1 << 61 <= abs(int(fixed.offset[0])) < 1 << 62
    assert int(fixed.offset[0]) * 2.0 ** -int(fixed.shift[0]) == pytest.approx(offset, rel=1e-15)


# The reference values that the QAT plugin's own documentation prints.
@pytest.mark.parametrize(
    ("largest", "scale", "shown"),
    [(60.5, 0.0018463, 60.4991), (70000.0, 2.1363, 6.9999e4), (1.0, 3.0518e-05, 1.0)],
)
def test_observed_scale_of_int16_and_what_reads_back(largest: float, scale: float, shown: float) -> None:
    s = numerics.observed_scale(largest, DType.INT16)
    assert float(f"{float(s):.5g}") == scale
    x = np.array([largest], dtype=np.float32)
    back = numerics.dequantize(numerics.quantize(x, s, 0, DType.INT16), s)
    assert float(back[0]) == pytest.approx(shown, rel=2e-6 if largest < 1e4 else 1e-5, abs=3.1e-5)


def test_observed_scale_of_int8_divides_by_127_and_a_half() -> None:
    assert float(numerics.observed_scale(127.5)) == 1.0


@given(
    x=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=10),
    scale=st.floats(2.0**-20, 2.0**10, width=32),
    zero=st.integers(-10, 10),
    dtype=st.sampled_from([DType.INT8, DType.INT16, DType.INT32]),
)
def test_quantize_rounds_the_float32_quotient_half_to_even_and_saturates(
    x: list[float], scale: float, zero: int, dtype: DType
) -> None:
    values = np.array(x, dtype=np.float32)
    got = numerics.quantize(values, np.float32(scale), zero, dtype)
    for value, q in zip(values, got.tolist(), strict=True):
        # Double rounding is innocent: 53 bits are more than 2 · 24 + 2.
        quotient = Fraction(float(np.float32(float(value) / float(np.float32(scale)))))
        assert q == min(max(round(quotient) + zero, dtype.qmin), dtype.qmax)
    assert got.dtype == dtype.numpy


@given(x=st.floats(-1e6, 1e6), scale=st.floats(2.0**-20, 2.0**10, width=32), zero=st.integers(-10, 10))
def test_nearest_rounds_the_true_quotient(x: float, scale: float, zero: int) -> None:
    got = int(numerics.nearest(x, np.float32(scale), zero, DType.INT32))
    exact = round(Fraction(x / float(np.float32(scale)))) + zero
    assert got == min(max(exact, DType.INT32.qmin), DType.INT32.qmax)


def test_codes_are_int8_without_a_zero_point_unless_others_are_asked_for() -> None:
    for made in (numerics.nearest, numerics.quantize):
        codes = made(np.array([0, 0.5, -99], np.float32), np.float32(0.25))
        assert (codes.tolist(), codes.dtype.name) == ([0, 2, -128], "int8")


@pytest.mark.parametrize("factor", [1 / 255, None])
def test_pixels_get_the_codes_of_a_float32_division(factor: float | None) -> None:
    """Scale 1/127.5 puts every odd pixel beside a tie; float64 gives other codes for dozens of them."""
    pixels = np.arange(256, dtype=np.float32)
    x = pixels / np.float32(255) if factor is None else pixels * np.float32(factor)
    scale = np.float32(1 / 127.5)
    expected = np.minimum(np.rint(x / scale), 127)
    np.testing.assert_array_equal(numerics.quantize(x, scale), expected)
    assert (numerics.nearest(x, scale) != expected).sum() > 20


@pytest.mark.parametrize("scale", [1e-45, 1e-40, 1.17e-38, 3e38])
def test_quotients_beyond_float32_saturate(scale: float) -> None:
    x = np.array([3e38, -3e38, 1e-45, 0.0, np.inf], np.float32)
    with np.errstate(over="ignore", under="ignore"):
        expected = np.clip(np.rint(x / np.float32(scale)), -128, 127)
    np.testing.assert_array_equal(numerics.quantize(x, np.float32(scale)), expected)


@pytest.mark.parametrize(
    ("value", "q"), [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (1e30, 127), (-1e30, -128)]
)
def test_ties_go_to_even_and_nothing_wraps(value: float, q: int) -> None:
    assert numerics.quantize(np.array([value], np.float32), np.float32(1.0)).tolist() == [q]


@given(q=st.integers(-32768, 32767), scale=st.floats(2.0**-20, 2.0**10, width=32))
def test_what_is_dequantized_quantizes_to_itself(q: int, scale: float) -> None:
    codes = np.array([q], dtype=np.int16)
    real = numerics.dequantize(codes, np.float32(scale))
    assert real.dtype == np.float32
    assert numerics.quantize(real, np.float32(scale), 0, DType.INT16).tolist() == [q]


def test_products_beyond_float32_are_infinite() -> None:
    real = numerics.dequantize(np.array([-128, 0, 127], np.int8), np.float32(3e38))
    assert real.tolist() == [-np.inf, 0, np.inf]


def test_infinite_scales_of_forged_code_give_no_warning() -> None:
    real = numerics.dequantize(np.array([-128, 0], np.int8), np.float32(np.inf))
    assert real[0] == -np.inf
    assert np.isnan(real[1])


def test_dequantize_multiplies_in_float32() -> None:
    got = numerics.dequantize(np.array([3], dtype=np.int8), np.float32(0.1), 1)
    assert got[0] == np.float32(2) * np.float32(0.1)


@pytest.mark.parametrize("shape", [(0,), (3,), (3, 1), (3, 2)])
def test_the_constant_of_a_dequantize_holds_scales_with_or_without_offsets(shape: tuple[int, ...]) -> None:
    """[C] in the file, [C,1] from the exact simulator's memory, [C,2] with offsets."""
    constant = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
    scales, offsets = numerics.unpacked_scales(constant)
    both = len(shape) > 1 and shape[1] > 1
    np.testing.assert_array_equal(scales, constant[:, 0] if constant.ndim > 1 else constant)
    np.testing.assert_array_equal(offsets, constant[:, 1] if both else np.zeros(shape[0]))
