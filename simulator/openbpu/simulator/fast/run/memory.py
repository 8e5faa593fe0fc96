"""Where the buffers of a segment lie in its workspace: those that never live at the same time share bytes."""

from __future__ import annotations

from openbpu.simulator.fast.plan.steps import SLACK, Buffer

ALIGNMENT = 64


def aligned(n: int) -> int:
    """Round up to a cache line."""
    return -(-n // ALIGNMENT) * ALIGNMENT


def plan_buffers(buffers: list[Buffer], *, share: bool = True) -> tuple[list[int], int]:
    """Return the offset of every buffer, the largest first at its lowest free place, and the size of all."""
    offsets = [0] * len(buffers)
    placed: list[int] = []
    order = sorted(range(len(buffers)), key=lambda i: (-buffers[i].nbytes, i))
    for index in order:
        here = buffers[index]
        rivals = sorted(
            (offsets[i], offsets[i] + _room(buffers[i]))
            for i in placed
            if not share or _meet(here, buffers[i])
        )
        start = 0
        for first, last in rivals:
            if first - start >= _room(here):
                break
            start = max(start, last)
        offsets[index] = start
        placed.append(index)
    total = max((offsets[i] + _room(buffers[i]) for i in placed), default=0)
    return offsets, total


def _room(buffer: Buffer) -> int:
    return aligned(buffer.nbytes + SLACK)


def _meet(a: Buffer, b: Buffer) -> bool:
    return a.first <= b.last and b.first <= a.last
