"""Why a node loses precision, and what to change; what another range brings is computed, not guessed."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
FREE = 0.5
"""dB that a correction must bring, which costs no time on the BPU."""
UNEVEN = 16.0
"""Largest over median channel from which on the channels should be made alike: they lose four bits."""
VANISHED = 0.5
_WORTH = 0.9
"""Share of the step from which on a tensor gets no zero point."""
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


def is_good(watch: Watch) -> bool:
    """Whether a node alone is good."""
    return not watch.alone.noise or watch.alone.closeness().sqnr >= GOOD


@dataclass(frozen=True, slots=True)
class Around:
    """What stands around a unit, and so what can be done about it.

    weights: of its node · foreign: how many steps these are off those of the float model beyond rounding ·
    corrections: options of `quantize` that reach these weights, and the share of their error that each would
    leave, None where that is not known · masked: whether a mask hides some of its values from a Softmax ·
    readers: nodes that read its result and could read int16 · stuck: those that could not · output: whether
    it makes an output of the model · alike: asks whether `--equalisation` reaches its channels · within:
    whether the pairs inside could be int16 · swallowed: operands of which the scale of the result leaves a
    few steps, in words · name: of its node, as `quantize` knows it, "" for the one that it has.
    """

    weights: WeightRange | None = None
    foreign: float = 0.0
    corrections: Mapping[str, float | None] = field(default_factory=dict)
    masked: bool = False
    readers: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    output: bool = False
    alike: Callable[[], bool] = lambda: False
    within: bool = True
    swallowed: tuple[str, ...] = ()
    name: str = ""


def remedies(watch: Watch, around: Around) -> tuple[Remedy, ...]:
    """Return what to change, the cheapest first; nothing where the node alone is good.

    An operand that is swallowed beside a larger one is one all the same: its noise is small beside that.
    """
    cause, part = cause_of(watch, weighted=around.weights is not None)
    now = watch.alone.closeness().sqnr
    if cause and now < GOOD:
        if part != "result":
            return tuple(_weights(watch, around))
        return tuple(_result(watch, cause, now, around))
    return tuple(_swallowed(watch, around))


def _weights(watch: Watch, around: Around) -> Iterator[Remedy]:
    weights, name = around.weights, around.name or watch.unit.node
    if around.foreign > 1.0:
        told = f"its weights are off those of the float model by up to {around.foreign:.3g} steps"
        yield Remedy("weights", f"{told}: quantize the float model again")
    elif weights is not None and weights.shared and weights.narrow and not weights.stacked:
        told = f"channel {weights.narrowest} of its weights spans {weights.steps:.2g} steps of the one scale"
        how = "`openbpu quantize` of the float model gives every channel its own"
        yield Remedy("per_channel", f"{told}: {how}")
    elif weights is not None:
        yield from _corrections(watch, around)
    elif around.within:
        yield Remedy("int16", f"it rounds inside: int16 for this node (--int16-nodes {_listed(name)})")
    else:
        yield Remedy("float", f"it rounds inside what is int8 on the BPU: {_float(name)}")


def _corrections(watch: Watch, around: Around) -> Iterator[Remedy]:
    """Yield the corrections that win, the best first; float where none does."""
    now = watch.alone.closeness().sqnr
    foreseen = {
        option: None if left is None else _left(watch, left) for option, left in around.corrections.items()
    }
    won = {option: then for option, then in foreseen.items() if then is None or then > now + FREE}
    for option in sorted(won, key=lambda o: -(won[o] or -inf)):
        yield Remedy("correct", f"its weights round: {option}")
    if not won:
        told = "its weights round, and no correction wins that back"
        yield Remedy("float", f"{told}: {_float(around.name or watch.unit.node)}")


def _left(watch: Watch, share: float) -> float:
    """Return the SQNR of a unit alone with so much of the error that is made inside."""
    behind = watch.alone.noise - watch.inside.noise
    return decibel(watch.alone.signal, watch.inside.noise * share + max(behind, 0.0))


def _float(*names: str) -> str:
    return f"float, on the CPU (--float-nodes {_listed(*names)})"


def _result(watch: Watch, cause: Cause, now: float, around: Around) -> Iterator[Remedy]:
    foreseen = _Foreseen(watch)
    least = now
    if cause == "truncation":
        wide = foreseen.whole()
        if wide > now + GAIN:
            how = "calibrate with samples like these, by --method max or a percentile nearer 100"
            yield Remedy("widen", f"a wider range: {how}{_to(wide)}", wide)
            least = max(least, wide)
    elif foreseen.is_int8:
        if around.masked and foreseen.vanished > VANISHED:
            told = f"{foreseen.vanished:.0%} of its values vanish beside a mask"
            how = (
                "`openbpu quantize` of the float model leaves masks out of ranges; or mask with a number near"
            )
            yield Remedy("mask", f"{told}: {how} the values, such as -30")
        narrow = foreseen.best()
        if narrow > now + GAIN:
            how = "calibrate with samples like these, by --method mse or a percentile"
            yield Remedy("narrow", f"a narrower range: {how}{_to(narrow)}", narrow)
        uneven = watch.unevenness or 0.0
        if uneven > UNEVEN and around.alike():
            told = f"the widest of its channels spans {uneven:.0f} times the median one"
            yield Remedy("equalize", f"{told}: --equalisation makes them alike")
    again = cause == "truncation"
    wide = foreseen.int16(over_all=again)
    if foreseen.is_int8 and wide > least + GAIN:
        yield from _wider(_maker(watch, around), around, wide, "int16 for its result", again=again)


def _maker(watch: Watch, around: Around) -> str:
    """Return the node that makes a unit's result, "" for an input of the model."""
    return "" if watch.unit.index < 0 else around.name or watch.unit.node


