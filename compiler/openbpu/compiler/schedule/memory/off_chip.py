"""Addresses outside the cores: which tensors are in the L2M, which in DDR, and where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from openbpu.arch.isa import L2M_BASE
from openbpu.arch.program import Space, Tensor
from openbpu.compiler.schedule.memory.allocator import Life, aligned, pack
from openbpu.compiler.schedule.memory.l2m import choose_shared
from openbpu.compiler.schedule.memory.live_ranges import Use
from openbpu.compiler.schedule.problem.job import Job


@dataclass(frozen=True, slots=True)
class Memories:
    """Addresses in DDR and in the L2M by root, and the ends of what is used."""

    ddr: Mapping[int, int]
    l2m: Mapping[int, int]
    ddr_bytes: int
    l2m_bytes: int


@dataclass(frozen=True, slots=True)
class Addresses:
    """Chooses them. `ddr_base`: flat address of the DDR space · `ddr_start`, `l2m_start`: the first addresses
    that are free · `l2m_end`: how far the L2M may be used.
    """

    tensors: Sequence[Tensor]
    alignment: int
    ddr_base: int
    ddr_start: int
    l2m_start: int
    l2m_end: int

    def choose(
        self,
        uses: Mapping[int, Use],
        moved: AbstractSet[int],
        *,
        reuse: bool,
        near: AbstractSet[int] | None = None,
    ) -> Memories:
        """Addresses for the tensors that are `moved` to or from a core and were not placed by the caller.

        `uses`: of all tensors of the segment, by root · `near`: the only tensors that may be in the L2M, if
        given. Without `reuse` no two tensors share DDR.
        """
        outside = {r: u for r, u in uses.items() if r in moved and self.tensors[r].address < 0}
        l2m: dict[int, int] = {}
        if self.l2m_start < self.l2m_end:
            wanted = [r for r, use in outside.items() if not use.kept and (near is None or r in near)]
            l2m = choose_shared(outside, wanted, self.alignment, self.l2m_start, self.l2m_end)
        far = {root: use for root, use in outside.items() if root not in l2m}
        ddr, ddr_bytes = self._ddr(far, uses, reuse=reuse)
        l2m_bytes = max([at + self.tensors[root].nbytes for root, at in l2m.items()], default=0)
        return Memories(ddr, l2m, ddr_bytes, max(l2m_bytes, self.l2m_start))

    def _ddr(
        self, far: Mapping[int, Use], uses: Mapping[int, Use], *, reuse: bool
    ) -> tuple[dict[int, int], int]:
        end = max((u.last for u in uses.values()), default=0)
        lives = []
        for root, use in far.items():
            whole = use.kept or not reuse
            lives.append(Life(root, use.nbytes, 0 if whole else use.first, end if whole else use.last))
        return pack(lives, self.alignment, aligned(self.ddr_start, self.alignment))

    def flat(self, memories: Memories, jobs: Iterable[Job]) -> dict[int, int]:
        """The flat address of every memory that jobs touch."""
        used = {operand.root for job in jobs for operand in job.operands}
        return {root: self._flat(root, memories) for root in used}

    def _flat(self, root: int, memories: Memories) -> int:
        tensor = self.tensors[root]
        if tensor.space is Space.CONST:
            return tensor.address
        if root in memories.l2m:
            return L2M_BASE + memories.l2m[root]
        if tensor.space is Space.L2M:
            return L2M_BASE + tensor.address
        return self.ddr_base + memories.ddr.get(root, tensor.address)

    def final(
        self, memories: Memories, on_chip: Mapping[int, int], inside: Iterable[int]
    ) -> tuple[Tensor, ...]:
        """The tensor table with the addresses chosen here. `on_chip`: on-chip address by root.

        What lies inside another tensor has no address of its own (−1). Neither have tensors that only a
        window of a group ever holds, or several cores in parts.
        """
        out = list(self.tensors)
        for owner in inside:
            if out[owner].space is Space.DDR and out[owner].address < 0:
                out[owner] = replace(out[owner], space=Space.CHIP)
        for root, address in memories.ddr.items():
            out[root] = replace(out[root], space=Space.DDR, address=address)
        for root, address in memories.l2m.items():
            out[root] = replace(out[root], space=Space.L2M, address=address)
        for root, address in on_chip.items():
            if root not in memories.ddr and root not in memories.l2m and out[root].address < 0:
                out[root] = replace(out[root], space=Space.CHIP, address=address)
        return tuple(out)
