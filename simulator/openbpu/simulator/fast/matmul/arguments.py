"""What MatMul adds to the tiles of a convolution: packing b, and the way that takes any dtypes."""

from __future__ import annotations

from openbpu.simulator.fast.declaration import Address, Arguments, Int32s, Int64s


class PackB(Arguments):
    """b [depth, columns] becomes what the micro-kernels of `conv.vector` read: [steps][16][word]."""

    b: Address
    b_kind: int
    depth: int
    columns: int
    transposed: int
    """1: b is [columns, depth]."""
    packed: Address
    init: Int32s
    """Minus `lift` times the sum of each column."""
    word: int
    """Operands of one lane: 4 bytes, or 2 int16."""
    b_zero: int
    lift: int
    """a_zero, and 128 more where bytes of a are multiplied unsigned."""


class MatmulAny(Arguments):
    """y [batches, rows, columns] = a·b, summed in 64 bits."""

    a: Address
    a_kind: int
    b: Address
    b_kind: int
    y: Address
    y_kind: int
    rows: int
    depth: int
    columns: int
    a_shared: int
    """1: all batches have the same a."""
    b_shared: int
    transposed: int
    """1: b is [columns, depth]."""
    a_zero: int
    b_zero: int
    mult: int
    offset: int
    shift: int
    zero: int
    lo: int
    hi: int
    table: Address
    raw: int
    """1: y is the saturated sum."""
    saturations: Int64s
