"""The results of a model's layers in one forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from openbpu.quantization.torch.attempt import attempt
from openbpu.quantization.torch.errors import PrepareError
from openbpu.quantization.torch.fake_quantize import FakeQuantize
from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.qtensor.tensor import QTensor
from openbpu.quantization.torch.quantized import Quantized


@dataclass(frozen=True, slots=True)
class Feature:
    """A result of a layer: plain float values on the CPU.

    name: the module's path, with (1), (2), … behind it from its second call or result on · op: its class ·
    function: what a FloatFunctional computed, "" for others · scale, dtype, ch_axis: of the QTensor that it
    was, None, "" and −1 for a plain tensor · first: whether it is the first result of a call.
    """

    name: str
    path: str
    op: str
    function: str
    data: torch.Tensor
    scale: torch.Tensor | None
    dtype: str
    ch_axis: int
    first: bool = True


def features(
    model: nn.Module, inputs: Any, prefixes: Sequence[str] = (), types: Sequence[type] = ()
) -> list[Feature]:
    """Run a model once, as it is, and return the results of its layers in their order.

    prefixes, types: only modules whose path begins so, or that are of these classes. Layers are modules
    without children, and the layers of a prepared model. Raises PrepareError where the model does not run.
    """
    recording = Recording(model, prefixes, types)
    recording.start()
    try:
        with torch.no_grad():
            attempt("features", model, inputs, PrepareError)
    finally:
        found = recording.stop()
    return found


class Recording:
    """Notes the results of a model's layers between `start` and `stop`; arguments as of `features`."""

    def __init__(self, model: nn.Module, prefixes: Sequence[str] = (), types: Sequence[type] = ()) -> None:
        self._watched = [
            (path, module)
            for path, module in layers(model)
            if (not prefixes or path.startswith(tuple(prefixes)))
            and (not types or isinstance(module, tuple(types)))
        ]
        self._hooks = contextlib.ExitStack()
        self._found: list[Feature] = []
        self._seen: dict[str, int] = {}

    def start(self) -> None:
        """Begin to note."""
        for path, module in self._watched:
            self._hooks.enter_context(_watched(path, module, self._note))

    def stop(self) -> list[Feature]:
        """End, and return what was noted."""
        self._hooks.close()
        return self._found

    def _note(self, path: str, module: nn.Module, function: str, result: Any) -> None:
        for place, value in enumerate(_tensors(result)):
            count = self._seen.get(path, 0)
            self._seen[path] = count + 1
            name = f"{path}({count})" if count else path
            self._found.append(_feature(name, path, module, function, value, first=place == 0))


def layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that make results of their own, with their paths; Identity is none."""
    inside: set[int] = set()
    for path, module in model.named_modules():
        if id(module) in inside or isinstance(module, (FakeQuantize, nn.Identity)) or not path:
            continue
        whole = isinstance(module, Quantized) or not list(module.children())
        if whole:
            inside.update(id(m) for m in module.modules() if m is not module)
            yield path, module


Note = Callable[[str, nn.Module, str, Any], None]


@contextlib.contextmanager
def _watched(path: str, module: nn.Module, note: Note) -> Iterator[None]:
    """Tell `note` of every result of a module while the block runs."""
    if isinstance(module, FloatFunctional):
        original = module.call

        def call(name: str, *arguments: Any) -> Any:
            result = original(name, *arguments)
            note(path, module, name, result)
            return result

        module.__dict__["call"] = call
        try:
            yield
        finally:
            del module.__dict__["call"]
        return
    handle = module.register_forward_hook(lambda m, _args, result: note(path, m, "", result))
    try:
        yield
    finally:
        handle.remove()


def _tensors(value: Any) -> list[torch.Tensor]:
    """The float tensors of a result, QTensors as they are."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in _tensors(v)]
    plain = value.plain if isinstance(value, QTensor) else value
    return [value] if torch.is_tensor(plain) and plain.is_floating_point() else []


def _feature(
    name: str, path: str, module: nn.Module, function: str, value: torch.Tensor, *, first: bool
) -> Feature:
    is_quantized = isinstance(value, QTensor) and value.q_scale() is not None
    plain = value.plain if isinstance(value, QTensor) else value
    scale = value.q_scale().detach().cpu() if is_quantized else None
    return Feature(
        name=name,
        path=path,
        op=type(module).__name__,
        function=function,
        data=plain.detach().cpu().float().clone(),
        scale=scale,
        dtype=str(value.dtype) if is_quantized else "",
        ch_axis=value.q_per_channel_axis() if is_quantized else -1,
        first=first,
    )


def called(model: nn.Module, inputs: Any) -> dict[str, int]:
    """Return how often one forward calls every layer of a model, by path; 0 for those it does not reach."""
    counts = {path: 0 for path, _ in layers(model)}
    for feature in features(model, inputs):
        counts[feature.path] += feature.first
    return counts
