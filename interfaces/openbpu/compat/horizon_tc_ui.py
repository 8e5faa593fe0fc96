"""`horizon_tc_ui`: its runtime, without the import machinery."""

from openbpu.compat.hb_runtime import HB_ONNXRuntime, HBRuntime
from openbpu.compat.tool_utils import get_march_list

__all__ = ["HBRuntime", "HB_ONNXRuntime", "get_march_list"]
