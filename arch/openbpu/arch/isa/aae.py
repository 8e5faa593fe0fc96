"""AAE: pooling and resizing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from openbpu.arch.isa.base import Engine, Instr, i32, u16, u32


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolTile(Instr):
    """out_h × out_w × channels of a Pool, one image.

    Result (i, j) reads row i·stride + ky·dilation − pad_top of the tile, where that is in 0..in_h−1
    (elsewhere lies outside the input); the same for columns. `bounds` = first and last+1 row, first and
    last+1 column of the padded input in tile positions (for count_pad). `counts` is the whole table of the
    operator. Channels are dense.
    """

    OPCODE: ClassVar[int] = 0x20
    ENGINE: ClassVar[Engine] = Engine.AAE
    x: int = u32()
    y: int = u32()
    counts: int = u32()
    x_row: int = u32()
    x_pixel: int = u32()
    y_row: int = u32()
    y_pixel: int = u32()
    in_h: int = u16()
    in_w: int = u16()
    out_h: int = u16()
    out_w: int = u16()
    channels: int = u32()
    pad_top: int = i32()
    pad_left: int = i32()
    bounds: tuple[int, ...] = i32(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeTile(Instr):
    """out_h × out_w × channels of a Resize, one image.

    `rows` and `cols` point at the entries (three int32 each) of the tile's first output row and column. x
    points at input row row0, column col0: row y0 of a table is row y0 − row0 of the tile. Channels are dense.
    """

    OPCODE: ClassVar[int] = 0x21
    ENGINE: ClassVar[Engine] = Engine.AAE
    x: int = u32()
    y: int = u32()
    rows: int = u32()
    cols: int = u32()
    x_row: int = u32()
    x_pixel: int = u32()
    y_row: int = u32()
    y_pixel: int = u32()
    out_h: int = u16()
    out_w: int = u16()
    channels: int = u32()
    row0: int = u32()
    col0: int = u32()
