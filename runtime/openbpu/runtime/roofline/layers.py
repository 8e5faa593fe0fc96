"""Which operators make one layer: those that carry the same line of the debug map."""

from __future__ import annotations

from openbpu.arch.program import BpuSegment


def layer_members(segment: BpuSegment) -> list[tuple[int, ...]]:
    """Return the operators of every layer, in the order of their first one; a nameless one is its own."""
    groups: dict[tuple[str, int], list[int]] = {}
    for index, op in enumerate(segment.operators):
        key = ("node", op.node) if op.node >= 0 else ("operator", index)
        groups.setdefault(key, []).append(index)
    return [tuple(members) for members in groups.values()]
