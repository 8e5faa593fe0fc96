"""The operator table: a row per ONNX operator that the BPU runs, read by placement, lowering, docs, tests.

A file per family: how an operator of ONNX becomes nodes of the BPU (its row), and how these become operators
of the program (their forms). Every file of the folder is loaded; none is listed.
"""

from __future__ import annotations

from openbpu.arch.definition.loading import load_all
from openbpu.arch.definition.rooms import require_total
from openbpu.compiler.ir.dialect import LOWERED
from openbpu.compiler.ops.rule import Limit, OpRule
from openbpu.compiler.ops.site import Refused, Site

_FILES = load_all(__name__, __path__)
require_total("openbpu.compiler", LOWERED)

OPS: dict[str, OpRule] = {rule.op: rule for file in _FILES for rule in getattr(file, "RULES", ())}

__all__ = ["OPS", "Limit", "OpRule", "Refused", "Site"]
