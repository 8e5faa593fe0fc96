"""Sensitivity: what quantizing one node does to the outputs, or leaving one node float.

    only     float model:      x → … → [ node in its quantized form ] → …float… → outputs
    all-but  quantized model:  x → … → [ node in float ] → …quantized… → outputs
    pair     float model:      x → … → node → [ the int8 pair behind it ] → …float… → outputs

The other model's node is computed from what the model makes of its inputs, all nodes of a chunk in one run,
and only what lies behind a node is run again. With several samples all nodes are first judged on one, and the
more sensitive half on all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from onnx import ModelProto

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.evaluation.analysis.analyzer import CHUNK_BYTES, Analyzer, until_node
from openbpu.evaluation.analysis.forms import FORMS, Form
from openbpu.evaluation.analysis.metric import NAMES, Function, Metric, metric
from openbpu.evaluation.analysis.suffix import Behind, Suffix
from openbpu.evaluation.analysis.units import Unit
from openbpu.evaluation.distribution import Pool, Ready, Task
from openbpu.quantization.onnx.samples import Calibration, Feed

Mode = Literal["only", "all-but", "pair"]
Progress = Callable[[str, int, int], None]

MODES: tuple[Mode, ...] = ("only", "all-but", "pair")
SAMPLES = 4
"""Samples that a sensitivity is measured on where nobody says how many."""
_TOGETHER = 32
"""Nodes that share a run of the model in front of them, at most."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """A node and the metric of the outputs, over `samples` samples.

    mode: "only" it is quantized, "all-but" it, or of it the "pair" behind it · value: of the metric · loss:
    how much worse that is than the float model; how much better it is than the quantized model is the
    negative loss (all-but).
    """

    index: int
    node: str
    op: str
    tensor: str
    module: str
    source: str
    mode: Mode
    value: float
    loss: float
    samples: int


def sensitivity(
    analyzer: Analyzer,
    data: Calibration,
    *,
    mode: Mode = "only",
    by: str | Metric | Function = "cosine",
    samples: int | None = None,
    until: str | None = None,
    pool: Pool | None = None,
    progress: Progress | None = None,
) -> tuple[Sensitivity, ...]:
    """Return the nodes, the most sensitive first; nodes that only move codes are left out.

    Of the mode "pair" these are the ones whose result has eight bits: what int16 there would win.
    by: "cosine", "mse", "sqnr", or a function of the float model's outputs and those to judge, each a list
    with a mapping by name for every sample. pool: where chunks of nodes are measured; the result does not
    depend on it. Raises InputError, ModelError.
    """
    if mode not in MODES:
        raise InputError(must("sensitivity", "the mode", _listed(MODES), f"'{mode}'"))
    feeds, _ = analyzer.spread(data, samples or SAMPLES)
    judge = Judge(analyzer, feeds, mode, metric(by))
    task: Task[Item, list[Sensitivity]] = Ready(judge.measured)
    if pool is not None and not pool.is_here:
        task = _Task(analyzer, feeds, mode, judge.metric)
    work = Pool() if pool is None else pool
    found = judge.units if until is None else until_node(judge.units, until)
    units = [unit for unit in found if not unit.moved]
    early = len(feeds) > 1 and judge.metric.name in NAMES  # an accuracy says nothing on one sample
    half = len(units) // 2
    total = len(units) + half if early else len(units)
    rows: dict[str, Sensitivity] = {}
    done = 0

    def measure(some: Sequence[Unit], taken: int) -> None:
        def take(_: int, found: list[Sensitivity]) -> None:
            nonlocal done
            done += len(found)
            rows.update((row.tensor, row) for row in found)
            if progress is not None:
                progress(f"sensitivity ({mode})", done, total)

        items = [(tuple(unit.value for unit in chunk), taken) for chunk in judge.chunks(some)]
        work.run(task, items, take)

    measure(units, 1 if early else len(feeds))
    if early:
        measure(sorted(units, key=lambda unit: -rows[unit.tensor].loss)[:half], len(feeds))
    return tuple(sorted(rows.values(), key=lambda row: (-row.samples, -row.loss, row.index)))


Item = tuple[tuple[str, ...], int]
"""Units, by the tensors that they end in, and on how many samples they are measured."""


class _Task:
    """The work as it travels: both models, the samples and the metric. modules: the user's own."""

    def __init__(self, analyzer: Analyzer, feeds: Sequence[Feed], mode: Mode, by: Metric) -> None:
        self._models = tuple(
            graph.model.SerializeToString() for graph in (analyzer.float, analyzer.quantized)
        )
        self._where = (analyzer.float.where, analyzer.quantized.where)
        self._feeds, self._mode, self._metric = list(feeds), mode, by
        self.modules = by.modules

    def open(self) -> Callable[[Item], list[Sensitivity]]:
        """Return what measures an item."""
        model, quantized = (ModelProto.FromString(data) for data in self._models)
        shapes = {name: x.shape for name, x in self._feeds[0].items()}
        analyzer = Analyzer(model, quantized, shapes=shapes if self._alike() else None)
        return Judge(analyzer, self._feeds, self._mode, self._metric).measured

    def _alike(self) -> bool:
        """Whether all samples have the same shapes, so that free axes may be given them."""
        return len({tuple((n, x.shape) for n, x in feed.items()) for feed in self._feeds}) == 1


