"""What quantization chose: the method of the ranges, and the ranges themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from openbpu.quantization.onnx.corrections import Correction
from openbpu.quantization.onnx.findings import Finding
from openbpu.quantization.onnx.tensor_range import TensorRange

if TYPE_CHECKING:
    from openbpu.quantization.onnx.report import Report


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
