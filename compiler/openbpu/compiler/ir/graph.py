"""The graph every pass reads and returns: frozen nodes in topological order, values by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Quant:
    """What the integers of a tensor mean: real = (q − zero_point) · scale.

    The scale is a float32's value, one entry or one per element of `axis`.
    """

    scale: tuple[float, ...]
    zero_point: int = 0
    axis: int = -1


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the graph: static shape, NumPy dtype name, and its data when it is a constant.

    `const` must be treated as read-only. `dtype` is "int8", "float32", "bool", … or "string"/"other" for what
    only a CPU operator can hold. `shape` is None for values whose shape is not static (legal only on the
    CPU). `onnx_type` is the ONNX TypeProto of a value that is not a plain tensor (sequence, optional, map),
    needed to declare it again.
    """

    name: str
    shape: tuple[int, ...] | None
    dtype: str
    const: Array | None = field(default=None, compare=False)
    onnx_type: Any = field(default=None, compare=False)
    quant: Quant | None = None

    @property
    def size(self) -> int:
        """Number of elements; raises ValueError when the shape is not static."""
        if self.shape is None:
            raise ValueError(f"value '{self.name}' has no static shape")
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a node came from: its name and type in the user's model and what the exporter said about it.

    stays_float: the user asked the quantizer to leave it float, so that the CPU computes it.
    """

    name: str
    op_type: str
    scope: str = ""
    source: str = ""
    stays_float: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. `domain` is the ONNX domain ("" is ai.onnx), or "bpu" for an integer operation.

    An omitted optional input is "". `attrs` hold ints, floats, strings, tuples of them, NumPy arrays, or
    ONNX GraphProto/TensorProto objects for CPU operators that carry them. `captures` names the values that
    such subgraphs (the bodies of If, Loop, Scan) read from the graph around them; a pass must not rename
    those.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    domain: str = ""
    origins: tuple[Origin, ...] = ()
    captures: tuple[str, ...] = ()

    @property
    def is_bpu(self) -> bool:
        """Whether this is an integer operation of the BPU."""
        return self.domain == "bpu"

    @property
    def reads(self) -> tuple[str, ...]:
        """Every value the node depends on: its inputs that are not omitted, then its captures."""
        return (*(name for name in self.inputs if name), *self.captures)


@dataclass(frozen=True, slots=True)
class Graph:
    """A model: `nodes` in topological order, `values` by name (constants included), input and output names.

    `opsets` maps ONNX domains to versions and is needed to run the CPU parts again.
    """

    nodes: tuple[Node, ...]
    values: Mapping[str, Value]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opsets: Mapping[str, int] = field(default_factory=dict)
    name: str = "model"

    def producers(self) -> dict[str, Node]:
        """Map every computed value to the node that makes it."""
        return {out: node for node in self.nodes for out in node.outputs if out}

    def consumers(self) -> dict[str, list[Node]]:
        """Map every value to the nodes that read it, in order; one that reads it twice stands there twice."""
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.reads:
                readers.setdefault(name, []).append(node)
        return readers

    def const(self, name: str) -> Array | None:
        """Return the data of a constant value, or None when `name` is not one."""
        value = self.values.get(name)
        return None if value is None else value.const

    def with_nodes(self, nodes: Iterable[Node], new_values: Iterable[Value] = ()) -> Graph:
        """Return the graph with other nodes; values that nothing mentions any more are dropped."""
        kept = tuple(nodes)
        values = dict(self.values)
        values.update((v.name, v) for v in new_values)
        used = {*self.inputs, *self.outputs}
        for node in kept:
            used.update(node.reads)
            used.update(node.outputs)
        return replace(self, nodes=kept, values={n: v for n, v in values.items() if n in used})
