"""The compiled kernels of this process: families are loaded from the cache, or compiled, at first use."""

from __future__ import annotations

import threading
from importlib import import_module
from pathlib import Path
from typing import Any

from openbpu.arch.events import kernel, marks
from openbpu.simulator.fast.jit import cache
from openbpu.simulator.fast.jit.cpu import host, permutes_bytes

_HERE = Path(__file__).parents[1]

_PACKAGE = "openbpu.simulator.fast"
_VECTOR = "vector_"
"""Families of vector kernels: one for each kernel mode. Any other is the folder that has its `kernels.py`."""

_DECLARED = ("declaration.py", "*/arguments.py", "*/plan.py", "plan/*.py", "jit/cpu.py")
_SHARED = ("jit/compile.py", "scratch.py", *_DECLARED)
_SOURCES = {True: ("vectors.py", "vector/*.py", "*/vector*.py"), False: ("language/*.py", "*/kernels.py")}


def sources(family: str) -> tuple[Path, ...]:
    """All that a family is made from, and more: better compiled once too often than once too few."""
    patterns = (*_SHARED, *_SOURCES[family.startswith(_VECTOR)])
    other = (Path(kernel.__file__), Path(marks.__file__)) if family == "events" else ()
    return (*other, *(path for pattern in patterns for path in sorted(_HERE.glob(pattern))))


class KernelLibrary:
    """Addresses of kernels by name. One per process: see `library()`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engine: Any = None
        self._loaded: set[str] = set()

    def is_cached(self, family: str) -> bool:
        """Whether a family needs no compilation."""
        return family in self._loaded or cache.load(cache.object_name(family, sources(family))) is not None

    def require(self, families: tuple[str, ...]) -> None:
        """Load families, compiling what is not in the cache."""
        with self._lock:
            for family in families:
                if family not in self._loaded:
                    self._load(family)

    def address(self, family: str, symbol: str) -> int:
        """Return where a kernel starts."""
        self.require((family,))
        name = f"{family}.{symbol}"
        with self._lock:
            found = int(self._engine.get_function_address(name))
        if not found:
            raise LookupError(
                f"{_PACKAGE}: a kernel must be given for {name}, not left out; write a function {symbol} "
                f"under @kernel in simulator/openbpu/simulator/fast/{family}/kernels.py"
            )
        return found

    def _load(self, family: str) -> None:
        import llvmlite.binding as llvm  # noqa: PLC0415 - loaded when the first kernel is

        name = cache.object_name(family, sources(family))
        code = cache.load(name)
        if code is None:
            code = compile_family(family)
            cache.store(name, code)
        if self._engine is None:
            self._engine = _new_engine()
        self._engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        self._loaded.add(family)


def _new_engine() -> Any:
    import llvmlite.binding as llvm  # noqa: PLC0415

    from openbpu.simulator.fast.jit.compile import target_machine  # noqa: PLC0415

    machine = target_machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


def compile_family(family: str) -> bytes:
    """Return the object code of a family; takes seconds. Its source stands above and is found by name."""
    from openbpu.simulator.fast.jit import compile as compiler  # noqa: PLC0415

    if family.startswith(_VECTOR):
        mode, vectors = family.removeprefix(_VECTOR), import_module(f"{_PACKAGE}.vectors")
        text = vectors.vector_text(family, mode, fused="fma" in host().flags, tables=permutes_bytes())
        return compiler.emit(compiler.vector_module(text))
    import_module(f"{_PACKAGE}.{family}.kernels")
    return compiler.emit(compiler.numba_module(family))


_library = KernelLibrary()


def library() -> KernelLibrary:
    """Return the kernels of this process."""
    return _library
