"""Why a node loses precision, and what to change; what another range brings is computed, not guessed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.evaluation.analysis.result import Cause, Part, Remedy, WeightRange
from openbpu.evaluation.analysis.watch import Watch
from openbpu.quantization.measures import decibel
from openbpu.quantization.ranges import fractions, grid, squared_errors

GOOD = 35.0
"""dB from which on nothing needs to change: the noise has less than 2 % of the amplitude of the signal."""
GAIN = 1.0
"""dB that a change must bring to be worth its words."""
UNEVEN = 16.0
"""Largest over median channel from which on the channels should be made alike: they lose four bits."""
VANISHED = 0.5
_SYMMETRIC = 127.5
"""Steps of int8 on either side of 0."""
_EVEN = 128
"""Steps on the longer side of a pair that has its zero point in the middle."""


def cause_of(watch: Watch, *, weighted: bool) -> tuple[Cause, Part]:
    """Return what makes most of the error of a unit alone, and where; weighted: whether it has weights."""
    behind = watch.cut + watch.stepped  # the pair's; what is inside was there before it
    if not watch.alone.noise:
        return "", ""
    if watch.codes is None or watch.inside.noise > behind:
        return "rounding", "weights" if weighted else "inside"
    return ("truncation" if watch.cut > watch.stepped else "rounding"), "result"


@dataclass(frozen=True, slots=True)
class Around:
    """What stands around a unit: its weights, how many steps these are off those of the float model beyond
    rounding, whether a mask hides some of its values from a Softmax, and the nodes that read its result.
    """

    weights: WeightRange | None
    foreign: float
    masked: bool
    readers: tuple[str, ...]


def remedies(watch: Watch, around: Around) -> tuple[Remedy, ...]:
    """Return what to change, the cheapest first; nothing where the node alone is good."""
    cause, part = cause_of(watch, weighted=around.weights is not None)
    now = watch.alone.closeness().sqnr
    if not cause or now >= GOOD:
        return ()
    if part != "result":
        return tuple(_weights(watch, around.weights, around.foreign))
    return tuple(_result(watch, cause, now, around))


def _weights(watch: Watch, weights: WeightRange | None, foreign: float) -> Iterator[Remedy]:
    if foreign > 1.0:
        told = f"its weights are off those of the float model by up to {foreign:.3g} steps"
        yield Remedy("weights", f"{told}: quantize the float model again")
    elif weights is not None and weights.shared and weights.narrow:
        told = f"channel {weights.narrowest} of its weights spans {weights.steps:.2g} steps of the one scale"
        yield Remedy("per_channel", f"{told}: give the weights a scale per channel")
    elif weights is not None:
        yield Remedy("correct", "its weights round: --adaptive-rounding, --bias-correction")
    else:
        name = watch.unit.node
        yield Remedy("int16", f"it rounds inside: int16 for this node (--int16-nodes {name})")


def _result(watch: Watch, cause: Cause, now: float, around: Around) -> Iterator[Remedy]:
    foreseen = _Foreseen(watch)
    if cause == "truncation":
        wide = foreseen.whole()
        if wide > now + GAIN:
            yield Remedy("widen", f"a wider range: --method max, or a percentile nearer 100{_to(wide)}", wide)
    elif foreseen.is_int8:
        if around.masked and foreseen.vanished > VANISHED:
            told = f"{foreseen.vanished:.0%} of its values vanish beside a mask"
            yield Remedy("mask", f"{told}: mask with a number near the values, such as -30")
        narrow = foreseen.best()
        if narrow > now + GAIN:
            text = f"a narrower range: --method mse, or a percentile{_to(narrow)}"
            yield Remedy("narrow", text, narrow)
        uneven = watch.unevenness or 0.0
        if uneven > UNEVEN:
            told = f"the widest of its channels spans {uneven:.0f} times the median one"
            yield Remedy("equalize", f"{told}: --equalisation makes them alike")
    if foreseen.is_int8:
        asked = ",".join(around.readers)
        how = f": --int16-nodes {asked}, which reads it" if asked else ", as an output of the model"
        wide = foreseen.int16()
        if wide > now + GAIN:
            yield Remedy("int16", f"int16 for its result{how}{_to(wide)}", wide)


def _to(decibels: float) -> str:
    return f" (alone {decibels:.1f} dB)" if decibels != inf else ""


class _Foreseen:
    """SQNR of a unit alone with another range: its weights as they are, the values of the float run."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._seen = watch.magnitudes
        codes = watch.codes
        self.vanished = codes.vanished / codes.nonzero if codes is not None and codes.nonzero else 0.0
        self.is_int8 = codes is not None and codes.pair.dtype.itemsize == 1

    def whole(self) -> float:
        """Return it for the type that there is, over the largest magnitude."""
        return self._of(np.array([self._seen.peak])) if self.is_int8 else self.int16()

    def best(self) -> float:
        """Return it for int8 over the range of the least squared error."""
        return self._of(fractions(self._seen.peak))

    def int16(self) -> float:
        """Return it for int16 over the largest magnitude: the steps are far finer than the histogram."""
        step = float(numerics.observed_scale(self._seen.peak, DType.INT16)) if self._seen.peak else 0.0
        codes = self._watch.codes
        share = codes.nonzero / codes.values if codes is not None and codes.values else 1.0
        return self._with(share * step * step / 12)  # zeros stay zeros

    def _of(self, limits: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        if not self._seen.peak:
            return inf
        errors = squared_errors(self._seen.counts, self._seen.peak, limits, grid(DType.INT8, self._halves))
        return self._with(float(errors.min()))

    def _halves(self, limits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return half the width of all codes for each range: the zero point stays on the side it is on."""
        codes = self._watch.codes
        side = 0 if codes is None else max(-codes.pair.limits[0], codes.pair.limits[1])
        return limits / max(side / _SYMMETRIC, 1.0) if side > _EVEN else limits

    def _with(self, mean_square: float) -> float:
        noise = self._watch.inside.noise + mean_square * self._watch.alone.finite
        return decibel(self._watch.alone.signal, noise)
