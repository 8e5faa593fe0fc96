"""`hbdk4.compiler` on openbpu: a module is a QDQ ONNX model, compiled by openbpu.compiler and simulated."""

from openbpu.compat.hbdk.build import (
    compile,  # noqa: A004 - the vendor's name
    convert,
    hbm_perf,
    link,
    load,
    save,
    statistics,
    visualize,
)
from openbpu.compat.hbdk.cache import CacheMode
from openbpu.compat.hbdk.hbm import Hbm, Hbo
from openbpu.compat.hbdk.module import Function, Module
from openbpu.compat.hbdk.variable import Variable
from openbpu.compat.march import March, MarchSeries

__all__ = [
    "CacheMode",
    "Function",
    "Hbm",
    "Hbo",
    "March",
    "MarchSeries",
    "Module",
    "Variable",
    "compile",
    "convert",
    "hbm_perf",
    "link",
    "load",
    "save",
    "statistics",
    "visualize",
]
