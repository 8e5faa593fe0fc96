"""What is cut out of a Concat is read from the operand that holds it.

    a ┐                    a ┐
    b ┴ Concat ┬► …        b ┴ Concat ─► …
               ├► b'       b ─► …                  (Slice or Split: exactly b)
               └► b[1:2]   b ─► Slice ─► …         (a part of b)

The values are the same; the scale is the operand's own, not that of all operands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import NodeProto

from openbpu.arch.arrays import Array
from openbpu.quantization.onnx.net import Names, Net
from openbpu.quantization.onnx.nodes import attribute, remake, rename_reads


@dataclass(frozen=True, slots=True)
class _Part:
    """Positions `start` … `stop` along `axis` of the tensor `name`, which has `size` of them."""

    name: str
    axis: int
    start: int
    stop: int
    size: int

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the tensor."""
        return (self.start, self.stop) == (0, self.size)


def read_parts(net: Net) -> Net:
    """Return `net` with each Slice and Split of a Concat along its axis reading the operand it takes from."""
    makers, names = net.producers(), Names(net)
    consts, alias, nodes = dict[str, Array](), dict[str, str](), list[NodeProto]()
    for given in net.nodes:
        parts = _parts(given, net, makers)
        if not parts or None in parts:
            nodes.append(rename_reads(given, alias))
            continue
        for out, part in zip(given.output, parts, strict=True):
            if part is None or not out:
                continue
            source = alias.get(part.name, part.name)
            if part.is_whole and out not in net.outputs:
                alias[out] = source
            else:
                nodes.append(_cut(given, source, part, out, names, consts))
    if not consts and not alias:
        return net
    return read_parts(_without_unread(net.with_nodes(nodes, consts)))  # an operand may be a Concat too


def _cut(
    given: NodeProto, source: str, part: _Part, out: str, names: Names, consts: dict[str, Array]
) -> NodeProto:
    """Return the Slice of `source` that makes `out`, in place of `given`; its limits are put in `consts`."""
    inputs = [source, *(names.fresh(f"{out}_{what}") for what in ("starts", "ends", "axes"))]
    for name, value in zip(inputs[1:], (part.start, part.stop, part.axis), strict=True):
        consts[name] = np.array([value], np.int64)
    made = remake(given, inputs, [out])
    made.op_type = "Slice"
    made.name = given.name if given.op_type == "Slice" else names.fresh(f"{given.name}_part")
    del made.attribute[:]
    return made


def _parts(node: NodeProto, net: Net, makers: Mapping[str, int]) -> Sequence[_Part | None]:
    """Return what each output of a Slice or Split holds: a part of one operand of the Concat before it."""
    if node.op_type not in {"Slice", "Split"} or node.domain not in {"", "ai.onnx"}:
        return ()
    concat = net.nodes[makers[node.input[0]]] if node.input[0] in makers else None
    if concat is None or concat.op_type != "Concat" or not net.is_live(node.input[0]):
        return ()
    rank = len(net.shapes.get(node.input[0]) or ())
    axis = int(attribute(concat, "axis", 0)) % rank if rank else 0
    sizes = [(net.shapes.get(name) or (None,) * rank)[axis] for name in concat.input] if rank else [None]
    lengths = [size for size in sizes if isinstance(size, int)]
    if len(lengths) != len(sizes):
        return ()
    cuts = (
        _slice_cuts(node, net, axis, rank, sum(lengths))
        if node.op_type == "Slice"
        else _split_cuts(node, net, axis, rank)
    )
    return [_within(concat, axis, lengths, *cut) for cut in cuts]


def _slice_cuts(node: NodeProto, net: Net, axis: int, rank: int, total: int) -> list[tuple[int, int]]:
    if any(name and name not in net.consts for name in node.input[1:]):
        return []
    numbers = [net.consts[name].reshape(-1).tolist() if name else [] for name in node.input[1:]]
    starts, ends, axes, steps = numbers + [[]] * (4 - len(numbers))
    if len(starts) != 1 or [at % rank for at in axes or [0]] != [axis] or (steps or [1]) != [1]:
        return []
    start, stop, _ = slice(starts[0], ends[0]).indices(total)
    return [(start, stop)] if start < stop else []


def _split_cuts(node: NodeProto, net: Net, axis: int, rank: int) -> list[tuple[int, int]]:
    sizes = [(net.shapes.get(name) or (None,) * rank)[axis] for name in node.output]
    if int(attribute(node, "axis", 0)) % rank != axis or not all(isinstance(size, int) for size in sizes):
        return []
    ends = np.cumsum([int(size or 0) for size in sizes]).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _within(concat: NodeProto, axis: int, lengths: Sequence[int], start: int, stop: int) -> _Part | None:
    """Return the operand that holds start … stop; None where none holds all of it."""
    first = 0
    for name, length in zip(concat.input, lengths, strict=True):
        if first <= start and stop <= first + length and start < stop:
            return _Part(name, axis, start - first, stop - first, length)
        first += length
    return None


def _without_unread(net: Net) -> Net:
    """Return `net` without Concats that nobody reads any more."""
    read = {*net.consumers(), *net.outputs}
    kept = [n for n in net.nodes if n.op_type != "Concat" or not read.isdisjoint(n.output)]
    return net if len(kept) == len(net.nodes) else _without_unread(replace(net, nodes=tuple(kept)))
