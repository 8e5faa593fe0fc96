"""`hbdk4.compiler.hbm_tools`."""

from openbpu.compat.hbdk.build import hbm_perf

__all__ = ["hbm_perf"]
