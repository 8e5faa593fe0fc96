"""Tiles between floats and codes."""

from __future__ import annotations

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.isa import (
    DequantizeTile,
    QuantizeTile,
)
from openbpu.arch.program import (
    Dequantize,
    Quantize,
)
from openbpu.simulator.exact.core import Core
from openbpu.simulator.exact.memory import FaultError
from openbpu.simulator.exact.rooms import EXECUTE


@EXECUTE.of(QuantizeTile)
def quantize_tile(core: Core, tile: QuantizeTile, op: Quantize) -> None:
    """Execute a QuantizeTile; NaN has no integer."""
    y_type = core.program.tensors[op.outputs[0]].dtype
    y = core.chip.box(tile.y, tile.counts, tile.y_strides, y_type.numpy)
    x = core.chip.box(tile.x, tile.counts, tile.x_strides, np.float32).read()
    if np.isnan(x).any():
        raise FaultError("quantizes NaN, which has no integer")
    y.write(np.clip(numerics.quantize(x, op.scale, op.zero, y_type), op.lo, op.hi))


@EXECUTE.of(DequantizeTile)
def dequantize_tile(core: Core, tile: DequantizeTile, op: Dequantize) -> None:
    """Execute a DequantizeTile."""
    y = core.chip.box(tile.y, tile.counts, tile.y_strides, np.float32)
    x = core.chip.box(tile.x, tile.counts, tile.x_strides, core.dtype(op.inputs[0])).read()
    words = 2 if len(core.program.tensors[op.scales_id].shape) > 1 else 1
    box = core.chip.box(tile.scales, (tile.counts[1], words), (tile.scale_stride, 4), np.float32)
    scales, offsets = numerics.unpacked_scales(box.read())
    with np.errstate(over="ignore"):
        y.write(numerics.dequantize(x, scales[:, None], op.x_zero, offsets[:, None]))
