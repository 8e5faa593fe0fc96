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


@dataclass(frozen=True, slots=True)
class Operand:
    """One argument of an operator: the step that made it (-1: none), or the number it is.

    `varies`: a tensor that depends on the model's inputs. `below`, `above`: whether it holds what only says
    "never" in front of a softmax, at that end. `zero`: it holds nothing but 0. Unknown is True.
    """

    step: int = -1
    number: float | None = None
    varies: bool = False
    below: bool = False
    above: bool = False
    zero: bool = False


@dataclass(slots=True)
class Recorder:
    """The steps of one forward pass, in order. A QTensor made while recording carries its step's number.

    `line` tells which line of the user's runs; `unquantized` is where a layer first met a plain tensor.
    `operands`: the arguments of a step that computes, by position.
    """

    steps: list[Step] = field(default_factory=list)
    called: dict[int, int] = field(default_factory=dict)
    line: Callable[[], str] = str
    unquantized: str = ""
    operands: dict[int, tuple[Operand, ...]] = field(default_factory=dict)

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
