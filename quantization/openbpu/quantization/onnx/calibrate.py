"""Run the float net over the calibration set and observe the tensors whose scales are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import ModelError
from openbpu.quantization.onnx.engine import run, session
from openbpu.quantization.onnx.net import Array, Net, assemble
from openbpu.quantization.onnx.observe import clipped_range
from openbpu.quantization.onnx.peaks import peaks
from openbpu.quantization.onnx.samples import Feed, random_feed
from openbpu.quantization.ranges import Histogram, finite_peak

Progress = Callable[[str, int, int], None]
"""Called as progress(stage, done, total)."""

CHUNK_BYTES = 256 << 20
"""Tensors that are fetched in one run hold about this many bytes at most (never fewer than one tensor)."""


def max_ranges(net: Net, names: Sequence[str], feeds: Sequence[Feed], progress: Progress) -> dict[str, float]:
    """Return max|x| of each tensor over all samples; raises QuantizationError for NaN and infinity."""
    ranges = dict.fromkeys(names, 0.0)
    for name, sample, x in _observed(net, names, feeds, progress, "observe ranges"):
        where = f"tensor '{name}', calibration sample {sample}"
        fix = "look at the float model: it overflows, divides by zero or masks with infinity there"
        ranges[name] = max(ranges[name], finite_peak(x, where, fix))
    return ranges


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
    net: Net, tops: Mapping[str, float], feeds: Sequence[Feed], progress: Progress
) -> dict[str, Histogram]:
    """Return the histogram of |x| of each tensor over 0 … tops[name], for those that are not all zero."""
    names = [name for name, top in tops.items() if top > 0]
    seen = {name: Histogram(peak=tops[name]) for name in names}
    for name, _, x in _observed(net, names, feeds, progress, "observe histograms"):
        seen[name].add(x)
    return seen


def clipped_ranges(
    method: str, tops: Mapping[str, float], seen: Mapping[str, Histogram], types: Mapping[str, DType]
) -> dict[str, float]:
    """Return the ranges that `method` makes of maxima and histograms."""
    if method == "max":
        return dict(tops)
    return {**tops, **{name: clipped_range(method, found, types[name]) for name, found in seen.items()}}


def _observed(
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
        engine = session(assemble(net, chunk)) if chunk else None
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
