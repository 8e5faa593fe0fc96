"""Marches as tables: every number with its unit, its source and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from openbpu.arch.march import LIMITS, March
from openbpu.report.text import add_row, in_bytes, table

if TYPE_CHECKING:
    from rich.table import Table

_GHZ = 1e9


def marches_table(marches: Sequence[March]) -> Table:
    """Return one row per march."""
    made = table(
        "March", "Product", "Clock", "Cores", "TOPS", "On-chip", "DDR", "Compiles", numbers=("Cores", "TOPS")
    )
    for m in marches:
        ddr = f"{m.ddr.bytes_per_second / _GHZ:.1f} GB/s"
        clock, chip = f"{m.clock_hz / _GHZ:.2f} GHz", in_bytes(m.chip_bytes)
        add_row(
            made,
            m.name,
            m.product,
            clock,
            m.cores,
            m.chip.tops,
            chip,
            ddr,
            "yes" if m.target else f"no: {m.reason}",
        )
    return made


def march_tables(m: March) -> list[Table]:
    """Return what is known of one march: numbers, limits, operators that stay on the CPU."""
    numbers = table(
        "Number",
        "Value",
        "Unit",
        "Confidence",
        "Source",
        title=f"{m.name}: {m.product}",
        sentences=("Source",),
    )
    limits = table(
        "Limit", "Value", "Of", "Confidence", "Source", title="Operator limits", sentences=("Of", "Source")
    )
    for key, n in m.numbers.items():
        short = key.removeprefix("limits.")
        if short in LIMITS:
            add_row(limits, short, _value(n.value), LIMITS[short], n.confidence, n.source)
        else:
            add_row(numbers, key, _value(n.value), n.unit, n.confidence, n.source)
    on_cpu = table(
        "Operator", "On the CPU", "Confidence", "Source", title="Operators on the CPU", sentences=("Source",)
    )
    for op, why in m.cpu_ops.items():
        when = "no unit for it" if why.when == "always" else "unless asked onto the BPU"
        add_row(on_cpu, op, when, why.confidence, why.source)
    return [numbers, limits, on_cpu]


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def march_json(m: March) -> dict[str, Any]:
    """Return one march with every number's value, unit, source and confidence."""
    return {
        "name": m.name,
        "product": m.product,
        "target": m.target,
        "reason": m.reason,
        "numbers": {
            key: {"value": n.value, "unit": n.unit, "source": n.source, "confidence": n.confidence}
            for key, n in m.numbers.items()
        },
        "cpu_ops": {
            op: {"when": why.when, "source": why.source, "confidence": why.confidence}
            for op, why in m.cpu_ops.items()
        },
    }
