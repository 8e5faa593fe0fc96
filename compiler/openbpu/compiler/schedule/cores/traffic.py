"""What every core touches of every tensor, where cores share the work: what it may keep and must hand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openbpu.arch.program import Space, Tensor
from openbpu.compiler.schedule.cores.parts import Parts
from openbpu.compiler.schedule.memory.live_ranges import Ends, Span, Use
from openbpu.compiler.schedule.problem.byte_ranges import Extent, beyond, extent_of
from openbpu.compiler.schedule.problem.index_maps import Box
from openbpu.compiler.schedule.problem.job import Operand


@dataclass(frozen=True, slots=True)
class Touch:
    """A part of job `moment`, on `core`, reads or writes bytes of a tensor's memory."""

    core: int
    moment: int
    output: bool
    extent: Extent
    operand: Operand
    region: Box


Touches = Mapping[int, Sequence[Touch]]
"""By root, in order."""


def touches_of(jobs: Sequence[Parts], tensors: Sequence[Tensor]) -> Touches:
    """Everything that all parts touch, but constants."""
    found: dict[int, list[Touch]] = {}
    for moment, parts in enumerate(jobs):
        for core, part in enumerate(parts):
            if part is None:
                continue
            for operand in part.operands:
                if tensors[operand.root].space is not Space.CONST:
                    region = operand.region(tuple([(0, n) for n in part.extent]))
                    extent = extent_of(part, operand)
                    touch = Touch(core, moment, operand.output, extent, operand, region)
                    found.setdefault(operand.root, []).append(touch)
    return found


def uses_on(
    core: int, touches: Touches, moments: Mapping[int, int], tensors: Sequence[Tensor], ends: Ends
) -> dict[int, Use]:
    """The uses of tensors that a core may keep on chip; `moments`: its own count of the jobs it does."""
    found = {}
    for root, all_of_it in touches.items():
        if any(t.core == core for t in all_of_it):
            kept = root in ends.kept or tensors[root].address >= 0
            use = _use(core, root, all_of_it, tensors[root].nbytes, root in ends.given, kept)
            if use:
                use.writes, use.reads = (
                    sorted({moments[t.moment] for t in all_of_it if t.core == core and t.output is output})
                    for output in (True, False)
                )
                found[root] = use
    return found


def _use(core: int, root: int, touches: Sequence[Touch], nbytes: int, given: bool, kept: bool) -> Use | None:
    """One core's use of a tensor; None where it cannot tell its own bytes from others', or must not wait."""
    mine = [t for t in touches if t.core == core]
    low, high = min(t.extent.low for t in mine), max(t.extent.high for t in mine)
    use = Use(root, high - low, given, kept, low=low)
    if not any(t.output for t in mine):
        use.given = True
        return use if _complete(mine, touches) else None
    own = None if given else _own(core, touches, nbytes)
    if own is None:
        return None
    if any(t.extent.low < own[0] or own[1] < t.extent.high for t in mine):
        use.by_rows = not _complete(mine, touches)
        if use.by_rows and any(beyond(t.operand, t.region, own) is None for t in mine if not t.output):
            return None
        use.own = own
    wanted = _wanted(core, touches, own)
    if not kept:
        use.kept, use.wanted = bool(wanted), wanted
    return use


def _wanted(core: int, touches: Sequence[Touch], own: Span) -> tuple[Span, ...]:
    """What other cores may load of a core's own bytes: for each, all between the first and the last it
    touches.
    """
    found = set()
    for other in {t.core for t in touches if t.core != core and not t.output}:
        theirs = [t.extent for t in touches if t.core == other]
        low, high = min(e.low for e in theirs), max(e.high for e in theirs)
        if low < own[1] and own[0] < high:
            found.add((low, high))
    return tuple(sorted(found))


def _complete(mine: Sequence[Touch], touches: Sequence[Touch]) -> bool:
    """Whether all is written before the core reads any: what it loads early is then final."""
    first = min((t.moment for t in mine if not t.output), default=0)
    return all(t.moment < first for t in touches if t.output)


def _own(core: int, touches: Sequence[Touch], nbytes: int) -> Span | None:
    """The bytes that a core writes, if it alone writes them and all between the first and the last."""
    written = [t for t in touches if t.output]
    mine = [t.extent for t in written if t.core == core]
    if len(mine) == len(written):
        return 0, nbytes
    low, high = min(e.low for e in mine), max(e.high for e in mine)
    solid = sum(e.count for e in mine) == high - low
    once = sum(t.extent.count for t in written) <= nbytes
    return (low, high) if solid and once else None
