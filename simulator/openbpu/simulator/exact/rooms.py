"""Where the files in `operators` register what instructions do; complete when that folder is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from openbpu.arch.arrays import Array
from openbpu.arch.definition.rooms import Room
from openbpu.arch.isa import INSTRUCTIONS, SERVES, Instr, RowTile, UnaryTile
from openbpu.arch.program import Operator
from openbpu.simulator.exact.core import Core

Execute: TypeAlias = Callable[[Core, Any, Any], None]
Compute: TypeAlias = Callable[[Core, Any, Any, Array], Array]
_FOLDER = "openbpu.simulator.exact.operators"

EXECUTE: Room[type[Instr], Execute] = Room(
    "the exact execution", INSTRUCTIONS, _FOLDER, decorator="a function under @EXECUTE.of({})"
)
"""Instruction → (core, instruction, operator), which reads and writes the core's memories."""

UNARY: Room[type[Operator], Compute] = Room(
    "what a UnaryTile computes", SERVES[UnaryTile], _FOLDER, decorator="a function under @UNARY.of({})"
)
"""Operator → (core, instruction, operator, elements), which returns the results."""

ROWS: Room[type[Operator], Compute] = Room(
    "what a RowTile computes", SERVES[RowTile], _FOLDER, decorator="a function under @ROWS.of({})"
)
"""Operator → (core, instruction, operator, rows [N,R]), which returns the results."""
