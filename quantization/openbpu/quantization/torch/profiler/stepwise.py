"""Quantization step by step: one layer, or one kind of layer, after another rounds; the rest is float."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from openbpu.quantization.measures import Closeness, Sums
from openbpu.quantization.torch.errors import PrepareError
from openbpu.quantization.torch.fake_quantize import FakeQuantize, FakeQuantState
from openbpu.quantization.torch.profiler.twin import Comparable, outputs, quantizers

By = Literal["module", "kind"]


@dataclass(frozen=True, slots=True)
class Step:
    """What rounds from this step on, and how close all outputs are to those in float.

    name: a module's path, or a kind of layer · quantizers: how many it adds · of: how many round so far.
    """

    number: int
    name: str
    quantizers: int
    of: int
    close: Closeness


def steps(model: Comparable, inputs: Any, by: By = "module") -> Iterator[Step]:
    """Yield the steps in the order of the model's layers, each after the one before.

    Raises PrepareError for a model without observed quantizers.
    """
    groups = _groups(model, by)
    if not groups:
        raise PrepareError("step by step: the model has no observed quantizers; calibrate it first")
    with model.settled() as settled:
        for _, quantizer in quantizers(settled):
            quantizer.own = FakeQuantState.FLOAT
        expected, rounding = outputs(settled, inputs, "step by step"), 0
        for number, (name, group) in enumerate(groups.items()):
            for quantizer in group:
                quantizer.own = FakeQuantState.VALIDATION
            rounding += len(group)
            sums = Sums()
            for x, y in zip(expected, outputs(settled, inputs, "step by step"), strict=True):
                sums.add(x.numpy(), y.numpy())
            yield Step(number, name, len(group), rounding, sums.closeness())


def _groups(model: Comparable, by: By) -> dict[str, list[FakeQuantize]]:
    found: dict[str, list[FakeQuantize]] = {}
    for name, quantizer in quantizers(model.model):
        path = name.rpartition(".")[0]
        kind = type(model.model.get_submodule(path)).__name__
        found.setdefault(path if by == "module" else kind, []).append(quantizer)
    return found
