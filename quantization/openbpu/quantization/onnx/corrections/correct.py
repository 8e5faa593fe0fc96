"""Apply the wanted corrections one after another, and keep those that win."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx import ModelProto

from openbpu.quantization.onnx.calibrate import Progress
from openbpu.quantization.onnx.choice import Closeness
from openbpu.quantization.onnx.corrections.bias import correct_biases, with_biases
from openbpu.quantization.onnx.corrections.choose import Correction, Corrections, split
from openbpu.quantization.onnx.corrections.layers import float_weights
from openbpu.quantization.onnx.corrections.rounding import round_adaptively
from openbpu.quantization.onnx.net import Net, assemble, infer, take_apart
from openbpu.quantization.onnx.samples import Feed


def corrected(
    model: ModelProto, net: Net, corrections: Corrections, feeds: Sequence[Feed], progress: Progress
) -> tuple[ModelProto, tuple[Correction, ...]]:
    """Return the quantized `model` of the float `net` with what adaptive rounding and bias correction win."""
    train, judged, held_out = split(feeds)
    wanted = []
    if corrections.adaptive_rounding:
        wanted.append(("adaptive rounding", _rounded))
    if corrections.bias_correction:
        wanted.append(("bias correction", _with_means))
    if not wanted:
        return model, ()
    judge, won = Closeness(net, judged), list[Correction]()
    close = judge.of(model)
    for name, change in wanted:
        made, changed = change(infer(take_apart(model)), net, train, progress)
        trial = assemble(made)
        after = judge.of(trial) if changed else close
        won.append(Correction(name, close, after, changed, len(judged), held_out))
        if won[-1].kept:
            model, close = trial, after
    return model, tuple(won)


Change = Callable[[Net, Net, Sequence[Feed], Progress], tuple[Net, int]]


def _rounded(net: Net, float_net: Net, feeds: Sequence[Feed], progress: Progress) -> tuple[Net, int]:
    return round_adaptively(net, float_weights(net, float_net), feeds, progress)


def _with_means(net: Net, float_net: Net, feeds: Sequence[Feed], progress: Progress) -> tuple[Net, int]:
    return correct_biases(infer(with_biases(net)), float_net, feeds, progress)
