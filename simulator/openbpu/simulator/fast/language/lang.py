"""The language of the kernels: numba without its annotations, as nothing in a kernel is a Python value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba import types as _types
from numba.extending import intrinsic as _intrinsic

types: Any = _types
intrinsic: Any = _intrinsic
_njit: Any = numba.njit

float32, float64 = types.float32, types.float64
int8, int16, int32, int64 = types.int8, types.int16, types.int32, types.int64

helper = _njit(_nrt=False, error_model="numpy", no_cpython_wrapper=True)
"""For functions that kernels call: compiled with the first kernel that does, inlined where LLVM sees fit."""

Function = TypeVar("Function", bound=Callable[..., Any])

EXPORTS: dict[str, dict[str, tuple[Callable[..., Any], Any]]] = {}
"""Family → name → function and signature; filled when `<family>/kernels.py` is imported."""


def export(family: str, signature: Any, function: Function) -> Function:
    """Make a function part of a family under its own name."""
    EXPORTS.setdefault(family, {})[function.__name__] = (function, signature)
    return function


def compiled_for(signature: Any, function: Any) -> Any:
    """Compile a kernel for one signature, with nothing of Python in it."""
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False, "error_model": "numpy"}
    dispatcher = _njit(signature, **options)(function)
    return dispatcher.overloads[dispatcher.signatures[0]]