def _swallowed(watch: Watch, around: Around) -> Iterator[Remedy]:
    if around.swallowed:
        told = f"its scale leaves {' and '.join(around.swallowed)}"
        yield from _wider(_maker(watch, around), around, None, f"{told}: int16 for its result")


def _wider(
    node: str, around: Around, foreseen: float | None, told: str, *, again: bool = False
) -> Iterator[Remedy]:
    """Yield how a result becomes int16: by its readers, as an output, or not at all."""
    like = "calibrated with samples like these, " if again else ""
    to = "" if foreseen is None else _to(foreseen)
    if around.readers:
        how = f"--int16-nodes {_listed(*around.readers)}, which {_read(around.readers)} it"
        yield Remedy("int16", f"{told}: {like}{how}{to}", foreseen)
    elif around.stuck:
        why = f"{','.join(around.stuck)} {_read(around.stuck)} it in int8 on the BPU"
        both = [*([node] if node else []), *around.stuck]
        yield Remedy("float", f"{why}: {_float(*both)}")
    elif around.output:
        yield Remedy("int16", f"{told}: {like}--quant-config with {OUTPUT}{to}", foreseen)


OUTPUT = "model_config: {model_output_type: int16}"
"""What makes an output int16, as a `quant_config`."""


def _listed(*names: str) -> str:
    """Return names as a shell takes them."""
    return shlex.quote(",".join(names))


def _read(names: Sequence[str]) -> str:
    return "reads" if len(names) == 1 else "read"


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
        return self._of(np.array([self._seen.peak])) if self.is_int8 else self.int16(over_all=True)

    def best(self) -> float:
        """Return it for int8 over the range of the least squared error."""
        return self._of(fractions(self._seen.peak))

    def int16(self, *, over_all: bool) -> float:
        """Return it for int16, over the largest magnitude or the range that there is.

        The steps are far finer than the histogram.
        """
        codes = self._watch.codes
        low, high = codes.pair.limits if codes is not None else (0, 0)
        there_is = max(-low, high) * ((codes.pair.step if codes is not None else None) or 0.0)
        top = self._seen.peak if over_all else there_is
        step = float(numerics.observed_scale(top, DType.INT16)) if top else 0.0
        share = codes.nonzero / codes.values if codes is not None and codes.values else 1.0
        cut = 0.0 if over_all else self._watch.cut / max(self._watch.alone.finite, 1)
        return self._with(share * step * step / 12 + cut)  # zeros stay zeros

    def _of(self, limits: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        if not self._seen.peak:
            return inf
        errors = squared_errors(self._seen.counts, self._seen.peak, limits, grid(DType.INT8, self._halves))
        return self._with(float(errors.min()))

    def _halves(self, limits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return half the width of all codes for each range: zero points stay where there are any."""
        codes = self._watch.codes
        side = 0 if codes is None else max(-codes.pair.limits[0], codes.pair.limits[1])
        spread = (max(self._watch.largest, 0.0) - min(self._watch.least, 0.0)) / 2
        share = min(max(spread / self._seen.peak, 0.5), 1.0) if side > _EVEN else 1.0
        return limits * (share if share < _WORTH else 1.0)

    def _with(self, mean_square: float) -> float:
        noise = self._watch.inside.noise + mean_square * self._watch.alone.finite
        return decibel(self._watch.alone.signal, noise)
