"""analyze: the float model, the quantized one and the binary on the same samples, node by node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.arch.given_shapes import Shapes
from openbpu.arch.hbm import Source
from openbpu.arch.program import Program
from openbpu.evaluation.analysis.alone import Alone
from openbpu.evaluation.analysis.compared import Compared
from openbpu.evaluation.analysis.cut import Kind
from openbpu.evaluation.analysis.result import Analysis
from openbpu.evaluation.analysis.rows import Rows
from openbpu.evaluation.analysis.units import Match, Unit
from openbpu.evaluation.analysis.watch import Watch
from openbpu.evaluation.analysis.weights import Weights
from openbpu.quantization.onnx.load import ModelLike
from openbpu.quantization.onnx.samples import Calibration, Feed
from openbpu.runtime import Session

Progress = Callable[[str, int, int], None]
"""Called as progress(stage, done, total)."""

MIN_COSINE = 0.99
FLOAT_SHARE = 1e-4
"""A float output of the binary is that of the quantized run within this share of its largest value."""
CHUNK_BYTES = 256 << 20
"""Tensors of one run hold about this many bytes at most, in all models (never fewer than one unit's)."""


class Analyzer(Compared):
    """What `Compared` holds, node by node on samples."""

    def analyze(
        self,
        data: Calibration,
        *,
        samples: int | None = None,
        until: str | None = None,
        min_cosine: float = MIN_COSINE,
        pictures: bool = True,
        progress: Progress | None = None,
    ) -> Analysis:
        """Return the analysis; see `analyze`."""
        feeds, given = self.spread(data, samples)
        found, kinds, theirs = self.matched(feeds[0])
        units = until_node(found.units, until) if until else found.units
        watches = {unit.value: Watch(unit, pictures=pictures) for unit in units}
        work = _Work(self, found, kinds, theirs)
        chunks = list(_chunks(units, kinds, found.aliases))
        for number, chunk in enumerate(chunks):
            for done, _ in enumerate(work.run(chunk, feeds, watches)):
                if progress is not None:
                    progress("analyzing", number * len(feeds) + done + 1, len(chunks) * len(feeds))
        rows = Rows(self, found, Weights(self.float, self.quantized), min_cosine, whole=until is None)
        return rows.analysis(list(watches.values()), feeds, given)


def until_node(units: Sequence[Unit], name: str) -> tuple[Unit, ...]:
    """Return the units up to the one of this node or tensor; raises InputError where there is none."""
    ends = [k for k, u in enumerate(units) if name in {u.node, u.tensor, u.raw}]
    if not ends:
        close = next((u.node for u in units if name.lower() in u.node.lower()), "")
        fix = f"the nearest is '{close}'" if close else "`openbpu analyze --all --sort order` lists them"
        raise InputError(must("--until", "the node", "one that both models have", f"'{name}'", fix))
    return tuple(units[: max(ends) + 1])


def _chunks(
    units: Sequence[Unit], kinds: Mapping[str, Kind], aliases: Mapping[str, str]
) -> Iterator[list[Unit]]:
    """Yield the units in order, so many at a time that their tensors fit."""
    chunk: list[Unit] = []
    room, known = CHUNK_BYTES, set[str]()
    for unit in units:
        size = 4 * kinds[unit.tensor].nbytes
        size += sum(kinds[aliases[n]].nbytes for n in unit.leaves if aliases[n] not in known)
        if chunk and size > room:
            yield chunk
            chunk, room, known = [], CHUNK_BYTES, set()
        chunk.append(unit)
        known.update((unit.tensor, *(aliases[n] for n in unit.leaves)))
        room -= size
    if chunk:
        yield chunk


class _Work:
    """Runs chunks of units."""

    def __init__(
        self, of: Compared, found: Match, kinds: Mapping[str, Kind], theirs: Mapping[str, Kind]
    ) -> None:
        self._of, self._found, self._kinds, self._theirs = of, found, kinds, theirs

    def run(
        self, chunk: Sequence[Unit], feeds: Sequence[Feed], watches: Mapping[str, Watch]
    ) -> Iterator[None]:
        """Run every feed and add what the units of a chunk show; yields after each."""
        alone = Alone(self._of.quantized, chunk, self._found.aliases, self._kinds)
        ours = self._of.float.cut([*(u.tensor for u in chunk), *alone.needs])
        theirs = self._of.quantized.cut([u.value for u in chunk])
        for feed in feeds:
            expected, made = ours.run(feed), theirs.run(feed)
            for unit in chunk:
                watches[unit.value].add(expected[unit.tensor], made[unit.value])
            for unit, raw, value in alone.run(expected):
                watches[unit.value].add_alone(expected[unit.tensor], raw, value)
            self._simulate(feed, expected, made, [watches[unit.value] for unit in chunk])
            yield

    def _simulate(
        self,
        feed: Feed,
        expected: Mapping[str, Array],
        made: Mapping[str, Array],
        watches: Sequence[Watch],
    ) -> None:
        if self._of.binary is None:
            return
        simulated = self._of.binary.run(feed)
        for watch in watches:
            unit, value, pair = watch.unit, made[watch.unit.value], watch.unit.rounding
            codes = simulated.codes(pair, value) if pair is not None else None
            if pair is not None and codes is not None:
                found = simulated.value(pair, codes)
                apart = int(np.count_nonzero(found != value))
                watch.add_simulated(expected[unit.tensor], found, apart)
            elif unit.value in simulated.outputs:
                found = simulated.outputs[unit.value]
                watch.add_simulated(expected[unit.tensor], found, _apart(value, found))


def _apart(made: Array, found: Array) -> int:
    """Return how many floats differ by more than float32 arithmetic explains."""
    if made.shape != found.shape:
        return made.size
    with np.errstate(invalid="ignore"):
        near = np.abs(found - made) <= FLOAT_SHARE * np.abs(made).max(initial=0.0)
    return int(np.count_nonzero(~near))


def analyze(  # noqa: PLR0913 - an argument per question
    model: ModelLike,
    quantized: ModelLike,
    data: Calibration,
    hbm: Session | Program | Source | None = None,
    *,
    samples: int | None = None,
    until: str | None = None,
    min_cosine: float = MIN_COSINE,
    pictures: bool = True,
    shapes: Shapes | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> Analysis:
    """Return where a quantized model loses precision, node by node, on samples.

    model: the float model · quantized: the QDQ model made of it · data: as `quantize` of
    `openbpu.quantization.onnx` takes it · hbm: the binary, whose tensors then stand beside · samples: at most
    so many are run (SAMPLES) · until: the last node that is looked at · min_cosine: below it a node "goes
    wrong" · pictures: whether values are counted for histograms · shapes: sizes of free axes of
    the inputs, by name.

    All run on ONNX Runtime without optimisations, in chunks of tensors that fit in memory. Raises ModelError,
    InputError, HbmError; the message says what to do.
    """
    return Analyzer(model, quantized, hbm, shapes=shapes, threads=threads).analyze(
        data, samples=samples, until=until, min_cosine=min_cosine, pictures=pictures, progress=progress
    )
