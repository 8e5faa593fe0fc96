"""torch.where in integers: by a constant mask, or a table where a tensor's own comparison decides."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from openbpu.quantization.torch.integer.elementwise import chosen
from openbpu.quantization.torch.integer.tables import evaluate, looked_up
from openbpu.quantization.torch.integer.values import Clamp, Grid, codes_of
from openbpu.quantization.torch.qtensor import QTensor

Code = Callable[[Grid, Clamp], Any]


def nothing(out: Grid, clamp: Clamp) -> Any:
    """No codes: the operator runs on the CPU."""
    del out, clamp


def where(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Code | None:
    """Choose between two sides, the condition first."""
    del kwargs
    condition, *sides = args
    compared = getattr(condition, "compared", None)
    tensors = [s for s in sides if isinstance(s, QTensor)]
    numbers = all(s.numel() == 1 for s in sides if not any(s is t for t in tensors[:1]))
    if compared is not None and tensors and numbers and any(tensors[0] is o for o in compared[1]):
        name, operands = compared
        x = tensors[0]

        def function(column: Any) -> Any:
            flag = evaluate(name, tuple(column if o is x else o for o in operands), {})
            return evaluate("where", (flag, *(column if s is x else s for s in sides)), {})

        return _table_of(x, function)
    known = [codes_of(s) if isinstance(s, QTensor) else s.detach().numpy() for s in sides]
    sides = [k for k in known if k is not None]
    return partial(chosen, condition.numpy(), sides) if len(sides) == len(known) else nothing


def _table_of(x: QTensor, function: Any) -> Code:
    def code(out: Grid, clamp: Clamp) -> Any:
        operand = codes_of(x)
        return None if operand is None else np.clip(looked_up(operand, function, out), *out.bounds(clamp))

    return code
