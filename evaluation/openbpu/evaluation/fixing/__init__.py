"""Mechanical fixes of what keeps nodes on the CPU, each proved by running the model before and after."""

from openbpu.evaluation.fixing import rules as rules
from openbpu.evaluation.fixing.cure import Change, Cure, Side, cure
from openbpu.evaluation.fixing.proof import Proof
from openbpu.evaluation.fixing.table import FIXES, Example, Fix

__all__ = ["FIXES", "Change", "Cure", "Example", "Fix", "Proof", "Side", "cure"]
