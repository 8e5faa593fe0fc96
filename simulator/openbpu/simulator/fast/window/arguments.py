"""Windows and axes. A kind is the size of an element in bytes."""

from __future__ import annotations

from openbpu.simulator.fast.declaration import Address, Arguments, Int16s, Record, Table

SUM, MAX, MIN = range(3)
"""How values of a window, or of an axis, become one."""


class Count(Record):
    """How a sum over so many values is scaled."""

    mult: int
    shift: int


class Between(Record):
    """Where a row, or a column, of y lies between two of x; `weight` is that of the second."""

    first: int
    second: int
    weight: int


class Pool(Arguments):
    """Units are (output pixel, block of channels)."""

    x: Address
    x_kind: int
    y: Address
    y_kind: int
    fn: int
    """SUM or MAX."""
    height: int
    width: int
    channels: int
    out_height: int
    out_width: int
    kernel_height: int
    kernel_width: int
    stride_down: int
    stride_right: int
    top: int
    left: int
    bottom: int
    right: int
    dilation_down: int
    dilation_right: int
    counts: Table[Count]
    """By the number of values; for a MAX the first."""
    count_pad: int
    """1: padding counts as values."""
    per_pixel: int
    """Units of one pixel."""
    x_zero: int
    zero: int
    lo: int
    hi: int


class MaxPoolBytes(Arguments):
    """Max pool of int8 that only clamps; every window meets the input. Units are output pixels."""

    x: Address
    y: Address
    height: int
    width: int
    channels: int
    out_height: int
    out_width: int
    kernel_height: int
    kernel_width: int
    stride_down: int
    stride_right: int
    top: int
    left: int
    dilation_down: int
    dilation_right: int
    lo: int
    hi: int


class Reduce(Arguments):
    """The middle axis of x [·, length, inner]."""

    x: Address
    x_kind: int
    y: Address
    y_kind: int
    fn: int
    """SUM, MAX or MIN."""
    length: int
    inner: int
    per_row: int
    """Blocks of `inner`."""
    x_zero: int
    mult: int
    shift: int
    zero: int
    lo: int
    hi: int


class Resize(Arguments):
    """Bilinear."""

    x: Address
    x_kind: int
    y: Address
    y_kind: int
    height: int
    width: int
    channels: int
    out_height: int
    out_width: int
    rows: Table[Between]
    columns: Table[Between]
    x_zero: int
    mult: int
    shift: int
    zero: int
    lo: int
    hi: int


class Sampled(Arguments):
    """x [·, height, width, channels] at the points (column, row) of an int16 grid. Units are rows of y.

    A code g is the position (g·mult + offset) / 2^shift in pixels of 20 fraction bits.
    """

    x: Address
    x_kind: int
    grid: Int16s
    y: Address
    y_kind: int
    linear: int
    """0: the nearest pixel."""
    border: int
    """1: points outside lie on the border; 0: they read zeros."""
    height: int
    width: int
    channels: int
    out_height: int
    out_width: int
    column_mult: int
    column_offset: int
    column_shift: int
    row_mult: int
    row_offset: int
    row_shift: int
    x_zero: int
    mult: int
    shift: int
    zero: int
    lo: int
    hi: int
