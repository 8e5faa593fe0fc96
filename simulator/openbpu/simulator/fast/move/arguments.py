"""Bytes move, values do not change."""

from __future__ import annotations

from openbpu.simulator.fast.declaration import Address, Arguments, Code, Int32s, Int64s


class Move(Arguments):
    """y[Σ i·y_strides] = x[Σ i·x_strides] for i over `shape`; x and y are where index 0 lies."""

    x: Address
    y: Address
    size: int
    """Bytes of an element."""
    rank: int
    """2 or more."""
    shape: Int64s
    x_strides: Int64s
    """In elements."""
    y_strides: Int64s


class Interleave(Arguments):
    """Three planes of bytes become pixels."""

    code: Code
    x: Address
    plane: int
    """Pixels, which are the bytes of a plane."""
    y: Address


class Gather(Arguments):
    """y [A, count, row] = the rows `indices` of x [A, rows, row]."""

    x: Address
    y: Address
    row_bytes: int
    rows: int
    count: int
    indices: Int32s


class Fill(Arguments):
    """y[..] = value."""

    y: Address
    size: int
    """Bytes of an element."""
    value: int
