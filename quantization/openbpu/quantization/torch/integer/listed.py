"""Operators that the march leaves to the CPU although the BPU could compute them."""

from __future__ import annotations

from openbpu.arch.march import get_march as load_march
from openbpu.quantization.torch.integer.tables import ONE_TO_ONE
from openbpu.quantization.torch.march import get_march


def left_to_cpu(name: str) -> bool:
    """Whether the march that is set leaves a torch function to the CPU."""
    march, op = load_march(str(get_march())), _LISTED.get(name) or ONE_TO_ONE.get(name)
    return op is not None and op in march.cpu_ops


def longest(limit: str) -> int:
    """A limit of the march that is set."""
    return int(load_march(str(get_march())).limits[limit])


_LISTED = {
    "softmax": "Softmax",
    "prelu": "PRelu",
    "min": "ReduceMin",
    "amin": "ReduceMin",
    "max": "ReduceMax",
    "amax": "ReduceMax",
    "sum": "ReduceSum",
    "cumsum": "CumSum",
    "mean": "ReduceMean",
    "minimum": "Min",
    "maximum": "Max",
    "div": "Div",
    "where": "Where",
}
