"""What every way of preparing has in common: prepared classes first, quantizers last."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from openbpu.arch.errors import must
from openbpu.arch.onnx_ops import VIEWS
from openbpu.quantization.torch.errors import PrepareError, SharedModuleWarning
from openbpu.quantization.torch.prepare.assign import assign
from openbpu.quantization.torch.prepare.fuse import Fused, replace_module
from openbpu.quantization.torch.prepare.grids import widen
from openbpu.quantization.torch.prepare.masks import hide
from openbpu.quantization.torch.prepare.pattern import Patterns
from openbpu.quantization.torch.prepare.watch import watch
from openbpu.quantization.torch.qat import Weighted, is_leaf, swap
from openbpu.quantization.torch.qat.recurrent import RecurrentStep
from openbpu.quantization.torch.qtensor.names import MOVED
from openbpu.quantization.torch.quantized import Quantized
from openbpu.quantization.torch.scope import attach, warn_about
from openbpu.quantization.torch.setters import Setter
from openbpu.quantization.torch.trace import Recorder, Step


def finish(model: nn.Module, recorder: Recorder, setters: Sequence[Setter]) -> None:
    """Fuse what the record of a forward pass allows, attach quantizers, watch the states."""
    Patterns(model, recorder).fuse()
    hide(model, recorder)
    widen(recorder)
    assign(model, setters, _outputs(recorder), _kinds(recorder))
    if all(step.module is None for step in recorder.steps):
        fix = "put a QuantStub in front of the first operator"
        place = recorder.unquantized or type(model).__name__
        raise PrepareError(must(place, "some tensor of the forward", "quantized", "none", fix))
    _warn_shared(model, recorder)
    watch(model)


def swap_all(model: nn.Module) -> None:
    """Give every module its prepared class and hook the containers."""
    for path, module in list(model.named_modules()):
        if isinstance(module, Fused):
            if not path:
                raise PrepareError("prepare: a model of one fused convolution must stand in a Sequential")
            replace_module(model, path, module.unfolded())
    inside = {id(m) for q in model.modules() if is_leaf(q) for m in q.modules() if m is not q}
    for path, module in list(model.named_modules()):
        if id(module) in inside:
            continue
        swap(module)
        if isinstance(module, Quantized):
            module.bpu_path = path
    inner = {id(m) for leaf in model.modules() if is_leaf(leaf) for m in leaf.modules()}
    attach([(path, m) for path, m in model.named_modules() if id(m) not in inner])
    if is_leaf(model):
        raise PrepareError("prepare: the model must hold its layers as submodules; wrap it in a Sequential")


def _outputs(recorder: Recorder) -> list[int]:
    """Ids of modules whose results only DeQuantStubs and the caller read."""
    return [id(s.module) for s in recorder.steps if isinstance(s.module, Weighted) and _leaves(recorder, s)]


_VIEWS = frozenset().union(*(MOVED[op] for op in MOVED if op in VIEWS), MOVED["Transpose"])
"""Moves of a high-precision result that the BPU has."""


def _leaves(recorder: Recorder, step: Step) -> bool:
    """Whether only DeQuantStubs and the caller read a result, axes changed or not."""
    users = [recorder.steps[i] for i in step.users]
    ends = (
        u.name in {"dequant", "output"} or (u.module is None and u.name in _VIEWS and _leaves(recorder, u))
        for u in users
    )
    return bool(users) and all(ends)


def _kinds(recorder: Recorder) -> dict[int, str]:
    return {id(s.module): s.name for s in recorder.steps if s.module is not None}


def _warn_shared(model: nn.Module, recorder: Recorder) -> None:
    calls: dict[int, list[str]] = {}
    for step in recorder.steps:
        if isinstance(step.module, Quantized) and step.name != "dequant":
            calls.setdefault(id(step.module), []).append(step.line)
    stepped = {id(m) for step in model.modules() if isinstance(step, RecurrentStep) for m in step.modules()}
    told = [
        f"{path}({len(calls[id(module)])}) in {', '.join(dict.fromkeys(calls[id(module)]))}"
        for path, module in model.named_modules()
        if len(calls.get(id(module), ())) > 1 and id(module) not in stepped
    ]
    if told:
        text = f"modules called several times share one scale: {'; '.join(told)}; use one instance per call"
        warn_about(model, text, SharedModuleWarning)
