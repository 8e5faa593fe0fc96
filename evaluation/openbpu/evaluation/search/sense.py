"""Where int16 wins most per µs, and which nodes are still noisy then: what orders the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from openbpu.evaluation.analysis import Analyzer, Sensitivity, sensitivity
from openbpu.evaluation.analysis.sensitivity import Mode
from openbpu.evaluation.analysis.units import Match
from openbpu.evaluation.distribution import Pool
from openbpu.evaluation.search.noise import NOISE
from openbpu.evaluation.search.order import Book
from openbpu.evaluation.search.readers import Names, Readers, find_readers, makes_any
from openbpu.evaluation.search.result import Gain
from openbpu.evaluation.search.setup import Setup
from openbpu.evaluation.search.trial import Bench, Trial
from openbpu.evaluation.search.trials import Progress

SAMPLES = 2
"""Samples that noise is measured on; a sum over all that outputs hold, it is much the same for each."""
_LEAST = 1e-4
"""Share of the latency that int16 for a node costs at least, in the order."""


class Senses:
    """Measures noise in configurations of one model. fixed: what nodes make whose type is asked for."""

    def __init__(self, bench: Bench, fixed: frozenset[str], pool: Pool, progress: Progress) -> None:
        self._bench, self._fixed, self._pool, self._progress = bench, fixed, pool, progress

    def readers(self, setup: Setup) -> tuple[list[Readers], dict[str, float]]:
        """Return the int8 tensors that may become int16, and the noise of every one."""
        analyzer = self._analyzer(setup)
        names = Names(analyzer.float)
        found = find_readers(analyzer.quantized, self._match(analyzer), names, self._fixed)
        rows = self._measured(analyzer, "pair") if found else ()
        return found, {row.tensor: max(row.loss, 0.0) for row in rows}

    def noisiest(self, setup: Setup) -> tuple[str, ...]:
        """Return the nodes that a config can name, those first that add most noise, weights included."""
        analyzer = self._analyzer(setup)
        names, aliases = Names(analyzer.float), self._match(analyzer).aliases
        rows = [row for row in self._measured(analyzer, "only") if row.loss > 0 and row.index >= 0]
        nodes = [analyzer.quantized.nodes[row.index] for row in sorted(rows, key=lambda row: -row.loss)]
        found = [names.of(node) for node in nodes if not makes_any(node, self._fixed, aliases)]
        return tuple(dict.fromkeys(name for name in found if name is not None))

    def _match(self, analyzer: Analyzer) -> Match:
        return analyzer.matched(self._bench.job.feeds[0])[0]

    def _analyzer(self, setup: Setup) -> Analyzer:
        job = self._bench.job
        setting = job.test.setting
        quantized = self._bench.quantized(setup)
        return Analyzer(self._bench.model(), quantized, shapes=job.shapes, threads=setting.threads)

    def _measured(self, analyzer: Analyzer, mode: Mode) -> tuple[Sensitivity, ...]:
        feeds = list(self._bench.job.feeds[:SAMPLES])
        return sensitivity(
            analyzer, feeds, mode=mode, by=NOISE, samples=SAMPLES, pool=self._pool, progress=self._progress
        )


def ordered(
    found: Sequence[Readers], noise: Mapping[str, float], before: Trial, after: Trial
) -> tuple[Gain, ...]:
    """Return what int16 wins and costs, most noise per µs first. before, after: none and all of it int16."""
    names = {*after.node_us, *before.node_us} if not after.refused else set()
    costs = {n: after.node_us.get(n, 0.0) - before.node_us.get(n, 0.0) for n in names}
    return tuple(Book(found, noise, costs, _LEAST * before.latency_us).ordered())
