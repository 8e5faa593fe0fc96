"""Exact execution: every tile instruction on byte-addressed memory, tokens honoured; bit-identical to `fast`.

An independent witness: it shares `openbpu.arch.numerics` with the fast simulator and nothing else.
"""

from openbpu.simulator.exact.segment import ExactSegment

__all__ = ["ExactSegment"]
