"""How close quantized models come to their float net: a mean cosine, and an error of every sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from openbpu.arch.arrays import Array
from openbpu.quantization.onnx.judge import cosines, run_all
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.samples import Feed

LEAST = 1e-14
"""Errors below this share are none: a float sum in another order makes as much."""


@dataclass(frozen=True, slots=True)
class Judged:
    """How close a model came. cosine: mean over the outputs; -1 where a shape came out different.

    errors: the squared error of every output of every sample, as a share of the squares of the float model's;
    infinite where it cannot be told.
    """

    cosine: float
    errors: tuple[float, ...]

    def is_better_than(self, other: Judged) -> bool:
        """Whether errors shrank, by their mean ratio, further than chance; a model without a change passes.

        Ratios are paired by sample and output, since samples differ among themselves by more than what a
        correction wins; the mean must be beyond its own standard error.
        """
        if not np.isfinite((self.errors, other.errors)).all():
            return self.cosine >= other.cosine
        ratios = np.log(np.maximum(self.errors, LEAST)) - np.log(np.maximum(other.errors, LEAST))
        error = ratios.std(ddof=1) / np.sqrt(ratios.size) if ratios.size > 1 else 0.0
        return bool(ratios.mean() <= -error)


class Closeness:
    """How close models come to the float net over `feeds`."""

    def __init__(self, net: Net, feeds: Sequence[Feed]) -> None:
        self._outputs, self._feeds = net.outputs, feeds
        self._reference = run_all(net, net.outputs, feeds)

    def of(self, model: ModelProto) -> float:
        """Return the mean cosine of a model of the same outputs; -1 where a shape came out different."""
        return self.judged(model).cosine

    def judged(self, model: ModelProto) -> Judged:
        """Return the mean cosine of a model of the same outputs and the error of each sample."""
        runs = run_all(model, self._outputs, self._feeds)
        found = cosines(self._outputs, self._reference, runs)
        pairs = [(a[n], b[n]) for a, b in zip(self._reference, runs, strict=True) for n in self._outputs]
        mean = float(np.nan_to_num(np.mean(list(found.values())), nan=-1.0))
        return Judged(mean, tuple(_share(a, b) for a, b in pairs))


def _share(expected: Array, found: Array) -> float:
    if expected.shape != found.shape or not expected.size:
        return 0.0 if expected.shape == found.shape else float("inf")
    wanted, got = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    share = float(np.square(got - wanted).sum() / max(float(np.square(wanted).sum()), LEAST))
    return share if np.isfinite(share) else float("inf")
