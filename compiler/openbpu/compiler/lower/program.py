"""The program: parts become segments, values tensors; segments are scheduled, tensors get their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from openbpu.arch.march import March
from openbpu.arch.program import (
    BpuSegment,
    Conv,
    DebugEntry,
    MatMul,
    Placement,
    Program,
    Segment,
    Space,
    Tensor,
)
from openbpu.compiler.ir import Graph, Node
from openbpu.compiler.lower.cpu import cpu_segment
from openbpu.compiler.lower.operators import OperatorBuilder
from openbpu.compiler.lower.partition import Part
from openbpu.compiler.lower.tensors import ALIGN, TensorTable
from openbpu.compiler.schedule import ScheduleOptions, schedule

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class DebugMap:
    """Layers and what they are made of.

    `entries` go into the program, `of_origin` gives the entry that holds a node of the user's model by name,
    `of_node` that of every node of every part.
    """

    entries: tuple[DebugEntry, ...]
    of_origin: Mapping[str, int]
    of_node: tuple[tuple[int, ...], ...]


@dataclass(slots=True)
class _Draft:
    """A BPU segment before scheduling."""

    name: str
    builder: OperatorBuilder
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def debug_map(parts: tuple[Part, ...]) -> DebugMap:
    """Return the debug map: one entry per node of the parts, in order."""
    entries: list[DebugEntry] = []
    of_origin: dict[str, int] = {}
    of_node: list[tuple[int, ...]] = []
    for part in parts:
        of_node.append(tuple(range(len(entries), len(entries) + len(part.nodes))))
        for node in part.nodes:
            for origin in node.origins:
                of_origin.setdefault(origin.name, len(entries))
            entries.append(_entry(node))
    return DebugMap(tuple(entries), of_origin, tuple(of_node))


def _entry(node: Node) -> DebugEntry:
    names = tuple(o.name for o in node.origins)
    scope, source = (node.origins[0].scope, node.origins[0].source) if node.origins else ("", "")
    return DebugEntry(node.name or node.outputs[0], node.op, names, scope, source)


def build_program(
    graph: Graph,
    parts: tuple[Part, ...],
    march: March,
    *,
    schedule_options: ScheduleOptions,
    debug: DebugMap,
    placement: tuple[Placement, ...],
    options: Mapping[str, str],
    progress: Progress,
) -> Program:
    """Lower and schedule every part; returns the finished program."""
    table = TensorTable(graph)
    inputs = tuple(table.id_of(n) for n in graph.inputs)
    drafts = [_draft(graph, part, table, index, debug.of_node[index]) for index, part in enumerate(parts)]
    outputs = tuple(table.id_of(n) for n in graph.outputs)
    crossing = _place_crossing(
        table, drafts, march.alignment, (*inputs, *outputs), schedule_options.l2m_bytes
    )
    segments, ddr_bytes = _scheduled(table, drafts, march, schedule_options, crossing, progress)
    return Program(
        name=graph.name,
        march=march.name,
        tensors=tuple(table.tensors),
        inputs=inputs,
        outputs=outputs,
        segments=tuple(segments),
        constants=table.image(),
        ddr_bytes=ddr_bytes,
        debug=debug.entries,
        placement=placement,
        options=tuple(sorted(options.items())),
        macs=_macs(segments, table.tensors),
    )


def _draft(
    graph: Graph, part: Part, table: TensorTable, index: int, lines: tuple[int, ...]
) -> _Draft | Segment:
    if not part.on_bpu:
        return cpu_segment(graph, part, table, f"cpu{index}")
    builder = OperatorBuilder(table)
    for node, line in zip(part.nodes, lines, strict=True):
        builder.add(node, line)
    read = tuple(table.id_of(n) for n in part.inputs)
    return _Draft(f"bpu{index}", builder, read, tuple(table.id_of(n) for n in part.outputs))


def _place_crossing(
    table: TensorTable, drafts: list[_Draft | Segment], alignment: int, ends: tuple[int, ...], l2m_bytes: int
) -> tuple[int, int]:
    """Give every tensor that enters or leaves a BPU segment an address of its own; returns bytes of DDR and
    L2M used.

    What only BPU segments use is in the L2M, as far as it has room; the CPU sees DDR alone.
    """
    hosted = {table.root(i) for d in drafts if not isinstance(d, _Draft) for i in (*d.inputs, *d.outputs)}
    hosted |= {table.root(i) for i in ends}
    used = {Space.DDR: 0, Space.L2M: 0}
    for draft in drafts:
        if not isinstance(draft, _Draft):
            continue
        for tensor_id in (*draft.inputs, *draft.outputs):
            root = table.root(tensor_id)
            tensor = table.tensors[root]
            if tensor.space is not Space.DDR or tensor.address >= 0:
                continue
            size = -(-tensor.nbytes // alignment) * alignment
            near = root not in hosted and used[Space.L2M] + size <= l2m_bytes
            space = Space.L2M if near else Space.DDR
            table.place(root, space, used[space])
            used[space] += size
    return used[Space.DDR], used[Space.L2M]


def _scheduled(
    table: TensorTable,
    drafts: list[_Draft | Segment],
    march: March,
    schedule_options: ScheduleOptions,
    crossing: tuple[int, int],
    progress: Progress,
) -> tuple[list[Segment], int]:
    constants = table.image()
    base = -(-constants.size // ALIGN) * ALIGN
    segments: list[Segment] = []
    ddr_bytes, l2m_bytes = crossing
    for index, draft in enumerate(drafts):
        progress("schedule", index / len(drafts))
        if not isinstance(draft, _Draft):
            segments.append(draft)
            continue
        done = schedule(
            draft.builder.operators,
            table.tensors,
            draft.inputs,
            draft.outputs,
            march,
            options=schedule_options,
            ddr_base=base,
            ddr_start=crossing[0],
            l2m_start=l2m_bytes,
            constants=constants,
        )
        table.tensors = list(done.tensors)
        ddr_bytes = max(ddr_bytes, done.ddr_bytes)
        segments.append(
            BpuSegment(
                draft.name,
                done.operators,
                draft.inputs,
                draft.outputs,
                done.code,
                done.chip_bytes,
                done.l2m_bytes,
            )
        )
    return segments, ddr_bytes


def _macs(segments: list[Segment], tensors: list[Tensor]) -> tuple[tuple[str, int], ...]:
    """Multiply-accumulates by dtype pair (input × weight)."""
    counts: dict[str, int] = {}
    for segment in segments:
        for op in segment.operators if isinstance(segment, BpuSegment) else ():
            if not isinstance(op, (Conv, MatMul)):
                continue
            other = op.weight_id if isinstance(op, Conv) else op.inputs[1]
            pair = f"{tensors[op.inputs[0]].dtype.value}x{tensors[other].dtype.value}"
            counts[pair] = counts.get(pair, 0) + op.multiply_adds
    return tuple(sorted(counts.items()))
