"""The compiler's front door: `compile` and `check`."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any

from onnx import ModelProto, defs

from openbpu.arch.errors import CompileError, MarchError, ModelError, OptionError, must, span
from openbpu.arch.hbm import check_writable
from openbpu.arch.isa import MAX_CORES
from openbpu.arch.march import March, get_march
from openbpu.arch.program import Placement, Program
from openbpu.compiler import passes
from openbpu.compiler.batch import batched, can_be_batched
from openbpu.compiler.ir import Graph
from openbpu.compiler.ir.qdq import spell_offsets
from openbpu.compiler.ir.verify import Stage, verify, verify_parts
from openbpu.compiler.lower import Part, build_program, cpu_costs, debug_map, partition, placements
from openbpu.compiler.net import Progress, caught, telling
from openbpu.compiler.passes.borders import cpu_borders, place_borders
from openbpu.compiler.passes.channels_last import channels_last_ends
from openbpu.compiler.passes.refusals import Refusal
from openbpu.compiler.passes.remove_io import remove_io as bare_ends
from openbpu.compiler.passes.roundings import integerise_with_roundings
from openbpu.compiler.passes.weight_parts import split_wide_weights
from openbpu.compiler.reader import read_model
from openbpu.compiler.schedule import FASTEST, LEVELS, ScheduleOptions

Model = str | os.PathLike[str] | ModelProto
OPTIONS = ("opt", "balance", "max_l2m_size", "core_num", "shapes", "batch", "remove_io", "bpu_ops")
_MAX_BATCH = 4096
REMOVABLE = ("quantize", "dequantize", "transpose")


@dataclass(frozen=True, slots=True)
class _Placed:
    """A model after placement: the graph as read, the integer graph, its parts, why nodes stay on the CPU.

    channels_last: names of the ends whose axes were turned.
    """

    source: Graph
    graph: Graph
    parts: tuple[Part, ...]
    refusals: Mapping[str, Refusal]
    channels_last: frozenset[str]

    def rows(self, entries: Mapping[str, int], march: March) -> tuple[Placement, ...]:
        """The placement of every node; `entries` maps names to lines of the debug map."""
        costs = cpu_costs(self.graph, self.parts, march)
        return placements(self.source, self.parts, entries, self.refusals, costs)


def compile(  # noqa: A001, PLR0913 - the word of the field (openbpu.compiler.compile); an argument per option
    model: Model,
    *,
    march: str | March,
    options: Mapping[str, Any] | None = None,
    opt: int = 2,
    balance: int = FASTEST,
    max_l2m_size: int = 0,
    core_num: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    batch: int = 0,
    remove_io: Collection[str] = (),
    bpu_ops: Collection[str] = (),
    progress: Progress | None = None,
) -> Program:
    """Compile an ONNX model (path or ModelProto) for a march (name, file or March).

    opt: 0 every tensor through DDR, one tile at a time · 1 double buffering, weights that stay · 2 also
    tensors that stay on chip. balance: what schedules are judged by, from DDR bytes (0) to latency (100).
    max_l2m_size: bytes of the L2M that tensors may take instead of DDR. core_num: cores that share the work
    of every layer.
    shapes: sizes of dynamic inputs by name. batch: images of a run, 0 as the model has them; the result is
    that of as many runs, and a model that would mix images is refused. remove_io: "quantize" and/or
    "dequantize" nodes to take off the ends; "transpose" to have integer images channels last there
    (N×H×W×C), as the BPU keeps them, where that saves a transpose. bpu_ops: operators or nodes to put on
    the BPU although the march prefers the CPU. progress is called with the stage and the share done.
    options: the same (opt, balance, shapes, …) as one mapping, for those who keep them in a file.

    Raises ModelError, QuantizationError, MarchError or CompileError; the message says what to do.
    """
    if options is not None:
        return compile(model, march=march, progress=progress, **_checked(options))
    target = _target(march)
    schedule_options = _schedule_options(target, opt, balance, max_l2m_size, core_num)
    removed, wanted = _kinds(remove_io), frozenset(bpu_ops)
    with caught("compile"):
        told = telling(progress)
        placed = _place(model, target, shapes, removed, wanted, told, batch=batch)
        debug = debug_map(placed.parts)
        used = {
            "opt": str(opt),
            "balance": str(balance) if balance != FASTEST else "",
            "max_l2m_size": str(max_l2m_size) if max_l2m_size else "",
            "core_num": str(core_num) if core_num > 1 else "",
            "batch": str(batch) if batch else "",
            "batchable": "" if batch or can_be_batched(placed.source) else "no",
            "remove_io": ",".join(sorted(remove_io)),
            "bpu_ops": ",".join(sorted(bpu_ops)),
            "channels_last": json.dumps(sorted(placed.channels_last)) if placed.channels_last else "",
        }
        program = build_program(
            placed.graph,
            placed.parts,
            target,
            schedule_options=schedule_options,
            debug=debug,
            placement=placed.rows(debug.of_origin, target),
            options={k: v for k, v in used.items() if v},
            progress=told,
        )
        check_writable(program)
    return program


def check(
    model: Model,
    *,
    march: str | March,
    shapes: Mapping[str, Sequence[int]] | None = None,
    remove_io: Collection[str] = (),
    bpu_ops: Collection[str] = (),
    progress: Progress | None = None,
) -> tuple[Placement, ...]:
    """Return where every node of the model would run on the march, and why.

    Arguments and errors as in `compile`; nothing is tiled or scheduled, so it is fast.
    """
    target = _target(march)
    removed, wanted = _kinds(remove_io), frozenset(bpu_ops)
    with caught("check"):
        placed = _place(model, target, shapes, removed, wanted, telling(progress))
        return placed.rows(debug_map(placed.parts).of_origin, target)


def _place(
    model: Model,
    march: March,
    shapes: Mapping[str, Sequence[int]] | None,
    removed: frozenset[str],
    bpu_ops: frozenset[str],
    progress: Progress,
    *,
    batch: int = 0,
) -> _Placed:
    progress("read", 0.0)
    source = _with_batch(read_model(model, shapes), batch)
    _check_ends(source, march)
    _check_wishes(source, bpu_ops)
    progress("quantization", 0.0)
    normal = split_wide_weights(passes.run(passes.NORMALISE, source), march)
    verify(normal, Stage.NORMAL)
    integer, refusals = integerise_with_roundings(normal, march, bpu_ops)
    verify(integer, Stage.INTEGER)
    progress("layout", 0.0)
    graph = spell_offsets(bare_ends(place_borders(integer, march), removed))
    verify(graph, Stage.PLACED)
    settle, turned = partial(passes.run, passes.SETTLE), frozenset[str]()
    if "transpose" in removed:
        graph, turned = channels_last_ends(graph, settle)
    else:
        graph = settle(graph)
    refused = {**cpu_borders(integer, march), **refusals}
    verify(graph, Stage.SETTLED)
    parts = partition(graph)
    verify_parts(graph, parts)
    return _Placed(source, graph, parts, refused, turned)


def _schedule_options(march: March, opt: int, balance: int, l2m_bytes: int, cores: int) -> ScheduleOptions:
    """Check the options of the schedule; raises OptionError."""
    if opt not in LEVELS:
        raise OptionError("opt", "0, 1 or 2", opt, "2 is the usual one")
    if not _whole(balance) or not 0 <= balance <= FASTEST:
        fix = "0 is for the fewest DDR bytes, 100 for the lowest latency"
        raise OptionError("balance", _within(0, FASTEST), balance, fix)
    has = march.chip.shared_bytes
    if not _whole(l2m_bytes) or not 0 <= l2m_bytes <= has:
        fix = f"{march.name} has no L2M; nash-p and nash-h have" if not has else "it is in bytes"
        raise OptionError("max_l2m_size", _within(0, has), l2m_bytes, fix)
    most = min(march.cores, MAX_CORES)
    if not _whole(cores) or not 1 <= cores <= most:
        fix = f"{march.name} has {march.cores} BPU core{'s' * (march.cores > 1)}"
        raise OptionError("core_num", _within(1, most), cores, fix)
    return ScheduleOptions(opt, balance, l2m_bytes, cores)


def _with_batch(graph: Graph, batch: int) -> Graph:
    if not _whole(batch) or not 0 <= batch <= _MAX_BATCH:
        fix = "0 leaves the batch as the model has it"
        raise OptionError("batch", _within(0, _MAX_BATCH), batch, fix)
    return batched(graph, batch) if batch else graph


def _within(low: int, high: int) -> str:
    return f"a whole number in {span(low, high)}" if low < high else span(low, high)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _target(march: str | March) -> March:
    found = march if isinstance(march, March) else get_march(march)
    if not found.target:
        raise MarchError(f"march '{found.name}' cannot be compiled for yet: {found.reason}")
    return found


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options as keyword arguments of `compile`; raises CompileError for an unknown one."""
    for name in options:
        if name not in OPTIONS:
            raise CompileError(must("compile", "an option", ", ".join(OPTIONS), repr(name)))
    return dict(options)


