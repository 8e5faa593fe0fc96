"""Convolutions as matrix products over an indirection: rows of A times blocks of channels, tile by tile."""

from __future__ import annotations

from openbpu.simulator.fast.declaration import Address, Arguments, Int8s, Int16s, Int64s, Record, Table
from openbpu.simulator.fast.layer.arguments import Out

GROUP = 16
"""Channels of one group: a 512-bit register of int32."""

TILE_SLOTS = 17
"""Micro-kernels per number of groups: those of 0..16 rows."""

MAX_ROWS = {"vnni512": (0, 16, 14, 9, 6), "vnni256": (0, 6), "portable": (0, 6)}
"""By mode and number of groups: the most rows whose accumulators fit the registers of `conv.vector`."""


class Unit(Record):
    """A tile: some rows of A with a block of channels."""

    block: int
    first: int
    """The offset of its first row, counted in offsets."""
    rows: int
    pixel: int
    """The pixel of y that its first row becomes."""


class Block(Record):
    """Channels that share the tiles of one micro-kernel; the first six are distances in bytes."""

    x: int
    y: int
    r: int
    weights: int
    init: int
    params: int
    channels: int
    groups: int


class Gemm(Arguments):
    """y = A·b, a row of A being read at `offsets`."""

    x: Address
    offsets: Address
    """int32 [taps, pixels]: bytes from x to where a tap starts."""
    pixels: int
    taps: int
    steps: int
    """Words of one tap: 4 bytes or 2 int16."""
    units: Table[Unit]
    blocks: Table[Block]
    tiles: Int64s
    """The micro-kernels by [groups·TILE_SLOTS + rows]."""
    weights: Address
    init: Address
    """int32: what the accumulators start with."""
    params: Address
    out: Out


class GemmWide(Gemm):
    """As Gemm with 64-bit accumulation; `init` holds zeros."""

    bias: Address
    """int64: what the accumulators start with, laid out as `init`."""
    most: int
    """Steps that int32 can surely sum."""
    saturations: Int64s


class WidenWords(Arguments):
    """y = x, int8 to int16."""

    x: Int8s
    y: Int16s
