"""Any convolution, one product at a time."""

from __future__ import annotations

from openbpu.simulator.fast.declaration import Address, Arguments, Int32s, Int64s
from openbpu.simulator.fast.layer.arguments import Out


class ConvAny(Arguments):
    """Any dtypes, groups and window; the way of int16 with int16."""

    x: Address
    offsets: Int32s
    """[taps, pixels]: bytes from x."""
    pixels: int
    taps: int
    x_kind: int
    weights: Address
    """int32 [channels, taps, depth]."""
    channels: int
    depth: int
    per_group: int
    """Output channels of one group."""
    params: Address
    bias: Int64s
    saturations: Int64s
    out: Out
