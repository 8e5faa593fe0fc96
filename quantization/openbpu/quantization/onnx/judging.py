"""Make the closing report: run what was held out through the float and the quantized model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from onnx import ModelProto

from openbpu.quantization.onnx.calibrate import Progress, histograms
from openbpu.quantization.onnx.choice import Choice
from openbpu.quantization.onnx.judge import JUDGED_SAMPLES, cosines, run_all
from openbpu.quantization.onnx.limits import Limits
from openbpu.quantization.onnx.looks import look_at
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.report import Report, unchanging
from openbpu.quantization.onnx.samples import Feed
from openbpu.quantization.onnx.usage import range_uses

_RANGED = 8
"""Samples whose values are counted."""


def judged(
    model: Net,
    net: Net,
    quantized: ModelProto,
    choice: Choice,
    data: tuple[Sequence[Feed], Sequence[Feed]],
    limits: Mapping[str, Limits],
    progress: Progress,
) -> Choice:
    """Return `choice` with the report of `quantized`, which `model` became by way of `net`.

    data: the samples that calibration saw, and those held out.
    """
    feeds, held = data
    samples = list(held or feeds[:JUDGED_SAMPLES])
    names = model.outputs
    wanted = run_all(model, names, samples)
    progress("judge", 1, 3)
    got = run_all(quantized, names, samples)
    progress("judge", 2, 3)
    largest = {name: found.largest for name, found in choice.ranges.items()}
    seen = histograms(net, largest, samples[:_RANGED], lambda *_: None, limits)
    progress("judge", 3, 3)
    report = Report(
        cosines=cosines(names, wanted, got),
        calibrated=len(feeds),
        judged=len(samples),
        held_out=bool(held),
        same=unchanging(names, wanted),
        inputs=look_at(model, feeds),
        ranges=range_uses(choice.ranges, seen),
        types=dict(Counter(found.dtype.value for found in choice.ranges.values())),
        findings=choice.findings,
    )
    return replace(choice, report=report)


def timed(choice: Choice, seconds: Mapping[str, float]) -> Choice:
    """Return `choice` with the time that each stage took in its report, if it has one."""
    if choice.report is None:
        return choice
    return replace(choice, report=replace(choice.report, seconds=dict(seconds)))
