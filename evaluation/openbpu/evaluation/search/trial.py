"""One configuration tried: quantized, evaluated and compiled, in this process or in another one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import onnx
from onnx import ModelProto, NodeProto

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import OpenbpuError
from openbpu.arch.given_shapes import Shapes
from openbpu.arch.march import March, get_march
from openbpu.arch.program import Program
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.accuracy.models import ModelFile
from openbpu.evaluation.left_float import Left, leave_float
from openbpu.evaluation.search.score import Scorer, Test
from openbpu.evaluation.search.setup import Setup
from openbpu.evaluation.search.times import node_times
from openbpu.quantization.onnx import Corrections, quantize, read_config, with_node_types
from openbpu.quantization.onnx.samples import Feed
from openbpu.runtime.latency import latency_of


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of a configuration.

    left: nodes that are float because they stay on the CPU, as a config names them · node_us: µs by node ·
    refused: why there is nothing, else "".
    """

    score: float = 0.0
    cosine: float = 0.0
    bpu_us: float = 0.0
    cpu_us: float = 0.0
    cpu_nodes: tuple[str, ...] = ()
    node_us: Mapping[str, float] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    refused: str = ""

    @property
    def latency_us(self) -> float:
        """The sum of all segments."""
        return self.bpu_us + self.cpu_us


@dataclass(frozen=True, slots=True)
class Job:
    """What is the same for all trials, and travels once.

    model: the float one · feeds: what it is calibrated with · base: the `quant_config` that was asked for, as
    a mapping · march: its name or file · kept: what nodes make that `base` gives a type of their own ·
    biases: whether they are corrected, which `base` cannot deny.
    """

    model: ModelFile
    feeds: tuple[Feed, ...]
    base: Mapping[str, Any]
    test: Test
    march: str | March
    shapes: Shapes | None = None
    kept: frozenset[str] = frozenset()
    biases: bool = True

    @property
    def corrections(self) -> Corrections:
        """Those that `base` says nothing of."""
        return Corrections(bias_correction=None if self.biases else False)

    @property
    def modules(self) -> tuple[str, ...]:
        """The user's own, which workers get by value."""
        return self.test.modules

    def open(self) -> Callable[[Setup], Trial]:
        """Return what tries a configuration."""
        return Bench(self).tried


@dataclass(frozen=True, slots=True)
class Written:
    """A quantized model, compiled, and what is float in it because it stays on the CPU."""

    model: ModelProto
    program: Program
    left: Left


class Bench:
    """The float model and its samples, ready to try configurations of it."""

    def __init__(self, job: Job) -> None:
        self.job, self.scorer = job, Scorer(job.model, job.test)
        self.march = job.march if isinstance(job.march, March) else get_march(job.march)

    def model(self) -> str | ModelProto:
        """Return the float model: its path, or what travelled."""
        content = self.job.model.content
        return self.job.model.name if content is None else onnx.load_from_string(content)

    @cached_property
    def _nodes(self) -> tuple[NodeProto, ...]:
        model = self.model()
        return tuple(
            (onnx.load(model, load_external_data=False) if isinstance(model, str) else model).graph.node
        )

    def quantized(self, setup: Setup) -> ModelProto:
        """Return the model that is written for a configuration; raises what `quantize` raises."""
        return self._written(setup).model

    def tried(self, setup: Setup) -> Trial:
        """Return the trial of a configuration; what openbpu refuses is part of it."""
        try:
            return self.checked(setup)
        except OpenbpuError as error:
            return Trial(refused=str(error))

    def checked(self, setup: Setup) -> Trial:
        """Return the trial of a configuration. Raises what `quantize`, `compile` and the metric raise."""
        written = self._written(setup)
        program = written.program
        latency = latency_of(program, self.march)
        judged = self.scorer.of(written.model.SerializeToString())
        return Trial(
            judged.score,
            judged.cosine,
            latency.bpu_us,
            latency.cpu_us,
            tuple(row.node for row in program.placement if row.on == "CPU"),
            node_times(program, latency, self.march),
            tuple(self._names.get(name, made) for name, made in written.left.items()),
        )

    @cached_property
    def _first(self) -> Written:
        """The configuration without search: what is left float there is in all others, too."""
        return self._settled(Setup(), {})

    @cached_property
    def _names(self) -> dict[str, str]:
        """Names that mean one node of the float model each."""
        counts = Counter(node.name for node in self._nodes)
        return {name: name for name, count in counts.items() if name and count == 1}

    def _written(self, setup: Setup) -> Written:
        first = self._first
        return first if setup == Setup() else self._settled(setup, first.left)

    def _settled(self, setup: Setup, left: Left) -> Written:
        """Return what `openbpu quantize` writes: what stays on the CPU of the march is left float."""
        config = read_config(setup.config(self.job.base))
        named = dict(setup.types)

        def make(left: Left) -> Written:
            types = with_node_types(config, {DType.FLOAT32: list(left.values())})
            job = self.job
            model = quantize(
                self.model(), job.feeds, config=types, shapes=job.shapes, corrections=job.corrections
            )
            return Written(model, compile_model(model, march=self.march), left)

        kept = self.job.kept | {made for name in named for made in self._made.get(name, (name,))}
        start = {name: made for name, made in left.items() if made not in kept}
        return leave_float(make, lambda w: (w.model, w.program.placement), kept, start)[0]

    @cached_property
    def _made(self) -> dict[str, tuple[str, ...]]:
        """What nodes make, by name."""
        return {node.name: tuple(node.output) for node in self._nodes if node.name}
