"""check_qat_model: what to look at before a prepared model is calibrated or trained, as two text files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from openbpu.arch.files import write_text
from openbpu.quantization.torch.debug import Table
from openbpu.quantization.torch.errors import PrepareError
from openbpu.quantization.torch.fake_quantize import FakeQuantize, FakeQuantState, fake_quantizers
from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.prepare.record import record
from openbpu.quantization.torch.qat import Weighted
from openbpu.quantization.torch.quantized import Quantized
from openbpu.quantization.torch.stubs import QATDeQuantStub
from openbpu.quantization.torch.trace import Recorder, Step

RESULT_FILE, QCONFIG_FILE = "model_check_result.txt", "qconfig_info.txt"
FUSABLE_COLUMNS = ("name", "type")
CALLED_COLUMNS = ("name", "called times")
OUT_COLUMNS = ("Module Name", "Module Type", "Input dtype", "out dtype", "ch_axis", "observer")
WEIGHT_COLUMNS = ("Module Name", "Module Type", "weight dtype", "ch_axis", "observer")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Tables of a prepared model.

    fusable: modules that run one after the other and could share one rounding, but do not; an empty row
    between two groups. called: how often a forward calls each module. outputs, weights: dtype and observer of
    every result (torch.float32: not quantized, high precision) and every weight, in the order of the forward.
    The names of modules that a forward calls several times end in "(n)".
    """

    fusable: Table
    called: Table
    outputs: Table
    weights: Table

    def qconfig_info(self) -> str:
        """The text of qconfig_info.txt."""
        return f"Each layer out qconfig:\n{self.outputs}\n\nWeight qconfig:\n{self.weights}\n"

    def __str__(self) -> str:
        return (
            f"Fusable modules are listed below:\n{self.fusable}\n\n"
            f"Each module called times:\n{self.called}\n\n{self.qconfig_info()}"
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write model_check_result.txt and qconfig_info.txt."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        write_text(target / RESULT_FILE, str(self))
        write_text(target / QCONFIG_FILE, self.qconfig_info())


def check_qat_model(
    model: nn.Module,
    example_inputs: Any,
    save_results: bool = False,
    out_dir: str | os.PathLike[str] | None = None,
) -> CheckResult:
    """Run a prepared model once, observing nothing, and return what its modules are set to.

    save_results: write the two files to `out_dir` (default: the working directory). Raises PrepareError for
    a float model.
    """
    found = fake_quantizers(model)
    if not found:
        raise PrepareError("check_qat_model: the model has no fake quantizers; call prepare first")
    with _unquantized([quantizer for _, quantizer in found]):
        recorder = record(model, example_inputs)
    result = report(recorder, dict(model.named_modules()))
    if save_results:
        result.save(out_dir or ".")
    return result


@contextmanager
def _unquantized(found: list[FakeQuantize]) -> Iterator[None]:
    shared = found[0].shared  # record() calls eval(), which is no misuse of the user's
    before, modes = [quantizer.own for quantizer in found], list(shared.modes)
    for quantizer in found:
        quantizer.own = FakeQuantState.FLOAT
    try:
        yield
    finally:
        for quantizer, state in zip(found, before, strict=True):
            quantizer.own = state
        shared.modes[:] = modes


def report(recorder: Recorder, modules: dict[str, nn.Module]) -> CheckResult:
    """The tables of a forward pass of a model whose modules have these paths."""
    names = {id(module): path for path, module in modules.items()}
    steps = {id(s.module): s for s in recorder.steps if isinstance(s.module, Quantized)}
    rows = [_Row(recorder, step, names[i]) for i, step in steps.items() if i in names]
    return CheckResult(
        Table(FUSABLE_COLUMNS, [row for r in rows for row in r.fusable()]),
        Table(CALLED_COLUMNS, [(r.path, r.called) for r in rows]),
        Table(
            OUT_COLUMNS,
            [r.output() for r in rows if not isinstance(r.step.module, QATDeQuantStub)],
            bars=True,
        ),
        Table(WEIGHT_COLUMNS, [row for r in rows for row in r.weight()], bars=True),
    )


@dataclass(frozen=True, slots=True)
class _Row:
    recorder: Recorder
    step: Step
    path: str

    @property
    def called(self) -> int:
        return self.recorder.called.get(id(self.step.module), 0)

    @property
    def name(self) -> str:
        return self.path if self.called < 2 else f"{self.path}({self.called})"

    def output(self) -> tuple[Any, ...]:
        quantizer = self.step.module.output_quantizer
        read = ", ".join(dict.fromkeys(_dtype(self.recorder, i) for i in self.step.reads)) or "torch.float32"
        return (self.name, _kind(self.step.module), read, *_described(quantizer))

    def weight(self) -> list[tuple[Any, ...]]:
        quantizer = self.step.module._modules.get("weight_fake_quant")  # noqa: SLF001 - torch's own attribute
        return [] if quantizer is None else [(self.name, _kind(self.step.module), *_described(quantizer))]

    def fusable(self) -> list[tuple[str, str]]:
        """The convolution and what stands behind it unfused, and an empty row."""
        conv, steps = self.step.module, self.recorder.steps
        if not isinstance(conv, Weighted) or conv.raw or len(self.step.users) != 1:
            return []
        behind = steps[self.step.users[0]]
        if not _could_fuse(behind, conv):
            return []
        return [(self.path, _kind(conv)), (behind.path, _kind(behind.module)), ("", "")]


def _could_fuse(behind: Step, conv: Weighted) -> bool:
    if behind.module is None or "relu" in conv._modules:  # noqa: SLF001 - torch's own attribute
        return False
    if behind.name == "batch_norm":
        return conv.takes_norm
    if behind.name == "add":
        return isinstance(behind.module, FloatFunctional) and not behind.module.takes_raw
    return behind.name in {"relu", "relu6"}


def _dtype(recorder: Recorder, index: int) -> str:
    """The dtype of a step's result; moves keep that of what they read."""
    while index >= 0 and recorder.steps[index].module is None:
        reads = recorder.steps[index].reads
        index = reads[0] if reads else -1
    quantizer = recorder.steps[index].module.output_quantizer if index >= 0 else None
    return "torch.float32" if quantizer is None else str(quantizer.dtype)


def _described(quantizer: FakeQuantize | None) -> tuple[str, Any, str]:
    """(dtype, ch_axis, observer) of a quantizer."""
    if quantizer is None:
        return "torch.float32", "None", "None"
    observer = quantizer.activation_post_process
    fixed = f"(scale={observer.fixed_scale:g})" if observer.fixed_scale is not None else ""
    constant = getattr(observer, "averaging_constant", None)
    more = f"(averaging_constant={constant})" if constant is not None else fixed
    return str(quantizer.dtype), quantizer.ch_axis, f"{type(observer).__name__}{more}"


def _kind(module: Any) -> str:
    return f"{type(module).__module__}.{type(module).__name__}"
