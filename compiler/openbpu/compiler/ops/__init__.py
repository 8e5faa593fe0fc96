"""The operator table: a row per ONNX operator that the BPU runs, read by placement, lowering, docs, tests.

A file per family: how an operator of ONNX becomes nodes of the BPU (its row), and how these become operators
of the program (their forms). Every file of the folder is loaded; none is listed.
"""

from __future__ import annotations

from openbpu.arch.definition.loading import load_all
from openbpu.arch.definition.rooms import Room
from openbpu.arch.operators import UNITS
from openbpu.arch.program import Operator
from openbpu.compiler.ops.rule import Limit, OpRule
from openbpu.compiler.ops.site import Refused, Site

_FILES = load_all(__name__, __path__)
OPS: dict[str, OpRule] = {rule.op: rule for file in _FILES for rule in getattr(file, "RULES", ())}

ROWS: Room[type[Operator], OpRule] = Room(
    "a row of the operator table", UNITS, __name__, decorator="an OpRule for {} into RULES"
)
"""The rows of what ONNX has the BPU's units for."""

for _kind, _name in UNITS.items():
    if _name in OPS:
        ROWS.put(_kind, OPS[_name], OPS[_name].lower.__module__)

__all__ = ["OPS", "Limit", "OpRule", "Refused", "Site"]
