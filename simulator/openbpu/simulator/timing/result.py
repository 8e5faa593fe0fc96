"""What a timing run found."""

from __future__ import annotations

from dataclasses import dataclass

from openbpu.arch.arrays import Int64
from openbpu.arch.isa import Engine


@dataclass(frozen=True, slots=True)
class CoreTiming:
    """The instructions of one core in code order, int64 [n] each.

    start, end: cycles of engine time (LOAD and STORE: with the memory they shared) · engine, operator: of
    each · moved: bytes loaded or stored · macs: multiply-accumulates · cause: the instruction whose token
    came last while the engine had nothing else to do (−1: it never waited for one, or for another core's).
    """

    start: Int64
    end: Int64
    engine: Int64
    operator: Int64
    moved: Int64
    macs: Int64
    cause: Int64

    @property
    def duration(self) -> Int64:
        """Cycles of engine time, by instruction."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class LayerTiming:
    """The operators of a segment, over all cores.

    start, end: first and last cycle of an instruction of theirs, int64 [operators] (0 and 0 without any) ·
    busy: engine time, int64 [operators, engines] · loaded, stored: bytes · macs: multiply-accumulates.
    """

    start: Int64
    end: Int64
    busy: Int64
    loaded: Int64
    stored: Int64
    macs: Int64


@dataclass(frozen=True, slots=True)
class Timing:
    """One segment on one march, in integer cycles.

    cycles: from the first instruction to the last token · busy: engine time, int64 [cores, engines] ·
    stalls: cycles an engine with work left spent waiting for tokens, int64 [cores, engines] · waits: the same
    cycles by the engine whose token came last, int64 [cores, engines, engines] · loaded, stored: DDR bytes ·
    shared: bytes from and to the L2M · macs: multiply-accumulates · cores: per instruction ·
    layers: per operator.
    """

    cycles: int
    clock_hz: int
    busy: Int64
    stalls: Int64
    waits: Int64
    loaded: int
    stored: int
    shared: int
    macs: int
    cores: tuple[CoreTiming, ...]
    layers: LayerTiming

    def __repr__(self) -> str:
        moved = f"loaded={self.loaded}, stored={self.stored}, macs={self.macs}"
        return f"Timing(cycles={self.cycles}, clock_hz={self.clock_hz}, {moved}, cores: {len(self.cores)})"

    @property
    def microseconds(self) -> float:
        """Time of the segment in µs."""
        return self.cycles / self.clock_hz * 1e6

    def utilization(self, engine: Engine) -> float:
        """The share of the segment that an engine was busy, averaged over the cores (0 for no cycles)."""
        total = self.cycles * len(self.cores)
        return float(self.busy[:, engine].sum()) / total if total else 0.0
