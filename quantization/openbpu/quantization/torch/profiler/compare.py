"""Two models layer by layer and weight by weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import nn

from openbpu.quantization.layers import LayerPair, LayerRow, compared
from openbpu.quantization.measures import Closeness, closeness
from openbpu.quantization.torch.errors import PrepareError
from openbpu.quantization.torch.profiler.features import Feature, features
from openbpu.quantization.torch.profiler.twin import Comparable
from openbpu.quantization.torch.qat import Weighted

CHANGED, DAMAGED = 20.0, 6.0
"""dB: below them weights are no rounding of the baseline's, and have little to do with them."""


def layer_rows(
    baseline: Comparable,
    model: Comparable,
    inputs: Any,
    prefixes: Sequence[str] = (),
    types: Sequence[type] = (),
) -> list[LayerRow]:
    """Return a row per layer that both have, in the order of the forward.

    Raises PrepareError where a model does not run, or where they have no layer in common.
    """
    with baseline.settled() as a:
        expected = {f.name: f for f in features(a, inputs, prefixes)}
    with model.settled() as b:
        found = features(b, inputs, prefixes, types)
    changed = {row.name: row for row in weight_rows(baseline, model)}
    pairs = [_pair(expected[f.name], f, changed) for f in found if f.name in expected]
    if not pairs:
        have = ", ".join(list(expected)[:3]) or "none"
        raise PrepareError(
            f"compare: the models must have layers in common, not {have} … and "
            f"{', '.join(f.name for f in found[:3]) or 'none'} …; give two stages of one model"
        )
    return [compared(pair) for pair in pairs]


def _pair(expected: Feature, found: Feature, weights: dict[str, WeightRow]) -> LayerPair:
    row = weights.get(found.path)
    told = ""
    if row is not None and row.close.sqnr < CHANGED:
        told = f"its weights are not the baseline's (cosine {row.close.cosine:.4f}): load them again"
    return LayerPair(
        name=found.name,
        base_op=_kind(expected),
        op=_kind(found),
        dtype=found.dtype,
        scale=None if found.scale is None else found.scale.numpy(),
        expected=expected.data.numpy(),
        found=found.data.numpy(),
        changed=told,
        damaged=row is not None and row.close.sqnr < DAMAGED,
    )


def _kind(feature: Feature) -> str:
    return f"{feature.op}.{feature.function}" if feature.function else feature.op


@dataclass(frozen=True, slots=True)
class WeightRow:
    """The weight of a layer in two models, BatchNorm folded and rounded as the models' states say."""

    name: str
    op: str
    shape: tuple[int, ...]
    dtype: str
    close: Closeness


def weight_rows(baseline: Comparable, model: Comparable) -> list[WeightRow]:
    """Return the weights that both models have, those that differ most first."""
    with baseline.settled() as a:
        expected = _weights(a)
    with model.settled() as b:
        found = _weights(b)
    rows = [
        WeightRow(name, op, tuple(w.shape), dtype, closeness(expected[name][1].numpy(), w.numpy()))
        for name, (op, w, dtype) in found.items()
        if name in expected
    ]
    return sorted(rows, key=lambda row: row.close.sqnr if row.close.sqnr < inf else 1e9)


def _weights(model: nn.Module) -> dict[str, tuple[str, torch.Tensor, str]]:
    """Path → class, weight as it is used, dtype of its codes ("" for float)."""
    found: dict[str, tuple[str, torch.Tensor, str]] = {}
    with torch.no_grad():
        for path, module in model.named_modules():
            weight = getattr(module, "weight", None)
            if isinstance(module, Weighted) and weight is not None:  # one of a function has none of its own
                quantizer = module._modules.get("weight_fake_quant")  # noqa: SLF001 - torch's own attribute
                used = module.rounded_weight(module.folded()[0])
                dtype = "" if quantizer is None else str(quantizer.dtype)
                found[path] = (type(module).__name__, used.detach().cpu().float(), dtype)
            elif isinstance(weight, nn.Parameter) and weight.is_floating_point() and weight.ndim > 1:
                found[path] = (type(module).__name__, weight.detach().cpu().float(), "")
    return found
