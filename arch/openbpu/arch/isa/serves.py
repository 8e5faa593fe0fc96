"""Which kinds of operators an instruction can belong to."""

from __future__ import annotations

from openbpu.arch import program as p
from openbpu.arch.isa.aae import PoolTile, ResizeTile
from openbpu.arch.isa.base import Instr
from openbpu.arch.isa.dma import Load, Store
from openbpu.arch.isa.tae import ConvTile, MatMulTile
from openbpu.arch.isa.trans import GatherTile, MoveTile
from openbpu.arch.isa.vae import BinaryTile, FillTile, ReduceTile, RowTile, UnaryTile
from openbpu.arch.isa.vpu import DequantizeTile, QuantizeTile

ANY = p.OPERATORS

SERVES: dict[type[Instr], tuple[type[p.Operator], ...]] = {
    Load: ANY,
    Store: ANY,
    ConvTile: (p.Conv,),
    MatMulTile: (p.MatMul,),
    PoolTile: (p.Pool,),
    ResizeTile: (p.Resize,),
    BinaryTile: (p.Binary,),
    UnaryTile: (p.Lut, p.SegmentLut, p.Rescale, p.Concat),
    ReduceTile: (p.Reduce,),
    RowTile: (p.Softmax, p.LayerNorm),
    FillTile: (p.Pad,),
    QuantizeTile: (p.Quantize,),
    DequantizeTile: (p.Dequantize,),
    MoveTile: ANY,
    GatherTile: (p.Gather,),
}
"""Instruction → kinds of operators. LOAD, STORE and MoveTile copy bits for any of them."""
