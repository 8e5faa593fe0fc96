"""Which method the ranges of a quantized model came from, and which ranges those are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import ModelProto

from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx.findings import Finding
from openbpu.quantization.onnx.judge import cosines, run_all
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.samples import Feed


@dataclass(frozen=True, slots=True)
class TensorRange:
    """A tensor of the float model: the range of its scale, the largest magnitude seen, its integer type."""

    range: float
    largest: float
    dtype: DType


@dataclass(frozen=True, slots=True)
class Choice:
    """What quantization chose. method: one of METHODS that is no mixture, for all tensors alike.

    cosines: of every method that was tried, the mean cosine of its outputs to those of the float model; empty
    where nothing was compared. ranges: by tensor. findings: what there is to know about single tensors.
    """

    method: str
    ranges: Mapping[str, TensorRange]
    cosines: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def mean_cosines(
    net: Net, candidates: Iterable[tuple[str, ModelProto]], feeds: Sequence[Feed]
) -> dict[str, float]:
    """Return for each named candidate the mean cosine of its outputs to those of the float net."""
    reference = run_all(net, net.outputs, feeds)

    def closeness(model: ModelProto) -> float:
        found = cosines(net.outputs, reference, run_all(model, net.outputs, feeds))
        return float(np.nan_to_num(np.mean(list(found.values())), nan=-1.0))

    return {method: closeness(model) for method, model in candidates}
