"""One configuration tried: quantized, evaluated and compiled, in this process or in another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import ModelProto

from openbpu.arch.errors import OpenbpuError
from openbpu.arch.given_shapes import Shapes
from openbpu.arch.march import March, get_march
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.accuracy.models import ModelFile
from openbpu.evaluation.search.score import Scorer, Test
from openbpu.evaluation.search.setup import Setup
from openbpu.evaluation.search.times import node_times
from openbpu.quantization.onnx import quantize
from openbpu.quantization.onnx.samples import Feed
from openbpu.runtime.latency import latency_of


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of a configuration. node_us: µs by node · refused: why there is nothing, else ""."""

    score: float = 0.0
    cosine: float = 0.0
    bpu_us: float = 0.0
    cpu_us: float = 0.0
    cpu_nodes: tuple[str, ...] = ()
    node_us: Mapping[str, float] = field(default_factory=dict)
    refused: str = ""

    @property
    def latency_us(self) -> float:
        """The sum of all segments."""
        return self.bpu_us + self.cpu_us


@dataclass(frozen=True, slots=True)
class Job:
    """What is the same for all trials, and travels once.

    model: the float one · feeds: what it is calibrated with · base: the `quant_config` that was asked for, as
    a mapping · march: its name or file.
    """

    model: ModelFile
    feeds: tuple[Feed, ...]
    base: Mapping[str, Any]
    test: Test
    march: str | March
    shapes: Shapes | None = None

    @property
    def modules(self) -> tuple[str, ...]:
        """The user's own, which workers get by value."""
        return self.test.modules

    def open(self) -> Callable[[Setup], Trial]:
        """Return what tries a configuration."""
        return Bench(self).tried


class Bench:
    """The float model and its samples, ready to try configurations of it."""

    def __init__(self, job: Job) -> None:
        self.job, self.scorer = job, Scorer(job.model, job.test)
        self.march = job.march if isinstance(job.march, March) else get_march(job.march)

    def model(self) -> str | ModelProto:
        """Return the float model: its path, or what travelled."""
        content = self.job.model.content
        return self.job.model.name if content is None else onnx.load_from_string(content)

    def quantized(self, setup: Setup) -> ModelProto:
        """Return the model as a configuration has it; raises what `quantize` raises."""
        config = setup.config(self.job.base)
        return quantize(self.model(), self.job.feeds, config=config, shapes=self.job.shapes)

    def tried(self, setup: Setup) -> Trial:
        """Return the trial of a configuration; what openbpu refuses is part of it."""
        try:
            return self.checked(setup)
        except OpenbpuError as error:
            return Trial(refused=str(error))

    def checked(self, setup: Setup) -> Trial:
        """Return the trial of a configuration. Raises what `quantize`, `compile` and the metric raise."""
        model = self.quantized(setup)
        program = compile_model(model, march=self.march)
        latency = latency_of(program, self.march)
        judged = self.scorer.of(model.SerializeToString())
        return Trial(
            judged.score,
            judged.cosine,
            latency.bpu_us,
            latency.cpu_us,
            tuple(row.node for row in program.placement if row.on == "CPU"),
            node_times(program, latency, self.march),
        )