class Judge:
    """Measures chunks of units, each chunk on its own."""

    def __init__(self, analyzer: Analyzer, feeds: Sequence[Feed], mode: Mode, by: Metric) -> None:
        self._feeds, self._mode, self.metric = feeds, mode, by
        match, kinds, theirs = analyzer.matched(feeds[0])
        self._form: Form = FORMS[mode](analyzer, match, kinds, theirs)
        self.units = tuple(unit for unit in match.units if mode != "pair" or _is_int8(unit))
        self._by_value = {unit.value: unit for unit in self.units}
        self._behind = Behind(self._form.base)
        self._expected = [analyzer.float.cut(analyzer.float.outputs).run(feed) for feed in feeds]
        self._whole: dict[int, float] = {}
        names = dict(zip(analyzer.quantized.outputs, analyzer.float.outputs, strict=False))
        self._names = names if mode == "all-but" else {}

    def chunks(self, units: Sequence[Unit]) -> list[list[Unit]]:
        """Return the units in the order of the network, so many at a time that their tensors fit."""
        chunks: list[list[Unit]] = []
        room = 0
        for unit in sorted(units, key=lambda unit: unit.index):
            needs = {*self._form.needs(unit), *self._behind.reads(self._form.changed(unit))}
            size = sum(self._form.kinds[name].nbytes for name in needs)
            if not chunks or size > room or len(chunks[-1]) >= _TOGETHER:
                chunks.append([])
                room = CHUNK_BYTES
            chunks[-1].append(unit)
            room -= size
        return chunks

    def measured(self, item: Item) -> list[Sensitivity]:
        """Return the rows of an item."""
        names, samples = item
        return self.rows([self._by_value[name] for name in names], samples)

    def rows(self, chunk: Sequence[Unit], samples: int) -> list[Sensitivity]:
        """Return the rows of a chunk, on the first samples."""
        form = self._form
        suffixes = [
            Suffix(self._behind, form.changed(unit), form.kinds, form.instead(unit)) for unit in chunk
        ]
        forms = self._form.forms(chunk)
        base = self._form.base
        wanted = [*forms.needs, *(name for s in suffixes for name in (*s.needs, *s.kept))]
        front = base.cut(wanted)
        found: list[list[dict[str, Array]]] = [[] for _ in chunk]
        for feed in self._feeds[:samples]:
            values = feed | front.run(feed)
            for outputs, suffix, value in zip(found, suffixes, forms.run(values), strict=True):
                outputs.append(self._named(suffix.run(values, value)))
        reference = self._reference(samples)
        return [self._row(unit, outputs, reference) for unit, outputs in zip(chunk, found, strict=True)]

    def _reference(self, samples: int) -> float:
        """Return the metric of the base itself: of the float model, or of the quantized one."""
        if samples not in self._whole:
            cut = self._form.base.cut(self._form.base.outputs)
            made = [self._named(cut.run(feed)) for feed in self._feeds[:samples]]
            self._whole[samples] = self.metric(self._expected[:samples], made)
        return self._whole[samples]

    def _named(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        return {self._names.get(name, name): value for name, value in outputs.items()}

    def _row(self, unit: Unit, outputs: list[dict[str, Array]], reference: float) -> Sensitivity:
        value = self.metric(self._expected[: len(outputs)], outputs)
        loss = self.metric.loss(value, reference)
        origin = unit.origin
        return Sensitivity(
            index=unit.index,
            node=unit.node,
            op=unit.op,
            tensor=unit.tensor,
            module=origin.scope if origin else "",
            source=origin.source if origin else "",
            mode=self._mode,
            value=value,
            loss=-loss if self._mode == "all-but" else loss,
            samples=len(outputs),
        )


def _is_int8(unit: Unit) -> bool:
    return unit.rounding is not None and unit.rounding.dtype.itemsize == 1


def _listed(modes: Sequence[str]) -> str:
    return f"{', '.join(modes[:-1])} or {modes[-1]}"
