"""A net run piece by piece over many samples: what later pieces read is kept, nothing is made twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto, ValueInfoProto, helper

from openbpu.arch.arrays import Array
from openbpu.arch.errors import QuantizationError, must
from openbpu.quantization.onnx.engine import net_session, run
from openbpu.quantization.onnx.inference import nbytes
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.nodes import reads
from openbpu.quantization.onnx.samples import Feed

BUDGET = 1 << 30
"""Bytes that the tensors between two pieces may take, over all samples (never fewer than one sample)."""


class Walk:
    """Walks a net of quantized weights in the order of its nodes; constants may be exchanged ahead of it."""

    def __init__(self, net: Net, feeds: Sequence[Feed]) -> None:
        self.net, self.consts = net, dict(net.consts)
        self.live: list[dict[str, Array]] = [dict(feed) for feed in feeds]
        self._last = {name: index for index, node in enumerate(net.nodes) for name in reads(node)}
        self._at = 0

    def advance(self, stop: int, wanted: str) -> None:
        """Run the nodes up to `stop`, exclusive; keep tensor `wanted` and all that later ones read."""
        piece = self.net.nodes[self._at : stop]
        made = dict.fromkeys(name for node in piece for name in node.output if name)
        kept = [name for name in made if name == wanted or self._last.get(name, -1) >= stop]
        self._at = stop
        if kept:
            self._run(self._part(piece, kept), kept)
        for tensors in self.live:
            for name in [name for name in tensors if name != wanted and self._last.get(name, -1) < stop]:
                del tensors[name]

    def _part(self, nodes: tuple[NodeProto, ...], kept: Sequence[str]) -> Net:
        made = {name for node in nodes for name in node.output}
        read = dict.fromkeys(name for node in nodes for name in reads(node) if name not in made)
        header = ModelProto()
        header.CopyFrom(self.net.header)
        del header.graph.input[:], header.graph.output[:]
        header.graph.input.extend(_declared(n, self.live[0][n]) for n in read if n not in self.consts)
        header.graph.output.extend(ValueInfoProto(name=name) for name in kept)
        return Net(header, nodes, {name: self.consts[name] for name in read if name in self.consts})

    def _run(self, part: Net, kept: Sequence[str]) -> None:
        engine = net_session(part)
        for tensors in self.live:
            tensors.update(run(engine, {name: tensors[name] for name in part.inputs}, kept))


def _declared(name: str, array: object) -> ValueInfoProto:
    if not isinstance(array, np.ndarray):
        fix = "leave --adaptive-rounding and --bias-correction out"
        raise QuantizationError(must("corrections", f"'{name}'", "a tensor", "a sequence or nothing", fix))
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, kind, [None] * array.ndim)


def affordable(net: Net, stops: Sequence[int]) -> int:
    """Return over how many samples `net`, whose shapes are known, can be walked with stops at these nodes."""
    last = {name: index for index, node in enumerate(net.nodes) for name in reads(node)}
    made = {name: index for index, node in enumerate(net.nodes) for name in node.output}
    starts, ends = np.zeros(len(net.nodes) + 1), np.zeros(len(net.nodes) + 1)
    for name, end in last.items():
        if name not in net.consts and name in net.types:
            size = nbytes(net.types[name], net.shapes.get(name, ()))
            starts[made.get(name, -1) + 1] += size
            ends[end] += size
    held = np.cumsum(starts) - np.cumsum(ends)
    peak = max((held[stop] for stop in stops), default=0.0)
    return max(1, int(BUDGET // max(peak, 1.0)))


def means(arrays: Sequence[Array], axis: int) -> Array:
    """Return the mean of every channel along `axis` over all arrays, float64."""
    channels = arrays[0].shape[axis]
    total, count = np.zeros(channels), 0
    for array in arrays:
        rows = np.moveaxis(array, axis, -1).reshape(-1, channels)
        total += rows.sum(axis=0, dtype=np.float64)
        count += len(rows)
    mean: Array = total / max(count, 1)
    return mean
