"""Marches: one JSON file per chip beside this module, each number with unit, source and confidence."""

from openbpu.arch.march.limits import LIMITS
from openbpu.arch.march.load import (
    build_march,
    find_march,
    get_march,
    load_march,
    march_names,
    march_products,
    no_march,
    with_values,
)
from openbpu.arch.march.march import (
    CONFIDENCES,
    Aae,
    Chip,
    Cpu,
    CpuOp,
    Ddr,
    March,
    Number,
    Tae,
    Trans,
    Vae,
    Vpu,
)

__all__ = [
    "CONFIDENCES",
    "LIMITS",
    "Aae",
    "Chip",
    "Cpu",
    "CpuOp",
    "Ddr",
    "March",
    "Number",
    "Tae",
    "Trans",
    "Vae",
    "Vpu",
    "build_march",
    "find_march",
    "get_march",
    "load_march",
    "march_names",
    "march_products",
    "no_march",
    "with_values",
]
