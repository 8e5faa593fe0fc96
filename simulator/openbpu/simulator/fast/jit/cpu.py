"""Which vector instructions the kernels may use on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache

from openbpu.arch.errors import SimulationError, must

MODES = ("vnni512", "vnni256", "portable")
"""Kernel families, the fastest first. All give the same bits."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """The machine that the kernels are compiled for, as LLVM names it."""

    name: str
    features: str
    flags: frozenset[str]

    def modes(self) -> tuple[str, ...]:
        """Return the kernel families that this CPU can run, the fastest first."""
        wide = {"avx512vnni", "avx512bw", "avx512vl", "avx512dq"} <= self.flags
        return tuple(m for m in MODES if m == "portable" or (wide if m == "vnni512" else self._vnni256()))

    def _vnni256(self) -> bool:
        return "avx2" in self.flags and ("avxvnni" in self.flags or {"avx512vnni", "avx512vl"} <= self.flags)


@lru_cache(maxsize=1)
def host() -> Cpu:
    """Return the CPU of this process."""
    import llvmlite.binding as llvm  # noqa: PLC0415 - `import openbpu` must not pay for LLVM

    features = llvm.get_host_cpu_features()
    return Cpu(llvm.get_host_cpu_name(), features.flatten(), frozenset(k for k, on in features.items() if on))


def permutes_bytes() -> bool:
    """Whether a register of 64 bytes can be looked up in a table of 128 (AVX-512 VBMI)."""
    return "avx512vbmi" in host().flags


def kernel_mode() -> str:
    """Return the kernel family to use: OPENBPU_KERNELS if it is set, else the fastest that runs here."""
    asked = os.environ.get("OPENBPU_KERNELS", "")
    able = host().modes()
    if asked and asked not in able:
        raise SimulationError(must("fast simulator", "OPENBPU_KERNELS", " | ".join(able), asked, "unset it"))
    return asked or able[0]
