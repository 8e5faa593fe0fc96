"""What mechanical fixes do, by family; a fix without a function and an example refuses the import."""

from openbpu.arch.definition.rooms import require_total
from openbpu.evaluation.fixing.rules import apart, kernels, pairs, pieces, simple, transposed, windows
from openbpu.evaluation.fixing.table import FIXES

require_total("openbpu.evaluation.fixing", FIXES)

__all__ = ["apart", "kernels", "pairs", "pieces", "simple", "transposed", "windows"]
