"""Integer graph → program: segments, tensors, operators with their geometry, CPU subgraphs, placement."""

from openbpu.compiler.lower.costs import cpu_costs
from openbpu.compiler.lower.partition import Part, partition
from openbpu.compiler.lower.placement import placements
from openbpu.compiler.lower.program import DebugMap, build_program, debug_map

__all__ = ["DebugMap", "Part", "build_program", "cpu_costs", "debug_map", "partition", "placements"]
