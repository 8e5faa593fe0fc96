"""The target chip that quantization aims at: a process-wide choice, as the vendor's plugin has it."""

from __future__ import annotations

from enum import Enum

from openbpu.arch.errors import MarchError, must
from openbpu.arch.march import find_march
from openbpu.arch.march import get_march as load_march


class March(str, Enum):
    """Names of the marches; the value is openbpu's name of the chip."""

    BERNOULLI2 = "bernoulli2"
    BAYES = "bayes"
    BAYES_E = "bayes-e"
    NASH_B = "nash-b"
    NASH_E = "nash-e"
    NASH_M = "nash-m"
    NASH_P = "nash-p"
    NASH_H = "nash-h"

    def __str__(self) -> str:
        return self.value


_chosen: list[str] = []


def set_march(march: March | str) -> None:
    """Choose the march for everything that is prepared from now on: a March, its name or a product.

    Raises MarchError for an unknown name.
    """
    text = str(march.value if isinstance(march, March) else march)
    load_march(text)
    _chosen[:] = [find_march(text) or text]


def get_march() -> March | str:
    """Return the chosen march; raises MarchError when none was."""
    if not _chosen:
        names = ", ".join(f"March.{m.name}" for m in March)
        raise MarchError(
            must("march", "the target", "set before prepare", "missing", f"call set_march({names})")
        )
    return March(_chosen[0]) if _chosen[0] in {m.value for m in March} else _chosen[0]
