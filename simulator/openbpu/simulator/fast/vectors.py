"""All vector kernels of one mode as the text of one LLVM module."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from openbpu.simulator.fast.conv.vector import add_tiles
from openbpu.simulator.fast.depthwise.vector16 import add_depthwise16
from openbpu.simulator.fast.depthwise.vector64 import add_depthwise
from openbpu.simulator.fast.elementwise.vector64 import add_bytes64
from openbpu.simulator.fast.layer.vector import add_epilogues
from openbpu.simulator.fast.layer.vector64 import add_epilogues64
from openbpu.simulator.fast.move.vector64 import add_interleave


def vector_text(family: str, mode: str, *, fused: bool, tables: bool) -> str:
    """Return the IR; symbols are named `family.kernel`."""
    module = ir.Module(family)
    add_tiles(module, mode)
    add_epilogues(module, fused=fused)
    add_depthwise16(module, mode)
    if mode == "vnni512":
        add_epilogues64(module, tables=tables)
        add_depthwise(module, tables=tables)
        add_bytes64(module, tables=tables)
        add_interleave(module)
    for function in _defined(module):
        function.name = f"{family}.{function.name}"
    return str(module)


def _defined(module: Any) -> list[Any]:
    return [f for f in module.functions if not f.is_declaration]
