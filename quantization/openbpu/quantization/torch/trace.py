"""What one forward pass of a model being prepared does: which module reads whose result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Step:
    """One operator that ran: its module (None for moves), the steps it reads (-1: none), its users."""

    name: str
    path: str
    module: Any
    reads: tuple[int, ...]
    users: list[int] = field(default_factory=list)
    shape: tuple[int, ...] = ()
    line: str = ""


@dataclass(slots=True)
class Recorder:
    """The steps of one forward pass, in order. A QTensor made while recording carries its step's number.

    `line` tells which line of the user's runs; `unquantized` is where a layer first met a plain tensor.
    """

    steps: list[Step] = field(default_factory=list)
    called: dict[int, int] = field(default_factory=dict)
    line: Callable[[], str] = str
    unquantized: str = ""

    def note(self, name: str, path: str, module: Any, reads: Iterable[Any], shape: tuple[int, ...]) -> int:
        """Record a step that reads the QTensors `reads`; returns its number."""
        index = len(self.steps)
        sources = tuple(getattr(t, "step", -1) for t in reads)
        self.steps.append(Step(name, path, module, sources, shape=shape, line=self.line()))
        for source in sources:
            if source >= 0:
                self.steps[source].users.append(index)
        if module is not None:
            self.called[id(module)] = self.called.get(id(module), 0) + 1
        return index
