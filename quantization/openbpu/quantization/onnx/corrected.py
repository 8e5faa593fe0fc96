"""Apply the wanted corrections one after another, and keep those that win."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from onnx import ModelProto

from openbpu.arch.errors import QuantizationError
from openbpu.quantization.onnx.calibrate import Progress
from openbpu.quantization.onnx.choice import Choice
from openbpu.quantization.onnx.closeness import Closeness
from openbpu.quantization.onnx.corrections.bias import correct_biases, with_biases
from openbpu.quantization.onnx.corrections.choose import Correction, Corrections, split
from openbpu.quantization.onnx.corrections.equalise import equalise
from openbpu.quantization.onnx.corrections.layers import float_weights
from openbpu.quantization.onnx.corrections.rounding import round_adaptively
from openbpu.quantization.onnx.inference import infer
from openbpu.quantization.onnx.net import Net, assemble, take_apart
from openbpu.quantization.onnx.samples import Feed

Calibrated = Callable[[Net], tuple[ModelProto, Choice]]
"""Takes ranges of a float net and quantizes it."""


def corrected(
    net: Net, calibrated: Calibrated, wanted: Corrections, feeds: Sequence[Feed], progress: Progress
) -> tuple[Net, ModelProto, Choice]:
    """Return the float `net`, equalised if that wins, and quantized with those `wanted` that win."""
    model, choice = calibrated(net)
    biases = wanted.tries_biases(len(feeds))
    if not (wanted.equalisation or wanted.adaptive_rounding or biases):
        return net, model, choice
    trials = _Trials(net, model, feeds, progress)
    if wanted.equalisation:
        made, changed = equalise(net, feeds, progress)
        other = calibrated(made) if changed else (model, choice)
        if trials.wins("cross-layer equalisation", other[0], changed):
            net, choice = made, other[1]
    if wanted.adaptive_rounding:
        quantized = infer(take_apart(trials.model))
        rounded, changed = round_adaptively(quantized, float_weights(quantized, net), trials.train, progress)
        trials.wins("adaptive rounding", assemble(rounded), changed)
    if biases:
        _correct_biases(trials, net, progress, asked=wanted.bias_correction is not None)
    return net, trials.model, replace(choice, corrections=tuple(trials.won))


def _correct_biases(trials: _Trials, net: Net, progress: Progress, *, asked: bool) -> None:
    """Try bias correction; where nobody asked for it, what it does not reach is no matter."""
    quantized = infer(with_biases(infer(take_apart(trials.model))))
    try:
        shifted, changed = correct_biases(quantized, net, trials.train, progress)
    except QuantizationError:
        if asked:
            raise
        return
    if changed or asked:
        trials.wins("bias correction", assemble(shifted), changed)


class _Trials:
    """Keeps the model that is best on the samples that are held out."""

    def __init__(self, net: Net, model: ModelProto, feeds: Sequence[Feed], progress: Progress) -> None:
        self.train, self._judged, self._held_out = split(feeds)
        self._judge, self._progress = Closeness(net, self._judged), progress
        self.model, self._close = model, self._judge.judged(model)
        self.won: list[Correction] = []

    def wins(self, name: str, model: ModelProto, changed: int) -> bool:
        """Compare with the best so far, note what came of it, and return whether `model` is taken."""
        after = self._judge.judged(model) if changed else self._close
        kept = changed > 0 and after.is_better_than(self._close)
        samples = len(self._judged)
        cosines = self._close.cosine, after.cosine
        self.won.append(Correction(name, *cosines, changed, samples, self._held_out, kept))
        if kept:
            self.model, self._close = model, after
        return kept
