"""What every instruction does, a file per family of operators, as in `openbpu.arch.operators`."""

from __future__ import annotations

from openbpu.arch.definition.loading import load_all
from openbpu.arch.definition.rooms import require_total
from openbpu.simulator.exact.rooms import EXECUTE, ROWS, UNARY

load_all(__name__, __path__)
require_total("openbpu.simulator.exact", EXECUTE, UNARY, ROWS)

__all__ = ["EXECUTE"]
