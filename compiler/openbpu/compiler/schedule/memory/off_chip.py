"""Addresses outside the cores: which tensors are in the L2M, which in DDR, and at which address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from openbpu.arch.isa import L2M_BASE
from openbpu.arch.program import Space, Tensor
from openbpu.compiler.schedule.memory.allocator import LiveBlock, aligned, pack
from openbpu.compiler.schedule.memory.l2m import choose_l2m
from openbpu.compiler.schedule.memory.live_ranges import LiveRange
from openbpu.compiler.schedule.problem.job import Job


@dataclass(frozen=True, slots=True)
class OffChipAddresses:
    """Addresses by root in DDR and in the L2M, and the first byte behind all that is used of each."""

    ddr: Mapping[int, int]
    l2m: Mapping[int, int]
    ddr_bytes: int
    l2m_bytes: int


@dataclass(frozen=True, slots=True)
class OffChipAllocator:
    """Gives addresses to the tensors of a segment that cores load or store.

    ddr_base: flat address of the DDR space · ddr_start, l2m_start: the first addresses that are free ·
    l2m_end: how far the L2M may be used.
    """

    tensors: Sequence[Tensor]
    alignment: int
    ddr_base: int
    ddr_start: int
    l2m_start: int
    l2m_end: int

    def allocate(
        self,
        live_ranges: Mapping[int, LiveRange],
        moved: AbstractSet[int],
        *,
        reuse: bool,
        l2m_only: AbstractSet[int] | None = None,
    ) -> OffChipAddresses:
        """Addresses for the tensors that are `moved` to or from a core and were not placed by the caller.

        live_ranges: of all tensors of the segment · l2m_only: the only tensors that may be in the L2M, if
        given. Without `reuse` no two tensors share DDR.
        """
        outside = {r: life for r, life in live_ranges.items() if r in moved and self.tensors[r].address < 0}
        l2m: dict[int, int] = {}
        if self.l2m_start < self.l2m_end:
            inner = [root for root, life in outside.items() if not life.live_out]
            wanted = [root for root in inner if l2m_only is None or root in l2m_only]
            l2m = choose_l2m(outside, wanted, self.alignment, self.l2m_start, self.l2m_end)
        far = [life for root, life in outside.items() if root not in l2m]
        ddr, ddr_bytes = self._ddr(far, live_ranges, reuse=reuse)
        l2m_bytes = max([at + self.tensors[root].nbytes for root, at in l2m.items()], default=0)
        return OffChipAddresses(ddr, l2m, ddr_bytes, max(l2m_bytes, self.l2m_start))

    def _ddr(
        self, far: Iterable[LiveRange], live_ranges: Mapping[int, LiveRange], *, reuse: bool
    ) -> tuple[dict[int, int], int]:
        end = max((life.last for life in live_ranges.values()), default=0)
        blocks = []
        for life in far:
            first, last = (0, end) if life.live_out or not reuse else (life.first, life.last)
            blocks.append(LiveBlock(life.root, life.nbytes, first, last))
        return pack(blocks, self.alignment, aligned(self.ddr_start, self.alignment))

    def flat_addresses(self, chosen: OffChipAddresses, jobs: Iterable[Job]) -> dict[int, int]:
        """The flat address, over constants, DDR and L2M, of every root that jobs read or write."""
        used = {operand.root for job in jobs for operand in job.operands}
        return {root: self._flat(root, chosen) for root in used}

    def _flat(self, root: int, chosen: OffChipAddresses) -> int:
        tensor = self.tensors[root]
        if tensor.space is Space.CONST:
            return tensor.address
        if root in chosen.l2m:
            return L2M_BASE + chosen.l2m[root]
        if tensor.space is Space.L2M:
            return L2M_BASE + tensor.address
        return self.ddr_base + chosen.ddr.get(root, tensor.address)

    def placed_tensors(
        self, chosen: OffChipAddresses, on_chip: Mapping[int, int], hidden: Iterable[int]
    ) -> tuple[Tensor, ...]:
        """The tensor table with the chosen addresses; `on_chip`: on-chip addresses by root.

        `hidden` tensors have no address of their own (−1): they are subviews of others, or only a window of a
        fusion group ever holds them.
        """
        out = list(self.tensors)
        for owner in hidden:
            if out[owner].space is Space.DDR and out[owner].address < 0:
                out[owner] = replace(out[owner], space=Space.CHIP)
        for root, address in chosen.ddr.items():
            out[root] = replace(out[root], space=Space.DDR, address=address)
        for root, address in chosen.l2m.items():
            out[root] = replace(out[root], space=Space.L2M, address=address)
        for root, address in on_chip.items():
            if root not in chosen.ddr and root not in chosen.l2m and out[root].address < 0:
                out[root] = replace(out[root], space=Space.CHIP, address=address)
        return tuple(out)
