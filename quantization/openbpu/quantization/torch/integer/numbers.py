"""A tensor beside a constant of equal elements: a function of the tensor, as the compiler has it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from openbpu.arch.arrays import Int64
from openbpu.arch.uniform import is_spare, lone_value
from openbpu.quantization.torch.integer.tables import Column, evaluate, looked_up
from openbpu.quantization.torch.integer.values import Clamp, Codes, Grid, codes_of
from openbpu.quantization.torch.qtensor import QTensor

_PAIRS = frozenset({"add", "sub", "mul", "div", "maximum", "minimum", "add_relu"})
_RELU = "_relu"


def number_beside(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[[Grid, Clamp], Int64] | None:
    """Return an operator of a tensor and a number, which one of the operands is; None where none is.

    A norm's weight of ones is one: the compiler makes a rescale or a table of its product.
    """
    if name not in _PAIRS or len(args) != 2 or kwargs:
        return None
    for index in (0, 1):
        x, number = codes_of(args[index]), _number(args[1 - index], args[index])
        if x is not None and number is not None:
            return partial(_beside, name, x, number, index)
    return None


def _number(constant: Any, other: Any) -> float | None:
    """The one value of a constant, quantized or a parameter, that gives the result no shape."""
    if isinstance(constant, QTensor):
        held = codes_of(constant) if constant.is_constant else None
        values, step = (None, 1.0) if held is None else (held.codes, held.grid.s)
    else:
        values, step = constant.detach().numpy() if isinstance(constant, nn.Parameter) else None, 1.0
    if values is None or not is_spare(values.shape, [tuple(other.shape)]):
        return None
    value = lone_value(values)
    return None if value is None else float(value) * step


def _beside(name: str, x: Codes, number: float, index: int, out: Grid, clamp: Clamp) -> Int64:
    """The tensor is operand `index` of the two."""
    operator, low = name.removesuffix(_RELU), 0.0 if name.endswith(_RELU) else -np.inf

    def function(column: Any) -> Any:
        constant = Column(number)
        return evaluate(operator, (column, constant) if index == 0 else (constant, column), {})

    bounds = out.bounds((max(clamp[0], low), clamp[1]))
    return np.clip(looked_up(x, function, out, ("beside", operator, number, index)), *bounds)
