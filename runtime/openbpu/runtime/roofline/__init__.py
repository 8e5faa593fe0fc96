"""Rooflines: what bounds each layer of a program, and what the one change that helps most would give.

Gains are not estimates by formula: the timing rules are evaluated again with what the change alters, and the
whole segment is timed again, so that work which other work hides gains nothing.
"""

from openbpu.runtime.roofline.analyse import Advice, LayerBound, NetworkChange, Roofline, analyse
from openbpu.runtime.roofline.bounds import Bound
from openbpu.runtime.roofline.cpu import CpuBound
from openbpu.runtime.roofline.layers import layer_members

__all__ = [
    "Advice",
    "Bound",
    "CpuBound",
    "LayerBound",
    "NetworkChange",
    "Roofline",
    "analyse",
    "layer_members",
]
