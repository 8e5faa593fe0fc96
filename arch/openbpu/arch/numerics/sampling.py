"""Where a grid of codes points to in an image, and which pixels lie around there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from openbpu.arch.arrays import Array, Int64
from openbpu.arch.numerics.between import BETWEEN_BITS, WEIGHT_BITS, between
from openbpu.arch.numerics.fixed import fixed_point_sum, round_shift

POSITION_BITS = 20
"""Fraction bits of a position in pixels: enough for samples of int8 codes on a scale 1,024 times finer.

And so few that a position half-way between two pixels is one although the scale of the grid is a rounded
number: the nearest pixel is then the even one, as in float32.
"""
MAX_FINER_SAMPLE = 2.0**10
"""How much finer than its input's the scale of samples may be: errors stay below half a step."""


def position_factors(scale: float, zero: int, length: int, *, corners: bool) -> tuple[int, int, int]:
    """Return (mult, offset, shift) by which `positions` turns codes of a grid into pixels 0..length − 1.

    −1 and 1 are the centres of the outermost pixels if `corners`, else their outer edges. Raises
    OverflowError where a step of the grid is 2,048 pixels or more.
    """
    unit = 2.0**POSITION_BITS
    span = (length - 1 if corners else length) / 2
    fixed = fixed_point_sum((scale * span * unit,), (2.0**16,), (length - 1) / 2 * unit)
    mult = int(fixed.multipliers[0][0])
    return mult, int(fixed.offset[0]) - zero * mult, int(fixed.shift[0])


def positions(codes: Int64, mult: int, offset: int, shift: int) -> Int64:
    """Return rhe((codes·mult + offset) / 2^shift): pixels of POSITION_BITS fraction bits."""
    return round_shift(codes * mult + offset, shift)


def clamped_positions(position: Int64, length: int, *, border: bool) -> Int64:
    """Return positions; with `border` the nearest in the image of those outside, 0..length − 1 pixels."""
    return np.clip(position, 0, (length - 1) << POSITION_BITS) if border else position


def pixels_inside(pixels: Int64, length: int) -> tuple[Int64, Array]:
    """Return the nearest pixels of the image, and which of them are the ones asked for."""
    return np.clip(pixels, 0, length - 1), (pixels >= 0) & (pixels < length)


Pixels = Callable[[Int64, Int64], Int64]
"""The channels at rows and columns of an image, less its zero point; 0 outside of it."""


def sampled(pixels: Pixels, row: Int64, column: Int64, *, linear: bool) -> Int64:
    """Return what lies at positions: the nearest pixel, or in Q15 what lies between the four around it."""
    if not linear:
        return pixels(round_shift(row, POSITION_BITS), round_shift(column, POSITION_BITS))
    above, f = _whole_and_weight(row)
    left, g = _whole_and_weight(column)
    upper, lower = (
        between(pixels(y, left), pixels(y, left + 1), g[..., None], WEIGHT_BITS - BETWEEN_BITS)
        for y in (above, above + 1)
    )
    return between(upper, lower, f[..., None], WEIGHT_BITS)


def pixels_read(position: Int64, length: int, *, linear: bool) -> tuple[Int64, Int64]:
    """Return the first and the last pixel of the image that `sampled` asks for at positions."""
    first = position >> POSITION_BITS if linear else round_shift(position, POSITION_BITS)
    return pixels_inside(first, length)[0], pixels_inside(first + int(linear), length)[0]


def _whole_and_weight(position: Int64) -> tuple[Int64, Int64]:
    """The pixel before a position, and the weight of the one behind it, in WEIGHT_BITS bits."""
    first = position >> POSITION_BITS
    return first, (position - (first << POSITION_BITS)) << (WEIGHT_BITS - POSITION_BITS)
