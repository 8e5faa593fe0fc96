"""What one quantizer, or one layer's weights, do to the outputs when everything else is the baseline's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf, isnan
from typing import Any

import torch
from torch import nn

from openbpu.quantization.measures import Sums
from openbpu.quantization.torch.errors import PrepareError
from openbpu.quantization.torch.fake_quantize import FakeQuantize, FakeQuantState, fake_quantizers
from openbpu.quantization.torch.profiler.twin import Comparable, flat, outputs, quantizers
from openbpu.quantization.torch.qat import Weighted

Metric = Callable[[torch.Tensor, torch.Tensor], float]
METRICS = ("L1", "Cosine", "MSE", "SQNR")
"""L1 and MSE grow with the error; Cosine and SQNR (dB) fall."""


@dataclass(frozen=True, slots=True)
class SensitiveRow:
    """A quantizer of the model: `kind` is "weight" or "activation", `values` one of the metric per output."""

    name: str
    kind: str
    op: str
    dtype: str
    values: tuple[float, ...]
    flops: int


def distance(metric: str, expected: torch.Tensor, found: torch.Tensor) -> float:
    """Return a metric of two results; raises PrepareError for a name that is none."""
    sums = Sums()
    sums.add(expected.numpy(), found.numpy())
    close = sums.closeness()
    values = {"l1": close.l1, "cosine": close.cosine, "mse": close.mse, "sqnr": close.sqnr}
    if metric.lower() not in values:
        raise PrepareError(f"metric: it must be one of {', '.join(METRICS)}, not {metric!r}")
    return values[metric.lower()]


def worse(metric: str, value: float) -> float:
    """Return a number that is larger for a larger error."""
    falls = metric.lower() in {"cosine", "sqnr"}
    return -value if falls else value


def sensitivity_rows(
    baseline: Comparable, model: Comparable, inputs: Any, metric: str | Metric = "L1"
) -> list[SensitiveRow]:
    """Return a row per quantizer of the model that has seen data.

    Everything but it computes as the baseline does: a layer's weight is the model's own, rounded, where the
    baseline has the same layers (a float model brought to them, or another stage of the same one). Raises
    PrepareError for a model without quantizers.
    """
    found = quantizers(model.model)
    if not found:
        raise PrepareError("sensitivity: the model has no observed quantizers; calibrate it first")
    measured = _named(metric)
    with baseline.settled() as a, model.settled():
        expected = outputs(a, inputs, "sensitivity")
        flops = _flops(model.model, inputs)
        rows = []
        for name, quantizer in found:
            path, _, attribute = name.rpartition(".")
            with _placed(baseline, model, path, attribute, quantizer) as changed:
                values = outputs(changed, inputs, "sensitivity")
            module = model.model.get_submodule(path)
            kind = "weight" if attribute == "weight_fake_quant" else "activation"
            distances = tuple(measured(x, y) for x, y in zip(expected, values, strict=True))
            rows.append(
                SensitiveRow(
                    path, kind, type(module).__name__, str(quantizer.dtype), distances, flops.get(path, 0)
                )
            )
    return rows


def _named(metric: str | Metric) -> Metric:
    if callable(metric):
        return metric
    return lambda a, b: distance(metric, a, b)


@contextmanager
def _placed(
    baseline: Comparable, model: Comparable, path: str, attribute: str, quantizer: FakeQuantize
) -> Iterator[nn.Module]:
    """Give a model in which one quantizer, and the weight that it rounds, are the analysed model's.

    That is the baseline with this one module changed, where it has the same layers; else the model itself,
    everything else in it rounding nothing.
    """
    try:
        there: Any = baseline.model.get_submodule(path)
        own: Any = model.model.get_submodule(path)
        same = type(there) is type(own) and baseline.model is not model.model
    except AttributeError:
        same = False
    if not same or not fake_quantizers(baseline.model):
        with _alone(model.model, quantizer):
            yield model.model
        return
    before = there._modules.get(attribute)  # noqa: SLF001 - torch's own attribute
    weights = _swapped(there, own) if attribute == "weight_fake_quant" else {}
    state = quantizer.own
    there._modules[attribute] = quantizer  # noqa: SLF001
    quantizer.own = FakeQuantState.VALIDATION
    try:
        yield baseline.model
    finally:
        quantizer.own = state
        if before is None:
            del there._modules[attribute]  # noqa: SLF001
        else:
            there._modules[attribute] = before  # noqa: SLF001
        for name, tensor in weights.items():
            getattr(there, name).data = tensor


def _swapped(there: nn.Module, own: nn.Module) -> dict[str, torch.Tensor]:
    """Give a layer another's weight; returns what it had."""
    if not all(isinstance(getattr(m, "weight", None), nn.Parameter) for m in (there, own)):
        return {}
    before = there.weight.data
    if before.shape != own.weight.shape:
        return {}
    there.weight.data = own.weight.data
    return {"weight": before}


@contextmanager
def _alone(model: nn.Module, quantizer: FakeQuantize) -> Iterator[None]:
    """Let one quantizer of a model round and no other."""
    found = [q for _, q in fake_quantizers(model)]
    before = [q.own for q in found]
    for q in found:
        q.own = FakeQuantState.VALIDATION if q is quantizer else FakeQuantState.FLOAT
    try:
        yield
    finally:
        for q, state in zip(found, before, strict=True):
            q.own = state


def _flops(model: nn.Module, inputs: Any) -> dict[str, int]:
    """Multiplications and additions, one for both, per convolution and linear layer."""
    found: dict[str, int] = {}
    handles = [
        m.register_forward_hook(
            lambda module, _args, result, path=path: found.update(
                {path: sum(t.numel() for t in flat(result)[:1]) * module.products}
            )
        )
        for path, m in model.named_modules()
        if isinstance(m, Weighted) and getattr(m, "weight", None) is not None
    ]
    try:
        outputs(model, inputs, "sensitivity")
    finally:
        for handle in handles:
            handle.remove()
    return found


def ordered(rows: Sequence[SensitiveRow], output: int, metric: str) -> list[SensitiveRow]:
    """Return the rows, the most sensitive first, by one of the outputs."""

    def key(row: SensitiveRow) -> float:
        value = worse(metric, row.values[output])
        return inf if isnan(value) else value

    return sorted(rows, key=key, reverse=True)
