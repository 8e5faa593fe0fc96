"""Operators become steps: which kernel, how many units, which arguments. Done once per segment."""

from openbpu.simulator.fast.lower.steps import Late, Lowering, Place, Step, Symbol
from openbpu.simulator.fast.lower.table import FAMILIES, families_of, lower_segment

__all__ = ["FAMILIES", "Late", "Lowering", "Place", "Step", "Symbol", "families_of", "lower_segment"]
