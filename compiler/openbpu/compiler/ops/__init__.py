"""The operator table: a row per ONNX operator that the BPU runs, read by placement, lowering, docs, tests."""

from __future__ import annotations

from openbpu.compiler.ops import (
    concat,
    conv,
    elementwise,
    matmul,
    moves,
    pool,
    powers,
    reduce,
    rows,
    select,
    tables,
)
from openbpu.compiler.ops.rule import Limit, OpRule
from openbpu.compiler.ops.site import Refused, Site

FAMILIES = (conv, matmul, elementwise, tables, pool, reduce, powers, rows, concat, select, moves)
OPS: dict[str, OpRule] = {rule.op: rule for family in FAMILIES for rule in family.RULES}

__all__ = ["FAMILIES", "OPS", "Limit", "OpRule", "Refused", "Site"]
