"""Requantization parameters for the epilogues of `vector`, and the proof that float64 gives the same bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]

LANES = 16
_EXACT = float(2**53)
_SLOP = 2.0**10


@dataclass(frozen=True, slots=True)
class Requant:
    """One requantization per channel; `reach` bounds |acc|, `r_reach` bounds |r − r_zero| (0: no residual)."""

    mult: Int64
    offset: Int64
    shift: Int64
    rmult: Int64
    reach: Int64
    r_reach: int
    r_zero: int
    zero: int
    lo: int
    hi: int

    def is_real(self) -> bool:
        """Whether float64 gives the same bits.

        Every sum is a multiple of 2^-shift. All of them are exact while acc·mult, r'·rmult and their sums stay below 2^53
        (in units of 2^-shift), which `reach` may prove. Otherwise the sum that left this range must lie beyond the
        clamped range, whatever the other terms are and however it was rounded.
        """
        mult, offset, rmult = (np.abs(v.astype(np.float64)) for v in (self.mult, self.offset, self.rmult))
        others = offset + rmult * self.r_reach + _SLOP
        bounded = self.reach.astype(np.float64) * mult + others < _EXACT
        span = max(abs(self.lo - self.zero), abs(self.hi - self.zero)) + 1
        beyond = _EXACT - 2 * others >= span * np.exp2(self.shift.astype(np.float64))
        return bool((bounded | beyond).all())

    def part(self, start: int, stop: int) -> Requant:
        """Return the parameters of channels start..stop−1."""
        cut = (v[start:stop] for v in (self.mult, self.offset, self.shift, self.rmult, self.reach))
        mult, offset, shift, rmult, reach = cut
        return Requant(
            mult, offset, shift, rmult, reach, self.r_reach, self.r_zero, self.zero, self.lo, self.hi
        )

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
        """Return lo − zero, hi − zero, zero, r_zero as the epilogue reads them."""
        values = np.array([self.lo - self.zero, self.hi - self.zero, self.zero, self.r_zero], dtype=np.int64)
        if not real:
            return values
        floats = values.astype(np.float64).view(np.int64)
        floats[2] = self.zero  # added after rounding, as an integer
        return floats
