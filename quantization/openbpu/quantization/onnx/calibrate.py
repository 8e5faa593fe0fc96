"""Run the float net over the calibration set and observe the tensors whose scales are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import ModelError
from openbpu.quantization.onnx.engine import net_session, run
from openbpu.quantization.onnx.extents import Depths, Extent
from openbpu.quantization.onnx.limits import FREE, Limits, Seen, extent_of
from openbpu.quantization.onnx.masks import Masks, clipped
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.observe import clipped_range
from openbpu.quantization.onnx.peaks import peaks
from openbpu.quantization.onnx.samples import Feed, random_feed
from openbpu.quantization.onnx.shifts import NO_SHIFTS, Shifts
from openbpu.quantization.ranges import Histogram, finite_peak

Progress = Callable[[str, int, int], None]
"""Called as progress(stage, done, total)."""

CHUNK_BYTES = 256 << 20
"""Tensors that are fetched in one run hold about this many bytes at most (never fewer than one tensor)."""


def observe(net: Net, names: Sequence[str], masks: Masks, feeds: Sequence[Feed], progress: Progress) -> Seen:
    """Return what the tensors `names`, and those that lead into a masked Softmax, hold over all samples.

    Raises QuantizationError for NaN, and for infinity elsewhere than on the way into a Softmax.
    """
    chain, makers = masks.chain, net.producers()
    live = [n for n in (*net.inputs, *makers) if n in chain and n not in net.consts]
    results = [row.out for row in masks.rows if row.log]
    every = list(dict.fromkeys((*names, *live, *results)))
    extents = {name: Extent() for name in every}
    axes = {row.source: row.axis for row in masks.rows}
    largest, lengths = {name: Depths() for name in axes}, dict.fromkeys(axes, 0)
    values = {n: Depths() for row in masks.rows if row.log for n in (row.source, row.out)}
    for name, sample, seen in observed(net, every, feeds, progress, "observe ranges"):
        where = f"tensor '{name}', calibration sample {sample}"
        x = clipped(seen) if name in chain or name in results else seen
        finite_peak(
            x, where, "look at the float model: it overflows, divides by zero or masks with infinity there"
        )
        extents[name].add(x, ask_whole=name in masks.upstream)
        if name in values:
            values[name].add(x)
        if name in axes and x.size:
            largest[name].add(x.max(axis=axes[name]))
            lengths[name] = max(lengths[name], x.shape[axes[name]])
    extents.update((name, extent_of(net.consts[name])) for name in chain | masks.fills if name in net.consts)
    return Seen(extents, largest, values, lengths)


RANDOM_RANGES = (1e-3, 1e3)
"""Where the ranges of random data are kept: weights that nobody trained can make them absurd."""


def random_ranges(net: Net, names: Sequence[str]) -> dict[str, float]:
    """Return max|x| of each tensor in one run on random data; 1 where that is not finite or nothing runs."""
    try:
        tops = peaks(net, names, random_feed(net.header.graph.input))
    except ModelError:
        return dict.fromkeys(names, 1.0)
    return {n: float(np.clip(top, *RANDOM_RANGES)) if np.isfinite(top) else 1.0 for n, top in tops.items()}


def histograms(
    net: Net,
    tops: Mapping[str, float],
    feeds: Sequence[Feed],
    progress: Progress,
    limits: Mapping[str, Limits] = MappingProxyType({}),
) -> dict[str, Histogram]:
    """Return the histogram of |x| of each tensor over 0 … tops[name], for those that are not all zero.

    Values beyond their limits are not counted.
    """
    names = [name for name, top in tops.items() if top > 0]
    seen = {name: Histogram(peak=tops[name]) for name in names}
    for name, _, x in observed(net, names, feeds, progress, "observe histograms"):
        low, high = limits.get(name, FREE)
        seen[name].add(x[(x >= low) & (x <= high)] if name in limits else x)
    return seen


def clipped_ranges(
    method: str,
    tops: Mapping[str, float],
    seen: Mapping[str, Histogram],
    types: Mapping[str, DType],
    least: Mapping[str, float] = MappingProxyType({}),
    shifts: Shifts = NO_SHIFTS,
) -> dict[str, float]:
    """Return the ranges that `method` makes of maxima and histograms, none below what is in `least`."""
    if method == "max":
        return dict(tops)
    made = {
        name: clipped_range(method, found, types[name], shifts.halves(name, types[name]))
        for name, found in seen.items()
        if found.total
    }
    return {**tops, **{name: max(top, least.get(name, 0.0)) for name, top in made.items()}}


def observed(
    net: Net,
    names: Sequence[str],
    feeds: Sequence[Feed],
    progress: Progress,
    stage: str,
) -> Iterator[tuple[str, int, Array]]:
    """Yield (tensor, sample number, value) for every tensor and sample, a chunk of tensors at a time."""
    computed = [name for name in names if name not in net.inputs]
    chunks = _chunks(net, computed) or [[]]
    total = len(chunks) * len(feeds)
    for number, chunk in enumerate(chunks):
        engine = net_session(net, chunk) if chunk else None
        fed = [name for name in names if name in net.inputs] if number == 0 else []
        for sample, feed in enumerate(feeds):
            yield from ((name, sample, feed[name]) for name in fed)
            if engine is not None:
                yield from ((name, sample, x) for name, x in run(engine, feed, chunk).items())
            progress(stage, number * len(feeds) + sample + 1, total)


def _chunks(net: Net, names: Sequence[str]) -> list[list[str]]:
    chunks: list[list[str]] = []
    room = 0
    for name in names:
        size = 4 * int(
            np.prod([d if isinstance(d, int) else 1 for d in net.shapes.get(name, ())], dtype=np.int64)
        )
        if not chunks or size > room:
            chunks.append([])
            room = CHUNK_BYTES
        chunks[-1].append(name)
        room -= size
    return chunks
