"""Instructions that move data or cross to float: LOAD, STORE, layout moves, gathers, quantize, dequantize."""

from __future__ import annotations

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.isa import DequantizeTile, GatherTile, Load, MoveTile, QuantizeTile, Store
from openbpu.arch.program import Dequantize, Gather, Operator, Quantize
from openbpu.simulator.exact.core import Core
from openbpu.simulator.exact.memory import FaultError

_ELEMENTS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def load(core: Core, instr: Load, _: Operator) -> None:
    """Execute a LOAD."""
    counts = (*instr.counts, instr.row_bytes)
    near = core.chip.box(instr.chip, counts, (*instr.chip_strides, 1), np.uint8)
    memory, address = core.far(instr.ddr)
    near.write(memory.box(address, counts, (*instr.ddr_strides, 1), np.uint8).read())


def store(core: Core, instr: Store, _: Operator) -> None:
    """Execute a STORE."""
    counts = (*instr.counts, instr.row_bytes)
    memory, address = core.far(instr.ddr)
    far = memory.box(address, counts, (*instr.ddr_strides, 1), np.uint8)
    far.write(core.chip.box(instr.chip, counts, (*instr.chip_strides, 1), np.uint8).read())


def move_tile(core: Core, tile: MoveTile, _: Operator) -> None:
    """Execute a MoveTile."""
    if tile.element not in _ELEMENTS:
        raise FaultError(f"an element of {tile.element} bytes does not exist (1, 2, 4, 8)")
    dtype = _ELEMENTS[tile.element]
    y = core.chip.box(tile.y, tile.counts, tile.y_strides, dtype)
    y.write(core.chip.box(tile.x, tile.counts, tile.x_strides, dtype).read())


def gather_tile(core: Core, tile: GatherTile, op: Gather) -> None:
    """Execute a GatherTile."""
    dtype = core.dtype(op.inputs[0])
    a, i, b = tile.counts
    y = core.chip.box(tile.y, tile.counts, (*tile.y_strides, dtype.itemsize), core.dtype(op.outputs[0]))
    indices = core.chip.dense(tile.indices, (i,), np.int32).read().astype(np.int64) - tile.base
    at = tile.x + np.arange(a)[:, None] * tile.x_strides[0] + indices[None, :] * tile.x_strides[1]
    y.write(core.chip.gather(at, b, dtype))


def quantize_tile(core: Core, tile: QuantizeTile, op: Quantize) -> None:
    """Execute a QuantizeTile; NaN has no integer."""
    y_type = core.program.tensors[op.outputs[0]].dtype
    y = core.chip.box(tile.y, tile.counts, tile.y_strides, y_type.numpy)
    x = core.chip.box(tile.x, tile.counts, tile.x_strides, np.float32).read()
    if np.isnan(x).any():
        raise FaultError("quantizes NaN, which has no integer")
    y.write(np.clip(numerics.quantize(x, op.scale, op.zero, y_type), op.lo, op.hi))


def dequantize_tile(core: Core, tile: DequantizeTile, op: Dequantize) -> None:
    """Execute a DequantizeTile."""
    y = core.chip.box(tile.y, tile.counts, tile.y_strides, np.float32)
    x = core.chip.box(tile.x, tile.counts, tile.x_strides, core.dtype(op.inputs[0])).read()
    words = 2 if len(core.program.tensors[op.scales_id].shape) > 1 else 1
    box = core.chip.box(tile.scales, (tile.counts[1], words), (tile.scale_stride, 4), np.float32)
    scales, offsets = numerics.unpacked_scales(box.read())
    with np.errstate(over="ignore"):
        y.write(numerics.dequantize(x, scales[:, None], op.x_zero, offsets[:, None]))
