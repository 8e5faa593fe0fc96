"""Cycles of the vector, pooling, layout and float engines: contiguous runs through lanes.

A box is `rows` runs of `run` elements: the longest stretch that every operand reads and writes with stride
one (or zero, where it is broadcast). A run that ends inside a vector wastes the rest of it. `bits` is the
widest operand's.
"""

from __future__ import annotations

from openbpu.arch.errors import MarchError, must
from openbpu.arch.march import March, Vae
from openbpu.arch.timing.integers import Ints, ceil_div, choose, smallest


def lanes_of(vae: Vae, bits: Ints) -> Ints:
    """Return the element-wise lanes for operands of 8, 16 or 32 bits."""
    return choose(bits <= 8, vae.lanes_int8, choose(bits <= 16, vae.lanes_int16, vae.lanes_int32))


def elementwise_cycles(march: March, *, rows: Ints, run: Ints, bits: Ints) -> Ints:
    """Return the cycles of a BinaryTile, FillTile or of a UnaryTile that rescales or copies."""
    return march.vae.issue_cycles + rows * ceil_div(run, lanes_of(march.vae, bits))


def lut_cycles(march: March, *, rows: Ints, run: Ints, bits: Ints) -> Ints:
    """Return the cycles of a UnaryTile of a Lut (8-bit input) or SegmentLut (16-bit input)."""
    lanes = choose(bits <= 8, march.vae.lut_int8, march.vae.lut_int16)
    return march.vae.issue_cycles + rows * ceil_div(run, lanes)


def reduce_cycles(march: March, *, rows: Ints, run: Ints, outputs: Ints, bits: Ints) -> Ints:
    """Return the cycles of a ReduceTile: the input's runs through the lanes, then a fold per result."""
    vae = march.vae
    return vae.issue_cycles + rows * ceil_div(run, lanes_of(vae, bits)) + ceil_div(outputs, vae.lanes_int32)


def row_cycles(march: March, *, rows: Ints, length: Ints, norm: bool) -> Ints:
    """Return the cycles of a RowTile: softmax or normalization (`norm`) over rows of `length` elements."""
    vae = march.vae
    count = vae.norm_passes if norm else vae.softmax_passes
    return vae.issue_cycles + rows * (count * ceil_div(length, vae.lanes_int16) + vae.row_cycles)


def pool_cycles(march: March, *, out_h: Ints, out_w: Ints, channels: Ints, taps: Ints, bits: Ints) -> Ints:
    """Return the cycles of a PoolTile with `taps` = KH·KW window elements per result."""
    lanes = choose(bits <= 8, march.aae.lanes_int8, march.aae.lanes_int16)
    return march.aae.issue_cycles + out_h * ceil_div(out_w * channels, lanes) * taps


def resize_cycles(march: March, *, out_h: Ints, out_w: Ints, channels: Ints) -> Ints:
    """Return the cycles of a ResizeTile."""
    return march.aae.issue_cycles + out_h * ceil_div(out_w * channels, march.aae.resize_lanes)


def move_cycles(march: March, *, rows: Ints, run: Ints, element: Ints) -> Ints:
    """Return the cycles of a MoveTile or GatherTile: by whole runs, or by elements where runs are short."""
    trans = march.trans
    by_run = rows * ceil_div(run * element, trans.bytes_per_cycle)
    by_element = ceil_div(rows * run, trans.elements_per_cycle)
    return trans.issue_cycles + smallest(by_run, by_element)


def vpu_cycles(march: March, *, rows: Ints, run: Ints) -> Ints:
    """Return the cycles of a QuantizeTile or DequantizeTile; raises MarchError on a march without VPU."""
    if march.vpu.lanes == 0:
        fix = "compile for this march with float inputs and outputs on the CPU"
        raise MarchError(must(f"march {march.name}", "a VPU instruction", "absent (no VPU)", "present", fix))
    return march.vpu.issue_cycles + rows * ceil_div(run, march.vpu.lanes)
