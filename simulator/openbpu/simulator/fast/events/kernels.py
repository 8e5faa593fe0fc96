"""The event engine of `arch.events`, as machine code that loads without numba: its tables are arrays here."""

from __future__ import annotations

from types import FunctionType

from openbpu.arch.events import kernel, marks
from openbpu.simulator.fast.language.lang import export, helper, types

_TABLES = 17

_CALLED = (marks.last_early, marks.note, marks.delayed, marks.unnoticed)
_NAMES = vars(kernel) | {function.__name__: helper(function) for function in _CALLED}
_RUN = FunctionType(kernel.run.__code__, _NAMES, kernel.run.__name__)

export("events", types.int64(*[types.int64[::1]] * _TABLES), _RUN)
