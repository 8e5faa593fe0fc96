"""Forged and damaged `.hbm` files: refused with a word, or programs that both modes run alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fuzz.case import EQUAL, NOT_RUN, REFUSED, REFUSED_RUN, TWO_PROGRAMS, Case, FaultError, rng_of
from fuzz.hbm_files import Base, bases
from fuzz.hbm_mutations import MUTATIONS, SHARES
from fuzz.recode import recoded
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import OpenbpuError
from openbpu.arch.hbm import read_hbm
from openbpu.arch.program import BpuSegment, Program
from openbpu.runtime import Session

Array = npt.NDArray[Any]
Outputs = Mapping[str, Any]

_MOST_INPUT = 1 << 22
"""Elements that are made for a case; a forged file that asks for more is read but not run."""


class HbmFiles:
    """Mutants of small files."""

    name = "hbm"
    kinds = tuple(MUTATIONS)
    cpu_seconds = 10.0

    @cached_property
    def _bases(self) -> tuple[Base, ...]:
        return bases()

    def warm_up(self) -> None:
        """Run every file once, so that kernels are compiled and loaded."""
        for base in self._bases:
            case = Case(self.kinds[0], {}, base.data)
            self.run(case)

    def make(self, seed: int, index: int) -> Case:
        """A file and one kind of damage."""
        rng = rng_of(self.name, seed, index)
        (kind,) = rng.choices(self.kinds, SHARES)
        fit = self._bases
        if kind == "subgraph":
            fit = tuple(b for b in fit if any(n.startswith("onnx") for n in b.sections))
        base = rng.choice(fit)
        data, note = MUTATIONS[kind](rng, base)
        return Case(kind, {"case.hbm": data}, data, f"{base.name}: {note}")

    def run(self, case: Case) -> str:
        """Read; run in both modes; compare."""
        try:
            program = read_hbm(case.data)
        except OpenbpuError:
            return REFUSED
        feeds = feeds_of(program)
        if feeds is None:
            return NOT_RUN
        fast, exact = _outcome(program, "fast", feeds), _outcome(program, "exact", feeds)
        if fast is not None and exact is not None and same(fast, exact):
            return EQUAL
        if all(not isinstance(s, BpuSegment) for s in program.segments):
            return _must_agree(fast, exact)
        again = recoded(program)
        if again is None or fast is None:
            return REFUSED_RUN if fast is None or exact is None else TWO_PROGRAMS
        witness = _outcome(again, "exact", feeds)
        if witness is not None and not same(fast, witness):
            raise FaultError(f"fast ≠ exact with code of the operators: {difference(fast, witness)}")
        return REFUSED_RUN if exact is None else TWO_PROGRAMS


def _must_agree(fast: Outputs | None, exact: Outputs | None) -> str:
    if (fast is None) != (exact is None):
        raise FaultError(f"one mode refuses what the other runs (fast: {fast is None})")
    if fast is None or exact is None:
        return REFUSED_RUN
    raise FaultError(f"fast ≠ exact: {difference(fast, exact)}")


def _outcome(program: Program, mode: Any, feeds: Mapping[str, Array]) -> Outputs | None:
    """The outputs; None where the mode says that it cannot."""
    try:
        return Session(program, mode=mode).run(feeds, finite=False).outputs
    except OpenbpuError:
        return None


def feeds_of(program: Program) -> dict[str, Array] | None:
    """Values for every input: small numbers and the ends of each type; None where they are too many."""
    tensors = [program.tensors[i] for i in program.inputs]
    if any(t.dtype is DType.OTHER for t in tensors) or sum(math.prod(t.shape) for t in tensors) > _MOST_INPUT:
        return None
    rng = np.random.default_rng(0)
    return {t.name: _values(rng, t.shape, t.dtype.numpy) for t in tensors}


def _values(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "f":
        return (rng.standard_normal(shape) * 4).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    return np.zeros(shape, dtype)


def same(left: Outputs, right: Outputs) -> bool:
    """Equal to the last bit (NaN is NaN), with equal types and shapes."""
    return left.keys() == right.keys() and all(_alike(left[name], right[name]) for name in left)


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(a) is type(b) and repr(a) == repr(b)


def difference(left: Outputs, right: Outputs) -> str:
    """Where two sets of outputs differ first."""
    for name in left:
        if name not in right or not _alike(left[name], right[name]):
            return f"output {name!r}: {str(left[name])[:200]} and {str(right.get(name))[:200]}"
    return f"outputs {sorted(left)} and {sorted(right)}"
