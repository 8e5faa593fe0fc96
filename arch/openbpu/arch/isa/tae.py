"""TAE, the tensor engine: tiles of convolutions and matrix products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from openbpu.arch.isa.base import Engine, Instr, i32, u16, u32


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvTile(Instr):
    """out_h × out_w × out_c results of a Conv (see there for the formula), one image.

    Result (i, j, c) of the tile is channel oc_start + c. Its input row is u / upsample of the tile, with u =
    i·stride + ky·dilation − pad_top, when that is an integer in 0..in_h−1, else padding; the same for
    columns. Address x holds the first channel of the group of channel oc_start; r and y hold result (0, 0,
    0). weights [out_c, KH, KW, Cin/G], params [out_c, 4 or 5] and rmult [out_c] are dense and start at
    channel oc_start. Channels are dense everywhere. r, rmult and table are 0 when the operator has none.
    """

    OPCODE: ClassVar[int] = 0x10
    ENGINE: ClassVar[Engine] = Engine.TAE
    x: int = u32()
    weights: int = u32()
    params: int = u32()
    rmult: int = u32(default=0)
    r: int = u32(default=0)
    y: int = u32()
    table: int = u32(default=0)
    x_row: int = u32()
    x_pixel: int = u32()
    r_row: int = u32(default=0)
    r_pixel: int = u32(default=0)
    y_row: int = u32()
    y_pixel: int = u32()
    in_h: int = u16()
    in_w: int = u16()
    out_h: int = u16()
    out_w: int = u16()
    out_c: int = u32()
    oc_start: int = u32()
    pad_top: int = i32()
    pad_left: int = i32()


@dataclass(frozen=True, slots=True, kw_only=True)
class MatMulTile(Instr):
    """y[i, j] for i < m, j < n over the whole k of one batch of a MatMul (see there for the formula).

    Row strides in bytes; b has k rows of n, or n rows of k when the operator says `b_transposed`.
    """

    OPCODE: ClassVar[int] = 0x11
    ENGINE: ClassVar[Engine] = Engine.TAE
    a: int = u32()
    b: int = u32()
    y: int = u32()
    table: int = u32(default=0)
    a_row: int = u32()
    b_row: int = u32()
    y_row: int = u32()
    m: int = u32()
    n: int = u32()
