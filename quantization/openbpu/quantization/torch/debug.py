"""Tables that say where precision is lost: sensitivity of every operator, statistics of every tensor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from openbpu.quantization.torch.attempt import attempt
from openbpu.quantization.torch.errors import PrepareError
from openbpu.quantization.torch.fake_quantize import FakeQuantize, FakeQuantState, fake_quantizers
from openbpu.quantization.torch.qat import Weighted
from openbpu.quantization.torch.qtensor.tensor import qtensors, unwrap
from openbpu.quantization.torch.quantized import Quantized

SENSITIVITY_COLUMNS = ("op_name", "sensitive_type", "op_type", "L1", "quant_dtype", "flops")
STATISTICS_COLUMNS = ("Op Name", "Mod Name", "Attr", "Min", "Max", "Mean", "Var", "Shape")

Row = tuple[Any, ...]


class Table(list[Row]):
    """Rows with named columns; prints as aligned text, with `bars` between the columns as the vendor does."""

    def __init__(self, columns: tuple[str, ...], rows: list[Row], *, bars: bool = False) -> None:
        super().__init__(rows)
        self.columns, self.bars = columns, bars

    def __str__(self) -> str:
        digits = ".7f" if self.bars else ".6g"  # as the vendor's two tables have them
        cells = [self.columns, *(tuple(_text(v, digits) for v in row) for row in self)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in cells]
        if self.bars:
            lines = [f"| {' | '.join(row)} |" for row in padded]
            return "\n".join([lines[0], f"|{'-' * (len(lines[0]) - 2)}|", *lines[1:]])
        lines = ["  ".join(row).rstrip() for row in padded]
        return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _text(value: Any, digits: str) -> str:
    return format(value, digits) if isinstance(value, float) else str(value)


def sensitivity_table(model: nn.Module, baseline: nn.Module | None, inputs: Any) -> Table:
    """L1 of the outputs when only one quantizer rounds, against the baseline's; the most sensitive first.

    `model` is prepared and calibrated, `baseline` the float model (None: `model` without rounding), `inputs`
    as for prepare. Columns: SENSITIVITY_COLUMNS. The rows go
    into `sensitive_op_*_qconfig_setter` and SensitivityTemplate as they are.
    """
    found = [(name, q) for name, q in fake_quantizers(model) if not q.initial]
    if not found:
        raise PrepareError("sensitivity_table: the model has no observed quantizers; calibrate it first")
    flops = _flops(model, inputs)
    total = sum(flops.values()) or 1
    with _states(found), torch.no_grad():
        floats = _outputs(model if baseline is None else baseline, inputs)
        rows = []
        for name, quantizer in found:
            quantizer.own = FakeQuantState.VALIDATION
            distance = _distance(_outputs(model, inputs), floats)
            quantizer.own = FakeQuantState.FLOAT
            path, _, kind = name.rpartition(".")
            done = flops.get(path, 0)
            share = f"{done}({done / total:.2%})" if done else "0(0%)"
            sort = "weight" if kind == "weight_fake_quant" else "activation"
            rows.append((path, sort, type(model.get_submodule(path)), distance, quantizer.dtype, share))
    return Table(SENSITIVITY_COLUMNS, sorted(rows, key=lambda row: -row[3]))


def _distance(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """Mean |a − b| of every pair, summed."""
    return sum(float((a - b).abs().mean()) for a, b in zip(found, expected, strict=True))


def statistics_table(model: nn.Module, inputs: Any) -> Table:
    """Min, max, mean, variance and shape of input, weight, bias and output of every operator that runs.

    Columns: STATISTICS_COLUMNS. Sort by max − min to find distributions too wide for int8.
    """
    rows: list[Row] = []

    def note(module: Any, args: Any, output: Any) -> None:
        kind, path = _kind(module), names[module]
        parameters = [(a, getattr(module, a, None)) for a in ("weight", "bias")]
        tensors = [("input", t) for t in _floats(args)[:1]]
        tensors += [(a, p) for a, p in parameters if torch.is_tensor(p)]
        tensors += [("output", t) for t in _floats(output)[:1]]
        rows.extend(_statistics(kind, path, attr, tensor) for attr, tensor in tensors)

    names = {m: name for name, m in model.named_modules() if _is_operator(m)}
    hooks = [module.register_forward_hook(note) for module in names]
    try:
        with torch.no_grad():
            attempt("statistics_table", model, inputs, PrepareError)
    finally:
        for hook in hooks:
            hook.remove()
    return Table(STATISTICS_COLUMNS, rows, bars=True)


def _is_operator(module: nn.Module) -> bool:
    if isinstance(module, FakeQuantize):
        return False
    return isinstance(module, Quantized) or not list(module.children())


def _kind(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__name__}"


def _statistics(kind: str, path: str, attr: str, x: torch.Tensor) -> Row:
    x = x.detach().float()
    spread = float(x.var()) if x.numel() > 1 else 0.0
    return (kind, path, attr, float(x.min()), float(x.max()), float(x.mean()), spread, torch.Size(x.shape))


def _floats(value: Any) -> list[torch.Tensor]:
    """Plain float tensors in a nest, QTensors by their values."""
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in _floats(v)]
    if isinstance(value, dict):
        return _floats(list(value.values()))
    plain = unwrap(value) if qtensors(value) else value
    is_float = torch.is_tensor(plain) and plain.is_floating_point() and plain.numel() > 0
    return [plain] if is_float else []


def _outputs(model: nn.Module, inputs: Any) -> list[torch.Tensor]:
    return _floats(attempt("sensitivity_table", model, inputs, PrepareError))


def _flops(model: nn.Module, inputs: Any) -> dict[str, int]:
    """Multiplications and additions as one each, per convolution and linear layer."""
    found: dict[str, int] = {}

    def note(module: Any, args: Any, output: Any) -> None:
        del args
        results = unwrap(output).numel()
        found[names[module]] = results * module.products

    names = {m: name for name, m in model.named_modules() if isinstance(m, Weighted)}
    hooks = [module.register_forward_hook(note) for module in names]
    try:
        with torch.no_grad():
            attempt("sensitivity_table", model, inputs, PrepareError)
    finally:
        for hook in hooks:
            hook.remove()
    return found


@contextmanager
def _states(found: list[tuple[str, FakeQuantize]]) -> Iterator[None]:
    """Let no quantizer round or observe, and give each its own state back at the end."""
    before = [quantizer.own for _, quantizer in found]
    for _, quantizer in found:
        quantizer.own = FakeQuantState.FLOAT
    try:
        yield
    finally:
        for (_, quantizer), state in zip(found, before, strict=True):
            quantizer.own = state
