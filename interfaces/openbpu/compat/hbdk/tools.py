"""`hbdk4.compiler.hbm_tools`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openbpu.compat.hbdk.build import Path_, hbm_perf, link
from openbpu.compat.hbdk.hbm import Hbm

__all__ = ["hbm_pack", "hbm_perf"]


def hbm_pack(files: Sequence[Hbm | Path_], path: Path_, **ignored: Any) -> Hbm:
    """Write the graphs of several files to one, as `link` does; raises what it raises."""
    del ignored
    return link(files, path)
