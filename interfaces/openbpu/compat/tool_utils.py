"""`horizon_tc_ui.utils.tool_utils`."""

from __future__ import annotations

from openbpu.arch.march import get_march, march_names

__all__ = ["get_march_list"]


def get_march_list() -> list[str]:
    """Return the marches that can be compiled for."""
    return [name for name in march_names() if get_march(name).target]
