"""`Hbm`: a compiled file, its graphs, what they cost, and running them in the simulator."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import HbmError, must
from openbpu.arch.hbm import read_package
from openbpu.arch.program import BpuSegment, Program, Space
from openbpu.compat.hbdk.variable import TensorType, Variable
from openbpu.runtime import Session, TensorInfo
from openbpu.runtime.latency import SegmentLatency

DESC = "desc"
"""The option of a program that its description is kept in."""


@dataclass(frozen=True)
class MemSpace:
    """Memory that a node needs: `kind` is input, output, static (constants), dynamic (DDR) or chip."""

    name: str
    kind: str
    size: int


@dataclass(frozen=True)
class Node:
    """A segment of the program on its `device`, "BPU" (latency simulated) or "CPU" (latency estimated)."""

    name: str
    device: str
    estimated_latency_micros: float
    memspaces: tuple[MemSpace, ...]


class Graph:
    """The graph of a `.hbm`: inputs, outputs, nodes; `feed` runs it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def name(self) -> str:
        """Name of the graph."""
        return self._session.program.name

    @property
    def num_cores(self) -> int:
        """How many BPU cores share a run."""
        return max(self._session.program.cores, 1)

    @property
    def desc(self) -> str:
        """The description that `link` was given."""
        return dict(self._session.program.options).get(DESC, "")

    @property
    def flatten_inputs(self) -> tuple[Variable, ...]:
        """The inputs, in the order of the user's model."""
        return tuple(_variable(t) for t in self._session.inputs)

    @property
    def flatten_outputs(self) -> tuple[Variable, ...]:
        """The outputs, in the order of the user's model."""
        return tuple(_variable(t) for t in self._session.outputs)

    inputs = flatten_inputs
    outputs = flatten_outputs

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The segments in the order they run, with what each costs."""
        program = self._session.program
        costs = self._session.latency.segments
        return tuple(_node(program, i, cost) for i, cost in enumerate(costs))

    def feed(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Run once in the simulator: arrays (or CPU tensors) by input name in, arrays by output name out."""
        return self._session.run({name: np.asarray(value) for name, value in inputs.items()}).outputs


class Hbm:
    """A compiled file: `Hbm("model.hbm")`; `mode` is how the simulator runs it, "fast" or "exact"."""

    def __init__(self, path: str | os.PathLike[str], mode: Literal["fast", "exact"] = "fast") -> None:
        if not Path(path).is_file():
            raise HbmError(
                must("Hbm", "the path", "a .hbm file", f"'{os.fspath(path)}'", "compile one first")
            )
        self.path = os.fspath(path)
        self._sessions = [Session(program, mode=mode) for program in read_package(self.path)]

    @property
    def sessions(self) -> tuple[Session, ...]:
        """A session per graph."""
        return tuple(self._sessions)

    @property
    def march_name(self) -> str:
        """The march it was compiled for."""
        return self._sessions[0].program.march

    @property
    def march(self) -> str:
        """The same under the other name."""
        return self.march_name

    @property
    def toolkit_version(self) -> str:
        """The version of openbpu that reads it."""
        return version("openbpu")

    @property
    def desc(self) -> str:
        """The description that `link` was given."""
        return self.graphs[0].desc

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The graphs in the file."""
        return tuple(Graph(session) for session in self._sessions)

    functions = graphs

    def __getitem__(self, index: int | str) -> Graph:
        """A graph by number or name; raises HbmError for a name that none has."""
        if isinstance(index, int):
            return self.graphs[index]
        found = {graph.name: graph for graph in self.graphs}
        if index not in found:
            raise HbmError(must(self.path, "the graph", f"one of {', '.join(found)}", f"'{index}'"))
        return found[index]

    def __len__(self) -> int:
        return len(self._sessions)


class Hbo(Hbm):
    """A compiled object file: here the same as a `.hbm`; `link` makes one of several."""


def _variable(t: TensorInfo) -> Variable:
    kind = TensorType(t.shape, t.dtype.numpy, t.strides)
    return Variable(t.name, kind, t.scale, t.zero_point, t.axis if len(t.scale) > 1 else 0)


def _node(program: Program, index: int, cost: SegmentLatency) -> Node:
    segment = program.segments[index]
    spaces = [_space(program, i, "input") for i in segment.inputs]
    spaces += [_space(program, i, "output") for i in segment.outputs]
    if isinstance(segment, BpuSegment):
        spaces += [
            MemSpace("constants", "static", int(program.constants.size)),
            MemSpace("tensors", "dynamic", program.ddr_bytes),
            MemSpace("on chip", "chip", segment.chip_bytes),
        ]
    return Node(cost.name, cost.on, cost.microseconds, tuple(spaces))


def _space(program: Program, tensor: int, kind: str) -> MemSpace:
    t = program.tensors[tensor]
    known = t.space is not Space.DDR or t.address >= 0
    return MemSpace(t.name, kind, t.nbytes if known else 0)
