"""The instruction set: tables that encode, decode and name tile instructions.

An instruction is defined beside the operators it computes, in `openbpu.arch.operators`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openbpu.arch.definition import instruction
from openbpu.arch.definition.instruction import (
    HEADER_DTYPE,
    RECORD_BYTES,
    Code,
    EncodingError,
    Instr,
    headers,
)
from openbpu.arch.engines import ENGINES, Engine
from openbpu.arch.operators import INSTRUCTIONS, SERVES
from openbpu.arch.operators.convert import DequantizeTile, QuantizeTile
from openbpu.arch.operators.elementwise import BinaryTile, UnaryTile
from openbpu.arch.operators.move import FillTile, GatherTile, MoveTile
from openbpu.arch.operators.reduce import ReduceTile
from openbpu.arch.operators.row import RowTile
from openbpu.arch.operators.tensor.conv import ConvTile
from openbpu.arch.operators.tensor.matmul import MatMulTile
from openbpu.arch.operators.transfer import L2M_BASE, MAX_CORES, Load, Store
from openbpu.arch.operators.window import PoolTile, ResizeTile

ISA: dict[int, type[Instr]] = {cls.OPCODE: cls for cls in INSTRUCTIONS}
RECORDS: dict[type[Instr], np.dtype[np.void]] = {cls: instruction.record_dtype(cls) for cls in INSTRUCTIONS}


def encode(instrs: Sequence[Instr]) -> Code:
    """Encode instructions in order into 128-byte records; raises EncodingError for a value too large."""
    return instruction.encode(instrs, RECORDS)


def decode(code: Code) -> list[Instr]:
    """Decode 128-byte records into instructions; raises EncodingError for an unknown opcode."""
    return instruction.decode(code, ISA, RECORDS)


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
