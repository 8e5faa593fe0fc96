"""What is taken where nothing is given: every default of a public function, class or field, as it was.

One that comes or goes is no change of those that stay: `--update-golden` takes it in.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from conftest import Golden

REPO = Path(__file__).parents[1]
ROOTS = ("arch", "compiler", "simulator", "quantization", "runtime", "evaluation", "interfaces")
APART = ("openbpu.quantization.torch", "openbpu.compat", "openbpu.simulator.fast.vector", "__main__")
"""Modules that want torch, the names of others, or LLVM."""


def modules() -> Iterator[ModuleType]:
    for root in ROOTS:
        for path in sorted((REPO / root).rglob("*.py")):
            name = ".".join(path.relative_to(REPO / root).with_suffix("").parts).removesuffix(".__init__")
            if not any(part in name for part in APART):
                yield importlib.import_module(name)


def defaults(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Defaults by where they stand, and the numbers that a module gives away by name."""
    assigned = {
        target.id
        for statement in ast.parse(inspect.getsource(module)).body
        for target in getattr(statement, "targets", ())
        if isinstance(target, ast.Name)
    }
    for name, value in vars(module).items():
        if name.startswith("_"):
            continue
        if name in assigned and isinstance(value, (int, float)):
            yield name, value
        if getattr(value, "__module__", "") != module.__name__:
            continue
        if inspect.isclass(value):
            yield from ((f"{name}.{k}", v) for k, v in _of_class(value))
        elif inspect.isfunction(inspect.unwrap(value) if callable(value) else value):
            yield from ((f"{name}.{k}", v) for k, v in _of_function(value))


def _of_class(made: type) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(made) if dataclasses.is_dataclass(made) else ():
        if field.default is not dataclasses.MISSING:
            yield field.name, field.default
    for name, value in vars(made).items():
        if inspect.isfunction(value) and not name.startswith("__"):
            yield from ((f"{name}.{k}", v) for k, v in _of_function(value))


def _of_function(made: Any) -> Iterator[tuple[str, Any]]:
    for name, parameter in inspect.signature(inspect.unwrap(made)).parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            yield name, parameter.default


def _shown(value: Any) -> str:
    if isinstance(value, (set, frozenset)):
        value = sorted(value)
    return repr(value) if " at 0x" not in repr(value) else type(value).__name__


def test_what_is_taken_where_nothing_is_given_is_what_it_was(golden: Golden) -> None:
    made = {f"{m.__name__}.{where}": _shown(v) for m in modules() for where, v in defaults(m)}
    golden("defaults", made, growing=True)
