"""Mixed precision search: which nodes in int16, or in float on the CPU, are worth their microseconds.

    found = search("net.onnx", calibration, goal=Goal(budget=0.01), march="nash-m")
    found.front          every point a real quantization, evaluated and compiled
    found.config         the chosen `quant_config`

See docs/mixed_precision.md.
"""

from openbpu.evaluation.search.api import TRIALS, search
from openbpu.evaluation.search.result import Gain, Goal, Point, Search
from openbpu.evaluation.search.setup import Recipe, Setup

__all__ = ["TRIALS", "Gain", "Goal", "Point", "Recipe", "Search", "Setup", "search"]
