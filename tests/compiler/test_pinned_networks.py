"""Networks drawn by number, compiled for every march in every way: not a byte or a cycle is another one.

A rewriting that is to change nothing changes nothing here. Where a change is meant, the parts of the program
that are others say where it came from (docs/testing.md, "Golden files").
"""

from __future__ import annotations

from typing import Any

import pytest

from compiler.pinned import figures, results
from conftest import Golden
from openbpu.arch.errors import CompileError
from openbpu.arch.march import get_march, march_names, with_values
from openbpu.compiler import compile as build
from witness.drawn import drawn_model

MARCHES = [name for name in march_names() if get_march(name).target]
ROOMS = (0, 0, 1 << 16, 1 << 14)
SEEDS = range(24)
EXACT_ON_CPU = {
    "QuantizeLinear",
    "DequantizeLinear",
    "Hardmax",
    "Transpose",
    "Reshape",
    "Max",
    "Min",
    "Concat",
}
"""What ONNX Runtime computes alike on every processor."""


def options(seed: int) -> dict[str, Any]:
    """March, memory and options by number, each of them with each of the others sooner or later."""
    march = get_march(MARCHES[seed % len(MARCHES)])
    room = ROOMS[seed // 2 % len(ROOMS)]
    return {
        "march": with_values(march, {"chip.chip_bytes": room}) if room else march,
        "opt": (2, 2, 1, 0)[seed % 4],
        "balance": (100, 0, 60)[seed % 3],
        "core_num": 1 + seed // 3 % march.cores,
        "max_l2m_size": (0, 2048, march.chip.shared_bytes)[seed // 5 % 3] if march.chip.shared_bytes else 0,
        "remove_io": ((), ("quantize",), ("dequantize",), ("quantize", "dequantize", "transpose"))[
            seed // 7 % 4
        ],
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_a_drawn_network_compiles_to_what_it_did(seed: int, golden: Golden) -> None:
    model, inputs = drawn_model(seed)
    chosen = options(seed)
    try:
        program = build(model, **chosen)
    except CompileError as error:
        golden("pinned_networks", {"error": str(error)}, entry=f"{seed:02}")
        return
    made = figures(program, chosen["march"])
    on_cpu = {row.op for row in program.placement if row.on == "CPU"}
    if not chosen["remove_io"] and on_cpu <= EXACT_ON_CPU:
        made["results"] = results(program, inputs)
    golden("pinned_networks", made, entry=f"{seed:02}")
