"""The fast mode: whole-layer kernels over the operator table, bit-identical to `arch.numerics`.

`FastSegment` runs a BPU segment. Kernels are compiled on the first use of their family and kept in
`kernel_cache_dir()`; `kernel_cache_refusals` says which better folders cannot be used, `kernels_are_cached`
whether a run would have to compile, `warm_up` compiles now.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openbpu.arch.program import Program
    from openbpu.simulator.fast.run.segment import FastSegment

__all__ = ["FastSegment", "kernel_cache_dir", "kernel_cache_refusals", "kernels_are_cached", "warm_up"]


def __getattr__(name: str) -> object:
    if name == "FastSegment":
        from openbpu.simulator.fast.run.segment import FastSegment  # noqa: PLC0415 - loads ctypes and LLVM on first use

        return FastSegment
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def kernel_cache_dir() -> Path:
    """Return the folder that keeps the compiled kernels."""
    from openbpu.simulator.fast.jit.cache import kernel_cache_dir as where  # noqa: PLC0415

    return where()


def kernel_cache_refusals() -> dict[Path, str]:
    """Return the folders that should keep the compiled kernels and cannot, with the reason for each.

    Where `kernel_cache_dir()` is among them nothing is kept.
    """
    from openbpu.simulator.fast.jit.cache import refusals  # noqa: PLC0415

    return refusals()


def kernels_are_cached(program: Program | None = None) -> bool:
    """Whether `program` (None: whatever program) runs without compiling kernels first; costs milliseconds."""
    from openbpu.arch.program import BpuSegment  # noqa: PLC0415
    from openbpu.simulator.fast.jit.cpu import kernel_mode  # noqa: PLC0415
    from openbpu.simulator.fast.jit.library import library  # noqa: PLC0415
    from openbpu.simulator.fast.operators import PLANS, families_of  # noqa: PLC0415

    kinds = set(PLANS)
    if program is not None:
        segments = [s for s in program.segments if isinstance(s, BpuSegment)]
        kinds = {type(op) for s in segments for op in s.operators}
    return all(library().is_cached(family) for family in families_of(kinds, kernel_mode()))


def warm_up(program: Program) -> None:
    """Compile or load every kernel that `program` needs."""
    from openbpu.arch.program import BpuSegment  # noqa: PLC0415
    from openbpu.simulator.fast.run.segment import FastSegment  # noqa: PLC0415

    for segment in program.segments:
        if isinstance(segment, BpuSegment):
            FastSegment(program, segment)
