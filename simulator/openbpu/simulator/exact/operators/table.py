"""Tiles of the functions of one tensor."""

from __future__ import annotations

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.arrays import Array
from openbpu.arch.isa import (
    UnaryTile,
)
from openbpu.arch.program import (
    Lut,
    SegmentLut,
)
from openbpu.simulator.exact.core import Core
from openbpu.simulator.exact.rooms import UNARY

_HALF = 128


@UNARY.of(Lut)
def lut(core: Core, tile: UnaryTile, op: Lut, x: Array) -> Array:
    """Look int8 codes up."""
    table = core.constant(tile.table, op.table_id).read().reshape(-1)
    return np.asarray(table[x.astype(np.int64) + _HALF])


@UNARY.of(SegmentLut)
def segment_lut(core: Core, tile: UnaryTile, op: SegmentLut, x: Array) -> Array:
    """Follow the line of each int16 code's segment."""
    return numerics.segment_lut(x, core.constant(tile.table, op.segments_id).read(), op.lo, op.hi)
