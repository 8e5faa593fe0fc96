"""What an operator was given while a model is recorded, as far as masks in front of a softmax need it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from openbpu.quantization.torch.hidden import never
from openbpu.quantization.torch.qtensor.tensor import QTensor
from openbpu.quantization.torch.scope import scope
from openbpu.quantization.torch.trace import Operand


def is_constant(value: Any) -> bool:
    """Whether an operand is the same for every input of the model (torch.fx: made of attributes)."""
    if isinstance(value, QTensor):
        return False
    if isinstance(value, torch.Tensor):
        return scope.varies is None or not scope.varies(value)
    if hasattr(value, "all_input_nodes"):
        if value.meta.get("quantized"):
            return False
        return value.op != "placeholder" and all(is_constant(n) for n in value.all_input_nodes)
    return True


def note_operands(name: str, args: tuple[Any, ...], result: Any) -> None:
    """Tell the recorder, if there is one, what the operator `name` read to make `result`."""
    if scope.recorder is not None and isinstance(result, QTensor) and result.step >= 0:
        scope.recorder.operands[result.step] = tuple(_operand(a, chosen=name == "where") for a in args)


def _operand(value: Any, *, chosen: bool) -> Operand:
    if isinstance(value, (int, float)):
        return _of_values(Operand(number=float(value)), np.full(1, float(value), np.float32), chosen=chosen)
    if isinstance(value, QTensor):
        return _of_values(Operand(value.step, varies=True), _numbers(value.plain), chosen=chosen)
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return Operand()
    array = _numbers(value)
    varies = scope.varies is not None and scope.varies(value)
    one = array.size and not varies and bool((array > 0).all() or (array < 0).all())
    smallest = float(array.flat[np.abs(array).argmin()]) if one else None
    return _of_values(Operand(number=smallest, varies=varies), array, chosen=chosen)


def _of_values(operand: Operand, array: Any, *, chosen: bool) -> Operand:
    value = torch.from_numpy(array)
    below, above = (bool(never(sign * value, chosen=chosen).any()) for sign in (1, -1))
    zero = not array.any()
    return Operand(operand.step, operand.number, operand.varies, below, above, zero)


def _numbers(value: torch.Tensor) -> Any:
    """The values outside of torch: within `prepare` no tensor of the model may decide anything."""
    return value.detach().float().cpu().numpy().copy()


def traced(node: Any) -> Operand:
    """The same of an argument that torch.fx traces: what varies is unknown."""
    if isinstance(node, (int, float)):
        return _operand(node, chosen=True)
    if not hasattr(node, "meta"):
        return Operand()
    step = int(node.meta.get("step", -1)) if node.meta.get("quantized") else -1
    varies = not is_constant(node)
    unknown = varies and step < 0
    return Operand(step, None, varies, below=unknown, above=unknown, zero=varies)
