"""Operators that came later, each with all that its tests need in one file here, loaded before any test.

What every operator must have in the tests: a slow formula, one tile, random examples, a sample.
"""

from __future__ import annotations

from arch.samples import SAMPLES
from openbpu.arch.definition.loading import load_all
from openbpu.arch.definition.rooms import require_total
from simulator.oracle import RUN
from simulator.random_operators import DRAWN
from simulator.tiles import TILES

load_all(__name__, __path__)
require_total("tests", RUN, TILES, DRAWN, SAMPLES)
