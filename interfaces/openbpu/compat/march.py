"""Marches by the vendor's constants, for scripts that compile without PyTorch."""

from __future__ import annotations

from typing import Any

from openbpu.arch.errors import MarchError, must
from openbpu.arch.march import find_march, get_march, march_names

__all__ = [
    "March",
    "MarchBase",
    "MarchSeries",
    "get_all_bpu_march_names",
    "get_march_num_cores",
    "march_name",
]


class MarchBase(type):
    """Gives `March.NASH_M` and `March.nash_m`, for every march of openbpu: its name, "nash-m"."""

    def __getattr__(cls, name: str) -> str:
        found = march_name(name)
        if not name.startswith("_") and found in march_names():
            return found
        known = ", ".join(n.upper().replace("-", "_") for n in march_names())
        raise AttributeError(f"March: the march must be one of {known}, not {name}")


class March(metaclass=MarchBase):
    """The marches, as attributes; a march here is its name."""


MarchSeries = March


def march_name(march: Any) -> str:
    """Return the name of a march given as a March, its constant ("NASH_M"), our name or its product.

    What calls no march is returned as it is: the path of a march file, or what `compile` then refuses.
    """
    text = str(getattr(march, "value", march))
    return find_march(text.removeprefix("March.")) or text


def get_all_bpu_march_names() -> list[str]:
    """Return the marches that a module can be converted for."""
    return [name for name in march_names() if get_march(name).target]


def get_march_num_cores(march: Any) -> int:
    """Return how many BPU cores a march has; raises MarchError for one that is not known."""
    name = march_name(march)
    if name not in march_names():
        raise MarchError(must("get_march_num_cores", "the march", f"one of {', '.join(march_names())}", name))
    return get_march(name).chip.cores
