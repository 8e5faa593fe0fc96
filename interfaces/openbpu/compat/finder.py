"""Import machinery: the vendor's modules exist, and a name in one is looked up in openbpu when it is used."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from importlib.metadata import version
from types import ModuleType
from typing import Any

from openbpu.compat.names import MODULES, REFUSED, STAR, answer, target_of
from openbpu.compat.torch_import import watch


class VendorModule(ModuleType):
    """A module by a vendor's name: attributes come from the openbpu modules that `names.MODULES` lists.

    It is a package to Python, so that `from x import y` of a missing `y` asks the finder, which explains.
    """

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":  # what `from module import *` brings
            own = {n for source in MODULES[self.__name__] for n in _public(source)}
            wanted = STAR.get(self.__name__)
            brought = {n for n in own if wanted is None or wanted.fullmatch(n)}
            return sorted(brought or _children(self.__name__))
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        child = f"{self.__name__}.{name}"
        if child in MODULES and (name not in _DOUBLES or target_of(self.__name__, name) is None):
            return importlib.import_module(child)
        target = target_of(self.__name__, name)
        if target is None:
            raise AttributeError(answer(self.__name__, name))
        setattr(self, name, target)
        return target

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What a module is called for whose name a function has as well: `quantization.prepare`."""
        name = self.__name__.rpartition(".")[2]
        if name not in _DOUBLES:
            raise TypeError(f"'{self.__name__}' is a module, no function")
        return getattr(self, name)(*args, **kwargs)

    def __dir__(self) -> list[str]:
        offered = {n for source in MODULES[self.__name__] for n in _public(source)}
        return sorted({*super().__dir__(), *_children(self.__name__), *offered})


_DOUBLES = frozenset({"prepare", "convert", "fuse_modules"})
"""Names that a function and a module in one package have."""


def _children(module: str) -> set[str]:
    """Return the names of the modules directly inside one."""
    prefix = f"{module}."
    return {m[len(prefix) :] for m in MODULES if m.startswith(prefix) and "." not in m[len(prefix) :]}


def _public(source: str) -> list[str]:
    try:
        module = importlib.import_module(source)
    except ImportError:
        return []
    listed = getattr(module, "__all__", None)
    if listed is None:
        listed = [n for n in dir(module) if getattr(getattr(module, n), "__module__", "") == source]
    return [n for n in listed if not n.startswith("_")]


class VendorFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the vendor's modules; stands last in `sys.meta_path`, so an installed original comes first."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return a spec for a module of ours; raises ImportError with the reason for one that we lack."""
        del path, target
        if fullname in MODULES:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        parent, _, name = fullname.rpartition(".")
        ours = isinstance(sys.modules.get(parent), VendorModule)
        if ours or fullname in REFUSED:
            raise ImportError(answer(parent, name), name=fullname)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Make the empty module."""
        return VendorModule(spec.name, f"openbpu under the name of {spec.name}.")

    def exec_module(self, module: ModuleType) -> None:
        """Nothing runs: names are resolved when they are used. The version is openbpu's."""
        module.__path__ = []
        module.__dict__["__version__"] = version("openbpu")


def install() -> None:
    """Make the vendor's names importable in this process, unless the originals are; may be called again."""
    if not any(isinstance(found, VendorFinder) for found in sys.meta_path):
        sys.meta_path.append(VendorFinder())
    watch()
