"""Depthwise convolutions: any dtype and window, two taps at once, four taps of bytes at once."""

from __future__ import annotations

from openbpu.simulator.fast.declaration import Address, Arguments, Code, Int32s, Int64s, Record, Table
from openbpu.simulator.fast.layer.arguments import Out

WIDTHS = (64, 32, 16)
"""Channels of a block of DepthwisePacked."""

CHANNELS = 64
"""Channels of one unit of Depthwise."""

TILE_PIXELS = 16
"""Output pixels of one unit of DepthwiseTiled."""

PACKED_PIXELS = 32
"""Output pixels of one unit of DepthwisePacked."""


class Depthwise(Arguments):
    """Any dtype, any window, one product at a time."""

    x: Address
    offsets: Int32s
    """[taps, pixels]: bytes from x."""
    pixels: int
    taps: int
    x_kind: int
    weights: Address
    """int32 [taps, channels]."""
    channels: int
    per_pixel: int
    """Units of one pixel."""
    params: Address
    bias: Address
    """int64, zeros behind the last channel."""
    wide: int
    """1: the sum may leave int32."""
    saturations: Int64s
    out: Out


class DepthwiseTiled(Arguments):
    """Tiles of 16 channels by `depthwise.vector16`."""

    x: Address
    offsets: Address
    """int32 [2·pairs, pixels]: bytes from x."""
    pixels: int
    pairs: int
    """Pairs of taps."""
    x_kind: int
    channels: int
    code: Code
    weights: Address
    """int16 [blocks, pairs, 16 channels, 2 taps]."""
    init: Address
    """int32: what the accumulators start with."""
    params: Address
    out: Out


class PackedBlock(Record):
    """Channels that one call takes; `weights`, `init` and `params` are distances in bytes."""

    width: int
    """Which of WIDTHS."""
    first: int
    channels: int
    weights: int
    init: int
    params: int


class DepthwisePacked(Arguments):
    """int8 to int8 by `depthwise.vector64`."""

    x: Address
    offsets: Address
    """int32 [4·quads, pixels]: bytes from x."""
    pixels: int
    quads: int
    """Groups of four taps."""
    block_count: int
    blocks: Table[PackedBlock]
    codes: Int64s
    """The vector kernels, one for each of WIDTHS."""
    weights: Address
    init: Address
    params: Address
    consts: Address
    y: Address
    channels: int
