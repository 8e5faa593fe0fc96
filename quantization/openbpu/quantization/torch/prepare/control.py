"""Control flow that depends on values, found while a model is recorded: compiled models have no branches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from openbpu.quantization.torch.errors import PrepareError
from openbpu.quantization.torch.qtensor.tensor import QTensor
from openbpu.quantization.torch.scope import here

_DECIDES = frozenset({"__bool__", "__int__", "__float__", "__index__", "item", "tolist"})


class ControlFlow(TorchFunctionMode):
    """Follows plain tensors that come from QTensors (comparisons, masks) and refuses a branch on them.

    It also knows what `inputs`, the model's plain inputs, were used for: everything else is constant.
    """

    def __init__(self, inputs: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()
        self.derived: dict[int, torch.Tensor] = {}
        self.varying = {id(t): t for t in inputs}

    def varies(self, value: torch.Tensor) -> bool:
        """Whether a plain tensor depends on the model's inputs."""
        return id(value) in self.varying or id(value) in self.derived

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run `func`; its results are derived when an argument is."""
        del types
        operands = [a for a in (*args, *(kwargs or {}).values()) if isinstance(a, torch.Tensor)]
        operands += [
            t for a in args if isinstance(a, (tuple, list)) for t in a if isinstance(t, torch.Tensor)
        ]
        derived = any(isinstance(a, QTensor) or id(a) in self.derived for a in operands)
        name = getattr(func, "__name__", "")
        if derived and name in _DECIDES:
            raise PrepareError(
                f"{here()}: a value computed from a QTensor decides what the forward does (data-dependent "
                "control flow), which no compiled model can; use torch.where or a mask"
            )
        result = func(*args, **(kwargs or {}))
        if derived and isinstance(result, torch.Tensor) and not isinstance(result, QTensor):
            self.derived[id(result)] = result
        if any(id(t) in self.varying for t in operands):
            self.varying.update((id(t), t) for t in plain_tensors(result))
        return result


def plain_tensors(value: Any) -> list[torch.Tensor]:
    """Every plain tensor in a nest of tuples, lists and dicts."""
    if isinstance(value, torch.Tensor):
        return [] if isinstance(value, QTensor) else [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in plain_tensors(v)] if isinstance(value, (tuple, list)) else []
