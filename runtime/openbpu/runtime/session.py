"""A session: a program that is ready to run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import HbmError, InputError, MarchError, SimulationError, must, printable
from openbpu.arch.hbm import Source, read_hbm
from openbpu.arch.march import March, get_march, march_names
from openbpu.arch.memory import check_fits, does_not_fit
from openbpu.arch.program import BpuSegment, CpuSegment, Placement, Program, Segment, Space, Tensor
from openbpu.runtime.latency import Latency, latency_of
from openbpu.runtime.tensors import TensorInfo, check_inputs, check_no_nan, shown_shape, tensor_info

if TYPE_CHECKING:
    from openbpu.runtime.roofline import Roofline

Mode = Literal["fast", "exact"]


class _Runner(Protocol):
    """What runs one segment: arrays by tensor id in, arrays by tensor id out, from any thread."""

    def run(self, tensors: dict[int, Array], /) -> Mapping[int, Array]: ...


@dataclass(frozen=True)
class Result:
    """What one run computed, what it would cost on the chip, and where its nodes ran.

    `outputs` are arrays of their own by output name. The latency does not depend on the values: it is
    simulated when it is first asked for, once per session.
    """

    outputs: dict[str, Array]
    placement: tuple[Placement, ...]
    _latency: Callable[[], Latency]

    def __repr__(self) -> str:
        made = ", ".join(f"'{printable(name)}': {_described(y)}" for name, y in self.outputs.items())
        return f"Result(outputs={{{made}}}, nodes: {len(self.placement)})"

    @property
    def latency(self) -> Latency:
        """BPU segments in simulated cycles, CPU segments estimated."""
        return self._latency()


def _signature(t: Tensor) -> str:
    return f"{printable(t.name)}: {t.dtype.value} {shown_shape(t.shape)}"


def _described(value: Any) -> str:
    """Return the type and shape of an array, "float32 1×10"; the type of anything else."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype.name} {shown_shape(value.shape)}"
    return type(value).__name__


def _own(value: Any) -> Any:
    """Return an array of its own; a sequence or map from ONNX Runtime already is."""
    return np.array(value) if isinstance(value, np.ndarray | np.generic) else value


def _as(t: Tensor, found: Array) -> Array:
    """Return the bytes of another tensor as the view `t` has them."""
    return np.ascontiguousarray(found).reshape(-1).view(t.dtype.numpy).reshape(t.shape)


