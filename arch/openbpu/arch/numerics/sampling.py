"""Where a grid of codes points to in an image, and which pixels lie around there."""

from __future__ import annotations

import numpy as np

from openbpu.arch.arrays import Array, Int64
from openbpu.arch.numerics.between import WEIGHT_BITS
from openbpu.arch.numerics.fixed import fixed_point_sum, round_shift

POSITION_BITS = 20
"""Fraction bits of a position in pixels: half a pixel of int8 codes 512 times finer than they are.

That few, too, that a position half-way between two pixels is one although the scale of the grid is a rounded
number: the nearest pixel is then the even one, as in float32.
"""
MAX_FINER_SAMPLE = 2.0**9
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


def pixels_around(position: Int64) -> tuple[Int64, Int64, Int64]:
    """Return the pixels before and behind positions, and the weight of the second in WEIGHT_BITS bits."""
    first = position >> POSITION_BITS
    rest = position - (first << POSITION_BITS)
    return first, first + 1, rest << (WEIGHT_BITS - POSITION_BITS)


def pixels_inside(pixels: Int64, length: int) -> tuple[Int64, Array]:
    """Return the nearest pixels of the image, and which of them are the ones asked for."""
    return np.clip(pixels, 0, length - 1), (pixels >= 0) & (pixels < length)
