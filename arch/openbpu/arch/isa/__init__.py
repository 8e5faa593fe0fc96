"""The instruction set: tile instructions by engine, and the tables that encode, decode and name them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openbpu.arch.isa import base
from openbpu.arch.isa.aae import PoolTile, ResizeTile
from openbpu.arch.isa.base import (
    ENGINES,
    HEADER_DTYPE,
    RECORD_BYTES,
    Code,
    EncodingError,
    Engine,
    Instr,
    headers,
)
from openbpu.arch.isa.dma import L2M_BASE, MAX_CORES, Load, Store
from openbpu.arch.isa.serves import SERVES
from openbpu.arch.isa.tae import ConvTile, MatMulTile
from openbpu.arch.isa.trans import GatherTile, MoveTile
from openbpu.arch.isa.vae import BinaryTile, FillTile, ReduceTile, RowTile, UnaryTile
from openbpu.arch.isa.vpu import DequantizeTile, QuantizeTile

INSTRUCTIONS: tuple[type[Instr], ...] = (
    Load,
    Store,
    ConvTile,
    MatMulTile,
    PoolTile,
    ResizeTile,
    BinaryTile,
    UnaryTile,
    ReduceTile,
    RowTile,
    FillTile,
    QuantizeTile,
    DequantizeTile,
    MoveTile,
    GatherTile,
)
ISA: dict[int, type[Instr]] = {cls.OPCODE: cls for cls in INSTRUCTIONS}
RECORDS: dict[type[Instr], np.dtype[np.void]] = {cls: base.record_dtype(cls) for cls in INSTRUCTIONS}


def encode(instrs: Sequence[Instr]) -> Code:
    """Encode instructions in order into 128-byte records; raises EncodingError for a value too large."""
    return base.encode(instrs, RECORDS)


def decode(code: Code) -> list[Instr]:
    """Decode 128-byte records into instructions; raises EncodingError for an unknown opcode."""
    return base.decode(code, ISA, RECORDS)


__all__ = [
    "ENGINES",
    "HEADER_DTYPE",
    "INSTRUCTIONS",
    "ISA",
    "L2M_BASE",
    "MAX_CORES",
    "RECORDS",
    "RECORD_BYTES",
    "SERVES",
    "BinaryTile",
    "Code",
    "ConvTile",
    "DequantizeTile",
    "EncodingError",
    "Engine",
    "FillTile",
    "GatherTile",
    "Instr",
    "Load",
    "MatMulTile",
    "MoveTile",
    "PoolTile",
    "QuantizeTile",
    "ReduceTile",
    "ResizeTile",
    "RowTile",
    "Store",
    "UnaryTile",
    "decode",
    "encode",
    "headers",
]