class Session:
    """A compiled program: `Session("model.hbm").run({"input": array}).outputs["output"]`.

    source: path or bytes of a `.hbm`, or a Program · mode: "fast" runs whole layers, "exact" every tile
    instruction; the same bits · threads: of the kernels and of ONNX Runtime; the same bits for any number ·
    march: refuse a file made for another one; also the way to give a march file of your own.

    Raises HbmError for a file that cannot be read or is for another march, InputError for a wrong argument.
    `run` may be called from several threads at once.
    """

    def __init__(
        self,
        source: Source | Program,
        *,
        mode: Mode = "fast",
        threads: int = 1,
        march: str | None = None,
    ) -> None:
        if mode not in get_args(Mode):
            raise InputError(must("session", "mode", "'fast' or 'exact'", repr(mode)))
        if type(threads) is not int or threads < 1:
            raise InputError(must("session", "threads", "an integer of at least 1", repr(threads)))
        self.program = source if isinstance(source, Program) else read_hbm(source)
        self.mode: Mode = mode
        self.threads = threads
        self._march_name = self.program.march if march is None else march
        self._check_march()
        self._lock = threading.Lock()
        self._runners: tuple[_Runner, ...] | None = None
        self._latency: Latency | None = None
        self._roofline: Roofline | None = None

    def __repr__(self) -> str:
        p = self.program
        ends = (", ".join(_signature(p.tensors[i]) for i in ids) for ids in (p.inputs, p.outputs))
        how = f"mode='{self.mode}', threads={self.threads}"
        return f"Session({p.name!r}, march={p.march!r}, {how}, {' → '.join(ends)})"

    def _check_march(self) -> None:
        given, built = self._march_name, self.program.march
        if given != built and get_march(given).name != built:
            fix = f"binaries are not portable: compile the model for {given}, or run it as {built}"
            raise HbmError(
                must(f"program '{self.program.name}'", "the march", f"'{given}'", f"'{built}'", fix)
            )

    @cached_property
    def march(self) -> March:
        """The march the program was compiled for; raises MarchError where its file is not at hand."""
        name = self._march_name
        if name == self.program.march and name not in march_names():
            fix = "give the march file it was compiled with as `march` (--march FILE.json)"
            where = f"program '{self.program.name}'"
            raise MarchError(must(where, "the march", f"one of {', '.join(march_names())}", f"'{name}'", fix))
        return get_march(name)

    @cached_property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The inputs in the order of the user's model."""
        return self._infos(self.program.inputs)

    @cached_property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The outputs in the order of the user's model."""
        return self._infos(self.program.outputs)

    def _infos(self, ids: tuple[int, ...]) -> tuple[TensorInfo, ...]:
        return tuple(tensor_info(self.program.tensors[i], self.march.alignment) for i in ids)

    @property
    def placement(self) -> tuple[Placement, ...]:
        """Where every node of the user's model runs, and why."""
        return self.program.placement

    @property
    def latency(self) -> Latency:
        """One run of the program: simulated on first use, then remembered."""
        with self._lock:
            if self._latency is None:
                self._latency = latency_of(self.program, self.march)
            return self._latency

    @property
    def roofline(self) -> Roofline:
        """What bounds every layer and what would help most: analysed on first use, then remembered."""
        with self._lock:
            if self._roofline is None:
                from openbpu.runtime.roofline import analyse  # noqa: PLC0415  # the simulator, as in latency

                self._roofline = analyse(self.program, self.march)
            return self._roofline

    def run(self, inputs: Mapping[str, Any], *, finite: bool = True) -> Result:
        """Run once and return the outputs; raises InputError for inputs that do not fit, nothing having run.

        `finite=False` lets NaN and infinity through to CPU segments; NaN never reaches the BPU.
        """
        values = check_inputs(self.program, inputs, finite=finite)
        try:
            outputs = self._outputs(values)
        except MemoryError as error:
            raise self._too_large() from error
        return Result(outputs, self.program.placement, lambda: self.latency)

    def _outputs(self, values: dict[int, Array]) -> dict[str, Array]:
        """Run all segments on the inputs by tensor id; what nothing reads any more is forgotten."""
        for segment, runner, dead in zip(self.program.segments, self._ready(), self._dead, strict=True):
            feeds = {i: self._value(values, i) for i in segment.inputs}
            if isinstance(segment, BpuSegment):
                self._check_feeds(segment, feeds)
            values.update(runner.run(feeds))
            for i in dead:
                values.pop(i, None)
        tensors = self.program.tensors
        return {tensors[i].name: _own(self._value(values, i)) for i in self.program.outputs}

    def _check_memory(self) -> None:
        """Refuse, in both modes alike, a program that claims more memory than there is."""
        program = self.program
        # Twice: the exact mode also keeps which bytes were written.
        check_fits(self._where, "DDR", 2 * (len(program.constants) + program.ddr_bytes))
        for segment in program.segments:
            if isinstance(segment, BpuSegment):
                chip = segment.chip_bytes * max(1, len(segment.code)) + segment.l2m_bytes
                check_fits(self._where, f"on-chip memory of segment '{segment.name}'", chip)

    def _too_large(self) -> SimulationError:
        return does_not_fit(self._where, "DDR", len(self.program.constants) + self.program.ddr_bytes)

    @property
    def _where(self) -> str:
        return f"program '{self.program.name}'"

    def check(self, inputs: Mapping[str, Any], *, finite: bool = True) -> None:
        """Raise the InputError that `run` would raise for these inputs, without running anything."""
        check_inputs(self.program, inputs, finite=finite)

    def _value(self, values: Mapping[int, Array], i: int) -> Array:
        """Return a tensor that was computed or given, is a constant, or is a view of one of those."""
        tensors, at = self.program.tensors, i
        while at not in values and tensors[at].space is Space.VIEW:
            at = tensors[at].address
        found = values[at] if at in values else self.program.constant(at)
        return found if at == i else _as(tensors[i], found)

    def _check_feeds(self, segment: BpuSegment, feeds: Mapping[int, Array]) -> None:
        for i, x in feeds.items():
            check_no_nan(f"BPU segment '{segment.name}', tensor '{self.program.tensors[i].name}'", x)

    @cached_property
    def _dead(self) -> tuple[tuple[int, ...], ...]:
        """After each segment, the tensors that nothing reads any more."""
        root = self.program.root
        last = {root(i): k for k, s in enumerate(self.program.segments) for i in (*s.inputs, *s.outputs)}
        kept = {root(i) for i in self.program.outputs}
        held = {*self.program.inputs, *(i for s in self.program.segments for i in s.outputs)}
        return tuple(
            tuple(i for i in held if root(i) not in kept and last.get(root(i)) == k)
            for k in range(len(self.program.segments))
        )

    def _ready(self) -> tuple[_Runner, ...]:
        """Return a runner per segment, made on the first run (`info` and `perf` never need them)."""
        with self._lock:
            if self._runners is None:
                self._check_memory()
                self._runners = tuple(self._runner(s) for s in self.program.segments)
            return self._runners

    def _runner(self, segment: Segment) -> _Runner:
        # Imported here: numba and onnxruntime cost more than everything else a session does.
        if isinstance(segment, CpuSegment):
            from openbpu.runtime.cpu import CpuRunner  # noqa: PLC0415

            return CpuRunner(self.program, segment, self.threads)
        if self.mode == "exact":
            from openbpu.simulator.exact import ExactSegment  # noqa: PLC0415

            return ExactSegment(self.program, segment)
        from openbpu.simulator.fast import FastSegment  # noqa: PLC0415

        return FastSegment(self.program, segment, self.threads)
