"""Row functions. A kind is the size of an element in bytes."""

from __future__ import annotations

from openbpu.simulator.fast.declaration import Address, Arguments, Int64s


class Softmax(Arguments):
    """numerics.softmax_rows."""

    x: Address
    x_kind: int
    y: Address
    y_kind: int
    length: int
    exponentials: Int64s
    """By distance from the maximum of the row."""
    out_mult: int
    out_shift: int
    zero: int
    lo: int
    hi: int


class Layernorm(Arguments):
    """numerics.layernorm_rows."""

    x: Address
    x_kind: int
    y: Address
    y_kind: int
    length: int
    gain: Int64s
    gain_step: int
    """0: one for all."""
    bias: Int64s
    bias_step: int
    epsilon: int
    epsilon_shift: int
    centred: int
    """1: the mean is taken off."""
    x_zero: int
    shift: int
    zero: int
    lo: int
    hi: int
    bits: int
    """numerics.norm_bits of the row."""
