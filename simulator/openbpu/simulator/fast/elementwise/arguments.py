"""Element by element. A kind is the size of an element in bytes: 1 = int8, 2 = int16, 4 = int32."""

from __future__ import annotations

from openbpu.simulator.fast.declaration import Address, Arguments, Code, Float32s, Int64s

ADD, MUL, MAX, MIN, PRELU = range(5)
"""Functions of Binary."""


class Binary(Arguments):
    """y = table[requantize(fn(a, b))] over broadcast axes, in blocks of the rows of the last axis."""

    a: Address
    a_kind: int
    b: Address
    b_kind: int
    y: Address
    y_kind: int
    fn: int
    """ADD … PRELU."""
    rank: int
    shape: Int64s
    a_strides: Int64s
    """In elements."""
    b_strides: Int64s
    per_row: int
    """Blocks of a row."""
    length: int
    """Elements of a row."""
    a_zero: int
    b_zero: int
    mult_a: int
    mult_b: int
    offset: int
    shift: int
    zero: int
    lo: int
    hi: int
    table: Address
    """256 entries as y, or 0."""


class BinaryPacked(Arguments):
    """Add or multiply bytes by `elementwise.vector64`."""

    code: Code
    a: Address
    a_pitch: int
    """Bytes from row to row; 0: all rows have the same a."""
    b: Address
    b_pitch: int
    params: Address
    y: Address
    length: int
    """Elements of a row."""
    per_row: int
    """Chunks of a row."""
    consts: Address


class LutPacked(Arguments):
    """Bytes by a table of bytes that is held in registers."""

    code: Code
    x: Address
    y: Address
    count: int
    consts: Address


class Rescale(Arguments):
    """y = requantize((x − x_zero)·mult + offset); rows of y may have gaps between them (Concat)."""

    x: Address
    x_kind: int
    y: Address
    y_kind: int
    length: int
    """Elements of a row."""
    per_row: int
    """Blocks of a row."""
    pitch: int
    """Elements from row to row of y."""
    x_zero: int
    mult: int
    offset: int
    shift: int
    zero: int
    lo: int
    hi: int


class Lut(Arguments):
    """y = table[x + bias]."""

    x: Address
    x_kind: int
    y: Address
    y_kind: int
    table: Address
    bias: int


class Quantize(Arguments):
    """y = clamp(rint(x / scale) + zero)."""

    x: Float32s
    y: Address
    y_kind: int
    scale: Float32s
    """One float32."""
    zero: int
    lo: int
    hi: int


class Dequantize(Arguments):
    """y = (x − x_zero)·scale + offset for the rows of x [·, channels, length]."""

    x: Address
    x_kind: int
    y: Float32s
    scales: Float32s
    """Of each channel."""
    offsets: Float32s
    channels: int
    length: int
    x_zero: int
