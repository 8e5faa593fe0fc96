"""The compiled kernels of this process:

families are loaded from the cache, or compiled, when first asked for.
"""

from __future__ import annotations

import threading
from importlib import import_module
from pathlib import Path
from typing import Any

from openbpu.arch.events import kernel as events
from openbpu.simulator.fast.jit import cache
from openbpu.simulator.fast.jit.cpu import host, permutes_bytes

_HERE = Path(__file__).parents[1]

KERNELS = {
    "drive": ("drive", "drive_alone"),
    "conv": ("gemm", "gemm_wide", "widen_words"),
    "depthwise": ("depthwise", "depthwise_tiled", "depthwise_packed"),
    "rare": ("conv_any", "pack_b", "matmul_any"),
    "elementwise": ("binary", "binary_packed", "lut_packed", "rescale", "lut", "quantize", "dequantize"),
    "moves": ("move", "interleave", "gather", "fill"),
    "pool": ("pool", "max_pool_bytes", "reduce", "resize"),
    "rows": ("softmax", "layernorm"),
    "events": ("events",),
}
"""Family, which is a module under `kernels`, to what it exports:

named here so that finding a kernel needs no numba.
"""

FAMILY_OF = {kernel: family for family, kernels in KERNELS.items() for kernel in kernels}


def family_of(symbol: str, mode: str) -> str:
    """Return the family that exports a kernel; there is one of vector kernels for each kernel mode."""
    return FAMILY_OF.get(symbol, f"vector_{mode}")


def _sources(family: str) -> tuple[Path, ...]:
    """All that a family is made from, and more: better compiled once too often than once too few."""
    folder = "vector" if family.startswith("vector_") else "kernels"
    shared = (Path(events.__file__),) if family == "events" else ()
    return (_HERE / "jit" / "compile.py", *shared, *sorted((_HERE / folder).glob("*.py")))


class KernelLibrary:
    """Addresses of kernels by name. One per process: see `library()`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engine: Any = None
        self._loaded: set[str] = set()

    def is_cached(self, family: str) -> bool:
        """Whether a family needs no compilation."""
        return family in self._loaded or cache.load(cache.object_name(family, _sources(family))) is not None

    def require(self, families: tuple[str, ...]) -> None:
        """Load families, compiling what is not in the cache."""
        with self._lock:
            for family in families:
                if family not in self._loaded:
                    self._load(family)

    def address(self, symbol: str, mode: str) -> int:
        """Return where a kernel starts."""
        family = family_of(symbol, mode)
        self.require((family,))
        name = f"{family}.{symbol}"
        with self._lock:
            found = int(self._engine.get_function_address(name))
        if not found:
            raise LookupError(f"no kernel {name}")
        return found

    def _load(self, family: str) -> None:
        import llvmlite.binding as llvm  # noqa: PLC0415 - loaded when the first kernel is

        name = cache.object_name(family, _sources(family))
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
    """Return the object code of a family; takes seconds."""
    from openbpu.simulator.fast.jit import compile as compiler  # noqa: PLC0415

    if family.startswith("vector_"):
        from openbpu.simulator.fast.vector.module import vector_text  # noqa: PLC0415

        text = vector_text(
            family, family.removeprefix("vector_"), fused="fma" in host().flags, tables=permutes_bytes()
        )
        return compiler.emit(compiler.vector_module(text))
    table = import_module(f"openbpu.simulator.fast.kernels.{family}").KERNELS
    return compiler.emit(compiler.numba_module({f"{family}.{k}": v for k, v in table.items()}))


_library = KernelLibrary()


def library() -> KernelLibrary:
    """Return the kernels of this process."""
    return _library
