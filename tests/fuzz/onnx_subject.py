"""Damaged ONNX models: refused with a word, or compiled to a program that is written, read and run."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fuzz.case import EQUAL, NOT_RUN, REFUSED, REFUSED_RUN, Case, FaultError, rng_of
from fuzz.hbm_subject import difference, feeds_of, same
from fuzz.onnx_models import models
from fuzz.onnx_mutations import KINDS, SHARES, mutated
from openbpu.arch.errors import HbmError, InternalError, OpenbpuError, SimulationError
from openbpu.arch.hbm import read_hbm, to_bytes
from openbpu.arch.program import Program
from openbpu.compiler import check
from openbpu.compiler import compile as compile_model
from openbpu.runtime import Session

MARCHES = ("bayes-e", "bayes", "nash-e", "nash-m", "nash-p", "bernoulli2")
_MOST_BYTES = 1 << 26
"""Of all tensors of a program: a larger one is compiled, written and read, but not run."""

_LOOPS = (b"Loop", b"Scan")  # may run for as long as they say
_MEMORY = "/dev/shm"
_RANDOM = (b"Random", b"Bernoulli", b"Multinomial", b"Dropout")


@dataclass(frozen=True, slots=True)
class _Job:
    """A model and how to compile it."""

    model: bytes
    march: str
    options: Mapping[str, Any]
    only_check: bool


class OnnxModels:
    """Mutants of small models."""

    name = "onnx"
    kinds = KINDS
    cpu_seconds = 20.0

    @cached_property
    def _bases(self) -> tuple[tuple[str, bytes], ...]:
        return tuple(models().items())

    @cached_property
    def _folder(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="openbpu-fuzz-", dir=_MEMORY if Path(_MEMORY).is_dir() else None))

    def warm_up(self) -> None:
        """Compile and run every model once."""
        for _, data in self._bases:
            self._run(_Job(data, "nash-e", {}, only_check=False))

    def make(self, seed: int, index: int) -> Case:
        """A model, a kind of damage, and options of the compiler."""
        rng = rng_of(self.name, seed, index)
        (kind,) = rng.choices(self.kinds, SHARES)
        name, data = rng.choice(self._bases)
        changed, note = mutated(rng, data, kind)
        job = _Job(changed, rng.choice(MARCHES), _options(rng), rng.randrange(5) == 0)
        how = f"{job.march} {dict(job.options)}{' check' * job.only_check}"
        return Case(kind, {"case.onnx": changed}, job, f"{name}: {note} ({how})"[:400])

    def run(self, case: Case) -> str:
        """Compile; write; read; run in both modes; compare."""
        return self._run(case.data)

    def _run(self, job: _Job) -> str:
        path = self._folder / "case.onnx"
        path.write_bytes(job.model)
        try:
            if job.only_check:
                check(path, march=job.march)
                return EQUAL
            program = compile_model(path, march=job.march, **job.options)
        except InternalError as error:
            raise error.__cause__ or error  # noqa: B904 - the net of the compiler caught what is looked for
        except OpenbpuError:
            return REFUSED
        return _runs(written(program), job.model)


def _options(rng: random.Random) -> dict[str, Any]:
    ends = rng.choice(((), (), (), ("quantize",), ("quantize", "dequantize"), ("quantize", "transpose")))
    return {"opt": rng.choice((0, 0, 0, 0, 1, 2)), "remove_io": ends}


def written(program: Program) -> Program:
    """The program as a file says it."""
    try:
        data = to_bytes(program)
        again = read_hbm(data)
    except HbmError as error:
        raise FaultError(f"compiled, but its file is refused: {error}") from error
    if again != program or to_bytes(again) != data:
        raise FaultError("what was read is not what was written")
    return again


def _runs(program: Program, model: bytes) -> str:
    feeds = feeds_of(program)
    if feeds is None or _bytes_of(program) > _MOST_BYTES or any(word in model for word in _LOOPS):
        return NOT_RUN
    fast, exact = (_outcome(program, mode, feeds) for mode in ("fast", "exact"))
    if isinstance(fast, str) or isinstance(exact, str):
        if type(fast) is not type(exact):
            raise FaultError(f"one mode refuses what the other runs: {fast} / {exact}"[:500])
        return REFUSED_RUN
    if not same(fast, exact) and not any(word in model for word in _RANDOM):
        raise FaultError(f"fast ≠ exact: {difference(fast, exact)}")
    return EQUAL


def _bytes_of(program: Program) -> int:
    return sum(t.nbytes for t in program.tensors if t.dtype.value != "other")


def _outcome(program: Program, mode: Any, feeds: Mapping[str, Any]) -> Mapping[str, Any] | str:
    """The outputs, or the words of a refusal; what the compiler made must not be refused by the simulator."""
    try:
        return Session(program, mode=mode).run(feeds, finite=False).outputs
    except SimulationError as error:
        raise FaultError(f"the compiled program does what hardware cannot: {error}") from error
    except OpenbpuError as error:
        return str(error)
