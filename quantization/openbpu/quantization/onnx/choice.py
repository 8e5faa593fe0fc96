"""Which method the ranges of a quantized model came from, and which ranges those are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from onnx import ModelProto

from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx.corrections import Correction
from openbpu.quantization.onnx.findings import Finding
from openbpu.quantization.onnx.judge import cosines, run_all
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.samples import Feed

if TYPE_CHECKING:
    from openbpu.quantization.onnx.report import Report


@dataclass(frozen=True, slots=True)
class TensorRange:
    """A tensor of the float model: the range of its codes, the largest magnitude seen, its integer type.

    `method`: the one its range came from. `zero_point`: not 0 where the codes are for one side of 0 only, or
    more of it.
    """

    range: float
    largest: float
    dtype: DType
    method: str
    zero_point: int = 0

    @property
    def step(self) -> float:
        """The scale of its codes."""
        if not self.zero_point:
            return self.range / ((self.dtype.qmax - self.dtype.qmin) / 2)
        return self.range / max(self.dtype.qmax - self.zero_point, self.zero_point - self.dtype.qmin)


@dataclass(frozen=True, slots=True)
class Choice:
    """What quantization chose. method: one of METHODS; "mix" where tensors have methods of their own.

    cosines: of every method that was tried, the mean cosine of its outputs to those of the float model; empty
    where nothing was compared. ranges: by tensor. findings: what the user should know, each once.
    """

    method: str
    ranges: Mapping[str, TensorRange]
    cosines: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    corrections: tuple[Correction, ...] = ()
    report: Report | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How many tensors have their range from which method, the most frequent one first."""
        return dict(Counter(found.method for found in self.ranges.values()).most_common())


class Closeness:
    """How close models come to the float net: the mean cosine of their outputs over `feeds`."""

    def __init__(self, net: Net, feeds: Sequence[Feed]) -> None:
        self._outputs, self._feeds = net.outputs, feeds
        self._reference = run_all(net, net.outputs, feeds)

    def of(self, model: ModelProto) -> float:
        """Return the mean cosine of a model of the same outputs; -1 where a shape came out different."""
        found = cosines(self._outputs, self._reference, run_all(model, self._outputs, self._feeds))
        return float(np.nan_to_num(np.mean(list(found.values())), nan=-1.0))
