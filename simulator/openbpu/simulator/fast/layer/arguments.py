"""How a layer that accumulates ends: from an int32 tile to rows of y."""

from __future__ import annotations

from openbpu.simulator.fast.declaration import Address, Code, Record

LANES = 16
"""Channels of one register of int32, and of one set of params."""

PARAM_BYTES = 4 * LANES * 8
"""Params of 16 channels, 64-bit each: mult[16], offset[16], rmult[16], shift[16]."""

TABLE_AT = 64
"""In the consts of `layer.vector_pack`: where the table begins."""


class Out(Record):
    """What `layer.kernels.finish` reads. A pitch is the distance of the rows of a tile: that of pixels, or
    more where phases interleave. All distances are in bytes.
    """

    epilogue: Code
    """A vector kernel of `layer.vector`; 0: y is the int32 tile itself."""
    consts: Address
    y: Address
    y_pitch: int
    y_kind: int
    r: Address
    """The residual, or 0."""
    r_pitch: int
    table: Address
    """Looked up with the epilogue's bytes; 0: there is none, or the epilogue does it."""
    y_pixel: int
    r_pixel: int
