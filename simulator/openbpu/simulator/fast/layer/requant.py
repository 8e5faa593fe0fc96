"""Requantization parameters for the epilogues of `layer.vector`, and the proofs that faster arithmetic

gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Int64
from openbpu.simulator.fast.jit.cpu import permutes_bytes
from openbpu.simulator.fast.layer.arguments import LANES, TABLE_AT
from openbpu.simulator.fast.plan.steps import Array, Symbol

_EXACT = float(2**53)
_SLOP = 2.0**10


@dataclass(frozen=True, slots=True)
class Requant:
    """One requantization per channel; `reach` bounds |acc|, `r_reach` bounds |r| (0: no residual).

    The zero point of the residual is part of `offset`.
    """

    mult: Int64
    offset: Int64
    shift: Int64
    rmult: Int64
    reach: Int64
    r_reach: int
    zero: int
    lo: int
    hi: int

    def is_real(self) -> bool:
        """Whether float64 gives the same bits.

        Every sum is a multiple of 2^-shift. All of them are exact while acc·mult, r·rmult and their sums
        stay below 2^53 (in units of 2^-shift), which `reach` may prove. Otherwise the sum that left this
        range must lie beyond the clamped range, whatever the other terms are and however it was rounded.
        """
        most, others = self._terms()
        others = others + _SLOP
        bounded = most + others < _EXACT
        span = max(abs(self.lo - self.zero), abs(self.hi - self.zero)) + 1
        beyond = _EXACT - 2 * others >= span * np.exp2(self.shift.astype(np.float64))
        return bool((bounded | beyond).all())

    def _terms(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Bounds of |acc·mult| and of the other terms."""
        mult, offset, rmult = (np.abs(v.astype(np.float64)) for v in (self.mult, self.offset, self.rmult))
        return self.reach.astype(np.float64) * mult, offset + rmult * self.r_reach

    def is_short(self) -> bool:
        """Whether every rounded sum surely fits int32."""
        most, others = self._terms()
        return bool(((most + others) * np.exp2(-self.shift.astype(np.float64)) < 2.0**31 - 2).all())

    def part(self, start: int, stop: int) -> Requant:
        """Return the parameters of channels start..stop−1."""
        return self.pick(slice(start, stop))

    def pick(self, channels: slice | Int64) -> Requant:
        """Return the parameters of some channels."""
        return replace(
            self, mult=self.mult[channels], offset=self.offset[channels], shift=self.shift[channels],
            rmult=self.rmult[channels], reach=self.reach[channels],
        )  # fmt: skip

    def params(self, *, real: bool) -> npt.NDArray[np.uint8]:
        """Return the packed parameters: per 16 channels mult, offset, rmult, shift."""
        count = -(-self.mult.size // LANES)
        packed = np.zeros((count, 4, LANES), dtype=np.float64 if real else np.int64)
        unit = np.exp2(-self.shift.astype(np.float64)) if real else 1
        rows = (self.mult * unit, self.offset * unit, self.rmult * unit, self.shift)
        for i, values in enumerate(rows):
            flat = np.zeros(count * LANES, dtype=packed.dtype)
            flat[: values.size] = values
            packed[:, i] = flat.reshape(count, LANES)
        return packed.view(np.uint8).reshape(-1)

    def consts(self, *, real: bool) -> Int64:
        """Return lo − zero, hi − zero (as the epilogue computes) and zero (always an integer)."""
        limits = np.array([self.lo - self.zero, self.hi - self.zero], dtype=np.int64)
        if real:
            limits = limits.astype(np.float64).view(np.int64)
        return np.append(limits, np.int64(self.zero))


@dataclass(frozen=True, slots=True)
class Finish:
    """How a layer ends: the epilogue, its constants, whether params are float64, a table to be looked up."""

    symbol: Symbol
    consts: Array
    real: bool
    packed: bool
    table: Array | None


def packed_consts(zero: int, lo: int, hi: int, table: Array | None) -> npt.NDArray[np.uint8]:
    """Return the consts of `layer.vector_pack`: zero, lo, hi, and the table by the byte of its index."""
    image = np.zeros(TABLE_AT + 256, dtype=np.uint8)
    image[:24] = np.array([zero, lo, hi], dtype=np.int64).view(np.uint8)
    if table is not None:
        image[TABLE_AT:] = np.roll(table.reshape(-1).view(np.uint8), -128)
    return image


def choose_finish(requant: Requant, mode: str, residual: int, out: int, table: Array | None) -> Finish:
    """Choose the fastest epilogue that surely gives the right bits; residual and out are sizes in bytes."""
    real = requant.is_real()
    fused_table = table is None or (out == 1 and permutes_bytes())
    if mode == "vnni512" and real and requant.is_short() and residual <= 1 and out == 1 and fused_table:
        symbol = Symbol(f"epilogue64_{int(residual > 0)}_{int(table is not None)}")
        return Finish(symbol, packed_consts(requant.zero, requant.lo, requant.hi, table), True, True, None)
    before_table = out if table is None else 1
    symbol = Symbol(f"epilogue_{'real' if real else 'int'}_{residual}_{before_table}")
    return Finish(symbol, requant.consts(real=real), real, False, table)
