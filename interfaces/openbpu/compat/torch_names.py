"""What is changed in torch itself while a vendor script runs: only what openbpu's own models need."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from typing import Any

from openbpu.arch.errors import QuantizationError
from openbpu.compat.names import TORCH

_OURS = "openbpu.quantization.torch"


def complete() -> None:
    """Give torch the stubs that it dropped, and let `torch.jit.trace` take openbpu's models; does so once."""
    if importlib.util.find_spec("torch") is None:
        return
    for name in TORCH:
        _add_stubs(importlib.import_module(name))
    jit: Any = importlib.import_module("torch.jit")
    if not hasattr(jit.trace, "openbpu"):
        jit.trace = _tracing(jit.trace)
        jit.save = _saving(jit.save)


def _add_stubs(module: Any) -> None:
    for stub in ("QuantStub", "DeQuantStub"):
        if not hasattr(module, stub):
            setattr(module, stub, getattr(importlib.import_module(_OURS), stub))


def is_ours(model: Any) -> bool:
    """Whether a module, or one inside it, was prepared or converted by openbpu."""
    parts = model.modules() if hasattr(model, "modules") else ()
    return any(getattr(part, "bpu_path", "") for part in parts)  # the path that `prepare` gives


def _tracing(original: Any) -> Any:
    """Return `torch.jit.trace` that leaves openbpu's models as they are: they are exported, never traced."""

    @functools.wraps(original)
    def trace(func: Any, *arguments: Any, **options: Any) -> Any:
        return func if is_ours(func) else original(func, *arguments, **options)

    trace.openbpu = True  # type: ignore[attr-defined]  # how `complete` knows its own work
    return trace


def _saving(original: Any) -> Any:
    """Return `torch.jit.save` that says what to do with a model that was not traced."""

    @functools.wraps(original)
    def save(model: Any, *arguments: Any, **options: Any) -> Any:
        if is_ours(model):
            fix = "write the ONNX of openbpu.quantization.torch.export, or the .hbm of compile_model"
            raise QuantizationError(f"torch.jit.save: a model of openbpu has no TorchScript; {fix}")
        return original(model, *arguments, **options)

    return save