def _kinds(remove_io: Collection[str]) -> frozenset[str]:
    for kind in remove_io:
        if kind not in REMOVABLE:
            raise CompileError(must("compile", "remove_io", "quantize, dequantize or transpose", kind))
    return frozenset(remove_io)


def _check_ends(graph: Graph, march: March) -> None:
    """Refuse a model with more inputs or outputs than a run on the march can have; raises ModelError."""
    for key, ends in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        most, fix = march.limits[f"model_{key}_max"], "join some with a Concat, or cut the model in two"
        if len(ends) > most:
            allowed = f"at most {most} on {march.name}"
            raise ModelError(must("model", f"the number of {key}", allowed, len(ends), fix))


def _check_wishes(graph: Graph, bpu_ops: Collection[str]) -> None:
    """Refuse a wish for the BPU that is neither an ONNX operator nor a node of the model."""
    nodes = {origin.name for node in graph.nodes for origin in node.origins}
    for wish in sorted(bpu_ops):
        if wish not in nodes and not defs.has(wish):
            close = get_close_matches(wish, [*sorted({n.op for n in graph.nodes}), *sorted(nodes)], n=1)
            fix = f"did you mean '{close[0]}'?" if close else "`openbpu check` lists the nodes"
            raise CompileError(
                must("compile", "bpu_ops", "operators of ONNX or nodes of the model", f"'{wish}'", fix)
            )
