"""Every name of the vendor's packages that scripts are known to import: works, differs, or is refused.

The table of docs/vendor_scripts.md is made of it, what an import of a refused name says, and the tests.
"""

from __future__ import annotations

from openbpu.compat.registry import board, hbdk, plugin, profiler, tools
from openbpu.compat.registry.row import Row, Status

__all__ = ["ROWS", "Row", "Status", "refusal", "refused_in"]

ROWS: tuple[Row, ...] = (*plugin.ROWS, *profiler.ROWS, *hbdk.ROWS, *tools.ROWS, *board.ROWS)


def refusal(module: str, name: str) -> str:
    """Return why `module.name`, or a module that it lies in, is refused; "" where nothing is said of it.

    A name is refused in every module of its package: scripts import one name from several places.
    """
    whole = [*filter(None, module.split(".")), name]
    package = whole[0]
    above = {".".join(whole[: n + 1]) for n in range(len(whole))}
    for row in ROWS:
        same = row.name and row.name == name and row.module.partition(".")[0] == package
        if row.does and (same or (not row.name and row.module in above)):
            return row.reason
    return ""


def refused_in(name: str) -> Row | None:
    """Return the row of a name that is refused in some package, None where there is none."""
    return next((row for row in ROWS if row.does and row.name == name), None)
