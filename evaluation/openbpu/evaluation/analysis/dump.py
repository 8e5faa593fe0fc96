"""Tensors of the float run, the quantized run and the binary's, some at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.evaluation.analysis.analyzer import CHUNK_BYTES, Analyzer, until_node
from openbpu.evaluation.analysis.cut import Graph, Kind
from openbpu.evaluation.analysis.units import Unit
from openbpu.quantization.onnx.samples import Feed


def dump(
    analyzer: Analyzer, feeds: Sequence[Feed], names: Sequence[str] = (), until: str | None = None
) -> Iterator[tuple[int, str, dict[str, Array]]]:
    """Yield (sample, run, tensors by name) of the "float", "qdq" and "simulated" run, some tensors at a time.

    names: tensors or nodes, of whichever model has them, with what belongs to them in the others (none: every
    tensor of numbers). Raises InputError, before anything is yielded, for a name that neither has.
    """
    found, kinds, theirs = analyzer.matched(feeds[0])
    units = until_node(found.units, until) if until else found.units
    picked = _picked(analyzer, found.units, names)
    ours = _wanted(
        analyzer.float, kinds, picked, _ancestors(analyzer.float, [u.tensor for u in units], until)
    )
    inside = _ancestors(analyzer.quantized, [u.value for u in units], until)
    other = _wanted(analyzer.quantized, theirs, picked, inside)
    for run, graph, wanted, sizes in (
        ("float", analyzer.float, ours, kinds),
        ("qdq", analyzer.quantized, other, theirs),
    ):
        for chunk in _pieces(wanted, sizes):
            cut = graph.cut(chunk)
            yield from ((n, run, cut.run(feed)) for n, feed in enumerate(feeds))
    if analyzer.binary is not None:
        yield from _simulated(analyzer, feeds, set(other), theirs)


def _picked(analyzer: Analyzer, units: Sequence[Unit], names: Sequence[str]) -> set[str] | None:
    """Return the tensors that some names mean, in both models; None for all."""
    if not names:
        return None
    wanted = set(names)
    picked = set(names)
    for graph in (analyzer.float, analyzer.quantized):
        picked |= {name for node in graph.nodes if node.name in wanted for name in node.output}
        wanted -= {*graph.fed, *graph.made, *(node.name for node in graph.nodes)}
    if wanted:
        fix = "`openbpu analyze --all --sort order` lists the nodes"
        raise InputError(must("--tensor", "the name", "a tensor or a node", f"'{min(wanted)}'", fix))
    for unit in units:
        own = {unit.tensor, unit.raw, unit.value, *([unit.rounding.codes] if unit.rounding else [])}
        picked |= own if own & picked else set()
    return picked


def _simulated(
    analyzer: Analyzer, feeds: Sequence[Feed], wanted: set[str], kinds: Mapping[str, Kind]
) -> Iterator[tuple[int, str, dict[str, Array]]]:
    for n, feed in enumerate(feeds):
        shown = analyzer.binary.run(feed)  # type: ignore[union-attr]  # asked by the caller
        yield n, "simulated", shown.tensors(wanted, kinds)


def _ancestors(graph: Graph, ends: Sequence[str], until: str | None) -> set[str] | None:
    if until is None:
        return None
    nodes = graph.needed(ends[-1:])
    return {name for k in nodes for name in graph.nodes[k].output}


def _wanted(
    graph: Graph, kinds: Mapping[str, Kind], picked: set[str] | None, inside: set[str] | None
) -> list[str]:
    there = set(kinds) if inside is None else {*inside, *graph.fed}
    return [n for n in kinds if n in there and (picked is None or n in picked)]


def _pieces(names: Sequence[str], kinds: Mapping[str, Kind]) -> Iterator[list[str]]:
    room, piece = CHUNK_BYTES, list[str]()
    for name in names:
        if piece and kinds[name].nbytes > room:
            yield piece
            piece, room = [], CHUNK_BYTES
        piece.append(name)
        room -= kinds[name].nbytes
    if piece:
        yield piece
