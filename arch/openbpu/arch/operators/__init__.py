"""The operators of the BPU, a room per family: what each computes, its instruction, what it may be, its time.

Whatever lies in this folder is loaded, and declares itself (`definition.registry`): no list is kept by hand.
"""

from __future__ import annotations

from collections.abc import Mapping

from openbpu.arch.definition.instruction import Instr
from openbpu.arch.definition.loading import load_all
from openbpu.arch.definition.operator import Operator
from openbpu.arch.definition.registry import instructions, operators, require_declared, serves, units

require_declared(load_all(__name__, __path__))

OPERATORS: tuple[type[Operator], ...] = operators()
"""Every kind of operator, by its number."""

UNITS: Mapping[type[Operator], str] = units()
"""Kind of operator → an operator of ONNX that it is the unit of; what only passes make is not in it."""

INSTRUCTIONS: tuple[type[Instr], ...] = instructions()
"""Every instruction, by its opcode."""

SERVES: Mapping[type[Instr], tuple[type[Operator], ...]] = serves()
"""Instruction → kinds of operators it can belong to. LOAD, STORE and MoveTile copy bits for any of them."""
