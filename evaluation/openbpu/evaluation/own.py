"""The user's own code: `module:name`, found from the current folder."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from openbpu.arch.errors import InputError, OpenbpuError, must

_FORM = "MODULE:NAME, a file MODULE.py of the current folder and what is in it"


@dataclass(frozen=True, slots=True)
class Own:
    """Something of the user's. spec: how he wrote it · source: the text of its module, for digests."""

    spec: str
    thing: Any
    modules: tuple[str, ...]
    source: str

    def has(self, name: str) -> bool:
        """Whether it is an object with this method."""
        return callable(getattr(self.thing, name, None))

    def call(self, key: str, method: str, *arguments: Any) -> Any:
        """Return what a method returns, or what the thing itself does where `method` is "".

        What it raises becomes an InputError that names the sample (`key`) and the line.
        """
        called: Callable[..., Any] = getattr(self.thing, method) if method else self.thing
        try:
            return called(*arguments)
        except OpenbpuError:
            raise
        except Exception as error:
            what = f"{self.spec}.{method}" if method else self.spec
            raise InputError(f"{what}: it failed{_of(key)}: {_said(error)}; mend it there") from error


def _of(key: str) -> str:
    return f" for sample '{key}'" if key else ""


def load_own(option: str, spec: str) -> Own:
    """Return what `module:name` names, a class as an object of it; raises InputError."""
    module_name, colon, name = spec.partition(":")
    if not (colon and module_name and name and all(p.isidentifier() for p in module_name.split("."))):
        raise InputError(must(option, "the name", _FORM, f"'{spec}'"))
    before = set(sys.modules)
    module = _imported(option, module_name)
    if not hasattr(module, name):
        public = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        close = difflib.get_close_matches(name, public, n=1)
        fix = f"did you mean '{close[0]}'?" if close else ""
        raise InputError(
            must(option, f"a name in {module_name}", ", ".join(public) or "there", f"'{name}'", fix)
        )
    thing = getattr(module, name)
    if isinstance(thing, type):
        thing = Own(spec, thing, (), "").call("", "")
    new = {module_name, *(set(sys.modules) - before)}
    own = tuple(sorted(n for n in new if _is_of_here(sys.modules[n])))
    return Own(spec, thing, own, "".join(_source(sys.modules[n]) for n in own))


def _imported(option: str, name: str) -> ModuleType:
    here = os.getcwd()  # noqa: PTH109  # a text, as sys.path has them
    if here not in sys.path:
        sys.path.insert(0, here)
        importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise InputError(f"{option}: module {name} cannot be imported: {_said(error)}") from error
        raise InputError(
            must(option, "the module", f"a file in {here}, or installed", f"'{name}'")
        ) from error
    except Exception as error:
        raise InputError(f"{option}: module {name} cannot be imported: {_said(error)}; mend it") from error


def _said(error: Exception) -> str:
    """Return an exception in one line, with the last place of the user's code in it."""
    text = " ".join(str(error).split())
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "openbpu" not in Path(f.filename).parts]
    frames = [f for f in frames if not f.filename.startswith("<frozen")]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"


def _is_of_here(module: ModuleType) -> bool:
    """Whether a module lies in the current folder: workers elsewhere get it by value."""
    file = getattr(module, "__file__", None)
    if file is None or module.__name__.partition(".")[0] == "openbpu":  # workers have their own
        return False
    path = Path(file).resolve()
    return path.is_relative_to(Path.cwd()) and "site-packages" not in path.parts


def _source(module: ModuleType) -> str:
    file = getattr(module, "__file__", None)
    path = Path(file) if file else None
    return path.read_text(encoding="utf-8", errors="replace") if path and path.suffix == ".py" else ""
