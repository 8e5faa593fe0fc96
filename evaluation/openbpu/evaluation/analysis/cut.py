"""A model cut down to what some of its tensors need, and run on ONNX Runtime, nothing optimised."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from openbpu.arch.arrays import Array
from openbpu.arch.errors import ModelError, must
from openbpu.arch.given_shapes import Shapes
from openbpu.quantization.onnx.engine import run, session
from openbpu.quantization.onnx.inputs import fed_inputs
from openbpu.quantization.onnx.load import ModelLike, read_model, without_functions
from openbpu.quantization.onnx.nodes import reads
from openbpu.quantization.onnx.samples import Feed

_TYPES = {
    "tensor(float)": TensorProto.FLOAT,
    "tensor(double)": TensorProto.DOUBLE,
    "tensor(float16)": TensorProto.FLOAT16,
    "tensor(int8)": TensorProto.INT8,
    "tensor(uint8)": TensorProto.UINT8,
    "tensor(int16)": TensorProto.INT16,
    "tensor(uint16)": TensorProto.UINT16,
    "tensor(int32)": TensorProto.INT32,
    "tensor(int64)": TensorProto.INT64,
    "tensor(bool)": TensorProto.BOOL,
}
"""What tensors of numbers are called by ONNX Runtime."""


@dataclass(frozen=True, slots=True)
class Kind:
    """The element type (of TensorProto) and the shape of a tensor; a size that is not known is 1."""

    elem: int
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, as far as its shape is known."""
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(self.elem))
        return int(np.prod(self.shape, dtype=np.int64)) * dtype.itemsize


class Graph:
    """A model taken apart for cutting. where: how messages call it · shapes: sizes of free axes of inputs.

    Functions are inlined. Raises ModelError for what is no model, and for shapes that its inputs do not have.
    """

    def __init__(self, model: ModelLike, where: str, shapes: Shapes | None = None, threads: int = 1) -> None:
        proto = read_model(model)
        self.where, self._threads = where, threads
        self.model: ModelProto = without_functions(where, proto)
        graph = self.model.graph
        self.nodes: tuple[NodeProto, ...] = tuple(graph.node)
        self.constants = {t.name: t for t in graph.initializer}
        self.inputs: tuple[ValueInfoProto, ...] = tuple(fed_inputs(self.model, shapes))
        self.fed = tuple(v.name for v in self.inputs)
        self.outputs = tuple(v.name for v in graph.output)
        self.made = {name: k for k, node in enumerate(self.nodes) for name in node.output if name}

    @cached_property
    def constant_names(self) -> frozenset[str]:
        """Initializers and the outputs of Constant nodes."""
        made = (name for node in self.nodes if node.op_type == "Constant" for name in node.output)
        return frozenset((*self.constants, *made))

    def kinds(self, feed: Feed) -> dict[str, Kind]:
        """Return type and shape of every tensor of numbers that a node makes, for inputs like this feed.

        Raises ModelError where ONNX Runtime cannot load the model.
        """
        asked = bare(self.model)
        asked.graph.CopyFrom(self.model.graph)
        for value in asked.graph.input:
            if value.name in feed:
                made = helper.make_tensor_value_info(
                    value.name, value.type.tensor_type.elem_type, feed[value.name].shape
                )
                value.CopyFrom(made)
        del asked.graph.output[:]
        asked.graph.output.extend(ValueInfoProto(name=name) for name in self.made)
        found = {}
        for value in self._engine(asked).get_outputs():
            if value.type in _TYPES:
                shape = tuple(d if isinstance(d, int) else 1 for d in value.shape)
                found[value.name] = Kind(_TYPES[value.type], shape)
        return found

    def _engine(self, model: ModelProto) -> Any:
        try:
            return session(model, optimize=False, threads=self._threads)
        except ModelError as error:
            raise ModelError(f"{self.where}: {error}") from error

    def needed(self, wanted: Iterable[str], given: Collection[str] = ()) -> list[int]:
        """Return the nodes, in order, that make `wanted` from what is given and the model's inputs."""
        todo, found = [n for n in wanted if n not in given], set[int]()
        while todo:
            k = self.made.get(todo.pop())
            if k is None or k in found:
                continue
            found.add(k)
            todo += [name for name in reads(self.nodes[k]) if name not in given]
        return sorted(found)

    def cut(self, wanted: Sequence[str]) -> Cut:
        """Return what computes these tensors; those that are inputs of the model are simply passed on."""
        return Cut(self, self.nodes_of(wanted), wanted, {v.name: v for v in self.inputs})

    def nodes_of(self, wanted: Sequence[str]) -> list[NodeProto]:
        """Return the nodes that `wanted` need, in order."""
        return [self.nodes[k] for k in self.needed(wanted)]


class Cut:
    """Part of a model, ready to run: `run(feed)` gives the wanted tensors by name.

    nodes: in order, reading constants of `of`, one another, and `given` (declarations by name).
    """

    def __init__(
        self,
        of: Graph,
        nodes: Sequence[NodeProto],
        wanted: Iterable[str],
        given: Mapping[str, ValueInfoProto],
    ) -> None:
        made = {name for node in nodes for name in node.output}
        read = {name for node in nodes for name in reads(node)}
        self.where = of.where
        self.wanted = list(dict.fromkeys(wanted))
        self._made = [name for name in self.wanted if name in made]
        self._fed = [name for name in given if name in read]
        if not self._made:
            return
        model = bare(of.model)
        model.graph.name = of.model.graph.name or "model"
        model.graph.node.extend(nodes)
        model.graph.input.extend(given[name] for name in self._fed)
        model.graph.initializer.extend(of.constants[n] for n in of.constants if n in read and n not in given)
        model.graph.output.extend(ValueInfoProto(name=name) for name in self._made)
        self._session = of._engine(model)  # noqa: SLF001 - two halves of one module

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Return the wanted tensors. Raises ModelError, with ONNX Runtime's words, where the run fails."""
        found = {name: np.asarray(feed[name]) for name in self.wanted if name in feed}
        if self._made:
            try:
                found |= run(self._session, {name: feed[name] for name in self._fed}, self._made)
            except ModelError as error:
                raise ModelError(f"{self.where}: {error}") from error
        return found


def bare(model: ModelProto) -> ModelProto:
    """Return a model without a graph: versions and opsets."""
    made = ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    made.opset_import.extend(model.opset_import)
    return made


def check_same_inputs(a: Graph, b: Graph) -> None:
    """Raise ModelError where two models do not take the same inputs."""
    if set(a.fed) == set(b.fed):
        return
    fix = "analyze a quantized model with the float model that it was made of"
    shown = ", ".join(b.fed) or "none"
    raise ModelError(must(b.where, "the inputs", ", ".join(a.fed) or "none", shown, fix))
