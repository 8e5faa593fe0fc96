"""Tiles of the first elements along an axis."""

from __future__ import annotations

import numpy as np

from openbpu.arch.operators.ranking import TopK, TopKTile
from openbpu.simulator.exact.core import Core
from openbpu.simulator.exact.rooms import EXECUTE


@EXECUTE.of(TopKTile)
def top_k_tile(core: Core, tile: TopKTile, op: TopK) -> None:
    """Execute a TopKTile: the whole middle axis."""
    a, r, b, k = tile.counts
    y = core.chip.box(tile.y, (a, k, b), tile.y_strides, core.dtype(op.outputs[0]))
    x = core.chip.box(tile.x, (a, r, b), tile.x_strides, core.dtype(op.inputs[0])).read()
    wide = x.astype(np.int64)
    order = np.argsort(-wide if op.largest else wide, axis=1, kind="stable")[:, :k]
    y.write(order if op.indices else np.take_along_axis(x, order, axis=1))
