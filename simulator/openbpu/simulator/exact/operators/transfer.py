"""LOAD and STORE."""

from __future__ import annotations

import numpy as np

from openbpu.arch.isa import (
    Load,
    Store,
)
from openbpu.arch.program import (
    Operator,
)
from openbpu.simulator.exact.core import Core
from openbpu.simulator.exact.rooms import EXECUTE


@EXECUTE.of(Load)
def load(core: Core, instr: Load, _: Operator) -> None:
    """Execute a LOAD."""
    counts = (*instr.counts, instr.row_bytes)
    near = core.chip.box(instr.chip, counts, (*instr.chip_strides, 1), np.uint8)
    memory, address = core.far(instr.ddr)
    near.write(memory.box(address, counts, (*instr.ddr_strides, 1), np.uint8).read())


@EXECUTE.of(Store)
def store(core: Core, instr: Store, _: Operator) -> None:
    """Execute a STORE."""
    counts = (*instr.counts, instr.row_bytes)
    memory, address = core.far(instr.ddr)
    far = memory.box(address, counts, (*instr.ddr_strides, 1), np.uint8)
    far.write(core.chip.box(instr.chip, counts, (*instr.chip_strides, 1), np.uint8).read())
